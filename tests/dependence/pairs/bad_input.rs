//! Inputs and functions that cannot be judged: each gets a clear answer.

use candle_core::{DType, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind,
    check::{Causal, Dependence, UsesInput},
};

use super::models::{CPU, sequence};
use crate::support::text;

fn cumsum(x: &Tensor) -> Result<Tensor> {
    x.cumsum(1)
}

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, CPU).unwrap()
}

fn every(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, mask: usize) -> [Failure; 3] {
    let mask = Tensor::ones((mask, mask), DType::U8, CPU).unwrap();
    [
        Causal::new().check(&f, x).unwrap_err(),
        Dependence::new().check(&f, x, &mask).unwrap_err(),
        UsesInput::new().check(&f, x).unwrap_err(),
    ]
}

fn kinds(failures: &[Failure; 3]) -> [FailureKind; 3] {
    [failures[0].kind(), failures[1].kind(), failures[2].kind()]
}

#[test]
fn inputs_in_which_nothing_can_change() {
    use FailureKind::{NotRun, Vacuous};
    assert_eq!(kinds(&every(cumsum, &zeros(&[0, 3]), 3)), [Vacuous; 3]);
    assert_eq!(kinds(&every(cumsum, &zeros(&[]), 3)), [NotRun; 3]);
    let nan = Tensor::new(&[[0f32, f32::NAN]], CPU).unwrap();
    let failures = every(cumsum, &nan, 2);
    assert_eq!(kinds(&failures), [NotRun; 3]);
    assert!(failures.iter().all(|failure| failure.cause() == Some(Cause::NotFinite)));
    let ids = Tensor::zeros((2, 3), DType::U32, CPU).unwrap();
    let embedded = |ids: &Tensor| ids.to_dtype(DType::F32)?.cumsum(1);
    assert_eq!(kinds(&every(embedded, &ids, 3)), [Vacuous; 3]);
}

