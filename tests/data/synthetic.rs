//! That the best losses in the docs are true, and what else is said there.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{loss, ops};
use candling::{Failure, Seed, synthetic};

const CPU: &Device = &Device::Cpu;

fn scalar(t: &Tensor) -> Result<f64> {
    t.to_dtype(DType::F64)?.to_scalar()
}

/// Logits that are certain of each label.
fn certain(labels: &Tensor, classes: usize) -> Result<Tensor> {
    let labels: Vec<u32> = labels.flatten_all()?.to_vec1()?;
    let logits: Vec<f32> = labels
        .iter()
        .flat_map(|label| (0..classes).map(|c| if c == *label as usize { 40.0 } else { 0.0 }))
        .collect();
    Tensor::from_vec(logits, (labels.len(), classes), CPU)
}

fn rows(x: &Tensor) -> Result<Vec<Vec<f32>>> {
    x.flatten_from(1)?.to_dtype(DType::F32)?.to_vec2()
}

#[test]
fn blobs_are_separated_by_lines() -> candling::Result<()> {
    for classes in 2..8 {
        let (x, y) = synthetic::blobs(Seed::new(classes as u64), classes, 50)?;
        // The linear model whose weights are the centres.
        let angle = |c: usize| std::f64::consts::TAU * c as f64 / classes as f64;
        let weights: Vec<f32> = (0..classes)
            .flat_map(|c| [angle(c).cos() as f32 * 1e3, angle(c).sin() as f32 * 1e3])
            .collect();
        let weights = Tensor::from_vec(weights, (classes, 2), CPU)?;
        let best = scalar(&loss::cross_entropy(&x.matmul(&weights.t()?)?, &y)?)?;
        assert!(best < 1e-6, "{classes} classes: {best}");
    }
    Ok(())
}

#[test]
fn xor_is_learnable_and_not_by_a_line() -> candling::Result<()> {
    let (x, y) = synthetic::xor(Seed::new(3), 64)?;
    let labels: Vec<u32> = y.to_vec1()?;
    for (row, label) in rows(&x)?.iter().zip(&labels) {
        assert_eq!(u32::from((row[0] > 0.0) != (row[1] > 0.0)), *label);
        assert!(row.iter().all(|v| (0.1..1.0).contains(&v.abs())));
    }
    assert_eq!(labels.iter().sum::<u32>(), 32);
    // No direction tells the classes apart by much: the best of 360 lines through the origin is right for half.
    for degree in 0..360 {
        let (sin, cos) = f64::from(degree).to_radians().sin_cos();
        let right = rows(&x)?
            .iter()
            .zip(&labels)
            .filter(|(r, l)| (f64::from(r[0]) * cos + f64::from(r[1]) * sin > 0.0) == (**l == 1))
            .count();
        assert!((16..=48).contains(&right), "{degree}: {right}");
    }
    Ok(())
}

#[test]
fn the_best_linear_model_has_the_noise_as_its_error() -> candling::Result<()> {
    let noise = 0.3;
    let (x, y) = synthetic::linear_regression(Seed::new(4), 40, 3, noise)?;
    // Least squares by gradient descent in f64 on features with a constant.
    let x = Tensor::cat(&[&x.to_dtype(DType::F64)?, &Tensor::ones((40, 1), DType::F64, CPU)?], 1)?;
    let y = y.to_dtype(DType::F64)?;
    let mut w = Tensor::zeros((4, 1), DType::F64, CPU)?;
    for _ in 0..3000 {
        let slope = x.t()?.matmul(&(x.matmul(&w)? - &y)?)?;
        w = (w - (slope * (0.5 / 40.0))?)?;
    }
    let best = scalar(&(x.matmul(&w)? - &y)?.sqr()?.mean_all()?)?;
    assert!((best - noise * noise).abs() < 1e-6, "{best}");
    let (_, clean) = synthetic::linear_regression(Seed::new(4), 40, 3, 0.0)?;
    let apart = scalar(&(y - clean.to_dtype(DType::F64)?)?.sqr()?.mean_all()?)?;
    assert!((apart - noise * noise).abs() < 1e-6, "the noise alone: {apart}");
    Ok(())
}

