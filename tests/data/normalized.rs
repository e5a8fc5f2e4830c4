use candling::{FailureKind, Result, check::Normalized, prelude::*};

use super::{failure, text};

const CPU: &Device = &Device::Cpu;

fn normal(shape: &[usize]) -> Result<Tensor> {
    Ok(Seed::new(1).normal("x", shape, DType::F32, CPU)?)
}

fn bytes(shape: &[usize]) -> Result<Tensor> {
    Ok(Seed::new(1).tokens("bytes", 256, shape, CPU)?.to_dtype(DType::U8)?)
}

#[test]
fn normalised_data_passes_in_every_dtype_and_layout() -> Result<()> {
    let x = normal(&[32, 3, 4, 4])?;
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let x = x.to_dtype(dtype)?;
        assert_normalized!(x);
        let report = assert_normalized!(x, per_channel = 1);
        assert_eq!((report.rows, report.channels.len()), (32, 3));
        assert_normalized!(x.transpose(1, 3)?, per_channel = 3, "turned");
        let unit = (bytes(&[16, 9])?.to_dtype(DType::F32)? / 255.)?.to_dtype(dtype)?;
        assert_normalized!(unit, scheme = 0.0..=1.0);
        assert_normalized!(((unit * 2.0)? - 1.0)?, scheme = -1.0..=1.0);
    }
    assert_normalized!(normal(&[50])?);
    Ok(())
}

