use candle_core::{DType, Device};

use super::*;

const CPU: &Device = &Device::Cpu;

fn near(actual: f64, wanted: f64) {
    assert!((actual - wanted).abs() < 1e-3 * wanted.abs().max(1e-3), "{actual} {wanted}");
}

#[test]
fn theory_in_numbers() -> Result<()> {
    let band = cross_entropy(10).band(None, None)?;
    near(band.center, std::f64::consts::LN_10);
    near(band.high, 6.8026);
    assert!(band.low > 0.2 * band.center && band.low < 0.6 * band.center, "{band:?}");
    near(bce().band(None, None)?.center, std::f64::consts::LN_2);

    let y = Tensor::new(&[[1f32], [3.0]], CPU)?;
    let band = mse(&y).band(None, None)?;
    assert_eq!((band.center, band.best_constant), (5.0, Some(1.0)));
    assert_eq!(band.high, (49.0 + 81.0) / 2.0);
    assert_eq!(mae(&y).band(None, None)?.center, 2.0);
    assert_eq!(huber(&y, 2.0).band(None, None)?.center, (0.5 + 4.0) / 2.0);
    let band = mse(&y).times(2.0).plus(1.0).band(None, None)?;
    assert_eq!((band.center, band.best_constant), (11.0, Some(3.0)));
    Ok(())
}

#[test]
fn shares_of_classes_lower_it() -> Result<()> {
    let y = Tensor::new(&[0u32, 0, 0, 0, 0, 0, 0, 1], CPU)?;
    let entropy = -(0.875f64 * 0.875f64.ln() + 0.125 * 0.125f64.ln());
    near(cross_entropy_with_prior(&y, 2).band(None, None)?.center, entropy);
    let band = cross_entropy(2).band(Some(&y), None)?;
    near(band.best_constant.unwrap_or(0.0), entropy);
    assert!(band.advice.is_some());
    let balanced = Tensor::new(&[0u32, 1, 2, 3], CPU)?;
    assert_eq!(cross_entropy(4).band(Some(&balanced), None)?.advice, None);
    Ok(())
}

#[test]
fn luck_ends_nearer_to_the_theory_for_more_classes_and_smaller_logits() -> Result<()> {
    let low = |classes: usize, size: f64| -> Result<f64> {
        let logits = crate::Seed::new(1).normal("z", (64, classes), DType::F64, CPU)?;
        let band = cross_entropy(classes).band(None, Some(&(logits * size)?))?;
        Ok(band.low / band.center)
    };
    assert!(low(2, 5.0)? < 0.01);
    assert!(low(100, 5.0)? > 0.9);
    assert!(low(4, 0.05)? > 0.7);
    assert!(low(4, 0.05)? > low(4, 1.0)?);
    // Of a normal distribution, 3.72 is passed once in ten thousand.
    near(by_luck(7.0 / 4.0), 3.719);
    Ok(())
}

#[test]
fn what_cannot_be_expected_is_said() -> Result<()> {
    let text = |expected: Expected| match expected.band(None, None) {
        Ok(band) => format!("{band:?}"),
        Err(failure) => failure.headline().to_owned(),
    };
    let empty = Tensor::zeros((0, 2), DType::F32, CPU)?;
    let nan = Tensor::new(&[f32::NAN], CPU)?;
    let y = Tensor::new(&[1f32], CPU)?;
    let texts = [
        text(cross_entropy(1)),
        text(cross_entropy_with_prior(&y, 3)),
        text(mse(&empty)),
        text(mae(&nan)),
        text(huber(&y, 0.0)),
        text(value(f64::NAN)),
        text(between(2.0, 1.0)),
        text(bce().times(0.0)),
    ];
    insta::assert_snapshot!(texts.join("\n"), @"
    `expected` is a cross-entropy over 1; allowed: 2 classes or more
    `expected` is of f32 targets; allowed: class ids of an integer dtype
    `expected` is of targets of dims [0, 2], empty; allowed: at least one target
    `expected` is of targets with NaN or infinite values; allowed: finite targets
    `expected` is a Huber loss of delta 0; allowed: a finite number above 0
    `expected` is the value NaN; allowed: a finite number
    `expected` is between 2 and 1; allowed: two finite numbers, the lower first
    `expected` is a loss times 0 plus 0; allowed: a factor above 0 and a finite term
    ");
    Ok(())
}
