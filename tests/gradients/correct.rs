//! What `assert_gradients_correct!` says of right gradients, of wrong ones, and of kinks.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{linear, loss};
use candling::{
    Cause, Failure, FailureKind, Input, Learner, Seed,
    check::{GradientsCorrect, GradientsCorrectReport},
};

use super::models::{
    Mlp, bits, builder, classes, device, findings, layers, normal, text, with_backward,
};

fn passes<I: Input>(f: impl FnMut(&I) -> Result<Tensor>, x: &I) -> GradientsCorrectReport {
    GradientsCorrect::new().check(f, x).unwrap_or_else(|failure| panic!("{failure}"))
}

fn fails<I: Input>(f: impl FnMut(&I) -> Result<Tensor>, x: &I) -> Failure {
    let failure = GradientsCorrect::new().check(f, x).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn points(shape: &[usize]) -> Tensor {
    normal(1, shape, DType::F64)
}

#[test]
fn right_gradients_pass_in_f64_whatever_is_given() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = normal(1, &[3, 4], dtype);
        let report = passes(|x: &Tensor| x.tanh()?.matmul(&x.t()?), &x);
        assert_eq!(report.dtype, DType::F64, "{dtype:?}");
        assert_eq!(report.judged, ["x"]);
        assert!(report.largest_error < 1e-6, "{report:?}");
    }
    let pair = [points(&[3, 4]), normal(2, &[4, 2], DType::F64)];
    let report = passes(|[a, b]: &[Tensor; 2]| a.matmul(b)?.silu(), &pair);
    assert_eq!(report.judged, ["x[0]", "x[1]"]);
    let strided = points(&[4, 3]).t().unwrap();
    passes(|x: &Tensor| x.sqr()?.sum(0), &strided);
    passes(Tensor::exp, &Tensor::new(0.5f64, &device()).unwrap());
}

#[test]
fn integers_beside_floats_have_no_gradient_and_do_no_harm() {
    let ids = Tensor::new(&[2u32, 0, 2], &device()).unwrap();
    let report =
        passes(|[x, ids]: &[Tensor; 2]| x.index_select(ids, 0)?.sqr(), &[points(&[3, 4]), ids]);
    assert_eq!(report.judged, ["x[0]"]);
}

#[test]
fn a_wrong_factor_is_told_throughout_and_a_wrong_entry_by_its_place() {
    let twice = |x: &Tensor| with_backward(&x.sqr()?, |g| Ok(Some((g * 2.0)?)));
    let found = fails(twice, &points(&[2, 3]));
    assert_eq!(found.cause(), Some(Cause::GradientWrong));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2, 3]  wrong   the slope times 2
      slopes     in f64

      confirmed  gradient-wrong   x[1, 1]: the gradient is 5.62, the slope 2.81; it is the slope times 2
                                  throughout
      help       check the hand-written backward pass, and candle's own operations with a constant: `conv1d` of a
                 batch, `scatter` and a product with a strided tensor have a wrong one (docs/candle-audit.md lists
                 them); see docs/causes.md#gradient-wrong
    ");

    let one = |x: &Tensor| {
        with_backward(&x.sqr()?, |g| {
            let mask = Tensor::new(&[[1f64, 1., 1.], [1., -1., 1.]], g.device())?;
            Ok(Some((g * mask)?))
        })
    };
    insta::assert_snapshot!(findings(&fails(one, &points(&[2, 3]))), @"gradient-wrong | x[1, 1] | the gradient is -2.81, the slope 2.81");

    let little = |x: &Tensor| with_backward(&x.sqr()?, |g| Ok(Some((g * 1.00001)?)));
    insta::assert_snapshot!(findings(&fails(little, &points(&[2, 3]))), @"gradient-wrong | x[1, 1] | the gradient is off by 1e-5 of its size: 2.809743649e0, where the slope is 2.809715552e0");
    GradientsCorrect::new().tolerance(1e-3).check(little, &points(&[2, 3])).unwrap();
    GradientsCorrect::new().allow(Cause::GradientWrong).check(twice, &points(&[2, 3])).unwrap();
}

#[test]
fn one_wrong_entry_among_many_is_found() {
    let one = |x: &Tensor| {
        with_backward(x, |g| {
            let mut mask = vec![1f64; 10_000];
            mask[7_423] = 1.01;
            Ok(Some((g * Tensor::from_vec(mask, g.shape(), g.device())?)?))
        })?
        .tanh()
    };
    let found = fails(one, &points(&[100, 100]));
    assert_eq!(found.findings()[0].place(), Some("x[74, 23]"));
}

