//! `assert_causal!` beside what it replaces: a backward pass for every position, by hand, whose gradient must be zero on all
//! later positions. One small causal transformer.
//!
//! `cargo bench --bench causal` gives criterion's figures and then a table of ratios; with `-- table`, which is the name of
//! no benchmark, the table alone.

use std::{hint::black_box, time::Instant};

use candling::{
    Result, Seed,
    candle_core::{self, D, DType, Device, Module, Tensor, Var},
    candle_nn::{self, Linear, ops},
    check::Causal,
};
use criterion::Criterion;

const WIDTH: usize = 32;
const HEADS: usize = 2;
const LAYERS: usize = 2;
const ROWS: usize = 8;

struct Case {
    name: &'static str,
    run: Box<dyn Fn() -> Result<()>>,
}

/// The cases of one length; the loop by hand comes first.
struct Group {
    name: String,
    rounds: usize,
    cases: Vec<Case>,
}

struct Layer {
    qkv: Linear,
    proj: Linear,
    up: Linear,
    down: Linear,
    scale: Tensor,
    shift: Tensor,
}

/// Pre-norm attention and MLP, by operations that have a backward pass.
struct Transformer {
    layers: Vec<Layer>,
    mask: Tensor,
}

impl Transformer {
    fn new(len: usize) -> Result<Self> {
        let (_, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let layer = |at: usize| -> candle_core::Result<Layer> {
            let vb = vb.pp(at);
            Ok(Layer {
                qkv: candle_nn::linear(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
                proj: candle_nn::linear(WIDTH, WIDTH, vb.pp("proj"))?,
                up: candle_nn::linear(WIDTH, 4 * WIDTH, vb.pp("up"))?,
                down: candle_nn::linear(4 * WIDTH, WIDTH, vb.pp("down"))?,
                scale: Tensor::ones(WIDTH, DType::F32, &Device::Cpu)?,
                shift: Tensor::zeros(WIDTH, DType::F32, &Device::Cpu)?,
            })
        };
        let score = |at: usize| if at % len > at / len { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..len * len).map(score).collect();
        Ok(Self {
            layers: (0..LAYERS).map(layer).collect::<candle_core::Result<_>>()?,
            mask: Tensor::from_vec(mask, (len, len), &Device::Cpu)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let mut x = x.clone();
        for layer in &self.layers {
            let inner = ops::layer_norm_slow(&x, &layer.scale, &layer.shift, 1e-5)?;
            let qkv = layer.qkv.forward(&inner)?.reshape((b, t, 3 * HEADS, d / HEADS))?;
            let qkv = qkv.transpose(1, 2)?.contiguous()?;
            let part = |at: usize| qkv.narrow(1, at * HEADS, HEADS)?.contiguous();
            let keys = part(1)?.transpose(2, 3)?.contiguous()?;
            let scores = (part(0)?.matmul(&keys)? / ((d / HEADS) as f64).sqrt())?;
            let seen = ops::softmax(&scores.broadcast_add(&self.mask)?, D::Minus1)?;
            let seen = seen.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?.reshape((b, t, d))?;
            x = (x + layer.proj.forward(&seen)?)?;
            let inner = ops::layer_norm_slow(&x, &layer.scale, &layer.shift, 1e-5)?;
            x = (&x + layer.down.forward(&layer.up.forward(&inner)?.relu()?)?)?;
        }
        Ok(x)
    }
}

/// As one would write it: the gradient of each output position, projected at random, is zero on all later inputs.
fn every_position(model: &Transformer, x: &Var, again: bool) -> Result<()> {
    let len = x.dim(1)?;
    let weights = Seed::new(3).normal("weights", x.shape(), DType::F32, &Device::Cpu)?;
    let weighted = || -> candle_core::Result<Tensor> { model.forward(x)? * &weights };
    let mut output = weighted()?;
    for t in 0..len - 1 {
        if again && t > 0 {
            output = weighted()?;
        }
        let grads = output.narrow(1, t, 1)?.sum_all()?.backward()?;
        let gradient = grads.get(x).expect("a gradient");
        let later = gradient.narrow(1, t + 1, len - t - 1)?.abs()?.max_all()?;
        assert_eq!(later.to_scalar::<f32>()?, 0.0);
    }
    Ok(())
}

fn causal(len: usize) -> Result<Group> {
    // One row is enough for a gradient, and fair to it.
    let one = Seed::new(2).normal("x", (1, len, WIDTH), DType::F32, &Device::Cpu)?;
    let rows = Seed::new(2).normal("x", (ROWS, len, WIDTH), DType::F32, &Device::Cpu)?;
    let mut group = Group {
        name: format!("T = {len}"),
        rounds: if len < 64 { 21 } else { 5 },
        cases: Vec::new(),
    };
    let mut add = |name: &'static str, run: Box<dyn Fn() -> Result<()>>| {
        group.cases.push(Case { name, run });
    };
    let (model, x) = (Transformer::new(len)?, Var::from_tensor(&one)?);
    add("T backward passes", Box::new(move || every_position(&model, &x, false)));
    let (model, x) = (Transformer::new(len)?, Var::from_tensor(&one)?);
    add("T forward and backward", Box::new(move || every_position(&model, &x, true)));
    for (name, x) in [("Causal, one row", one), ("Causal, 8 rows", rows)] {
        let model = Transformer::new(len)?;
        let check = move || {
            let report = Causal::new().check(|x: &Tensor| model.forward(x), &x)?;
            assert_eq!((report.cuts, report.reach), (len - 1, 1));
            black_box(report);
            Ok(())
        };
        add(name, Box::new(check));
    }
    Ok(group)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the times and of their ratios to the loop by hand. The cases take turns, so that drift hits them alike.
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
        let ratio = median(own.iter().zip(&times[0]).map(|(own, loop_)| own / loop_).collect());
        let time = median(own.clone()) * 1e3;
        format!("{:<10}  {:<24}{time:>10.3}{ratio:>10.3}\n", group.name, case.name)
    });
    Ok(lines.collect())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut text = format!("{:<10}  {:<24}{:>10}{:>10}\n", "length", "case", "ms", "by hand");
    for len in [32, 128] {
        let group = causal(len)?;
        let mut benches = criterion.benchmark_group(&group.name);
        for case in &group.cases {
            benches.bench_function(case.name, |bencher| {
                bencher.iter(|| (case.run)().expect("what was set up runs"));
            });
        }
        benches.finish();
        text += &table(&group)?;
    }
    criterion.final_summary();
    #[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
    {
        println!("{text}");
    }
    Ok(())
}