#[test]
fn the_sine_itself_has_the_noise_as_its_error() -> candling::Result<()> {
    for noise in [0.0, 0.2] {
        let (x, y) = synthetic::sine_regression(Seed::new(5), 50, noise)?;
        let best = scalar(&loss::mse(&x.sin()?, &y)?)?;
        assert!((best - noise * noise).abs() < 1e-6, "{best}");
    }
    Ok(())
}

#[test]
fn what_a_sequence_holds_tells_its_targets() -> candling::Result<()> {
    let (x, y) = synthetic::copy_task(Seed::new(6), 10, 5, 3)?;
    for (x, y) in x.to_vec2::<u32>()?.iter().zip(&y.to_vec2::<u32>()?) {
        assert_eq!((&x[..3], &x[3..]), (&y[3..], &y[..3]));
        assert_eq!(x[3..], [5, 5, 5]);
        assert!(x[..3].iter().all(|token| *token < 5));
    }
    let best = scalar(&loss::cross_entropy(&certain(&y, 6)?, &y.flatten_all()?)?)?;
    assert!(best < 1e-6, "{best}");

    let (x, y) = synthetic::parity(Seed::new(6), 200, 6)?;
    for (bits, odd) in rows(&x)?.iter().zip(y.to_vec1::<u32>()?) {
        assert_eq!(bits.iter().sum::<f32>() as u32 % 2, odd);
    }

    let (x, y) = synthetic::delayed_recall(Seed::new(6), 30, 4, 7)?;
    let first: Vec<u32> = x.to_vec2::<u32>()?.iter().map(|row| row[0]).collect();
    assert_eq!(first, y.to_vec1::<u32>()?);
    Ok(())
}

#[test]
fn bars_lie_and_stand_with_equal_brightness() -> candling::Result<()> {
    let (x, y) = synthetic::moving_bars(Seed::new(7), 40, 5)?;
    assert_eq!(x.dims(), [40, 1, 5, 5]);
    let mut places = std::collections::BTreeSet::new();
    for (image, standing) in rows(&x)?.iter().zip(y.to_vec1::<u32>()?) {
        assert_eq!(image.iter().sum::<f32>(), 5.0);
        let bright: Vec<usize> = (0..25).filter(|i| image[*i] == 1.0).collect();
        let step = bright[1] - bright[0];
        assert_eq!(step, if standing == 1 { 5 } else { 1 });
        places.insert((standing, bright[0]));
    }
    assert_eq!(places.len(), 10, "every place of both bars comes up");
    Ok(())
}

