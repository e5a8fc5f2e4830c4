//! The kernel against a plain loop over `Vec<f64>`, for every dtype and many pairs of layouts.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::measure::values::{multi_index, to_f64_vec};

const BOUNDS: Bounds = Bounds {
    relative: 0.1,
    // No sum of it and a tenth of an eighth is a whole number of eighths: rounding cannot decide a comparison.
    absolute: 0.31,
};
const DTYPES: [DType; 10] = [
    DType::U8,
    DType::U32,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::BF16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
];

struct Expected {
    count: usize,
    absolute: f64,
    relative: f64,
    nan: (usize, usize),
}

fn naive(actual: &Tensor, expected: &Tensor) -> Result<Expected> {
    let (xs, ys) = (to_f64_vec(actual)?, to_f64_vec(expected)?);
    let mut found = Expected { count: 0, absolute: 0.0, relative: 0.0, nan: (0, 0) };
    for (x, y) in xs.into_iter().zip(ys) {
        found.nan.0 += usize::from(x.is_nan());
        found.nan.1 += usize::from(y.is_nan());
        let difference = if x == y { 0.0 } else { (x - y).abs() };
        let allowed = (BOUNDS.absolute + BOUNDS.relative * y.abs()).min(f64::MAX);
        if difference.is_nan() || difference > allowed {
            found.count += 1;
            found.absolute = found.absolute.max(difference);
            found.relative = found.relative.max(difference / y.abs());
        }
    }
    Ok(found)
}

fn check(actual: &Tensor, expected: &Tensor, label: &str) -> Result<()> {
    let naive = naive(actual, expected)?;
    let found = compare(actual, expected, BOUNDS)?;
    assert_eq!(found.elements, actual.elem_count(), "{label}");
    let Some(found) = found.mismatches else {
        assert_eq!(naive.count, 0, "{label}");
        return Ok(());
    };
    assert_eq!(found.count, naive.count, "{label}");
    assert_eq!((found.nan_in_actual, found.nan_in_expected), naive.nan, "{label}");
    let xs = to_f64_vec(actual)?;
    let at = |place: &Place| {
        let position = place.index.iter().zip(actual.dims()).fold(0, |p, (i, d)| p * d + i);
        assert_eq!(multi_index(position, actual.dims()), place.index, "{label}");
        let same = xs[position] == place.actual.to_f64() || xs[position].is_nan();
        assert!(same, "{label}: {place:?}");
    };
    let absolute = found.greatest_absolute.as_ref().map_or(0.0, |p| p.difference);
    assert_eq!(absolute, naive.absolute, "{label}");
    let relative = found.greatest_relative.as_ref().map_or(0.0, |p| p.relative);
    let near = (relative - naive.relative).abs() <= 1e-6 * naive.relative;
    assert!(relative == naive.relative || near, "{label}: {relative} {}", naive.relative);
    found.greatest_absolute.iter().for_each(&at);
    found.greatest_relative.iter().for_each(&at);
    found.first.iter().for_each(at);
    assert_eq!(found.first.len(), naive.count.min(account::KEPT), "{label}");
    Ok(())
}

/// Eighths of small whole numbers, now and then a special value; every dtype holds them or rounds both sides alike.
fn values(rng: &mut ChaCha8Rng, count: usize, special: bool) -> Vec<f32> {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    (0..count)
        .map(|_| match rng.random_range(0..40) {
            0 if special => specials[rng.random_range(0..4)],
            _ => rng.random_range(-16i32..16) as f32 / 8.0,
        })
        .collect()
}

/// A copy that differs from `values` in a few places, all of them, or none.
fn near(rng: &mut ChaCha8Rng, values: &[f32]) -> Vec<f32> {
    let odds = [0, 1, 100][rng.random_range(0..3)];
    values
        .iter()
        .map(|v| {
            let moved = odds > 0 && rng.random_range(0..odds) == 0;
            if moved { v + rng.random_range(-16i32..16) as f32 / 8.0 } else { *v }
        })
        .collect()
}

/// The same values in another layout.
fn laid_out(rng: &mut ChaCha8Rng, x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    if rank == 0 {
        return Ok(x.clone());
    }
    match rng.random_range(0..4) {
        0 => Ok(x.clone()),
        1 => {
            let (a, b) = (rng.random_range(0..rank), rng.random_range(0..rank));
            x.transpose(a, b)?.contiguous()?.transpose(a, b)
        }
        2 => {
            let dim = rng.random_range(0..rank);
            let len = x.dim(dim)?;
            Tensor::cat(&[x, x, x], dim)?.narrow(dim, len, len)
        }
        _ => {
            let all: Vec<usize> = (0..rank).rev().collect();
            x.permute(all.clone())?.contiguous()?.permute(all)
        }
    }
}

#[test]
fn the_kernel_agrees_with_a_plain_loop_on_every_dtype_and_layout() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in 0..400 {
        let rank = rng.random_range(0..5);
        let widest = [1, 300, 70, 20, 9][rank];
        let dims: Vec<usize> = (0..rank).map(|_| rng.random_range(1..=widest)).collect();
        let count = dims.iter().product();
        let xs = values(&mut rng, count, case % 2 == 0);
        let ys = near(&mut rng, &xs);
        let x = Tensor::from_vec(xs, dims.clone(), &Device::Cpu)?;
        let y = Tensor::from_vec(ys, dims.clone(), &Device::Cpu)?;
        // The last dtype only through its own layouts: candle copies strided f8 like any other.
        let dtype = DTYPES[case % DTYPES.len()];
        let x = laid_out(&mut rng, &x.to_dtype(dtype)?)?;
        let y = laid_out(&mut rng, &y.to_dtype(dtype)?)?;
        let label = format!("case {case}: {dtype:?} {:?} against {:?}", x.layout(), y.layout());
        check(&x, &y, &label)?;
        check(&x, &x, &label)?;
    }
    Ok(())
}

