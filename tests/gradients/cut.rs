//! A graph that ends before a variable: every operation that ends it, by name.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{linear, loss, ops, rotary_emb};
use candling::{Cause, Failure, FailureKind, Learner, check::GradientsFlow};

use super::models::{
    Mlp, builder, chain, classes, classifier, device, findings, layers, normal, text,
};

fn failure(learner: &Learner<'_>, batch: (&Tensor, &Tensor)) -> Failure {
    let failure = GradientsFlow::new().check(learner, batch).expect_err("the cut was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    assert_eq!(failure.cause(), Some(Cause::GradientCut), "{failure}");
    failure
}

#[test]
fn a_fused_layer_norm() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l1 = linear(6, 8, vb.pp("l1")).unwrap();
    let norm = candle_nn::layer_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let l2 = linear(8, 4, vb.pp("l2")).unwrap();
    let learner = classifier(&vars, |x| l2.forward(&norm.forward(&l1.forward(x)?)?.gelu()?));
    insta::assert_snapshot!(text(&failure(&learner, (&x, &y))), @"
    assertion `gradients_flow` failed
    4 of 6 variables do not get the gradient they should

      gradients  l1.weight    [8, 6]  cut
                 l1.bias      [8]     cut
                 norm.weight  [8]     cut
                 norm.bias    [8]     cut
                 l2.weight    [4, 8]  flows  norm 0.353
                 l2.bias      [4]     flows  norm 0.147

      confirmed  gradient-cut   norm.weight, norm.bias: moving 2 of 6 variables changes the result (the loss by up
                                to 0.259), yet no gradient arrives (2 more lie before); the graph ends after
                                `norm.bias`, before `l2.weight`: these are the variables of a LayerNorm, whose
                                `forward` candle computes in one fused operation without a backward pass
      help       call `candle_nn::ops::layer_norm_slow(x, weight, bias, eps)` in its place, or build the norm with
                 `LayerNorm::new_no_bias`; see docs/causes.md#gradient-cut
    ");
}

#[test]
fn a_fused_rms_norm() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l1 = linear(6, 8, vb.pp("l1")).unwrap();
    let norm = candle_nn::rms_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let l2 = linear(8, 4, vb.pp("l2")).unwrap();
    let learner = classifier(&vars, |x| l2.forward(&norm.forward(&l1.forward(x)?)?.gelu()?));
    insta::assert_snapshot!(text(&failure(&learner, (&x, &y))), @"
    assertion `gradients_flow` failed
    3 of 5 variables do not get the gradient they should

      gradients  l1.weight    [8, 6]  cut
                 l1.bias      [8]     cut
                 norm.weight  [8]     cut
                 l2.weight    [4, 8]  flows  norm 0.368
                 l2.bias      [4]     flows  norm 0.143

      confirmed  gradient-cut   norm.weight: moving 1 of 5 variables changes the result (the loss by up to 0.238),
                                yet no gradient arrives (2 more lie before); the graph ends after `norm.weight`,
                                before `l2.weight`: these are the variables of an RmsNorm, whose `forward` candle
                                computes in one fused operation without a backward pass
      help       call `candle_nn::ops::rms_norm_slow(x, weight, eps)` in its place, or `RmsNorm::forward_diff`;
                 see docs/causes.md#gradient-cut
    ");
}

fn attention(weigh: fn(&Tensor) -> Result<Tensor>, turn: fn(&Tensor) -> Result<Tensor>) -> Failure {
    let (vars, vb) = builder(1, DType::F32);
    let layer = |name: &str| linear(6, 6, vb.pp(name)).unwrap();
    let (q, k, v) = (layer("attn.q"), layer("attn.k"), layer("attn.v"));
    let head = layer("head");
    let forward = |x: &Tensor| {
        let (q, k) = (turn(&q.forward(x)?)?, turn(&k.forward(x)?)?);
        let scores = q.matmul(&k.t()?.contiguous()?)?;
        head.forward(&weigh(&scores)?.matmul(&v.forward(x)?)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    let x = normal(2, &[2, 5, 6], DType::F32);
    failure(&learner, (&x, &normal(3, &[2, 5, 6], DType::F32)))
}

#[test]
fn a_fused_softmax() {
    let found = attention(ops::softmax_last_dim, |x| Ok(x.clone()));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    3 of 8 variables do not get the gradient they should

      gradients  attn.q.weight  [6, 6]  cut
                 attn.q.bias    [6]     cut
                 attn.k.weight  [6, 6]  cut
                 attn.k.bias    [6]     zero by right
                 attn.v.weight  [6, 6]  flows          norm 1.48
                 attn.v.bias    [6]     flows          norm 1.07
                 head.weight    [6, 6]  flows          norm 1.59
                 head.bias      [6]     flows          norm 0.73

      confirmed  gradient-cut   attn.k.weight, attn.q.weight, attn.q.bias: moving 3 of 8 variables changes the
                                result (the loss by up to 2.8), yet no gradient arrives; the graph ends after
                                `attn.k.weight`, before `attn.k.bias`: queries or keys have none where the same
                                attention's values do: `softmax_last_dim` or `rope`, fused operations without a
                                backward pass, come between
      help       use `candle_nn::ops::softmax(x, D::Minus1)` in place of `softmax_last_dim`, and
                 `rotary_emb::rope_slow` in place of `rope`; see docs/causes.md#gradient-cut
    ");
}

#[test]
fn a_fused_rotary_embedding() {
    fn turned(x: &Tensor) -> Result<Tensor> {
        let angles = Tensor::arange(0f32, 15.0, &device())?.reshape((5, 3))?;
        rotary_emb::rope(&x.unsqueeze(1)?, &angles.cos()?, &angles.sin()?)?.squeeze(1)
    }
    let found = attention(|scores| ops::softmax(scores, D::Minus1), turned);
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 8 variables do not get the gradient they should

      gradients  attn.q.weight  [6, 6]  cut
                 attn.q.bias    [6]     cut
                 attn.k.weight  [6, 6]  cut
                 attn.k.bias    [6]     cut
                 attn.v.weight  [6, 6]  flows  norm 3
                 attn.v.bias    [6]     flows  norm 1.6
                 head.weight    [6, 6]  flows  norm 3.14
                 head.bias      [6]     flows  norm 0.93

      confirmed  gradient-cut   attn.k.weight, attn.k.bias, attn.q.weight, attn.q.bias: moving 4 of 8 variables
                                changes the result (the loss by up to 1.95), yet no gradient arrives; the graph
                                ends after `attn.k.bias`, before `attn.v.weight`: queries or keys have none where
                                the same attention's values do: `softmax_last_dim` or `rope`, fused operations
                                without a backward pass, come between
      help       use `candle_nn::ops::softmax(x, D::Minus1)` in place of `softmax_last_dim`, and
                 `rotary_emb::rope_slow` in place of `rope`; see docs/causes.md#gradient-cut
    ");
}

fn between(f: fn(&Tensor) -> Result<Tensor>) -> Failure {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let learner = classifier(&vars, |x| chain(&l, x, f));
    failure(&learner, (&x, &y))
}

#[test]
fn a_detach_and_a_copy() {
    insta::assert_snapshot!(text(&between(|h| Ok(h.detach()))), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l0.weight  [8, 6]  cut
                 l0.bias    [8]     cut
                 l1.weight  [4, 8]  flows  norm 1.03
                 l1.bias    [4]     flows  norm 0.178

      confirmed  gradient-cut   l0.weight, l0.bias: moving 2 of 4 variables changes the result (the loss by up to
                                0.655), yet no gradient arrives; the graph ends after `l0.bias`, before
                                `l1.weight`: a small move changes it too, so the derivative exists and is dropped:
                                by a `detach`, by values copied out and in again, or by a fused operation
      help       look for `detach`, `to_vec`, `Var::from_tensor`, `slice_set`, `KvCache`, `QMatMul`, and candle's
                 fused operations: `layer_norm`, `rms_norm`, `softmax_last_dim`, `rope`, `sdpa` have no backward
                 pass; `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow` have one; see
                 docs/causes.md#gradient-cut
    ");
    let copied =
        between(|h| Tensor::from_vec(h.flatten_all()?.to_vec1::<f32>()?, h.dims(), h.device()));
    assert_eq!(findings(&copied), findings(&between(|h| Ok(h.detach()))));
}

#[test]
fn what_moves_in_jumps() {
    insta::assert_snapshot!(text(&between(|h| (h * 2.0)?.round())), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l0.weight  [8, 6]  cut
                 l0.bias    [8]     cut
                 l1.weight  [4, 8]  flows  norm 2.63
                 l1.bias    [4]     flows  norm 0.252

      confirmed  gradient-cut   l0.weight, l0.bias: moving 2 of 4 variables changes the result (the loss by up to
                                1.49), yet no gradient arrives; the graph ends after `l0.bias`, before
                                `l1.weight`: a small move changes nothing and a large one does: it moves in jumps,
                                as rounding, `argmax`, a comparison or a cast to integers make it
      help       let the gradient pass straight through: `&x + (rounded - &x)?.detach()`, or take a smooth
                 operation; see docs/causes.md#gradient-cut
    ");
    let compared = between(|h| h.gt(0.0)?.to_dtype(DType::F32));
    assert!(findings(&compared).contains("moves in jumps"), "{}", findings(&compared));
}

#[test]
fn a_loss_without_a_graph() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 8, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), |o, y| loss::cross_entropy(&o.detach(), y));
    let found = GradientsFlow::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(found.cause(), Some(Cause::LossDetached));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 4 variables do not get the gradient they should

      gradients  l1.weight  [8, 6]  cut
                 l1.bias    [8]     cut
                 l2.weight  [4, 8]  cut
                 l2.bias    [4]     cut

      confirmed  loss-detached   the output carries a graph and the loss does not: no variable gets a gradient
      help       look for `detach`, `argmax`, `to_scalar`, or a tensor rebuilt from a `Vec` between output and
                 loss; see docs/causes.md#loss-detached
    ");
}

#[test]
fn two_cuts_of_different_kinds_are_two_findings() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l1 = linear(6, 8, vb.pp("l1")).unwrap();
    let n1 = candle_nn::layer_norm(8, 1e-5, vb.pp("n1")).unwrap();
    let l2 = linear(8, 8, vb.pp("l2")).unwrap();
    let n2 = candle_nn::rms_norm(8, 1e-5, vb.pp("n2")).unwrap();
    let l3 = linear(8, 4, vb.pp("l3")).unwrap();
    let learner = classifier(&vars, |x| {
        let h = n1.forward(&l1.forward(x)?)?;
        l3.forward(&n2.forward(&(&h + l2.forward(&h)?)?)?)
    });
    insta::assert_snapshot!(text(&failure(&learner, (&x, &y))), @"
    assertion `gradients_flow` failed
    7 of 9 variables do not get the gradient they should

      gradients  l1.weight  [8, 6]  cut
                 l1.bias    [8]     cut
                 n1.weight  [8]     cut
                 n1.bias    [8]     cut
                 l2.weight  [8, 8]  cut
                 l2.bias    [8]     cut
                 n2.weight  [8]     cut
                 l3.weight  [4, 8]  flows  norm 0.87
                 l3.bias    [4]     flows  norm 0.138

      confirmed  gradient-cut   n2.weight: moving 1 of 9 variables changes the result (the loss by up to 0.506),
                                yet no gradient arrives (6 more lie before); the graph ends after `n2.weight`,
                                before `l3.weight`: these are the variables of an RmsNorm, whose `forward` candle
                                computes in one fused operation without a backward pass
      help       call `candle_nn::ops::rms_norm_slow(x, weight, eps)` in its place, or `RmsNorm::forward_diff`;
                 see docs/causes.md#gradient-cut
    ");
}

#[test]
fn a_pass_that_is_random_without_modes_tells_what_it_cannot() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let noise = std::cell::Cell::new(0);
    let learner = classifier(&vars, |x| {
        noise.set(noise.get() + 1);
        chain(&l, x, |h| h.detach() + normal(noise.get(), h.dims(), DType::F32))
    });
    insta::assert_snapshot!(text(&failure(&learner, (&x, &y))), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l0.weight  [8, 6]  unknown
                 l0.bias    [8]     unknown
                 l1.weight  [4, 8]  flows    norm 1.58
                 l1.bias    [4]     flows    norm 0.235

      possible   gradient-cut   l0.weight, l0.bias: no gradient arrives at 2 of 4 variables; two evaluations
                                differ, so whether they matter cannot be told
      help       give the learner `Learner::with_modes`, so that it can be looked at without its randomness; see
                 docs/causes.md#gradient-cut
    ");
}
