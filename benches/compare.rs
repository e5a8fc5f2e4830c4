//! Comparing two tensors: candling, plain candle operations and `approx`, each beside the floor, which is reading both.
//!
//! `cargo bench --bench compare` gives criterion's figures and then a table of ratios; with `-- table`, which is the
//! name of no benchmark, the table alone.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use candling::{
    Approx, Result,
    candle_core::{DType, Device, Tensor},
    check::Close,
};
use criterion::{Criterion, Throughput};
use rayon::prelude::*;

const LARGE: usize = 1 << 24;
const SMALL: usize = 1 << 10;

/// Reads both buffers, a large one on all threads, and does as little with them as can be.
fn floor(left: &[u64], right: &[u64]) -> u64 {
    let sum = |part: &[u64]| part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
    if left.len() <= SMALL {
        return sum(left).wrapping_add(sum(right));
    }
    left.par_chunks(1 << 15)
        .zip(right.par_chunks(1 << 15))
        .map(|(x, y)| sum(x).wrapping_add(sum(y)))
        .reduce(|| 0, u64::wrapping_add)
}

fn max_difference(x: &Tensor, y: &Tensor) -> Result<f32> {
    let difference = (x - y)?.abs()?.flatten_all()?.max(0)?;
    Ok(difference.to_dtype(DType::F32)?.to_scalar()?)
}

/// What a report needs: how many elements are beyond the bounds, and the two greatest differences.
fn full_statistics(x: &Tensor, y: &Tensor) -> Result<[f32; 3]> {
    let difference = (x - y)?.abs()?;
    let allowed = ((y.abs()? * 1.3e-6)? + 1e-5)?;
    let flat = |t: Tensor| t.to_dtype(DType::F32)?.flatten_all();
    let count = flat(difference.gt(&allowed)?)?.sum(0)?.to_scalar()?;
    let relative = flat((&difference / y.abs()?)?)?.max(0)?.to_scalar()?;
    let absolute = flat(difference)?.max(0)?.to_scalar()?;
    Ok([count, relative, absolute])
}

struct Case {
    name: &'static str,
    run: Box<dyn Fn()>,
}

/// The cases of one dtype and size; the floor comes first.
struct Group {
    name: String,
    bytes: u64,
    /// How often a case runs between two looks at the clock.
    repeats: u32,
    cases: Vec<Case>,
}

impl Group {
    fn add(&mut self, name: &'static str, run: impl Fn() + 'static) {
        self.cases.push(Case { name, run: Box::new(run) });
    }

    fn passes(&mut self, name: &'static str, x: &Tensor, y: &Tensor) {
        let (x, y) = (x.clone(), y.clone());
        assert!(Close::new().check(&x, &y).is_ok(), "{name}");
        self.add(name, move || {
            black_box(Close::new().check(&x, &y).is_ok());
        });
    }

    /// The report is made, text and all.
    fn fails(&mut self, name: &'static str, x: &Tensor, y: &Tensor) {
        let (x, y) = (x.clone(), y.clone());
        assert!(Close::new().check(&x, &y).is_err(), "{name}");
        self.add(name, move || {
            black_box(Close::new().check(&x, &y).unwrap_err().text());
        });
    }
}

