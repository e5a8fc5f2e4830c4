//! Affine maps in disguise.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, embedding, linear};
use candling::{Cause, Failure, FailureKind, Seed, assert_nonlinear, check::Nonlinear};

use super::zoo::{CPU, layers, through};
use crate::support::text;

fn normal(dims: &[usize]) -> Tensor {
    Seed::new(1).normal("x", dims, DType::F32, CPU).expect("normal numbers")
}

fn failing(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    Nonlinear::new().check(f, x).expect_err("a function that is not seen to be bent")
}

#[test]
fn layers_without_an_activation_are_one() {
    let (_vars, vb) = Seed::new(7).var_builder(DType::F32, CPU);
    let mlp = layers(&[8, 16, 3], &vb).unwrap();
    let failure = failing(|x| through(&mlp, x, |x| Ok(x.clone())), &normal(&[6, 8]));
    assert_eq!(
        (failure.kind(), failure.cause()),
        (FailureKind::Violated, Some(Cause::NetworkLinear))
    );
    insta::assert_snapshot!(text(&failure), @"
    assertion `nonlinear` failed
    the function is an affine map: it is straight on every combination of inputs

      tried  16 combinations, up to 122 apart, where the input spreads by 0.954
      worst  output [3, 1] at a = 0.5: 3.6078033 from the combined input, 3.6078025 from the two outputs combined

      confirmed  network-linear   `f(a x + (1 - a) y)` is `a f(x) + (1 - a) f(y)` to 3.03e-7 of the output's
                                  spread, where rounding makes up to 6.9e-6
      help       put an activation between the linear layers; a network whose branches start at zero (gates,
                 LayerScale, a last layer of zeros) is affine until they have moved: set them with `set_with`
                 first; see docs/causes.md#network-linear
    ");
    let report = assert_nonlinear!(|x| through(&mlp, x, Tensor::relu), &normal(&[6, 8]));
    assert!(report.deviation > 0.1 && report.rounding < 1e-4, "{report:?}");
    assert_eq!((report.straight_features.len(), report.left_out), (0, 0));
}

#[test]
fn a_share_can_be_asked_for() {
    let gate = |x: &Tensor| x + (x.relu()? * 1e-4)?;
    let report = assert_nonlinear!(gate, &normal(&[6, 8]));
    assert!(report.deviation < 1e-3 && report.deviation > report.rounding, "{report:?}");
    let asked = Nonlinear::new().at_least(1e-3);
    insta::assert_snapshot!(text(&asked.check(gate, &normal(&[6, 8])).unwrap_err()), @"
    assertion `nonlinear` failed
    the function is hardly more than an affine map: off a straight line by 9.94e-5 of its spread, 0.001 asked for

      tried  16 combinations, up to 122 apart, where the input spreads by 0.954
      worst  output [4, 1] at a = 2: 131.01 from the combined input, 131.00 from the two outputs combined

      confirmed  network-linear   `f(a x + (1 - a) y)` is `a f(x) + (1 - a) f(y)` to 9.94e-5 of the output's
                                  spread, where rounding makes up to 2.71e-6
      help       put an activation between the linear layers; a network whose branches start at zero (gates,
                 LayerScale, a last layer of zeros) is affine until they have moved: set them with `set_with`
                 first; see docs/causes.md#network-linear
    ");
    let allowed = asked.allow(Cause::NetworkLinear);
    allowed.check(gate, &normal(&[6, 8])).unwrap();
    let bad = Nonlinear::new().at_least(1.0).check(gate, &normal(&[6, 8])).unwrap_err();
    assert_eq!(bad.headline(), "`at_least` is 1; allowed: a share in [0, 1)");
}

#[test]
fn bends_far_from_the_input_are_found() {
    // A hinge 30 standard deviations away, and inputs of a hundred-thousandth.
    assert_nonlinear!(|x| (x + 30.0)?.relu(), &normal(&[6, 8]));
    let tiny = (normal(&[6, 8]) * 1e-5).unwrap();
    assert_nonlinear!(|x| x.tanh(), &tiny);
    assert_nonlinear!(|x| x.relu()?.sum_all(), &(normal(&[6, 8]) * 1e5).unwrap());
    // Defined within the input's range alone.
    let shares = candle_nn::ops::softmax(&normal(&[6, 8]), 1).unwrap();
    let report = assert_nonlinear!(|x| x.sqrt(), &shares);
    assert!(report.left_out > 0);
}

#[test]
fn features_that_stay_straight_are_listed() {
    let half = |x: &Tensor| {
        Tensor::cat(
            &[x.narrow(1, 0, 2)?, x.narrow(1, 2, 2)?.tanh()?, x.narrow(1, 0, 1)?.zeros_like()?],
            1,
        )
    };
    let report = assert_nonlinear!(half, &normal(&[6, 4]));
    assert_eq!(report.straight_features, [0, 1]);
}

#[test]
fn branches_at_zero_are_affine_and_the_help_says_so() {
    let failure = failing(|x| x + (x.relu()? * 0.0)?, &normal(&[6, 8]));
    assert!(failure.text().contains("LayerScale"), "{failure}");
}

#[test]
fn masks_and_ids_stay_and_the_rest_is_combined() {
    let (x, mask) =
        (normal(&[4, 6]), normal(&[4, 6]).ge(0.0).unwrap().to_dtype(DType::F32).unwrap());
    let masked = |[x, mask]: &[Tensor; 2]| x * mask;
    let failure = Nonlinear::new().check(masked, &[x.clone(), mask.clone()]).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NetworkLinear));
    let relu = |[x, mask]: &[Tensor; 2]| x.relu()? * mask;
    assert_nonlinear!(relu, &[x.clone(), mask]);
    let (_vars, vb) = Seed::new(7).var_builder(DType::F32, CPU);
    let (table, head) = (embedding(5, 6, vb.pp("t")).unwrap(), linear(6, 2, vb.pp("h")).unwrap());
    let ids = Seed::new(1).tokens("ids", 5, 4, CPU).unwrap();
    // [float, ids] as two tensors of one number of rows.
    let both = |[x, ids]: &[Tensor; 2]| head.forward(&(x + table.forward(ids)?)?);
    let failure = Nonlinear::new().check(both, &[x, ids.clone()]).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NetworkLinear));
    insta::assert_snapshot!(text(&failing(|x| head.forward(&table.forward(x)?), &ids)), @"
    assertion `nonlinear` did not run
    `x` is integers, which have no combinations; allowed: at least one tensor of finite floats

      help       token ids are looked up in an embedding: test the part after it, on what it returns
    ");
    let infinite = Tensor::new(&[0f32, f32::NEG_INFINITY], CPU).unwrap();
    assert_eq!(failing(|x| x.exp(), &infinite).kind(), FailureKind::NotRun);
}