#[test]
fn raw_bytes_are_told() -> Result<()> {
    let x = bytes(&[16, 49])?.to_dtype(DType::F32)?;
    insta::assert_snapshot!(text(Normalized::new().check(&x)), @"
    assertion `normalized` failed
    the input is not normalised: mean 127 and standard deviation 73.8, not 0 and 1

      input      f32 [16, 49]
      mean       127
      deviation  73.8
      values     0 to 255
      allowed    mean 0 ± 21.2, deviation 0 to 39.6

      confirmed  input-not-scaled   every value is a whole number from 0 to 255: raw bytes, never divided
      help       convert and divide where the data is loaded: `(x.to_dtype(DType::F32)? / 255.)?`; see
                 docs/causes.md#input-not-scaled
    ");
    let range = text(Normalized::new().scheme(0.0..=1.0).check(&x));
    assert!(range.contains("raw bytes, never divided"), "{range}");
    Ok(())
}

#[test]
fn bytes_divided_twice_are_told() -> Result<()> {
    let x = ((bytes(&[16, 49])?.to_dtype(DType::F32)? / 255.)? / 255.)?;
    insta::assert_snapshot!(text(Normalized::new().scheme(0.0..=1.0).check(&x)), @"
    assertion `normalized` failed
    the input is not normalised: values from 0 to 0.00392, which fill 0.392% of 0.0..=1.0

      input      f32 [16, 49]
      mean       0.00195
      deviation  0.00114
      values     0 to 0.00392
      allowed    0.0..=1.0

      confirmed  input-not-scaled   every value times 255 times 255 is a whole number, the greatest is 0.00392:
                                    divided by 255 twice
      help       divide once: the loader divides, and the caller does, too; see docs/causes.md#input-not-scaled
    ");
    assert!(text(Normalized::new().check(&x)).contains("divided by 255 twice"));
    Ok(())
}

#[test]
fn bytes_divided_and_not_standardised_are_told() -> Result<()> {
    let x = (bytes(&[64, 49])?.to_dtype(DType::F32)? / 255.)?;
    insta::assert_snapshot!(text(Normalized::new().check(&x)), @"
    assertion `normalized` failed
    the input is not normalised: mean 0.499, not 0

      input      f32 [64, 49]
      mean       0.499
      deviation  0.289
      values     0 to 1
      allowed    mean 0 ± 0.278, deviation 0.178 to 1.25

      confirmed  input-not-scaled   every value times 255 is a whole number from 0 to 255: bytes divided by 255,
                                    and no mean taken off
      help       subtract the mean and divide by the standard deviation, or say that this is meant: `scheme =
                 0.0..=1.0`; see docs/causes.md#input-not-scaled
    ");
    Ok(())
}

#[test]
fn bytes_scaled_as_bytes_are_told() -> Result<()> {
    let zeros = bytes(&[16, 49])?.affine(1.0 / 255.0, 0.0)?;
    insta::assert_snapshot!(text(Normalized::new().check(&zeros)), @"
    assertion `normalized` failed
    all 784 values are 0

      input      u8 [16, 49]
      mean       0
      deviation  0
      values     0 to 0

      confirmed  input-constant   0 in u8 [16, 49]: 1/255 as a u8 is 0
      help       convert before scaling: `(x.to_dtype(DType::F32)? / 255.)?`; see docs/causes.md#input-constant
    ");
    let converted = failure(Normalized::new().check(&zeros.to_dtype(DType::F32)?));
    assert_eq!(converted.cause(), Some(Cause::InputConstant));
    let raw = failure(Normalized::new().check(&bytes(&[16, 49])?));
    assert_eq!(raw.cause(), Some(Cause::InputNotScaled));
    Ok(())
}

#[test]
fn marks_of_missing_values_are_told() -> Result<()> {
    let mut values: Vec<f32> = normal(&[40, 4])?.flatten_all()?.to_vec1()?;
    (values[9], values[77]) = (-999.0, -999.0);
    let x = Tensor::from_vec(values.clone(), (40, 4), CPU)?;
    insta::assert_snapshot!(text(Normalized::new().check(&x)), @"
    assertion `normalized` failed
    a mark of missing values is in the input

      input      f32 [40, 4]
      mean       -12.6
      deviation  111
      values     -999 to 3.05

      confirmed  input-not-scaled   [2, 1]: 2 values are exactly -999; without them, mean -0.112 and standard
                                    deviation 1.04
      help       a mark of missing values is data to the model: drop the rows, or fill them in before scaling; see
                 docs/causes.md#input-not-scaled
    ");
    values[9] = f32::NAN;
    let x = Tensor::from_vec(values, (40, 4), CPU)?;
    insta::assert_snapshot!(text(Normalized::new().check(&x)), @"
    assertion `normalized` failed
    1 of 160 values is not finite (0.625%)

      input  f32 [40, 4]

      confirmed  not-finite   [2, 1]: NaN, the first
      help       a missing value was read as NaN, or a column was divided by its deviation of 0: drop the rows, or
                 fill them in before scaling; see docs/causes.md#not-finite
    ");
    Ok(())
}

#[test]
fn a_channel_that_is_off_is_named() -> Result<()> {
    let x = normal(&[64, 3, 4, 4])?;
    let shift = Tensor::new(&[0f32, 0.0, 2.0], CPU)?.reshape((1, 3, 1, 1))?;
    let off = x.broadcast_add(&shift)?;
    insta::assert_snapshot!(text(Normalized::new().per_channel(1).check(&off)), @"
    assertion `normalized` failed
    1 of 3 channels is not normalised

      input    f32 [64, 3, 4, 4]
      off      channel 2: mean 2.01, not 0
      allowed  mean 0 ± 0.445, deviation 0 to 1.34

      confirmed  input-not-scaled   channel 2: mean 2.01, not 0; the other 2 channels are as they should be
      help       scale the input to mean 0 and standard deviation 1, or to [0, 1]; see
                 docs/causes.md#input-not-scaled
    ");
    Ok(())
}

#[test]
fn a_constant_channel_is_named() -> Result<()> {
    let x = normal(&[64, 4])?;
    let scale = Tensor::new(&[1f32, 0.0, 1.0, 1.0], CPU)?;
    let x = x.broadcast_mul(&scale)?;
    insta::assert_snapshot!(text(Normalized::new().per_channel(1).check(&x)), @"
    assertion `normalized` failed
    a channel of the input is constant

      input  f32 [64, 4]

      confirmed  input-constant   channel 1: 0 in all 64 rows
      help       look at the preprocessing: an integer division or a wrong index leaves a constant behind; see
                 docs/causes.md#input-constant
    ");
    assert_normalized!(x, per_channel = 1, allow = Cause::InputConstant);
    // A rare flag, standardised, in a batch where it does not come up: -sqrt(p / (1 - p)).
    let rare = x.broadcast_add(&Tensor::new(&[0f32, -0.1, 0.0, 0.0], CPU)?)?;
    assert_normalized!(rare, per_channel = 1);
    Ok(())
}

#[test]
fn figures_of_another_set_are_seen_where_they_were_fitted() -> Result<()> {
    let fit = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
        let mean = y.mean_keepdim(0)?;
        let std = y.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        Ok(x.broadcast_sub(&mean)?.broadcast_div(&std)?)
    };
    let x = ((normal(&[200, 3])? * 4.0)? + 7.0)?;
    let (train, validation) = (x.narrow(0, 0, 150)?, x.narrow(0, 150, 50)?);
    assert_normalized!(fit(&train, &train)?, fitted = true, per_channel = 1);
    assert_normalized!(fit(&validation, &train)?, per_channel = 1);
    let wrong = fit(&train, &validation)?;
    assert_normalized!(wrong, per_channel = 1);
    let check = Normalized::new().per_channel(1).fitted(true);
    insta::assert_snapshot!(text(check.check(&wrong)), @"
    assertion `normalized` failed
    none of 3 channels is normalised

      input    f32 [150, 3]
      off      channel 0: mean -0.0851 and standard deviation 0.965, not 0 and 1
               channel 1: mean 0.0484 and standard deviation 0.963, not 0 and 1
               channel 2: mean -0.0111 and standard deviation 0.96, not 0 and 1
      allowed  mean 0 ± 0.002, deviation 0.991 to 1.01

      confirmed  input-not-scaled   channel 0: mean -0.0851 and standard deviation 0.965, not 0 and 1
      help       the figures are of another set, or of a set that this one was a part of: fit them on the training
                 set, and on nothing else; see docs/causes.md#input-not-scaled
    ");
    Ok(())
}

#[test]
fn a_range_must_be_kept_and_filled() -> Result<()> {
    let x = Seed::new(2).uniform("x", 0.0..1.0, (20, 5), DType::F32, CPU)?;
    assert_normalized!(x, scheme = 0.0..=1.0);
    let check = Normalized::new().scheme(0.0..=1.0);
    insta::assert_snapshot!(text(check.check(&(&x * 3.0)?)), @"
    assertion `normalized` failed
    the input is not normalised: values from 0.00828 to 2.96, allowed 0.0..=1.0

      input      f32 [20, 5]
      mean       1.57
      deviation  0.943
      values     0.00828 to 2.96
      allowed    0.0..=1.0

      confirmed  input-not-scaled   values from 0.00828 to 2.96, allowed 0.0..=1.0
      help       scale the input to mean 0 and standard deviation 1, or to [0, 1]; see
                 docs/causes.md#input-not-scaled
    ");
    assert!(text(check.check(&(&x * 0.02)?)).contains("fill"));
    assert!(check.clone().fitted(true).check(&x).is_err());
    let (least, greatest) = (x.min_all()?, x.max_all()?);
    let fitted = x.broadcast_sub(&least)?.broadcast_div(&(greatest - least)?)?;
    assert_normalized!(fitted, scheme = 0.0..=1.0, fitted = true);
    Ok(())
}

#[test]
fn what_cannot_be_judged_is_refused() -> Result<()> {
    let x = normal(&[16, 4])?;
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let refused = [
        Normalized::new().check(&Tensor::new(1f32, CPU)?),
        Normalized::new().per_channel(0).check(&x),
        Normalized::new().per_channel(2).check(&x),
        Normalized::new().per_channel(1).check(&normal(&[16])?),
        Normalized::new().tolerance(-1.0).check(&x),
        Normalized::new().scheme(1.0..=0.0).check(&x),
        Normalized::new().check(&x.narrow(0, 0, 0)?),
        Normalized::new().check(&x.narrow(0, 0, 1)?),
        Normalized::new().check(&x.narrow(0, 0, 7)?),
    ]
    .map(|result| {
        let failure = failure(result);
        assert_ne!(failure.kind(), FailureKind::Violated);
        failure.headline().to_owned()
    });
    insta::assert_snapshot!(refused.join("\n"), @"
    `x` is f32 [], a scalar; allowed: rows as the first dimension
    `per_channel` is 0, for an input of dims [16, 4]; allowed: 1: dimension 0 holds the rows
    `per_channel` is 2, for an input of dims [16, 4]; allowed: 1: dimension 0 holds the rows
    `per_channel` is 1, for an input of dims [16]; allowed: a dimension behind the rows, of which there is none
    `tolerance` is -1; allowed: a finite number, 0 or above
    `scheme` is 1.0..=0.0; allowed: a range with a finite length
    the input is empty: no value was looked at
    1 row cannot tell whether the data is normalised
    7 rows cannot tell whether the data is normalised
    ");
    Ok(())
}

/// What users have, standardised with the figures of its distribution: no batch of it may alarm.
#[test]
fn batches_of_normalised_data_pass_whatever_their_tails() -> Result<()> {
    let mut wrong = Vec::new();
    for seed in 0..60 {
        let seed = Seed::new(seed);
        for rows in [8, 16, 64] {
            let z = |label: &str, shape: &[usize]| seed.normal(label, shape, DType::F64, CPU);
            let u = seed.uniform("u", 0.0..1.0, (rows, 5), DType::F64, CPU)?;
            let rare = u.lt(0.05)?.to_dtype(DType::F64)?;
            let (half_width, rare_std) = (12f64.sqrt(), (0.05f64 * 0.95).sqrt());
            // Variance of a lognormal: (e - 1) e.
            let (e, one) = (1f64.exp(), 0.5f64.exp());
            let lognormal = ((z("l", &[rows, 5])?.exp()? - one)? / ((e - 1.0) * e).sqrt())?;
            // Images: half of the variance is the brightness of the whole image.
            let bright = z("b", &[rows, 1, 1, 1])?.broadcast_as((rows, 3, 4, 4))?;
            let images = ((bright + z("p", &[rows, 3, 4, 4])?)? / 2f64.sqrt())?;
            let flags = ((rare - 0.05)? / rare_std)?;
            let all = [
                ("normal", z("x", &[rows, 5])?),
                ("uniform", ((u - 0.5)? * half_width)?),
                ("rare flags", flags),
                ("lognormal", lognormal),
                ("images", images),
            ];
            for (name, x) in all {
                for check in [Normalized::new(), Normalized::new().per_channel(1)] {
                    if let Err(failure) = check.check(&x)
                        && failure.kind() == FailureKind::Violated
                    {
                        wrong
                            .push(format!("{name}, {rows} rows, {seed:?}: {}", failure.headline()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Per channel, too: two normal draws are near one another by chance.
#[test]
fn a_few_rows_prove_nothing_of_a_channel() {
    for seed in 0..20 {
        for rows in [1, 2, 7] {
            let x = Seed::new(seed).normal("x", (rows, 6), DType::F32, &Device::Cpu).unwrap();
            let failure = Normalized::new().per_channel(1).check(&x).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Vacuous, "{failure}");
        }
    }
}
