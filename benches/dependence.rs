//! Proofs about what depends on what beside the loops that they replace.
//!
//! `cargo bench --bench dependence` gives criterion's figures of the checks and then a table of ratios; with `-- table`,
//! which is the name of no benchmark, the table alone. Times are of the processor, over all threads, where the system
//! tells them; else of the clock.

use std::{fs, hint::black_box, time::Instant};

use candling::{
    Result, Seed,
    candle_core::{self, D, DType, Device, Module, Tensor, Var},
    candle_nn::{self, Linear, VarBuilder, ops},
    check::BatchIndependent,
};
use criterion::Criterion;

struct Case {
    name: &'static str,
    run: Box<dyn Fn() -> Result<()>>,
    /// How often it is timed: the loops by hand take half a minute.
    rounds: usize,
    /// Left out of criterion's figures.
    by_hand: bool,
}

/// The cases of one function on one input; the loop by hand comes first.
struct Group {
    name: String,
    cases: Vec<Case>,
}

#[derive(Clone)]
struct Mlp(Vec<Linear>);

impl Mlp {
    const WIDTH: usize = 256;

    fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        let layer = |at| candle_nn::linear(Self::WIDTH, Self::WIDTH, vb.pp(format!("l{at}")));
        Ok(Self((0..4).map(layer).collect::<candle_core::Result<_>>()?))
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (last, inner) = self.0.split_last().expect("four layers");
        let h = inner.iter().try_fold(x.clone(), |h, layer| layer.forward(&h)?.tanh())?;
        last.forward(&h)
    }
}

/// Two blocks of attention and an MLP, without the operations that end candle's graph.
#[derive(Clone)]
struct Transformer {
    blocks: Vec<[Linear; 6]>,
}

impl Transformer {
    const WIDTH: usize = 64;
    const HEADS: usize = 4;
    const LEN: usize = 32;

    fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        let d = Self::WIDTH;
        let block = |at: usize| -> candle_core::Result<[Linear; 6]> {
            let vb = vb.pp(format!("block{at}"));
            let square = |name: &str| candle_nn::linear(d, d, vb.pp(name));
            Ok([
                square("q")?,
                square("k")?,
                square("v")?,
                square("out")?,
                candle_nn::linear(d, 4 * d, vb.pp("up"))?,
                candle_nn::linear(4 * d, d, vb.pp("down"))?,
            ])
        };
        Ok(Self { blocks: (0..2).map(block).collect::<candle_core::Result<_>>()? })
    }
}

impl Module for Transformer {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let heads = |x: Tensor| -> candle_core::Result<Tensor> {
            x.reshape((b, t, Self::HEADS, d / Self::HEADS))?.transpose(1, 2)?.contiguous()
        };
        let mut h = x.clone();
        for [q, k, v, out, up, down] in &self.blocks {
            let n = norm(&h)?;
            let (q, k, v) =
                (heads(q.forward(&n)?)?, heads(k.forward(&n)?)?, heads(v.forward(&n)?)?);
            let scores = (q.matmul(&k.t()?)? * (Self::HEADS as f64 / d as f64).sqrt())?;
            let mixed = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
            h = (h + out.forward(&mixed.transpose(1, 2)?.reshape((b, t, d))?)?)?;
            h = (&h + down.forward(&up.forward(&norm(&h)?)?.gelu()?)?)?;
        }
        Ok(h)
    }
}

fn norm(x: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)
}

/// Every row of the output alone: a forward and a backward pass, and no other row of the input may have a gradient.
fn row_by_row(f: &dyn Module, x: &Tensor) -> Result<()> {
    let x = Var::from_tensor(x)?;
    let rows = x.dim(0)?;
    for row in 0..rows {
        let output = f.forward(x.as_tensor())?.get(row)?;
        let projection = Seed::new(row as u64).uniform(
            "projection",
            -1.0..1.0,
            output.shape(),
            DType::F32,
            &Device::Cpu,
        )?;
        let grads = (output * projection)?.sum_all()?.backward()?;
        let gradient = grads.get(x.as_tensor()).expect("a gradient").abs()?;
        let all = gradient.sum_all()?.to_scalar::<f32>()?;
        let own = gradient.get(row)?.sum_all()?.to_scalar::<f32>()?;
        assert!((all - own).abs() <= 1e-3 * all, "row {row} is apart");
    }
    Ok(())
}