#[test]
fn large_tensors_and_broadcast_ones_agree_too() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (rows, columns) = (700, 517);
    let xs = values(&mut rng, rows * columns, true);
    let ys = near(&mut rng, &xs);
    let x = Tensor::from_vec(xs, (rows, columns), &Device::Cpu)?;
    let y = Tensor::from_vec(ys, (rows, columns), &Device::Cpu)?;
    check(&x, &y, "contiguous")?;
    check(&x, &y.t()?.contiguous()?.t()?, "transposed on the right")?;
    check(&x.t()?, &y.t()?, "transposed on both sides")?;
    check(&x.t()?.contiguous()?.t()?, &y, "transposed on the left")?;
    let row = y.narrow(0, 3, 1)?;
    check(&x, &row.broadcast_as((rows, columns))?, "one row for all")?;
    let column = y.narrow(1, 3, 1)?;
    check(&column.broadcast_as((rows, columns))?, &x, "one column for all")?;
    let scalar = Tensor::new(0.5f32, &Device::Cpu)?;
    check(&scalar.broadcast_as((rows, columns))?, &x, "one value for all")?;
    check(&x.narrow(1, 5, 3)?, &y.narrow(1, 8, 3)?, "narrow columns of one storage")?;
    let cube = x.narrow(1, 0, 512)?.reshape((70, 10, 16, 32))?;
    let turned = cube.permute((2, 0, 3, 1))?;
    check(&turned, &turned.contiguous()?, "four dimensions turned")
}

#[test]
fn special_values_compare_as_numbers_do() -> Result<()> {
    let same = |x: f64, y: f64, dtype: DType| -> Result<bool> {
        let exact = Bounds { relative: 0.0, absolute: 0.0 };
        let [x, y] = [x, y].map(|v| Tensor::new(v, &Device::Cpu)?.to_dtype(dtype));
        Ok(compare(&x?, &y?, exact)?.mismatches.is_none())
    };
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        assert!(!same(f64::NAN, f64::NAN, dtype)?);
        assert!(same(f64::INFINITY, f64::INFINITY, dtype)?);
        assert!(!same(f64::INFINITY, f64::NEG_INFINITY, dtype)?);
        assert!(!same(1.0, f64::INFINITY, dtype)?);
        assert!(same(0.0, -0.0, dtype)?);
    }
    let subnormal = f64::from(f32::from_bits(1));
    assert!(!same(subnormal, 0.0, DType::F32)?);
    assert!(!same(5e-324, 0.0, DType::F64)?);
    Ok(())
}

#[test]
fn an_infinite_expectation_does_not_allow_everything() -> Result<()> {
    let x = Tensor::new(&[1f32, f32::MAX], &Device::Cpu)?;
    let y = Tensor::new(&[f32::INFINITY; 2], &Device::Cpu)?;
    assert_eq!(compare(&x, &y, BOUNDS)?.mismatches.map(|m| m.count), Some(2));
    Ok(())
}

#[test]
fn the_answer_is_the_same_for_every_number_of_threads() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let xs = values(&mut rng, 400_000, true);
    let ys = values(&mut rng, 400_000, true);
    let x = Tensor::from_vec(xs, 400_000, &Device::Cpu)?;
    let y = Tensor::from_vec(ys, 400_000, &Device::Cpu)?;
    let answers: Vec<String> = [1, 2, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let found = pool.expect("a pool").install(|| compare(&x, &y, BOUNDS));
            format!("{found:?}")
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    Ok(())
}

#[test]
fn two_empty_tensors_have_nothing_to_compare() -> Result<()> {
    let x = Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?;
    let found = compare(&x, &x, BOUNDS)?;
    assert_eq!((found.elements, found.mismatches.is_none()), (0, true));
    Ok(())
}

/// The block of the greatest relative difference has the smallest absolute ones, and comes after ten others.
#[test]
fn the_greatest_relative_difference_is_found_in_the_last_block() -> Result<()> {
    for dtype in [DType::I32, DType::BF16, DType::F16, DType::F32, DType::F64] {
        let (elements, at) = (11 * kernel::BLOCK, 11 * kernel::BLOCK - 7);
        let mut expected = vec![8f32; elements];
        let mut actual: Vec<f32> =
            (0..elements).map(|i| if i % 2 == 0 { 8. } else { 12. }).collect();
        (actual[at], expected[at]) = (3., 1.);
        let new = |values: Vec<f32>| Tensor::new(values, &Device::Cpu)?.to_dtype(dtype);
        let found = compare(&new(actual)?, &new(expected)?, BOUNDS)?.mismatches.unwrap();
        assert_eq!(found.count, elements / 2 + usize::from(at % 2 == 0), "{dtype:?}");
        let (absolute, relative) =
            (found.greatest_absolute.unwrap(), found.greatest_relative.unwrap());
        assert_eq!((absolute.difference, absolute.index), (4., vec![1]), "{dtype:?}");
        assert_eq!((relative.relative, relative.index), (2., vec![at]), "{dtype:?}");
    }
    Ok(())
}