#[test]
fn one_position_has_no_future() {
    let failure = Causal::new().check(cumsum, &sequence(1, 2, 1)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(failure.headline(), @"the input has 1 position along dimension 1: there is no future to leak");
    let failure = Causal::new().window(4).check(cumsum, &sequence(1, 2, 4)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(failure.headline(), @"a window of 4 positions holds the whole input of 4: nothing lies before it");
}

#[test]
fn a_batch_of_one_is_enough() {
    let one = sequence(1, 1, 4);
    Causal::new().check(cumsum, &one).unwrap();
    let lower = Tensor::tril2(4, DType::U8, CPU).unwrap();
    Dependence::new().check(cumsum, &one, &lower).unwrap();
    UsesInput::new().check(cumsum, &one).unwrap();
}

#[test]
fn outputs_without_positions() {
    let x = sequence(1, 2, 5);
    let last = Causal::new().check(|x: &Tensor| x.sum(1), &x).unwrap_err();
    assert_eq!(last.kind(), FailureKind::NotRun);
    insta::assert_snapshot!(text(&last), @"
    assertion `causal` did not run
    the function returned dims [2, 8] for an input of dims [2, 5, 8]: 8 output positions of dim 1 for 5 positions of dim 1

      help       let the closure return one output for each position, and name the dimensions with `dim` and
                 `output_dim` where they are not 1; an output of the last position alone cannot be judged
    ");
    let rows = Causal::new().check(|x: &Tensor| x.sum(2)?.sum(1), &x).unwrap_err();
    insta::assert_snapshot!(text(&rows), @"
    assertion `causal` did not run
    the function returned dims [2] for an input of dims [2, 5, 8]: no dimension 1 to hold an output for each position

      help       let the closure return one output for each position; an output of the last position alone cannot
                 be judged
    ");
    let all = Causal::new().check(|x: &Tensor| x.sum_all(), &x).unwrap_err();
    assert_eq!(all.kind(), FailureKind::NotRun);
    assert!(all.text().contains("2 rows first"), "{all}");
}

#[test]
fn arguments_that_do_not_fit() {
    let x = sequence(1, 2, 5);
    let told = |failure: Failure| {
        assert_eq!(failure.kind(), FailureKind::NotRun);
        failure.headline().to_owned()
    };
    let causal = |causal: Causal| told(causal.check(cumsum, &x).unwrap_err());
    insta::assert_snapshot!(causal(Causal::new().dim(0)), @"`dim` is 0; allowed: a dimension after the batch, 1 or more");
    insta::assert_snapshot!(causal(Causal::new().dim(3)), @"`dim` is 3 for an input of dims [2, 5, 8]; allowed: a dimension of the input");
    insta::assert_snapshot!(causal(Causal::new().output_dim(0)), @"`output_dim` is 0; allowed: a dimension after the batch, 1 or more");
    insta::assert_snapshot!(causal(Causal::new().window(0)), @"`window` is 0; allowed: 1 position or more");
    insta::assert_snapshot!(causal(Causal::new().window(1).strict(true)), @"`window` is 1; allowed: 2 positions or more where the own one is not seen");
    let mask = |mask: &Tensor| told(Dependence::new().check(cumsum, &x, mask).unwrap_err());
    insta::assert_snapshot!(mask(&zeros(&[5])), @"`mask` is of dims [5]; allowed: [outputs, inputs], not empty");
    insta::assert_snapshot!(mask(&zeros(&[5, 4])), @"`mask` is of dims [5, 4]; allowed: [outputs, inputs], here [5, 5]");
    insta::assert_snapshot!(mask(&(zeros(&[5, 5]) + f64::NEG_INFINITY).unwrap()), @"`mask` is a tensor with NaN or infinite values; allowed: 0 where there is no dependence, another number where there is; a mask that is added to scores is none");
    let dims = Dependence::new().dim(1).output_dim(0).check(cumsum, &x, &zeros(&[5, 5]));
    insta::assert_snapshot!(told(dims.unwrap_err()), @"`output_dim` is 0 beside `dim` 1; allowed: 0 for rows, else 1 or more");
    let uses = |uses: UsesInput| told(uses.check(cumsum, &x).unwrap_err());
    insta::assert_snapshot!(uses(UsesInput::new().dims([1, 3])), @"`dims` is 3 for an input of dims [2, 5, 8]; allowed: dimensions of the input");
    insta::assert_snapshot!(uses(UsesInput::new().dims([])), @"`dims` is empty; allowed: dimensions of the input");
    insta::assert_snapshot!(uses(UsesInput::new().ignore((1, [5]))), @"`ignore` is index 5 of dim 1 for an input of dims [2, 5, 8]; allowed: a dimension and indices of the input");
    insta::assert_snapshot!(uses(UsesInput::new().ignore((4, [0]))), @"`ignore` is index 0 of dim 4 for an input of dims [2, 5, 8]; allowed: a dimension and indices of the input");
    insta::assert_snapshot!(uses(UsesInput::new().ignore_input(1)), @"`ignore_input` is 1 for an input of 1 tensor; allowed: the number of one of them, from 0");
}

#[test]
fn functions_that_cannot_be_judged() {
    let x = sequence(1, 2, 4);
    let error = |_: &Tensor| -> Result<Tensor> { candle_core::bail!("no such thing") };
    let failures = every(error, &x, 4);
    assert_eq!(kinds(&failures), [FailureKind::NotRun; 3]);
    insta::assert_snapshot!(text(&failures[0]), @"
    assertion `causal` did not run
    the function returned an error

      error  no such thing
    ");
    let nan = every(|x| x * f64::NAN, &x, 4);
    assert_eq!(kinds(&nan), [FailureKind::NotRun; 3]);
    assert!(nan.iter().all(|failure| failure.cause() == Some(Cause::NotFinite)));
    let random = every(|x| x + x.rand_like(0.0, 1.0)?, &x, 4);
    assert_eq!(kinds(&random), [FailureKind::NotRun; 3]);
    let state = std::cell::Cell::new(0.0);
    let counting = |x: &Tensor| {
        state.set(state.get() + 1.0);
        x + state.get()
    };
    let failures = every(counting, &x, 4);
    assert!(failures.iter().all(|f| f.findings().iter().any(|f| f.cause() == Cause::StateKept)));
}

#[test]
fn an_error_on_a_changed_input_says_so() {
    let ids = Tensor::new(&[[1u32, 2, 3], [3, 1, 2]], CPU).unwrap();
    let picky = |ids: &Tensor| match ids.flatten_all()?.to_vec1::<u32>()?.as_slice() {
        [1, 2, 3, 3, 1, 2] => ids.to_dtype(DType::F32)?.cumsum(1),
        _ => candle_core::bail!("no such ids"),
    };
    let failures = every(picky, &ids, 3);
    assert_eq!(kinds(&failures), [FailureKind::NotRun; 3]);
    insta::assert_snapshot!(text(&failures[0]), @"
    assertion `causal` did not run
    the function returned an error

      error        no such ids
      called with  the input with other values of its kind in some places
    ");
}
