//! Wrong backward passes of candle itself, by name; and where they do no harm.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Conv1dConfig, Conv2dConfig, conv1d, conv2d, linear, loss};
use candling::{Cause, Failure, FailureKind, Learner, check::GradientsCorrect};

use super::models::{builder, classes, findings, normal, text};

fn of(f: impl FnMut(&Tensor) -> Result<Tensor>, shape: &[usize]) -> Failure {
    let x = normal(1, shape, DType::F64);
    let failure = GradientsCorrect::new().check(f, &x).expect_err("the defect was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn named(f: impl FnMut(&Tensor) -> Result<Tensor>, shape: &[usize]) -> String {
    let failure = of(f, shape);
    assert_eq!(failure.cause(), Some(Cause::GradientEngine), "{failure}");
    findings(&failure)
}

fn passes(f: impl FnMut(&Tensor) -> Result<Tensor>, shape: &[usize]) {
    let x = normal(1, shape, DType::F64);
    GradientsCorrect::new().check(f, &x).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn max_pool2d() {
    insta::assert_snapshot!(text(&of(|x| x.max_pool2d(2), &[1, 2, 4, 4])), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [1, 2, 4, 4]  wrong   the slope times 0.25
      slopes     in f64

      confirmed  gradient-engine   max_pool2d(2), tried by itself: its backward pass divides the gradient by the
                                   number of cells in the window, and x comes before it; at x[0, 1, 3, 3] the
                                   gradient is -0.318, the slope -1.27; it is the slope times 0.25 throughout
      help       take the maximum over a reshaped tensor: `x.reshape((b, c, h / k, k, w / k, k))?.max(5)?.max(3)`;
                 see docs/causes.md#gradient-engine
    ");
    insta::assert_snapshot!(named(|x| x.max_pool2d(3), &[2, 1, 6, 6]), @"gradient-engine | - | max_pool2d(3), tried by itself: its backward pass divides the gradient by the number of cells in the window, and x comes before it; at x[1, 0, 4, 3] the gradient is -0.141, the slope -1.27; it is the slope times 0.111 throughout");
    insta::assert_snapshot!(named(|x| x.max_pool2d((2, 3)), &[1, 2, 4, 6]), @"gradient-engine | - | max_pool2d((2, 3)), tried by itself: its backward pass divides the gradient by the number of cells in the window, and x comes before it; at x[0, 1, 3, 3] the gradient is -0.212, the slope -1.27; it is the slope times 0.167 throughout");
    insta::assert_snapshot!(named(|x| x.max_pool2d(2), &[1, 1, 5, 5]), @"gradient-engine | - | max_pool2d(2), tried by itself: its backward pass divides the gradient by the number of cells in the window, and x comes before it; at x[0, 0, 0, 1] the gradient is -0.366, the slope -1.47; it is the slope times 0.216 throughout");
    passes(|x| x.reshape((1, 2, 2, 2, 2, 2))?.max(5)?.max(3), &[1, 2, 4, 4]);
}

#[test]
fn avg_pool2d() {
    insta::assert_snapshot!(named(|x| x.avg_pool2d(2), &[1, 1, 5, 5]), @"gradient-engine | - | avg_pool2d(2), tried by itself: its backward pass gives the gradient to other cells where the size is no multiple of the kernel, and x comes before it; at x[0, 0, 4, 1] the gradient is 0.271, the slope 0");
    passes(|x| x.avg_pool2d(2), &[1, 2, 4, 6]);
}

#[test]
fn upsample_with_another_use() {
    let skip_1d = |x: &Tensor| x.upsample_nearest1d(8)? + Tensor::cat(&[x, x], 2)?;
    insta::assert_snapshot!(named(skip_1d, &[1, 2, 4]), @"gradient-engine | - | upsample_nearest1d(8), tried by itself: its backward pass overwrites what the input's other uses gave, in place of adding to it, and x comes before it; at x[0, 0, 0] the gradient is -2.15, the slope -5.04");
    let skip_2d = |x: &Tensor| x.upsample_nearest2d(4, 4)?.avg_pool2d(2)? + x.sqr()?;
    insta::assert_snapshot!(named(skip_2d, &[1, 2, 2, 2]), @"gradient-engine | - | upsample_nearest2d(4, 4), tried by itself: its backward pass overwrites what the input's other uses gave, in place of adding to it, and x comes before it; at x[0, 1, 0, 0] the gradient is -1.43, the slope 1.38");
    // Whoever uses the function may use its input once more.
    insta::assert_snapshot!(named(|x| x.upsample_nearest2d(4, 4), &[1, 2, 2, 2]), @"gradient-engine | - | upsample_nearest2d(4, 4), tried by itself: its backward pass overwrites what the input's other uses gave, in place of adding to it, and x comes before it; at x[0, 1, 1, 1] the gradient is 1.09 where the input is used once more, after, and 1.59 where it is a variable itself, which is the slope");
    passes(|x| (x + 0.0)?.upsample_nearest2d(4, 4)? * 2.0, &[1, 2, 2, 2]);
}

#[test]
fn conv1d_of_a_batch() {
    let kernel = normal(2, &[3, 2, 2], DType::F64);
    let both = [normal(1, &[2, 2, 5], DType::F64), kernel.clone()];
    let found = GradientsCorrect::new()
        .check(|[x, k]: &[Tensor; 2]| x.conv1d(k, 0, 1, 1, 1), &both)
        .unwrap_err();
    assert_eq!(found.cause(), Some(Cause::GradientEngine), "{found}");
    insta::assert_snapshot!(findings(&found), @"gradient-engine | - | conv1d(padding 0, stride 1, dilation 1), tried by itself: its backward pass is wrong for batches of two rows and more, and x[0], x[1] come before it; at x[0][1, 0, 0] the gradient is 1.25, the slope -2.64");
    // A constant kernel is no part of the graph, so that the operation has no name.
    insta::assert_snapshot!(text(&of(|x| x.conv1d(&kernel, 0, 1, 1, 1), &[2, 2, 5])), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2, 2, 5]  wrong   off by 0.552
      slopes     in f64

      confirmed  gradient-wrong   x[1, 0, 0]: the gradient is 1.25, the slope -2.64
      help       check the hand-written backward pass, and candle's own operations with a constant: `conv1d` of a
                 batch, `scatter` and a product with a strided tensor have a wrong one (docs/candle-audit.md lists
                 them); see docs/causes.md#gradient-wrong
    ");
}

#[test]
fn a_linear_on_a_transposed_input() {
    let layer = candle_nn::Linear::new(normal(2, &[5, 3], DType::F64), None);
    let mixed = |x: &Tensor| layer.forward(&x.transpose(1, 2)?);
    insta::assert_snapshot!(findings(&of(mixed, &[2, 3, 4])), @"gradient-wrong | x[1, 2, 3] | the gradient is -3.64, the slope 0");
    passes(|x| layer.forward(&x.transpose(1, 2)?.contiguous()?), &[2, 3, 4]);
}

#[test]
fn unfold_of_another_dimension_than_the_last() {
    let weight = normal(2, &[2, 3, 2], DType::F64);
    insta::assert_snapshot!(named(|x| x.unfold(0, 2, 2)? * &weight, &[4, 3]), @"gradient-engine | - | unfold(0, 2, 2), tried by itself: its backward pass takes it for a reshape, which it is for the last dimension alone, and x comes before it; at x[0, 2] the gradient is 1.93, the slope -2.41");
}

#[test]
fn a_maximum_with_ties_is_a_kink() {
    let tied = Tensor::new(&[[1f64, 1., 0.], [2., 3., 3.]], &super::models::device()).unwrap();
    let outcome = GradientsCorrect::new().check(|x: &Tensor| x.max(1), &tied);
    insta::assert_snapshot!(match &outcome {
        Ok(report) => format!("{report:?}"),
        Err(failure) => text(failure),
    }, @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2, 3]  wrong   the slope times 2
      slopes     in f64

      confirmed  gradient-engine   max along dimension 1, tried by itself: its backward pass gives every one of
                                   several equal largest values the whole gradient, and x comes before it; at x[0,
                                   0] the gradient is -1.47, the slope -0.733; it is the slope times 2 throughout
      help       break the ties, or take `log_sum_exp` for a maximum; see docs/causes.md#gradient-engine
    ");
    passes(|x| x.max(1), &[3, 4]);
    passes(|x| x.min_keepdim(0), &[3, 4]);
}

#[test]
fn scatter_is_wrong_without_a_name() {
    let ids = Tensor::new(&[[0u32, 2], [1, 0]], &super::models::device()).unwrap();
    let source = normal(2, &[2, 2], DType::F64);
    let found = of(|x| x.scatter(&ids, &source, 1), &[2, 3]);
    insta::assert_snapshot!(findings(&found), @"gradient-wrong | x[0, 0] | the gradient is -1.47, the slope 0");
}

#[test]
fn a_learners_variables_before_a_defect_are_listed() {
    let (x, y) = (normal(1, &[4, 1, 4, 4], DType::F64), classes(1, DType::F64).1);
    let y = y.narrow(0, 0, 4).unwrap();
    let (vars, vb) = builder(1, DType::F64);
    let cfg = Conv2dConfig { padding: 1, ..Default::default() };
    let (c1, c2) =
        (conv2d(1, 2, 3, cfg, vb.pp("c1")).unwrap(), conv2d(2, 2, 3, cfg, vb.pp("c2")).unwrap());
    let head = linear(8, 4, vb.pp("head")).unwrap();
    let learner = Learner::new(
        &vars,
        |x: &Tensor| {
            head.forward(&c2.forward(&c1.forward(x)?.tanh()?)?.max_pool2d(2)?.flatten_from(1)?)
        },
        loss::cross_entropy,
    );
    let found = GradientsCorrect::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(found.cause(), Some(Cause::GradientEngine), "{found}");
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient of 4 of 6 variables is not the slope of the loss

      gradients  c1.bias      [2]           wrong   the slope times 0.25
                 c1.weight    [2, 1, 3, 3]  wrong   the slope times 0.25
                 c2.bias      [2]           wrong   the slope times 0.25
                 c2.weight    [2, 2, 3, 3]  wrong   the slope times 0.25
                 head.bias    [4]           right   off by 0
                 head.weight  [4, 8]        right   off by 3.35e-11
      slopes     in f64

      confirmed  gradient-engine   after c2: max_pool2d(2), tried by itself: its backward pass divides the
                                   gradient by the number of cells in the window, and c1.bias, c1.weight, c2.bias,
                                   c2.weight come before it; at c1.bias[0] the gradient is -0.0727, the slope
                                   -0.291; it is the slope times 0.25 throughout
      help       take the maximum over a reshaped tensor: `x.reshape((b, c, h / k, k, w / k, k))?.max(5)?.max(3)`;
                 see docs/causes.md#gradient-engine
    ");

    let (vars, vb) = builder(1, DType::F64);
    let c = conv1d(1, 3, 3, Conv1dConfig::default(), vb.pp("c")).unwrap();
    let head = linear(42, 4, vb.pp("head")).unwrap();
    let learner = Learner::new(
        &vars,
        |x: &Tensor| head.forward(&c.forward(&x.flatten_from(2)?)?.tanh()?.flatten_from(1)?),
        loss::cross_entropy,
    );
    let found = GradientsCorrect::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(found.cause(), Some(Cause::GradientEngine), "{found}");
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient of 1 of 4 variables is not the slope of the loss

      gradients  c.bias       [3]        right   off by 0
                 c.weight     [3, 1, 3]  wrong   off by 1.21
                 head.bias    [4]        right   off by 0
                 head.weight  [4, 42]    right   off by 1.28e-10
      slopes     in f64

      confirmed  gradient-engine   conv1d(padding 0, stride 1, dilation 1), tried by itself: its backward pass is
                                   wrong for batches of two rows and more, and c.weight comes before it; at
                                   c.weight[0, 0, 2] the gradient is 0.095, the slope -0.333
      help       call `conv2d` on `x.unsqueeze(2)` with `kernel.unsqueeze(2)`; see docs/causes.md#gradient-engine
    ");
}
