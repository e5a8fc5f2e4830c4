//! What `assert_healthy!` makes of several failures.

use std::cell::RefCell;

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{VarMap, linear, loss, ops};
use candling::{Cause, Learner, Seed, check::Healthy, synthetic};

use crate::support::text;

/// Two linear layers with `between` them.
fn fails(
    between: impl Fn(&Tensor) -> Result<Tensor>,
    after: fn(&Tensor) -> Result<Tensor>,
) -> String {
    let (vars, vb): (VarMap, _) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
    let (l1, l2) = (linear(2, 32, vb.pp("l1")).unwrap(), linear(32, 2, vb.pp("l2")).unwrap());
    let forward = |x: &Tensor| after(&l2.forward(&between(&l1.forward(x)?.relu()?)?)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let (x, y) = synthetic::spirals(Seed::new(1), 2, 4).unwrap();
    text(&Healthy::new().check(&learner, (&x, &y)).unwrap_err())
}

/// Smoothed labels leave a floor that nothing is wrong with: what helps is to name it.
#[test]
fn a_failure_without_a_cause_keeps_its_help() {
    let (vars, vb): (VarMap, _) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
    let (l1, l2) = (linear(2, 32, vb.pp("l1")).unwrap(), linear(32, 2, vb.pp("l2")).unwrap());
    let smoothed = |logits: &Tensor, y: &Tensor| {
        (loss::cross_entropy(logits, y)? * 0.8)? - (ops::log_softmax(logits, 1)?.mean_all()? * 0.2)?
    };
    let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), smoothed);
    let (x, y) = synthetic::spirals(Seed::new(1), 2, 4).unwrap();
    let failure = Healthy::new().check(&learner, (&x, &y)).unwrap_err();
    let text = text(&failure);
    assert!(failure.findings().is_empty() && text.contains("label smoothing"), "{text}");
    assert!(text.contains("`loss_below`"), "{text}");
}

#[test]
fn the_help_is_that_of_the_check_that_failed() {
    let text = fails(|x| Ok(x.clone()), |x| ops::softmax(x, 0));
    let help = "help       normalise over the last dimension: `softmax(&x, D::Minus1)`; see docs/causes.md#batch-mixed";
    assert!(text.contains(help), "{text}");
    assert!(!text.contains("a reshape where a transpose was meant"), "{text}");
}

#[test]
fn behind_a_cut_no_slopes_are_compared() {
    let text = fails(ops::softmax_last_dim, |x| Ok(x.clone()));
    assert!(text.contains("gradients_correct  not run: a gradient is cut"), "{text}");
    assert!(text.contains("gradient-cut") && !text.contains("gradient-wrong"), "{text}");
    let slow = |x: &Tensor| ops::softmax(x, D::Minus1);
    let text = fails(slow, |x| ops::softmax(x, 0));
    assert!(text.contains("gradients_correct  passed"), "{text}");
}

#[test]
fn a_function_that_keeps_state_is_not_trained() {
    let last: RefCell<Option<Tensor>> = RefCell::new(None);
    // An average over calls that carries the graphs of all of them.
    let average = |x: &Tensor| {
        let mean = match last.borrow().as_ref() {
            Some(last) if last.dims() == x.dims() => ((x * 0.5)? + (last * 0.5)?)?,
            _ => x.clone(),
        };
        last.replace(Some(mean.clone()));
        Ok(mean)
    };
    let text = fails(average, |x| Ok(x.clone()));
    for check in ["gradients_flow", "gradients_correct", "units_alive", "overfits_batch"] {
        let line = text.lines().find(|line| line.trim_start().starts_with(check));
        assert!(
            line.is_some_and(|l| l.ends_with("not run: state is kept between calls")),
            "{text}"
        );
    }
    assert!(text.contains(Cause::StateKept.code()), "{text}");
}

#[test]
fn of_nan_no_unused_variable_is_told() {
    // candle sends no gradient through a product with 0.
    let text = fails(|x| Ok(x.clone()), |x| (x * f64::NAN)? * 0.0);
    assert!(text.contains("not-finite") && !text.contains("variable-un"), "{text}");
}
