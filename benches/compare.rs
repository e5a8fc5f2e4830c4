//! Comparing two tensors of 16M elements: candling, plain candle operations, `approx`, and the floor, which is reading
//! both. Prints the ratios to the floor after criterion's own figures.

use std::{hint::black_box, time::Instant};

use candling::{
    Approx, Result,
    candle_core::{DType, Device, Tensor},
    check::Close,
};
use criterion::{Criterion, Throughput};
use rayon::prelude::*;

const ELEMENTS: usize = 1 << 24;

/// Reads both buffers on all threads, and does as little with them as can be.
fn floor(left: &[u64], right: &[u64]) -> u64 {
    let sum = |part: &[u64]| part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
    left.par_chunks(1 << 15)
        .zip(right.par_chunks(1 << 15))
        .map(|(x, y)| sum(x).wrapping_add(sum(y)))
        .reduce(|| 0, u64::wrapping_add)
}

fn max_difference(x: &Tensor, y: &Tensor) -> Result<f32> {
    let difference = (x - y)?.abs()?.flatten_all()?.max(0)?;
    Ok(difference.to_dtype(DType::F32)?.to_scalar()?)
}

fn full_statistics(x: &Tensor, y: &Tensor) -> Result<[f32; 3]> {
    let difference = (x - y)?.abs()?;
    let allowed = ((y.abs()? * 1.3e-6)? + 1e-5)?;
    let flat = |t: Tensor| t.to_dtype(DType::F32)?.flatten_all();
    let count = flat(difference.gt(&allowed)?)?.sum(0)?.to_scalar()?;
    let relative = flat((&difference / y.abs()?)?)?.max(0)?.to_scalar()?;
    let absolute = flat(difference)?.max(0)?.to_scalar()?;
    Ok([count, relative, absolute])
}

type Case = (String, Box<dyn Fn()>);

fn cases() -> Result<Vec<(DType, Vec<Case>)>> {
    let mut groups = Vec::new();
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let x = Tensor::randn(0f32, 1., ELEMENTS, &Device::Cpu)?.to_dtype(dtype)?;
        let equal = x.copy()?;
        // Bits that differ nearly everywhere, by rounding that the tolerance allows: no block passes as equal bytes.
        let by = match dtype {
            DType::BF16 => 1.004,
            DType::F16 => 1.0004,
            DType::F32 => 1.0 + 3e-7,
            _ => 1.0 + 1e-9,
        };
        let near = (&x.to_dtype(DType::F64)? * by)?.to_dtype(dtype)?;
        let wrong = Tensor::cat(
            &[
                &x.narrow(0, 0, ELEMENTS - 1)?,
                &Tensor::full(99f32, 1, &Device::Cpu)?.to_dtype(dtype)?,
            ],
            0,
        )?;
        let shift = Tensor::new(&[0f32, 1.], &Device::Cpu)?.repeat(ELEMENTS / 2)?;
        let half = (&x + shift.to_dtype(dtype)?)?;
        assert!(Close::new().check(&x, &near).is_ok());
        let side = 1 << 12;
        let square = x.reshape((side, side))?;
        let turned = square.t()?.contiguous()?.t()?;
        let words = ELEMENTS * dtype.size_in_bytes() / 8;
        let (left, right) = (vec![1u64; words], vec![2u64; words]);
        let mut group: Vec<Case> = Vec::new();
        let mut add = |name: &str, run: Box<dyn Fn()>| group.push((name.to_owned(), run));
        add(
            "floor",
            Box::new(move || {
                black_box(floor(&left, &right));
            }),
        );
        let pair = (x.clone(), equal.clone());
        add(
            "close, equal",
            Box::new(move || {
                black_box(Close::new().check(&pair.0, &pair.1).is_ok());
            }),
        );
        let pair = (x.clone(), near);
        add(
            "close, near",
            Box::new(move || {
                black_box(Close::new().check(&pair.0, &pair.1).is_ok());
            }),
        );
        let pair = (square, turned);
        add(
            "close, transposed",
            Box::new(move || {
                black_box(Close::new().check(&pair.0, &pair.1).is_ok());
            }),
        );
        let pair = (x.clone(), wrong);
        add(
            "close, one mismatch",
            Box::new(move || {
                black_box(Close::new().check(&pair.0, &pair.1).is_err());
            }),
        );
        let pair = (x.clone(), half);
        add(
            "close, half mismatched",
            Box::new(move || {
                black_box(Close::new().check(&pair.0, &pair.1).is_err());
            }),
        );
        let pair = (x.clone(), equal.clone());
        add(
            "candle, max difference",
            Box::new(move || {
                black_box(max_difference(&pair.0, &pair.1).is_ok());
            }),
        );
        let pair = (x.clone(), equal.clone());
        add(
            "candle, statistics",
            Box::new(move || {
                black_box(full_statistics(&pair.0, &pair.1).is_ok());
            }),
        );
        let pair = (x.clone(), equal.clone());
        add(
            "approx of tensors",
            Box::new(move || {
                black_box(approx::relative_eq!(Approx(&pair.0), Approx(&pair.1)));
            }),
        );
        if dtype == DType::F32 {
            let (left, right): (Vec<f32>, Vec<f32>) = (x.to_vec1()?, equal.to_vec1()?);
            add(
                "approx of slices",
                Box::new(move || {
                    black_box(approx::relative_eq!(left[..], right[..]));
                }),
            );
        }
        groups.push((dtype, group));
    }
    Ok(groups)
}

/// The best time of each case in units of the first one's, the cases taking turns so that drift hits them alike.
fn ratios(dtype: DType, group: &[Case]) -> String {
    const ROUNDS: usize = 15;
    let mut times = vec![Vec::new(); group.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in group.iter().zip(&mut times) {
            let start = Instant::now();
            run();
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let best = |times: &Vec<f64>| times.iter().copied().fold(f64::INFINITY, f64::min);
    let best: Vec<f64> = times.iter().map(best).collect();
    let lines = group.iter().zip(&best).map(|((name, _), time)| {
        format!("{:<5} {name:<24} {:>8.2} ms {:>7.2}\n", dtype.as_str(), time * 1e3, time / best[0])
    });
    lines.collect()
}

fn main() {
    let groups = cases().expect("the tensors of the benchmark");
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for (dtype, group) in &groups {
        let mut benches = criterion.benchmark_group(dtype.as_str());
        benches.throughput(Throughput::Bytes((2 * ELEMENTS * dtype.size_in_bytes()) as u64));
        for (name, run) in group {
            benches.bench_function(name, |bencher| bencher.iter(run));
        }
        benches.finish();
    }
    criterion.final_summary();
    let table: String = groups.iter().map(|(dtype, group)| ratios(*dtype, group)).collect();
    #[allow(clippy::print_stdout, reason = "the table is what the benchmark is run for")]
    {
        println!("dtype what                           best   floors\n{table}");
    }
}
