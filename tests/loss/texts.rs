//! What a failure says, in full.

use candle_core::{Result, Tensor};
use candle_nn::{loss, ops};
use candling::{Contract, check::LossContract, contract};

use super::losses::*;

fn text(loss: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>, contract: Contract) -> String {
    let failure = LossContract::new().check(loss, &contract).unwrap_err();
    // The line that runs the test again is the same for all.
    let text = failure.text();
    text.lines().filter(|l| !l.starts_with("  rerun")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_softmax_too_many() {
    let loss = |x: &Tensor, y: &Tensor| loss::cross_entropy(&ops::softmax(x, 1)?, y);
    insta::assert_snapshot!(text(loss, contract::cross_entropy(10)), @"
    assertion `loss_contract` failed
    the loss is not the cross-entropy over 10 classes: 2.33 for random predictions, where 3.43 is right

      contract     cross-entropy over 10 classes
      called with  a prediction of dims [12, 10], f32, and a target of dims [12], u32
      random       2.28, 2.91 expected
      perfect      1.46, 0 expected
      uniform      2.3
      wrong        2.46, 200 expected

      confirmed  loss-on-probabilities   the values of 6 random batches are exactly those of the cross-entropy
                                         over 10 classes of softmax(prediction); a perfect prediction costs
                                         1.4612, not 0
      help       remove the softmax or sigmoid before the loss: it applies its own; see
                 docs/causes.md#loss-on-probabilities
    ");
}

#[test]
fn a_sum_for_a_mean() {
    let loss = |p: &Tensor, y: &Tensor| (p - y)?.sqr()?.sum_all();
    insta::assert_snapshot!(text(loss, contract::mse()), @"
    assertion `loss_contract` failed
    the loss is not the squared error: 215 for random predictions, where 2.87 is right

      contract     squared error
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32
      random       96.6, 2.68 expected
      perfect      0
      uniform      34.4, 0.955 expected
      wrong        324, 9 expected

      confirmed  loss-reduction   the values of 6 random batches are exactly those of the squared error, summed
                                  over the batch, not averaged
      help       use `mean_all` so that the step does not change with the batch; a sum that is meant is declared,
                 `contract.sum()`; see docs/causes.md#loss-reduction
    ");
}

#[test]
fn a_column_against_a_row() {
    let loss = |p: &Tensor, y: &Tensor| p.broadcast_sub(y)?.sqr()?.mean_all();
    insta::assert_snapshot!(text(loss, contract::mse()), @"
    assertion `loss_contract` failed
    the loss takes [12, 1] against [12], and broadcasts them

      contract     squared error
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32
      random       2.68
      perfect      0
      uniform      0.955
      wrong        9

      confirmed  loss-broadcast   [12, 1] against [12] gives exactly the loss of every prediction against every
                                  target; a perfect prediction costs 2.3567 there
      help       take `-` and `*`, which refuse other dims, for the `broadcast_` operations; or name the dims the
                 loss is used with, `contract.shape([1]).target_shape([])`; see docs/causes.md#loss-broadcast
    ");
    insta::assert_snapshot!(text(loss, contract::mse().shape([1]).target_shape([])), @"
    assertion `loss_contract` failed
    the loss is not the squared error: 3.67 for random predictions, where 2.96 is right

      contract     squared error
      called with  a prediction of dims [12, 1], f32, and a target of dims [12], f32
      random       3.67, 2.96 expected
      perfect      2.36, 0 expected
      uniform      1.18
      wrong        11.4, 9 expected

      confirmed  loss-broadcast   the values of 6 random batches are exactly those of the squared error of every
                                  prediction against every target; a perfect prediction costs 2.3567, not 0
      help       bring both to one shape, with `squeeze(1)` or `unsqueeze(1)`; see docs/causes.md#loss-broadcast
    ");
}

#[test]
fn candles_binary_cross_entropy() {
    let loss = loss::binary_cross_entropy_with_logit;
    insta::assert_snapshot!(text(loss, contract::bce_with_logits()), @"
    assertion `loss_contract` failed
    the loss does not bear sure predictions: it breaks at logits of 17

      contract     binary cross-entropy of logits
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32
      random       0.98
      perfect      NaN, 0 expected
      uniform      0.693
      wrong        inf, 100 expected

      confirmed  loss-unstable   with logits of 17 and -17, the loss is inf for wrong ones; the loss is bit for
                                 bit that of candle's `loss::binary_cross_entropy_with_logit`, which takes the
                                 logarithm of 1 - sigmoid(x)
      help       write it as `relu(x) - x*y + log(1 + exp(-|x|))`, which no logit overflows; see
                 docs/causes.md#loss-unstable
    ");
}

#[test]
fn padding_that_counts() {
    let loss = |x: &Tensor, y: &Tensor| by_label(x, y)?.mean_all();
    let contract = contract::cross_entropy(5).target_shape([6]).ignore_index(0);
    insta::assert_snapshot!(text(loss, contract), @"
    assertion `loss_contract` failed
    the loss is not the cross-entropy over 5 classes: 2.24 for random predictions, where 2.35 is right

      contract     cross-entropy over 5 classes, label 0 ignored
      called with  a prediction of dims [12, 6, 5], f32, and a target of dims [12, 6], u32
      random       2.12, 2.11 expected
      perfect      0
      uniform      1.61
      wrong        200

      confirmed  padding-leak   the values of 6 random batches are exactly those of the cross-entropy over 5
                                classes with the ignored label counted as any other
      help       mask the padded positions in the loss; see docs/causes.md#padding-leak
    ");
}

#[test]
fn no_gradient() {
    let loss = |x: &Tensor, y: &Tensor| loss::cross_entropy(&x.detach(), y);
    insta::assert_snapshot!(text(loss, contract::cross_entropy(3)), @"
    assertion `loss_contract` failed
    no gradient reaches the prediction: nothing can be trained by this loss

      contract     cross-entropy over 3 classes
      called with  a prediction of dims [12, 3], f32, and a target of dims [12], u32
      random       1.79
      perfect      0
      uniform      1.1
      wrong        200

      confirmed  loss-detached   another prediction moves the loss, 1.79 -> 1.22, and the backward pass returns no
                                 gradient for it
      help       look for `detach`, `argmax`, `to_scalar`, or a tensor rebuilt from a `Vec` between output and
                 loss; see docs/causes.md#loss-detached
    ");
}

#[test]
fn a_factor_cut_from_the_graph() {
    let loss = |p: &Tensor, y: &Tensor| ((p - y)? * (p.detach() - y)?)?.mean_all();
    insta::assert_snapshot!(text(loss, contract::mse()), @"
    assertion `loss_contract` failed
    the loss has the right value and a wrong gradient

      contract     squared error
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32
      random       2.68
      perfect      0
      uniform      0.955
      wrong        9

      confirmed  gradient-wrong   prediction[0, 2]: 36 of 36 entries differ; 0.0856, where the slope is 0.171
      help       look for a `detach` on one of the factors, or an operation whose backward pass is wrong; see
                 docs/causes.md#gradient-wrong
    ");
}

#[test]
fn another_loss_altogether() {
    let loss = |p: &Tensor, y: &Tensor| (p - y)?.abs()?.sqrt()?.mean_all();
    insta::assert_snapshot!(text(loss, contract::mse()), @"
    assertion `loss_contract` failed
    the loss is not the squared error: 1.08 for random predictions, where 2.87 is right

      contract     squared error
      called with  a prediction of dims [12, 3], f32, and a target of dims [12, 3], f32
      random       1.07, 2.68 expected
      perfect      0
      uniform      0.826, 0.955 expected
      wrong        1.73, 9 expected

      confirmed  values-differ   no known mistake explains the values of 6 random batches
      confirmed  loss-unstable   the gradient is inf for a perfect prediction
      help       compare it with its formula on one row; a loss of your own has its place in `contract::custom`;
                 see docs/causes.md#values-differ
      help       mind what is divided by, and what a logarithm or a root is taken of; see
                 docs/causes.md#loss-unstable
    ");
}

#[test]
fn smoothing_mixed_up() {
    let contract = contract::cross_entropy(4).label_smoothing(0.1);
    insta::assert_snapshot!(text(smoothed(0.9, 0.025, 4), contract), @"
    assertion `loss_contract` failed
    the loss is not the cross-entropy over 4 classes: 2.17 for random predictions, where 2.22 is right

      contract     cross-entropy over 4 classes, label smoothing of 0.1
      called with  a prediction of dims [12, 4], f32, and a target of dims [12], u32
      random       1.78, 1.83 expected
      perfect      0.347, 0.349 expected
      uniform      1.35, 1.39 expected
      wrong        190, 195 expected

      confirmed  loss-reduction   the values of 6 random batches are exactly those of the cross-entropy over 4
                                  classes with label weights of 0.9000 and 0.0250, which sum to 0.9750, not to 1
      help       the label's weight is 1 - share + share / classes with share / classes for every other, or 1 -
                 share with share / (classes - 1); see docs/causes.md#loss-reduction
    ");
}
