//! Assertions that take a strategy in place of an input.

use candling::{
    FailureKind,
    check::{BatchIndependent, Causal, Equivalent},
    prelude::*,
    strategies,
};

#[test]
fn a_property_of_many_inputs_is_one_line() {
    assert_equivalent!(|x| x.sqr(), |x| x * x, strategies::tensor([1..6, 1..9]));
    assert_batch_independent!(|x| x.tanh(), strategies::tensor([2..9, 1..5]), "{}", "tanh");
    assert_causal!(|x| x.cumsum(1), &strategies::tensor([1..4, 2..9]), seed = Seed::new(2));
    assert_uses_input!(|x| x.sum(1), strategies::tensor([2..5, 2..5]));
    assert_deterministic!(|x| x.to_dtype(DType::F32), strategies::tokens(9, [2..5, 2..5]));
    assert_invariant!(|x| x.max(1), strategies::tensor([1..5, 2..9]), |x| x.flip(&[1]));
    assert_equivariant!(|x| x.tanh(), &strategies::tensor([1..5, 2..9]), |x| x.roll(1, 1));
    assert_sensitive!(|x| x.sum(1), strategies::tensor([1..5, 2..9]), |x| x + 1.0);
    let pairs = strategies::inputs([strategies::tensor((2..5, 3)), strategies::tensor((2..5, 1))]);
    assert_batch_independent!(|[a, b]| a.broadcast_mul(b), pairs);
}

/// Right up to four columns.
fn narrow(x: &Tensor) -> candle_core::Result<Tensor> {
    match x.dim(1)? {
        0..=4 => x.sum(1),
        columns => x.narrow(1, 0, columns - 1)?.sum(1),
    }
}

#[test]
fn the_smallest_counterexample_is_told_with_the_line_that_makes_it() {
    let inputs = strategies::tensor([1..9, 1..9]);
    let failure = Equivalent::new().check(narrow, |x: &Tensor| x.sum(1), &inputs).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
    insta::assert_snapshot!(failure.text(), @"
    assertion `equivalent` failed
    the two functions disagree: the only element differs

      input      dims [1, 5]
      actual     the first function, f32 [1]
      expected   the second function, f32 [1]
      tensors    f32 [1]
      tolerance  |actual - expected| <= 3.81e-5 + 7.63e-6 * |expected|
      mismatch   index  actual  expected  difference     ulps
                 [0]       4.0       5.0           1  2097152
      noise      the last place of the output is 5.96e-7; 64 times that is allowed
      case       drawn after 1 other, made as small as possible in 10 trials
      made by    strategies::tensor([1, 5]).values(strategies::Values::Constant(1.0)).sample(Seed::new(0))?

      confirmed  values-differ   [0]: 4.0, expected 5.0
      help       start from the worst element; see docs/causes.md#values-differ
      rerun      cargo test
                 strategies::assertions::the_smallest_counterexample_is_told_with_the_line_that_makes_it
    ");
}

#[test]
fn perturbation_assertions_shrink_too() {
    let leak = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(0)?);
    let failure =
        BatchIndependent::new().check(leak, &strategies::tensor([2..9, 1..9])).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
    insta::assert_snapshot!(failure.text(), @"
    assertion `batch_independent` failed
    all 2 rows of the output depend on other rows of the input

      matrix   in   0  1
                0   o  x
                1   x  o
               x: the row of the output (down) depends on the row of the input (across)
      case     the first one drawn, made as small as possible in 3 trials
      made by  strategies::tensor([2, 1]).values(strategies::Values::Constant(0.0)).sample(Seed::new(0))?

      confirmed  batch-mixed   row 0 of the output: it changes by 0.28 when row 1 of the input alone is replaced
                               (its size is 0)
      confirmed  batch-mixed   row 1 of the output: it changes by 0.272 when row 0 of the input alone is replaced
                               (its size is 0)
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
      rerun      cargo test strategies::assertions::perturbation_assertions_shrink_too
    ");

    let backwards = |x: &Tensor| x.flip(&[1])?.cumsum(1)?.flip(&[1]);
    let failure = Causal::new().check(backwards, &strategies::tensor([1..9, 2..9])).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    assert!(failure.text().contains("strategies::tensor([1, 2])"), "{failure}");
}

#[test]
fn a_strategy_that_cannot_be_met_is_no_pass() {
    let failure =
        BatchIndependent::new().check(|x: &Tensor| x.exp(), &strategies::tokens(0, 3)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun);
    let alone = strategies::tensor([1, 2]);
    let failure = BatchIndependent::new().check(|x: &Tensor| x.exp(), &alone).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
}
