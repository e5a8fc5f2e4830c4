//! What cannot be used is said: the option, what it was, what is allowed.

use candle_core::{DType, Tensor};
use candle_nn::loss;
use candling::{Cause, Contract, Failure, FailureKind, check::LossContract, contract};

fn refused(
    loss: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    contract: Contract,
) -> Failure {
    let failure = LossContract::new().check(loss, &contract).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    failure
}

fn sentence(contract: Contract) -> String {
    refused(|p, _| p.sum_all(), contract).headline().to_owned()
}

#[test]
fn contracts_that_cannot_be_tested() {
    use contract::*;
    insta::assert_snapshot!(sentence(cross_entropy(1)), @"`classes` is 1; allowed: 2 or more");
    insta::assert_snapshot!(sentence(cross_entropy(3).rows(0)), @"`rows` is 0; allowed: 1 or more");
    insta::assert_snapshot!(sentence(cross_entropy(3).label_smoothing(1.0)), @"`label_smoothing` is 1; allowed: a share in [0, 1)");
    insta::assert_snapshot!(sentence(cross_entropy(3).label_smoothing(f64::NAN)), @"`label_smoothing` is NaN; allowed: a share in [0, 1)");
    insta::assert_snapshot!(sentence(cross_entropy(3).class_weights([1.0, 2.0])), @"`class_weights` is [1.0, 2.0] for 3 classes; allowed: a finite weight above 0 for each class");
    insta::assert_snapshot!(sentence(cross_entropy(3).shape([4])), @"`shape` is [4] for labels of []; allowed: 3 scores, last, for each label");
    insta::assert_snapshot!(sentence(cross_entropy(2).ignore_index(1)), @"`ignore_index` is one of 2 classes; allowed: a label that leaves two classes or more");
    insta::assert_snapshot!(sentence(cross_entropy(3).soft_targets().label_smoothing(0.1)), @"`label_smoothing` is set beside soft targets; allowed: on a loss of labels");
    insta::assert_snapshot!(sentence(cross_entropy(3).next_token()), @"`target_shape` is not given with `next_token`; allowed: `[time]`, of 3 or more");
    insta::assert_snapshot!(sentence(cross_entropy(3).soft_targets().ignore_index(0)), @"`ignore_index` is set beside soft targets; allowed: on a loss of labels");
    insta::assert_snapshot!(sentence(mse().ignore_index(0)), @"`ignore_index` is set on a contract of squared error; allowed: on a cross-entropy or a likelihood of classes");
    insta::assert_snapshot!(sentence(mse().positive_weight(2.0)), @"`positive_weight` is set on a contract of squared error; allowed: on a binary cross-entropy");
    insta::assert_snapshot!(sentence(mse().both_ways()), @"`both_ways` is set on a contract of squared error; allowed: on `contract::contrastive`");
    insta::assert_snapshot!(sentence(mse().scale(0.0)), @"`scale` is 0; allowed: a finite number above 0");
    insta::assert_snapshot!(sentence(mse().dtype(DType::U32)), @"`dtype` is u32; allowed: f64, f32, f16 or bf16");
    insta::assert_snapshot!(sentence(mse().shape([3, 0])), @"`shape` is [3, 0]; allowed: dims of 1 or more");
    insta::assert_snapshot!(sentence(mse().shape([3]).target_shape([2])), @"`target_shape` is [2] for predictions of [3]; allowed: as many values as a row's prediction has");
    insta::assert_snapshot!(sentence(huber(0.0)), @"`delta` is 0; allowed: a finite number above 0");
    insta::assert_snapshot!(sentence(contrastive(-1.0)), @"`temperature` is -1; allowed: a finite number above 0");
    insta::assert_snapshot!(sentence(mse().per_row(|_, _| 0.0)), @"`per_row` is set on a contract of squared error; allowed: on `contract::custom`");
    insta::assert_snapshot!(sentence(custom("c").per_row(|p, _| p[0]).targets(1.0..1.0)), @"`targets` is 1..1; allowed: finite bounds, the first below the second");
    insta::assert_snapshot!(sentence(custom("c").per_row(|p, _| p[0].ln())), @"the formula of the contract `c` gives NaN for random predictions");
}

