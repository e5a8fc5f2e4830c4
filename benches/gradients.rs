//! Checks of gradients beside what they cannot be cheaper than, one forward and one backward pass of the same learner;
//! and beside the loop over every element that a check of slopes replaces.
//!
//! `cargo bench --bench gradients` gives criterion's figures and then a table of ratios; with `-- table`, which is the
//! name of no benchmark, the table alone. `benches/peers` has the rows of `slopes` for PyTorch.

use std::{hint::black_box, time::Instant};

use candling::{
    Batch, Learner, Result, Seed, Trace,
    candle_core::{self, DType, Device, Module, Tensor, Var},
    candle_nn::{self, Linear, loss},
    check::{GradientsCorrect, GradientsFlow},
};
use criterion::Criterion;

/// Small, so that what a check does for each node and each variable weighs as much as it can beside the arithmetic.
const WIDTH: usize = 16;
const ROWS: usize = 32;

struct Case {
    name: &'static str,
    run: Box<dyn Fn() -> Result<()>>,
}

/// The cases of one learner; the bare pass comes first.
struct Group {
    name: String,
    rounds: usize,
    cases: Vec<Case>,
}

impl Group {
    fn add(&mut self, name: &'static str, run: impl Fn() -> Result<()> + 'static) {
        self.cases.push(Case { name, run: Box::new(run) });
    }

    fn bare(&mut self, learner: &Learner<'static>, batch: &Batch) {
        let (learner, batch) = (learner.clone(), batch.clone());
        self.add("forward, backward", move || {
            black_box(learner.loss(&batch)?.backward()?);
            Ok(())
        });
    }
}

/// A residual MLP of so many blocks, nine nodes each: the weight and its transpose, the product, the bias, broadcast and
/// added, the activation, its scaling, and the sum.
#[derive(Clone)]
struct Residual {
    blocks: Vec<Linear>,
    head: Linear,
    /// The block after which a `detach` ends the graph.
    cut_after: Option<usize>,
}

impl Residual {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let share = 1.0 / self.blocks.len() as f64;
        let mut h = x.clone();
        for (at, block) in self.blocks.iter().enumerate() {
            h = (&h + block.forward(&h)?.tanh()?.affine(share, 0.0)?)?;
            if self.cut_after == Some(at) {
                h = h.detach();
            }
        }
        self.head.forward(&h)
    }
}

fn flow(blocks: usize) -> Result<[Group; 2]> {
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let block = |at: usize| candle_nn::linear(WIDTH, WIDTH, vb.pp(format!("block.{at}")));
    let healthy = Residual {
        blocks: (0..blocks).map(block).collect::<candle_core::Result<_>>()?,
        head: candle_nn::linear(WIDTH, 10, vb.pp("head"))?,
        cut_after: None,
    };
    let cut = Residual { cut_after: Some(blocks / 2), ..healthy.clone() };
    let x = Seed::new(2).normal("x", (ROWS, WIDTH), DType::F32, &Device::Cpu)?;
    let y = Seed::new(2).tokens("y", 10, ROWS, &Device::Cpu)?;
    let batch = Batch::from((&x, &y));

    let model = healthy.clone();
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    let nodes = learner.loss(&batch)?.sorted_nodes().len();
    let rounds = if nodes < 1000 { 41 } else { 9 };
    let group =
        |name: &str| Group { name: format!("{name}, {nodes} nodes"), rounds, cases: Vec::new() };
    let mut passes = group("residual");
    passes.bare(&learner, &batch);
    let (traced, at) = (vars.clone(), x.clone());
    passes.add("Trace::record", move || {
        black_box(Trace::record(&traced, || healthy.forward(&at))?);
        Ok(())
    });
    let on = batch.clone();
    passes.add("GradientsFlow passes", move || {
        black_box(GradientsFlow::new().check(&learner, &on)?);
        Ok(())
    });

    let learner = Learner::new(&vars, move |x| cut.forward(x), loss::cross_entropy);
    let mut fails = group("cut");
    fails.bare(&learner, &batch);
    fails.add("GradientsFlow fails", move || {
        let failure = GradientsFlow::new().check(&learner, &batch).unwrap_err();
        assert_eq!(failure.cause(), Some(candling::Cause::GradientCut));
        black_box(failure.text());
        Ok(())
    });
    Ok([passes, fails])
}

