//! Proofs about what depends on what beside the loops that they replace.
//!
//! `cargo bench --bench dependence` gives criterion's figures of the checks and then a table of ratios; with `-- table`,
//! which is the name of no benchmark, the table alone; `ONLY=causal` keeps to the groups whose name holds that.
//! `benches/peers` has the loops for PyTorch. Times are of the processor, over all threads, where the system tells them;
//! else of the clock.

mod loops;
mod networks;

use std::{fs, hint::black_box, time::Instant};

use candling::{
    __private::{rows_by_gradient, rows_by_replacement},
    Result, Seed,
    candle_core::{DType, Device, Module, Tensor},
    check::{BatchIndependent, Causal, GradientProof},
};
use criterion::Criterion;

use loops::{Graph, every_position, every_row};
use networks::{Mlp, Transformer};

/// Positions of the transformer whose rows must not mix.
const POSITIONS: usize = 16;

struct Case {
    name: &'static str,
    run: Box<dyn Fn() -> Result<()>>,
    /// What the checks replace: no figure of criterion's, and fewer rounds.
    by_hand: bool,
    /// The part of the whole that is run: its time counts so many times.
    times: usize,
}

/// The cases of one function on one input; the loop with two passes each comes first.
struct Group {
    name: String,
    cases: Vec<Case>,
    /// Rounds of the loops by hand, and of all others.
    rounds: (usize, usize),
}

impl Group {
    fn add(&mut self, name: &'static str, run: impl Fn() -> Result<()> + 'static) {
        self.cases.push(Case { name, run: Box::new(run), by_hand: false, times: 1 });
    }

    fn by_hand(
        &mut self,
        name: &'static str,
        times: usize,
        run: impl Fn() -> Result<()> + 'static,
    ) {
        self.cases.push(Case { name, run: Box::new(run), by_hand: true, times });
    }
}

fn rows<M: Module + Clone + 'static>(
    name: &str,
    model: &M,
    row: &[usize],
    n: usize,
) -> Result<Group> {
    let x = Seed::new(2).normal("x", [&[n], row].concat(), DType::F32, &Device::Cpu)?;
    let rounds = if n < 256 { (3, 5) } else { (1, 5) };
    // Of 256 rows every fourth: the transformer would take a minute.
    let step = if n < 256 { 1 } else { 4 };
    let mut group = Group { name: format!("{name}, {n} rows"), cases: Vec::new(), rounds };
    for (name, graph) in
        [("both passes each, by hand", Graph::Anew), ("a backward each, by hand", Graph::Kept)]
    {
        let (f, x) = (model.clone(), x.clone());
        group.by_hand(name, step, move || every_row(&f, &x, graph, step));
    }
    let (f, at) = (model.clone(), x.clone());
    group.add("BatchIndependent", move || {
        let report = BatchIndependent::new().check(|x: &Tensor| f.forward(x), &at)?;
        assert!(matches!(report.gradient, GradientProof::Proved { rows, .. } if rows == n));
        black_box(report);
        Ok(())
    });
    let (f, at) = (model.clone(), x.clone());
    group.add("by replacement", move || {
        let apart = rows_by_replacement(|x: &Tensor| f.forward(x), &at)?;
        assert!(black_box(apart));
        Ok(())
    });
    let (f, at) = (model.clone(), x.clone());
    group.add("by gradient", move || {
        let apart = rows_by_gradient(|x: &Tensor| f.forward(x), &at)?;
        assert!(black_box(apart));
        Ok(())
    });
    let (f, at) = (model.clone(), x.clone());
    group.add("one forward", move || {
        black_box(f.forward(&at)?);
        Ok(())
    });
    Ok(group)
}

fn causal(model: &Transformer, len: usize) -> Result<Group> {
    let dims = |rows: usize| (rows, len, Transformer::WIDTH);
    // One row is enough for a gradient, and fair to it.
    let one = Seed::new(2).normal("x", dims(1), DType::F32, &Device::Cpu)?;
    let eight = Seed::new(2).normal("x", dims(8), DType::F32, &Device::Cpu)?;
    let rounds = if len < 64 { (5, 5) } else { (1, 5) };
    let mut group = Group { name: format!("causal, {len} positions"), cases: Vec::new(), rounds };
    for (name, graph) in
        [("both passes each, by hand", Graph::Anew), ("a backward each, by hand", Graph::Kept)]
    {
        let (f, x) = (model.clone(), one.clone());
        group.by_hand(name, 1, move || every_position(&f, &x, graph));
    }
    for (name, x) in [("Causal, one row", one), ("Causal, 8 rows", eight)] {
        let f = model.clone();
        group.add(name, move || {
            let report = Causal::new().check(|x: &Tensor| f.forward(x), &x)?;
            assert_eq!((report.cuts, report.reach), (len - 1, 1));
            black_box(report);
            Ok(())
        });
    }
    Ok(group)
}

fn groups() -> Result<Vec<Group>> {
    let (_vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let mlp = Mlp::new(vb.pp("mlp"))?;
    let transformer = Transformer::new(vb.pp("transformer"), false)?;
    let mut groups = Vec::new();
    for n in [8, 64, 256] {
        groups.push(rows("MLP 4x256", &mlp, &[Mlp::WIDTH], n)?);
    }
    for n in [8, 64, 256] {
        groups.push(rows("transformer", &transformer, &[POSITIONS, Transformer::WIDTH], n)?);
    }
    let transformer = Transformer::new(vb.pp("causal"), true)?;
    for len in [32, 128] {
        groups.push(causal(&transformer, len)?);
    }
    Ok(groups)
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

/// Seconds of one run. Repeated for a while, because the system counts in ticks of some milliseconds.
fn timed(run: &dyn Fn() -> Result<()>) -> Result<f64> {
    let (clock, before) = (Instant::now(), computed());
    let mut runs = 0.0;
    while runs == 0.0 || clock.elapsed().as_secs_f64() < 0.2 {
        run()?;
        runs += 1.0;
    }
    Ok(match (before, computed()) {
        (Some(before), Some(after)) => (after - before) / runs,
        _ => clock.elapsed().as_secs_f64() / runs,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the times, and how many times the first loop takes each of them. The cases take turns, so that drift hits
/// them alike.
fn table(group: &Group) -> Result<String> {
    let mut times = vec![Vec::new(); group.cases.len()];
    let (by_hand, others) = group.rounds;
    for round in 0..by_hand.max(others) {
        for (case, times) in group.cases.iter().zip(&mut times) {
            if round < if case.by_hand { by_hand } else { others } {
                times.push(timed(&case.run)? * case.times as f64);
            }
        }
    }
    let times: Vec<f64> = times.into_iter().map(median).collect();
    let lines = group.cases.iter().zip(&times).map(|(case, time)| {
        let (ms, ratio) = (time * 1e3, times[0] / time);
        format!("{:<24}{:<28}{ms:>10.2}{ratio:>10.1}\n", group.name, case.name)
    });
    Ok(lines.collect())
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
    let wanted = std::env::var("ONLY").unwrap_or_default();
    print(&format!("{:<24}{:<28}{:>10}{:>10}\n", "function", "case", "ms", "by hand"));
    for group in groups.iter().filter(|group| group.name.contains(&wanted)) {
        print(&table(group)?);
    }
    Ok(())
}

/// Group by group: the loops by hand take their time.
#[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
fn print(text: &str) {
    print!("{text}");
}