#[test]
fn a_gradient_that_does_not_arrive_is_cut() {
    insta::assert_snapshot!(text(&fails(|x: &Tensor| x.detach().sqr(), &points(&[2, 3]))), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2, 3]  none    where there is a slope
      slopes     in f64

      confirmed  gradient-cut   x: moving it changes the function (a slope of -0.409 along one direction), yet no
                                gradient arrives
      help       candle's `LayerNorm`, `RmsNorm`, `softmax_last_dim` and `rope` have no backward pass: use
                 `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow`; else look for a `detach`,
                 `argmax` or `round`. What must not train belongs into `.frozen(..)`; see
                 docs/causes.md#gradient-cut
    ");
    let half = fails(|[a, b]: &[Tensor; 2]| a * b.detach(), &[points(&[3]), points(&[3])]);
    assert_eq!(half.cause(), Some(Cause::GradientCut));
    assert_eq!(half.findings()[0].place(), Some("x[1]"));
}

#[test]
fn kinks_are_no_bugs() {
    let at = |values: &[f64]| Tensor::new(values, &device()).unwrap();
    assert_eq!(passes(Tensor::relu, &at(&[0.0, 1.0, -1.0])).unclear, Vec::<String>::new());
    passes(Tensor::abs, &at(&[0.0, 1.0, -1.0]));
    passes(|x: &Tensor| x.clamp(-1.0, 1.0), &at(&[-1.0, 0.5, 2.0]));
    passes(|x: &Tensor| x.maximum(&x.zeros_like()?), &at(&[0.0, 0.5]));
    // Hundreds of kinks, some close to every point.
    let x = points(&[64, 16]);
    passes(|x: &Tensor| x.relu()?.matmul(&x.abs()?.t()?)?.relu(), &x);
    // Twice the slope is wrong on both sides.
    let twice = |x: &Tensor| with_backward(&x.relu()?, |g| Ok(Some((g * 2.0)?)));
    assert_eq!(fails(twice, &at(&[0.0, 1.0])).cause(), Some(Cause::GradientWrong));
}