/// 8 rows through 32-64-64-10 in f64, a tanh and a square between the first two layers and a tanh after the second: 7,178
/// numbers, the rows among them. Its loss is the output projected on fixed weights.
fn network() -> Result<(Vec<(String, Var)>, Learner<'static>)> {
    let shapes: [(&str, &[usize], f64); 7] = [
        ("x", &[8, 32], 1.0),
        ("l1.weight", &[32, 64], 0.3),
        ("l1.bias", &[64], 0.1),
        ("l2.weight", &[64, 64], 0.2),
        ("l2.bias", &[64], 0.1),
        ("l3.weight", &[64, 10], 0.2),
        ("l3.bias", &[10], 0.1),
    ];
    let var = |(name, shape, scale): (&str, &[usize], f64)| -> Result<(String, Var)> {
        let drawn = Seed::new(1).normal(name, shape, DType::F64, &Device::Cpu)?;
        Ok((name.to_owned(), Var::from_tensor(&(drawn * scale)?)?))
    };
    let vars = shapes.into_iter().map(var).collect::<Result<Vec<_>>>()?;
    let weights = Seed::new(2).normal("weights", (8, 10), DType::F64, &Device::Cpu)?;
    let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let learner = Learner::from_loss(&vars, move || {
        let [x, w1, b1, w2, b2, w3, b3] = &tensors[..] else { unreachable!("seven tensors") };
        let h = x.matmul(w1)?.broadcast_add(b1)?.tanh()?.sqr()?;
        let h = h.matmul(w2)?.broadcast_add(b2)?.tanh()?;
        (h.matmul(w3)?.broadcast_add(b3)? * &weights)?.sum_all()
    });
    Ok((vars, learner))
}

/// Central differences of every element, as one would write them by hand. The largest error, as a share of the largest
/// gradient.
fn every_element(vars: &[(String, Var)], learner: &Learner<'static>) -> Result<f64> {
    const STEP: f64 = 1e-5;
    let value = || -> Result<f64> { Ok(learner.loss(())?.to_scalar()?) };
    let grads = learner.loss(())?.backward()?;
    let (mut error, mut size) = (0f64, 0f64);
    for (_, var) in vars {
        let gradient: Vec<f64> = grads.get(var).expect("a gradient").flatten_all()?.to_vec1()?;
        let mut values: Vec<f64> = var.flatten_all()?.to_vec1()?;
        let put = |values: &[f64]| var.set(&Tensor::from_slice(values, var.shape(), var.device())?);
        for at in 0..values.len() {
            let own = values[at];
            values[at] = own + STEP;
            put(&values)?;
            let ahead = value()?;
            values[at] = own - STEP;
            put(&values)?;
            let behind = value()?;
            values[at] = own;
            error = error.max(((ahead - behind) / (2.0 * STEP) - gradient[at]).abs());
            size = size.max(gradient[at].abs());
        }
        put(&values)?;
    }
    Ok(error / size)
}

fn slopes() -> Result<Group> {
    let (vars, learner) = network()?;
    let mut group = Group { name: "slopes".to_owned(), rounds: 21, cases: Vec::new() };
    group.bare(&learner, &Batch::from(()));
    let subject = learner.clone();
    group.add("GradientsCorrect", move || {
        let report = GradientsCorrect::new().check(&subject, ())?;
        assert_eq!(report.judged.len(), 7);
        Ok(())
    });
    group.add("every element, by hand", move || {
        assert!(every_element(&vars, &learner)? < 1e-6);
        Ok(())
    });
    Ok(group)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the times and of their ratios to the bare pass. The cases take turns, so that drift hits them alike.
fn table(group: &Group) -> Result<String> {
    let mut times = vec![Vec::new(); group.cases.len()];
    for _ in 0..group.rounds {
        for (case, times) in group.cases.iter().zip(&mut times) {
            let start = Instant::now();
            (case.run)()?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let lines = group.cases.iter().zip(&times).map(|(case, own)| {
        let ratio = median(own.iter().zip(&times[0]).map(|(own, bare)| own / bare).collect());
        let time = median(own.clone()) * 1e3;
        format!("{:<20}  {:<24}{time:>10.3}{ratio:>10.2}\n", group.name, case.name)
    });
    Ok(lines.collect())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut groups = vec![slopes()?];
    for blocks in [33, 333] {
        groups.extend(flow(blocks)?);
    }
    let mut text = format!("{:<20}  {:<24}{:>10}{:>10}\n", "learner", "case", "ms", "bare");
    for group in &groups {
        let mut benches = criterion.benchmark_group(&group.name);
        for case in &group.cases {
            benches.bench_function(case.name, |bencher| {
                bencher.iter(|| (case.run)().expect("what was set up runs"));
            });
        }
        benches.finish();
        text += &table(group)?;
    }
    criterion.final_summary();
    #[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
    {
        println!("{text}");
    }
    Ok(())
}
