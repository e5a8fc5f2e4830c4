//! Memorising one batch: a bare training loop, and `OverfitsBatch` around the same training. Prints the ratios after
//! criterion's own figures.
//!
//! The overhead that counts is that of the check with the user's AdamW over the bare loop with it. The check with the
//! default optimizer shows what the fused AdamW saves of that.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use candling::{
    Learner, Result, Seed,
    candle_core::{self, DType, Device, Module, Tensor, Var},
    candle_nn::{self, AdamW, Optimizer, ParamsAdamW, loss},
    check::OverfitsBatch,
};
use criterion::Criterion;

/// As the crate's default has it.
fn params() -> ParamsAdamW {
    ParamsAdamW { lr: 1e-2, weight_decay: 0.0, ..ParamsAdamW::default() }
}

type Forward = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>;

/// A network with its batch, how many steps it is trained, and the loss that only the last of them reaches.
struct Subject {
    name: &'static str,
    vars: Vec<Var>,
    before: Vec<Tensor>,
    forward: Forward,
    x: Tensor,
    y: Tensor,
    steps: usize,
    target: f64,
}

impl Subject {
    fn mlp() -> Result<Self> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let l1 = candle_nn::linear(784, 512, vb.pp("l1"))?;
        let l2 = candle_nn::linear(512, 256, vb.pp("l2"))?;
        let l3 = candle_nn::linear(256, 10, vb.pp("l3"))?;
        let forward = move |x: &Tensor| l3.forward(&l2.forward(&l1.forward(x)?.relu()?)?.relu()?);
        let x = Seed::new(2).normal("x", (64, 784), DType::F32, &Device::Cpu)?;
        Self::new("mlp", vars.all_vars(), Box::new(forward), x, 100)
    }

    fn conv() -> Result<Self> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let config = candle_nn::Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        let c1 = candle_nn::conv2d(3, 16, 3, config, vb.pp("c1"))?;
        let c2 = candle_nn::conv2d(16, 32, 3, config, vb.pp("c2"))?;
        let head = candle_nn::linear(32 * 8 * 8, 10, vb.pp("head"))?;
        let forward = move |x: &Tensor| {
            let x = c2.forward(&c1.forward(x)?.relu()?)?.relu()?;
            head.forward(&x.flatten_from(1)?)
        };
        let x = Seed::new(2).normal("x", (32, 3, 32, 32), DType::F32, &Device::Cpu)?;
        Self::new("conv", vars.all_vars(), Box::new(forward), x, 40)
    }

    fn new(
        name: &'static str,
        vars: Vec<Var>,
        forward: Forward,
        x: Tensor,
        steps: usize,
    ) -> Result<Self> {
        let y = Tensor::from_iter((0..x.dim(0)? as u32).map(|row| row * 7 % 10), &Device::Cpu)?;
        let before = vars.iter().map(|var| var.copy()).collect::<candle_core::Result<_>>()?;
        let mut subject = Self { name, vars, before, forward, x, y, steps, target: f64::NAN };
        let losses = subject.losses()?;
        // The last loss below all before it: a check with this target takes every step up to there, and passes.
        let mut lowest = f32::INFINITY;
        for (step, loss) in losses.into_iter().enumerate() {
            if loss < lowest {
                lowest = loss;
                (subject.steps, subject.target) = (step, f64::from(loss));
            }
        }
        Ok(subject)
    }

    fn reset(&self) -> Result<()> {
        for (var, value) in self.vars.iter().zip(&self.before) {
            var.set(value)?;
        }
        Ok(())
    }

    /// The loop a user would write: forward, the loss read back, backward, step.
    fn losses(&self) -> Result<Vec<f32>> {
        let mut optimizer = AdamW::new(self.vars.clone(), params())?;
        let mut losses = Vec::new();
        for _ in 0..self.steps {
            let loss = loss::cross_entropy(&(self.forward)(&self.x)?, &self.y)?;
            losses.push(loss.to_scalar()?);
            optimizer.step(&loss.backward()?)?;
        }
        Ok(losses)
    }

    fn bare(&self) -> Result<Duration> {
        self.reset()?;
        let start = Instant::now();
        black_box(self.losses()?);
        Ok(start.elapsed())
    }

    fn check(&self, own_optimizer: bool) -> Result<Duration> {
        self.reset()?;
        let forward = |x: &Tensor| (self.forward)(x);
        let mut learner = Learner::new(&self.vars, forward, loss::cross_entropy);
        if own_optimizer {
            learner = learner.optimizer(|vars| AdamW::new(vars, params()));
        }
        let options = OverfitsBatch::new().steps(self.steps).loss_below(self.target);
        let start = Instant::now();
        let report = options.check(&learner, (&self.x, &self.y))?;
        let taken = start.elapsed();
        assert_eq!(report.steps, self.steps, "every variant takes the same steps");
        Ok(taken)
    }
}

type Case<'s> = (&'static str, Box<dyn Fn() -> Result<Duration> + 's>);

fn cases(subject: &Subject) -> Vec<Case<'_>> {
    vec![
        ("bare loop, candle's AdamW", Box::new(|| subject.bare())),
        ("check, candle's AdamW", Box::new(|| subject.check(true))),
        ("check, default optimizer", Box::new(|| subject.check(false))),
    ]
}

/// Times per step and their ratios to the bare loop's, the cases taking turns so that drift hits them alike. A ratio
/// is the median over the rounds: it stands a machine that others use too.
fn ratios(subject: &Subject) -> Result<String> {
    const ROUNDS: usize = 9;
    let cases = cases(subject);
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in cases.iter().zip(&mut times) {
            times.push(run()?.as_secs_f64());
        }
    }
    let lines = cases.iter().zip(&times).map(|((name, _), times_of_case)| {
        let mut ratios: Vec<f64> =
            times_of_case.iter().zip(&times[0]).map(|(own, bare)| own / bare).collect();
        ratios.sort_by(f64::total_cmp);
        let best = times_of_case.iter().copied().fold(f64::INFINITY, f64::min);
        let step = best * 1e3 / subject.steps as f64;
        format!("{:<5} {name:<28} {step:>8.3} {:>7.3}\n", subject.name, ratios[ROUNDS / 2])
    });
    Ok(lines.collect())
}

fn main() {
    let subjects =
        [Subject::mlp(), Subject::conv()].map(|subject| subject.expect("a network that trains"));
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for subject in &subjects {
        let mut benches = criterion.benchmark_group(subject.name);
        for (name, run) in cases(subject) {
            benches.bench_function(name, |bencher| {
                bencher.iter_custom(|times| {
                    (0..times).map(|_| run().expect("the check passes")).sum()
                });
            });
        }
        benches.finish();
    }
    criterion.final_summary();
    let table: String =
        subjects.iter().map(|subject| ratios(subject).expect("the check passes")).collect();
    #[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
    {
        println!("net   what                          ms/step   ratio\n{table}");
    }
}