#[test]
fn a_staircase_with_a_gradient_made_up_on_purpose_is_not_judged() {
    let through = |x: &Tensor| x + (x.round()? - x)?.detach();
    let failure = GradientsCorrect::new().check(through, &points(&[3, 4])).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous, "{failure}");
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_correct` proves nothing here
    no slope could be told from kinks and rounding

      gradients  x  [3, 4]  not judged: the function is a staircase here
      slopes     in f64

      help       look at another point: one that is on no kink
    ");
    // Beside a smooth input it is named, and not judged.
    let both = |[a, b]: &[Tensor; 2]| (through(a)? * b)?.sum(1);
    let report = passes(both, &[points(&[3, 4]), points(&[3, 4])]);
    assert_eq!(report.unclear, ["x[0]"]);
}

#[test]
fn a_result_that_depends_on_the_layout_is_told() {
    let weight = normal(2, &[5, 4], DType::F64);
    let layer = candle_nn::Linear::new(weight, None);
    let found = fails(|x: &Tensor| layer.forward(x), &points(&[2, 3, 4]));
    assert_eq!(found.cause(), Some(Cause::LayoutDependent));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient of the function depends on how its input comes to it

      gradients  x  [2, 3, 4]  right   off by 0
      slopes     in f64

      confirmed  layout-dependent   on a transposed view of the same values the result differs by up to 3.93,
                                    where it is 2.57 at most
      help       call `.contiguous()?` before the operation; candle 0.11's matmul is wrong for some strided
                 inputs; see docs/causes.md#layout-dependent
    ");
    passes(|x: &Tensor| layer.forward(&x.contiguous()?), &points(&[2, 3, 4]));
}

#[test]
fn a_function_that_its_input_does_not_reach_proves_nothing() {
    let of = |f: fn(&Tensor) -> Result<Tensor>| {
        let failure = GradientsCorrect::new().check(f, &points(&[2, 3])).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Vacuous, "{failure}");
        text(&failure)
    };
    insta::assert_snapshot!(of(|x| x.zeros_like()), @"
    assertion `gradients_correct` proves nothing here
    the function does not depend on its input: every slope is zero
    ");
    assert_eq!(of(|x| x * 0.0), of(|x| x.zeros_like()));
    insta::assert_snapshot!(of(|x| x.narrow(0, 0, 0)), @"
    assertion `gradients_correct` proves nothing here
    the function returned an empty tensor: it has no slope
    ");
}

#[test]
fn a_learner_is_judged_by_its_variables_in_f64_where_it_can_be_built_again() {
    let (x, y) = classes(1, DType::F32);
    let built = Learner::build(
        Seed::new(1),
        DType::F32,
        &device(),
        |vb| {
            let model = Mlp::new([6, 16, 4], vb)?;
            Ok(move |x: &Tensor| model.forward(x))
        },
        loss::cross_entropy,
    )
    .unwrap();
    let report = GradientsCorrect::new().check(&built, (&x, &y)).unwrap();
    assert_eq!(report.dtype, DType::F64);
    assert_eq!(report.judged, ["l1.bias", "l1.weight", "l2.bias", "l2.weight"]);

    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let before = bits(&vars);
    let given = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).frozen(["l1."]);
    let report = GradientsCorrect::new().check(&given, (&x, &y)).unwrap();
    assert_eq!((report.dtype, bits(&vars)), (DType::F32, before));
    assert_eq!(report.judged, ["l2.bias", "l2.weight"]);
}

#[test]
fn a_learners_wrong_variables_bracket_the_operation() {
    let (x, y) = classes(1, DType::F64);
    let (vars, vb) = builder(1, DType::F64);
    let l = layers(&[6, 8, 8, 4], &vb);
    let learner = Learner::new(
        &vars,
        |x: &Tensor| {
            let h = l[1].forward(&l[0].forward(x)?.tanh()?)?;
            l[2].forward(&with_backward(&h, |g| Ok(Some((g * 0.5)?)))?.tanh()?)
        },
        loss::cross_entropy,
    );
    let found = GradientsCorrect::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(found.cause(), Some(Cause::GradientWrong));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient of 4 of 6 variables is not the slope of the loss

      gradients  l0.bias    [8]     wrong   the slope times 0.5
                 l0.weight  [8, 6]  wrong   the slope times 0.5
                 l1.bias    [8]     wrong   the slope times 0.5
                 l1.weight  [8, 8]  wrong   the slope times 0.5
                 l2.bias    [4]     right   off by 0
                 l2.weight  [4, 8]  right   off by 0
      slopes     in f64

      confirmed  gradient-wrong   l0.bias[6]: the gradient is 0.0814, the slope 0.163; it is the slope times 0.5
                                  throughout
      confirmed  gradient-wrong   l0.weight[6, 1]: the gradient is 0.091, the slope 0.182; it is the slope times
                                  0.5 throughout
      confirmed  gradient-wrong   l1.bias[4]: the gradient is 0.0535, the slope 0.107; it is the slope times 0.5
                                  throughout
      confirmed  gradient-wrong   l1.weight[5, 3]: the gradient is -0.0562, the slope -0.112; it is the slope
                                  times 0.5 throughout
      help       check the hand-written backward pass: it belongs to an operation between those that are wrong and
                 those that are right (l2.bias, l2.weight); see docs/causes.md#gradient-wrong
    ");
}

#[test]
fn a_learner_that_is_cut_says_so_and_in_which_precision() {
    let (x, y) = classes(1, DType::F32);
    let learner = Learner::build(
        Seed::new(1),
        DType::F32,
        &device(),
        |vb| {
            let l1 = linear(6, 8, vb.pp("l1"))?;
            let norm = candle_nn::layer_norm(8, 1e-5, vb.pp("norm"))?;
            let l2 = linear(8, 4, vb.pp("l2"))?;
            Ok(move |x: &Tensor| l2.forward(&norm.forward(&l1.forward(x)?)?.gelu()?))
        },
        loss::cross_entropy,
    )
    .unwrap();
    let found = GradientsCorrect::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(found.cause(), Some(Cause::GradientCut));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_correct` failed
    the gradient of 3 of 6 variables is not the slope of the loss

      gradients  l1.bias      [8]     none    where there is a slope
                 l1.weight    [8, 6]  none    where there is a slope
                 l2.bias      [4]     right   off by 0
                 l2.weight    [4, 8]  right   off by 0
                 norm.bias    [8]     unclear
                 norm.weight  [8]     none    where there is a slope
      slopes     in f32, since in f64 the model returns an error: unsupported dtype for rmsnorm F64

      confirmed  gradient-cut   l1.bias, l1.weight, norm.weight: no gradient arrives at 3 variables, where there
                                is a slope; l1.bias: moving it changes the loss (a slope of 0.00759 along one
                                direction), yet no gradient arrives
      help       candle's `LayerNorm`, `RmsNorm`, `softmax_last_dim` and `rope` have no backward pass: use
                 `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow`; else look for a `detach`,
                 `argmax` or `round`. What must not train belongs into `.frozen(..)`; see
                 docs/causes.md#gradient-cut
    ");
}