#[test]
fn a_model_without_the_signal_is_at_the_entropy() -> candling::Result<()> {
    for classes in [2usize, 5] {
        let logits = Tensor::zeros((8, classes), DType::F32, CPU)?;
        let nothing = scalar(&ops::log_softmax(&logits, 1)?.neg()?.mean_all()?)?;
        assert!((nothing - (classes as f64).ln()).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn the_seed_alone_decides() -> candling::Result<()> {
    type Make = fn(Seed) -> candling::Result<(Tensor, Tensor)>;
    let all: [(&str, Make); 8] = [
        ("blobs", |s| synthetic::blobs(s, 3, 4)),
        ("xor", |s| synthetic::xor(s, 8)),
        ("linear", |s| synthetic::linear_regression(s, 8, 2, 0.1)),
        ("sine", |s| synthetic::sine_regression(s, 8, 0.1)),
        ("copy", |s| synthetic::copy_task(s, 8, 5, 4)),
        ("parity", |s| synthetic::parity(s, 8, 6)),
        ("recall", |s| synthetic::delayed_recall(s, 8, 5, 6)),
        ("bars", |s| synthetic::moving_bars(s, 16, 6)),
    ];
    for (name, make) in all {
        let bits = |seed| -> candling::Result<Vec<Vec<f32>>> {
            let (x, y) = make(Seed::new(seed))?;
            assert_eq!(x.dim(0)?, y.dim(0)?, "{name}");
            assert!(x.is_contiguous() && y.is_contiguous(), "{name}");
            Ok(rows(&x)?)
        };
        assert_eq!(bits(1)?, bits(1)?, "{name}");
        assert_ne!(bits(1)?, bits(2)?, "{name}");
    }
    Ok(())
}

#[test]
fn markers_differ_and_have_no_pattern_of_rows() -> candling::Result<()> {
    for n in [8usize, 16, 20, 32, 64, 100] {
        let (x, y) = synthetic::markers(n, (2, 3))?;
        assert_eq!(y.to_vec1::<u32>()?, (0..n as u32).collect::<Vec<_>>());
        let values: Vec<f32> = rows(&x)?.iter().map(|row| row[0]).collect();
        // Near one number each, for whole numbers of bytes and tokens, too.
        let code = |v: f32| (v * n as f32) as u32;
        assert!(rows(&x)?.iter().all(|row| row.iter().all(|v| code(*v) == code(row[0]))));
        let mut codes: Vec<u32> = values.iter().map(|v| (v * n as f32) as u32).collect();
        // Far from a line: a shift or a reversal of the targets must not look like a normalisation.
        for shift in 0..n {
            for sign in [1.0, -1.0] {
                let place = |i: usize| sign * ((i + shift) % n) as f64;
                let apart: f64 = correlation(n, |i| f64::from(values[i]), place);
                assert!(apart < 0.9, "{n}, {shift}: {apart}");
            }
        }
        codes.sort_unstable();
        assert_eq!(codes, (0..n as u32).collect::<Vec<_>>());
    }
    Ok(())
}

fn correlation(n: usize, a: impl Fn(usize) -> f64, b: impl Fn(usize) -> f64) -> f64 {
    let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let product = |f: &dyn Fn(usize) -> f64, g: &dyn Fn(usize) -> f64| {
        (0..n).map(|i| f(i) * g(i)).sum::<f64>()
    };
    let (ca, cb) = (|i| a(i) - ma, |i| b(i) - mb);
    product(&ca, &cb) / (product(&ca, &ca) * product(&cb, &cb)).sqrt()
}

#[test]
fn bad_arguments_name_themselves() {
    let texts = [
        synthetic::blobs(Seed::new(1), 0, 4),
        synthetic::xor(Seed::new(1), 0),
        synthetic::linear_regression(Seed::new(1), 4, 3, 0.1),
        synthetic::linear_regression(Seed::new(1), 9, 3, -1.0),
        synthetic::sine_regression(Seed::new(1), 4, f64::NAN),
        synthetic::copy_task(Seed::new(1), 4, 0, 2),
        synthetic::parity(Seed::new(1), 4, 0),
        synthetic::delayed_recall(Seed::new(1), 4, 2, 0),
        synthetic::moving_bars(Seed::new(1), 4, 1),
        synthetic::markers(0, 3),
        synthetic::markers(4, (3, 0)),
        synthetic::marker_pictures(4, (3, 3)),
    ]
    .map(|result| result.map_or_else(|failure: Failure| failure.text(), |_| "made".to_owned()));
    insta::assert_snapshot!(texts.join("\n"), @"
    `classes` is 0; allowed: 1 or more
    `n` is 0; allowed: 1 or more
    `n` is 4; allowed: 5 or more
    `noise` is -1; allowed: a finite number, 0 or above
    `noise` is NaN; allowed: a finite number, 0 or above
    `vocab` is 0; allowed: 1 or more
    `bits` is 0; allowed: 1 or more
    `length` is 0; allowed: 1 or more
    `size` is 1; allowed: 2 or more
    `n` is 0; allowed: 1 or more
    `dims` is [3, 0]; allowed: at least one element
    `dims` is [3, 3]; allowed: 16 elements or more: a smaller texture may look like its own mirror image
    ");
}