fn rows<M: Module + Clone + 'static>(
    name: &str,
    model: &M,
    row: &[usize],
    n: usize,
) -> Result<Group> {
    let x = Seed::new(2).normal("x", [&[n], row].concat(), DType::F32, &Device::Cpu)?;
    let rounds = if n < 64 { 5 } else { 1 };
    let mut group = Group { name: format!("{name}, {n} rows"), cases: Vec::new() };
    let (f, at) = (model.clone(), x.clone());
    group.cases.push(Case {
        name: "row by row, by hand",
        run: Box::new(move || row_by_row(&f, &at)),
        rounds,
        by_hand: true,
    });
    let (f, at) = (model.clone(), x.clone());
    group.cases.push(Case {
        name: "BatchIndependent",
        run: Box::new(move || {
            black_box(BatchIndependent::new().check(|x: &Tensor| f.forward(x), &at)?);
            Ok(())
        }),
        rounds: 9,
        by_hand: false,
    });
    // Nothing to walk backward: replacement and other sizes alone. What the whole check takes more is the gradient.
    let f = model.clone();
    group.cases.push(Case {
        name: "by replacement alone",
        run: Box::new(move || {
            let cut = |x: &Tensor| Ok(f.forward(x)?.detach());
            black_box(BatchIndependent::new().check(cut, &x)?);
            Ok(())
        }),
        rounds: 9,
        by_hand: false,
    });
    Ok(group)
}

/// Seconds this process has computed, all threads together.
fn computed() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds * 1e-9)
}

fn timed(run: &dyn Fn() -> Result<()>) -> Result<f64> {
    let (clock, before) = (Instant::now(), computed());
    run()?;
    Ok(match (before, computed()) {
        (Some(before), Some(after)) => after - before,
        _ => clock.elapsed().as_secs_f64(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the times, and how many times the loop by hand takes each of them.
fn table(group: &Group) -> Result<String> {
    let mut by_hand = None;
    let mut lines = Vec::new();
    for case in &group.cases {
        let times = (0..case.rounds).map(|_| timed(&case.run)).collect::<Result<Vec<_>>>()?;
        let time = median(times);
        let ratio = *by_hand.get_or_insert(time) / time;
        let (name, time) = (&group.name, time * 1e3);
        lines.push(format!("{name:<24}  {:<24}{time:>10.2}{ratio:>10.1}\n", case.name));
    }
    Ok(lines.concat())
}

fn groups() -> Result<Vec<Group>> {
    let (_vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let (mlp, transformer) = (Mlp::new(vb.pp("mlp"))?, Transformer::new(vb.pp("transformer"))?);
    let mut groups = Vec::new();
    for n in [8, 64, 256] {
        groups.push(rows("MLP 4 x 256", &mlp, &[Mlp::WIDTH], n)?);
    }
    for n in [8, 64, 256] {
        let row = [Transformer::LEN, Transformer::WIDTH];
        groups.push(rows("transformer", &transformer, &row, n)?);
    }
    Ok(groups)
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let groups = groups()?;
    for group in &groups {
        let mut benches = criterion.benchmark_group(&group.name);
        for case in group.cases.iter().filter(|case| !case.by_hand) {
            benches.bench_function(case.name, |bencher| {
                bencher.iter(|| (case.run)().expect("what was set up runs"));
            });
        }
        benches.finish();
    }
    criterion.final_summary();
    print(&format!("{:<24}  {:<24}{:>10}{:>10}\n", "function", "case", "ms", "by hand"));
    for group in &groups {
        print(&table(group)?);
    }
    Ok(())
}

/// Group by group: the loops by hand take their time.
#[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
fn print(text: &str) {
    print!("{text}");
}