#[test]
fn what_cannot_be_judged_says_why() {
    insta::assert_snapshot!(text(&failing(|x| x.sum_keepdim(1)?.zeros_like(), &normal(&[3, 2]))), @"
    assertion `nonlinear` proves nothing here
    the output is the same for every input: it is neither straight nor bent

      confirmed  output-constant   3 output values change no bit in 16 combinations
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
    insta::assert_snapshot!(text(&failing(|x| (x * 1e-4)? + 1e4, &normal(&[3, 2]))), @"
    assertion `nonlinear` proves nothing here
    the output moves by 0.0127 where its rounding makes 0.027: no deviation from a straight line could show

      help       test it in f32 or f64, or without the large constant in its output
    ");
    insta::assert_snapshot!(text(&failing(|x| x.argmax(1), &normal(&[3, 2]))), @"
    assertion `nonlinear` did not run
    the function returned a tensor of dtype u32; allowed: a float dtype

      help       return the logits, in place of their argmax
    ");
    let only_here = normal(&[3, 2]);
    let brittle = |x: &Tensor| {
        let same = x.eq(&only_here)?.to_dtype(DType::F32)?;
        (&same / &same)? * x
    };
    insta::assert_snapshot!(text(&failing(brittle, &normal(&[3, 2]))), @"
    assertion `nonlinear` did not run
    the function returned NaN, infinite values or an error on all 16 combinations of inputs
    ");
    let scalar = Tensor::new(1f32, CPU).unwrap();
    assert_eq!(failing(|x| x.tanh(), &scalar).kind(), FailureKind::NotRun);
    let empty = Tensor::zeros((0, 2), DType::F32, CPU).unwrap();
    assert_eq!(failing(|x| x.tanh(), &empty).kind(), FailureKind::Vacuous);
    assert_eq!(failing(|x| x.log(), &normal(&[2, 3])).cause(), Some(Cause::NotFinite));
    let random = |x: &Tensor| x + x.rand_like(0.0, 1.0)?;
    assert_eq!(failing(random, &normal(&[2, 3])).kind(), FailureKind::NotRun);
}

#[test]
fn inputs_of_every_shape() {
    for dims in [&[1][..], &[5], &[1, 1], &[1, 3], &[3, 1, 2], &[2, 2, 2, 2]] {
        assert_nonlinear!(|x| x.tanh(), &normal(dims));
        let failure = failing(|x| (x * 2.0)? + 1.0, &normal(dims));
        assert_eq!(failure.cause(), Some(Cause::NetworkLinear), "{dims:?}");
    }
    let views = [normal(&[3, 4]).t().unwrap(), normal(&[1, 4]).broadcast_as((3, 4)).unwrap()];
    for x in views {
        assert_nonlinear!(|x| x.relu(), &x);
    }
    let constant = Tensor::ones((3, 2), DType::F32, CPU).unwrap();
    assert_nonlinear!(|x| x.relu(), &constant);
}