#[test]
fn examples_that_cannot_be_used() {
    let device = &candle_core::Device::Cpu;
    let y = Tensor::new(&[1f32, 2.0], device).unwrap();
    let nan = Tensor::new(&[f32::NAN, 1.0], device).unwrap();
    let with =
        |p: &Tensor, y: &Tensor, value: f64| sentence(contract::custom("c").known(p, y, value));
    insta::assert_snapshot!(with(&nan, &y, 1.0), @"an example's prediction is not finite; allowed: finite values");
    insta::assert_snapshot!(with(&y, &nan, 1.0), @"an example's target is not finite; allowed: finite values");
    insta::assert_snapshot!(with(&y, &y, f64::NAN), @"an example's loss is NaN; allowed: a finite number");
    insta::assert_snapshot!(with(&y.narrow(0, 0, 0).unwrap(), &y, 1.0), @"an example's prediction is of dims [0], empty; allowed: at least one value");
    insta::assert_snapshot!(with(&y.to_dtype(DType::U32).unwrap(), &y, 1.0), @"an example's prediction is of dtype u32; allowed: a float dtype");
    let scalar = Tensor::new(3f32, device).unwrap();
    insta::assert_snapshot!(with(&scalar, &scalar, 3.0), @"`contract` is one of scalars alone; allowed: an example with the batch as its first dimension");
    // Views are tensors as others are.
    let column = Tensor::new(&[[1f32, 5.0], [2.0, 7.0]], device).unwrap().t().unwrap();
    let contract = contract::custom("mse").known(&column, &(&column + 1.0).unwrap(), 1.0);
    LossContract::new().check(loss::mse, &contract).unwrap();
}

#[test]
fn losses_that_cannot_be_used() {
    let error = refused(|_, _| candle_core::bail!("no such loss"), contract::mse());
    insta::assert_snapshot!(error.text(), @"
    assertion `loss_contract` did not run
    the loss closure returned an error

      error        no such loss
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32

      help       say what the loss takes with `shape`, `target_shape`, `dtype` and `target_dtype` of the contract
      rerun      cargo test loss::bad_input::losses_that_cannot_be_used
    ");
    let panic = refused(|_, _| panic!("out of ideas"), contract::mse());
    insta::assert_snapshot!(panic.text(), @"
    assertion `loss_contract` did not run
    the loss closure panicked

      panic        out of ideas
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32

      rerun      cargo test loss::bad_input::losses_that_cannot_be_used
    ");
    let rows = refused(|p, y| (p - y)?.sqr()?.mean(1), contract::mse());
    insta::assert_snapshot!(rows.text(), @"
    assertion `loss_contract` did not run
    the loss closure returned a tensor of dims [12]; allowed: a scalar

      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32

      help       end the loss with `mean_all()`
      rerun      cargo test loss::bad_input::losses_that_cannot_be_used
    ");
    let count = refused(
        |x, y| x.argmax(1)?.eq(y)?.to_dtype(DType::U32)?.sum_all(),
        contract::cross_entropy(3),
    );
    assert_eq!(count.cause(), Some(Cause::LossDetached));
    let random = refused(|p, y| loss::mse(&(p + p.rand_like(0.0, 1.0)?)?, y), contract::mse());
    assert!(random.headline().starts_with("two calls of the loss"), "{random}");
    let shapes = refused(|p, y| loss::mse(&p.flatten_all()?, y), contract::mse());
    assert_eq!(shapes.headline(), "the loss closure returned an error");
}

#[test]
fn what_is_intended_is_allowed() -> candling::Result<()> {
    let sum = |p: &Tensor, y: &Tensor| (p - y)?.sqr()?.sum_all();
    LossContract::new().allow(Cause::LossReduction).check(sum, &contract::mse())?;
    LossContract::new()
        .allow(Cause::LossUnstable)
        .check(loss::binary_cross_entropy_with_logit, &contract::bce_with_logits())?;
    Ok(())
}