fn group(dtype: DType, elements: usize) -> Result<Group> {
    let large = elements == LARGE;
    let mut group = Group {
        name: format!("{} {}", dtype.as_str(), if large { "16M" } else { "1k" }),
        bytes: (2 * elements * dtype.size_in_bytes()) as u64,
        repeats: if large { 1 } else { 1000 },
        cases: Vec::new(),
    };
    let words = elements * dtype.size_in_bytes() / 8;
    let (left, right) = (vec![1u64; words], vec![2u64; words]);
    group.add("floor", move || {
        black_box(floor(black_box(&left), black_box(&right)));
    });

    let x = Tensor::randn(0f32, 1., elements, &Device::Cpu)?.to_dtype(dtype)?;
    let equal = x.copy()?;
    group.passes("equal", &x, &equal);
    // Bits that differ nearly everywhere, by rounding that the tolerance allows: no block passes as equal bytes.
    let by = match dtype {
        DType::BF16 => 1.004,
        DType::F16 => 1.0004,
        DType::F32 => 1.0 + 3e-7,
        _ => 1.0 + 1e-9,
    };
    group.passes("near", &x, &(&x.to_dtype(DType::F64)? * by)?.to_dtype(dtype)?);
    let one = Tensor::full(99f32, 1, &Device::Cpu)?.to_dtype(dtype)?;
    group.fails("one mismatch", &x, &Tensor::cat(&[&x.narrow(0, 0, elements - 1)?, &one], 0)?);
    let shift = Tensor::new(&[0f32, 1.], &Device::Cpu)?.repeat(elements / 2)?;
    group.fails("half mismatched", &x, &(&x + shift.to_dtype(dtype)?)?);
    let square = x.reshape((elements.isqrt(), ()))?;
    group.passes("transposed", &square, &square.t()?.contiguous()?.t()?);

    let pair = (x.clone(), equal.clone());
    group.add("candle, max difference", move || {
        black_box(max_difference(&pair.0, &pair.1).is_ok());
    });
    let pair = (x.clone(), equal.clone());
    group.add("candle, statistics", move || {
        black_box(full_statistics(&pair.0, &pair.1).is_ok());
    });
    let pair = (x.clone(), equal.clone());
    group.add("approx, candling::Approx", move || {
        black_box(approx::relative_eq!(Approx(&pair.0), Approx(&pair.1)));
    });
    match dtype {
        DType::F32 => {
            let (left, right): (Vec<f32>, Vec<f32>) = (x.to_vec1()?, equal.to_vec1()?);
            group.add("approx, slices", move || {
                black_box(approx::relative_eq!(black_box(&left)[..], right[..]));
            });
        }
        DType::F64 => {
            let (left, right): (Vec<f64>, Vec<f64>) = (x.to_vec1()?, equal.to_vec1()?);
            group.add("approx, slices", move || {
                black_box(approx::relative_eq!(black_box(&left)[..], right[..]));
            });
        }
        _ => {}
    }
    Ok(group)
}

/// The best time of each case and its ratio to the floor's: other work on the machine only ever adds. The cases take
/// turns, so that drift hits them alike.
fn ratios(group: &Group) -> String {
    const ROUNDS: usize = 21;
    let mut times = vec![Vec::new(); group.cases.len()];
    for _ in 0..ROUNDS {
        for (case, times) in group.cases.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..group.repeats {
                (case.run)();
            }
            times.push(start.elapsed() / group.repeats);
        }
    }
    let best = |times: &Vec<Duration>| times.iter().min().map_or(0.0, Duration::as_secs_f64) * 1e6;
    let best: Vec<f64> = times.iter().map(best).collect();
    let lines = group.cases.iter().zip(&best).map(|(case, time)| {
        let floors = time / best[0];
        format!("{:<8}  {:<26}{time:>14.2}{floors:>10.2}\n", group.name, case.name)
    });
    lines.collect()
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut table = format!("{:<8}  {:<26}{:>14}{:>10}\n", "tensors", "case", "us", "floors");
    let large = [DType::F32, DType::F64, DType::F16, DType::BF16].map(|dtype| (dtype, LARGE));
    // One group at a time: all tensors of 16M together would fill a small machine.
    for (dtype, elements) in large.into_iter().chain([(DType::F32, SMALL), (DType::F64, SMALL)]) {
        let group = group(dtype, elements).expect("the tensors of the benchmark");
        let mut benches = criterion.benchmark_group(&group.name);
        benches.throughput(Throughput::Bytes(group.bytes));
        for case in &group.cases {
            benches.bench_function(case.name, |bencher| bencher.iter(&case.run));
        }
        benches.finish();
        table += &ratios(&group);
    }
    criterion.final_summary();
    #[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
    {
        println!("{table}");
    }
}
