//! What `assert_units_alive!` says of healthy layers and of those that do nothing.

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{Conv2dConfig, conv2d, linear, loss, ops};
use candling::{
    Cause, Failure, FailureKind, Learner, Seed,
    check::{UnitsAlive, UnitsAliveReport},
};

use super::models::{Mlp, bits, builder, chain, classifier, device, findings, layers, text};

fn batch(rows: usize) -> (Tensor, Tensor) {
    let seed = Seed::new(1);
    let x = seed.normal("x", (rows, 6), DType::F32, &device()).unwrap();
    (x, seed.tokens("y", 4, rows, &device()).unwrap())
}

fn passes(learner: &Learner<'_>, rows: usize) -> UnitsAliveReport {
    let (x, y) = batch(rows);
    UnitsAlive::new().check(learner, (&x, &y)).unwrap_or_else(|failure| panic!("{failure}"))
}

fn fails(learner: &Learner<'_>, rows: usize) -> Failure {
    let (x, y) = batch(rows);
    let failure = UnitsAlive::new().check(learner, (&x, &y)).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

/// Sets some variables and leaves the others at a plain normal draw.
fn set(vars: &candle_nn::VarMap, prefix: &str, value: f32) -> candling::Snapshot {
    candling::set_with(vars, |name, shape| match name.starts_with(prefix) {
        true => Tensor::full(value, shape, &device()),
        false => Seed::new(1).normal(name, shape, DType::F32, &device()),
    })
    .unwrap()
}

#[test]
fn a_healthy_network_passes_with_a_table() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 16, 4], &vb);
    let learner = classifier(&vars, |x| {
        let h = l[1].forward(&l[0].forward(x)?.relu()?)?;
        l[2].forward(&h.tanh()?)
    });
    let before = bits(&vars);
    insta::assert_snapshot!(passes(&learner, 256).to_string(), @"
    l0              16 units x 256 samples  rms 1.51
    after l0: relu  16 units x 256 samples  rms 1.09
    l1              16 units x 256 samples  rms 1.83
    after l1: tanh  16 units x 256 samples  rms 0.714
    l2              4 units x 256 samples   rms 0.969
    ");
    assert_eq!(bits(&vars), before);
}

#[test]
fn a_dead_layer() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 16, 4], &vb);
    let learner = classifier(&vars, |x| chain(&l, x, Tensor::relu));
    let _kept = set(&vars, "l1.bias", -100.0);
    let found = fails(&learner, 256);
    assert_eq!(found.cause(), Some(Cause::UnitsDead));
    insta::assert_snapshot!(text(&found), @"
    assertion `units_alive` failed
    a layer does not do its part

      layers  l0              16 units x 256 samples  rms 2.25
              after l0: relu  16 units x 256 samples  rms 1.58
              l1              16 units x 256 samples  rms 100
              after l1: relu  16 units x 256 samples  rms 0     16 dead
              l2              4 units x 256 samples   rms 1.12  4 constant

      confirmed  units-dead   after l1: 16 of 16 units of the relu are 0 on all 256 samples
      help       lower the learning rate, check the bias, or use a leaky activation; see docs/causes.md#units-dead
    ");
    assert_eq!(fails(&learner, 8).cause(), Some(Cause::UnitsDead));
    let (x, y) = batch(256);
    UnitsAlive::new().allow(Cause::UnitsDead).check(&learner, (&x, &y)).unwrap();
}

#[test]
fn most_of_a_layer_counts_on_many_samples_only() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| m.forward(x));
    let _kept = candling::set_with(&vars, |name, shape| match name {
        "l1.bias" => {
            let bias: Vec<f32> = (0..16).map(|at| if at < 10 { -100.0 } else { 1.0 }).collect();
            Tensor::from_vec(bias, shape, &device())
        }
        _ => Seed::new(1).normal(name, shape, DType::F32, &device()),
    })
    .unwrap();
    insta::assert_snapshot!(findings(&fails(&learner, 256)), @"units-dead | after l1 | 10 of 16 units of the relu are 0 on all 256 samples");
    passes(&learner, 255);
}

#[test]
fn saturated_layers() {
    let of = |activation: fn(&Tensor) -> Result<Tensor>| {
        let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
        let learner = classifier(&vars, move |x| {
            let far = ((m.l1.forward(x)?.abs()? + 1.0)? * 100.0)?;
            m.l2.forward(&activation(&far)?)
        });
        let found = fails(&learner, 256);
        assert_eq!(found.cause(), Some(Cause::UnitsSaturated));
        text(&found)
    };
    insta::assert_snapshot!(of(Tensor::tanh), @"
    assertion `units_alive` failed
    a layer does not do its part

      layers  l1                         16 units x 256 samples  rms 1.44
              after l1: sigmoid or tanh  16 units x 256 samples  rms 1     16 saturated
              l2                         4 units x 256 samples   rms 1.35  4 constant

      confirmed  units-saturated   after l1: 16 of 16 units of the sigmoid or tanh are at the ends of their range
                                   on all 256 samples
      help       lower the weights' scale, or normalise before the activation; see docs/causes.md#units-saturated
    ");
    insta::assert_snapshot!(of(ops::sigmoid), @"
    assertion `units_alive` failed
    a layer does not do its part

      layers  l1                         16 units x 256 samples  rms 1.44
              after l1: sigmoid or tanh  16 units x 256 samples  rms 1     16 saturated
              l2                         4 units x 256 samples   rms 1.35  4 constant

      confirmed  units-saturated   after l1: 16 of 16 units of the sigmoid or tanh are at the ends of their range
                                   on all 256 samples
      help       lower the weights' scale, or normalise before the activation; see docs/causes.md#units-saturated
    ");
}

#[test]
fn a_layer_out_of_scale() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 16, 4], &vb);
    let learner = classifier(&vars, |x| chain(&l, x, Tensor::gelu));
    let _kept = candling::set_with(&vars, |name, shape| {
        let scale = if name.starts_with("l2") { 1e-6 } else { 0.5 };
        Seed::new(1).normal(name, shape, DType::F32, &device())? * scale
    })
    .unwrap();
    let found = fails(&learner, 64);
    assert_eq!(found.cause(), Some(Cause::WeightsScale));
    insta::assert_snapshot!(text(&found), @"
    assertion `units_alive` failed
    a layer does not do its part

      layers  l0  16 units x 64 samples  rms 1.14
              l1  16 units x 64 samples  rms 1.46
              l2  4 units x 64 samples   rms 3.63e-6

      confirmed  weights-scale   l2: the root mean square of its output is 3.63e-6, of the median layer's 1.14
      help       use Kaiming initialisation: a standard deviation of sqrt(2/fan_in) before a ReLU; see
                 docs/causes.md#weights-scale
    ");
    let (x, y) = batch(64);
    UnitsAlive::new().scale(1e9).check(&learner, (&x, &y)).unwrap();
}

#[test]
fn a_layer_of_zeros_begins_so_by_design() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| m.forward(x));
    let _kept = set(&vars, "l2.", 0.0);
    passes(&learner, 64);
}

#[test]
fn a_nan_behind_a_relu_is_placed() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| m.l2.forward(&m.l1.forward(x)?.log()?.relu()?));
    let found = fails(&learner, 64);
    assert_eq!(found.cause(), Some(Cause::NotFinite));
    insta::assert_snapshot!(text(&found), @"
    assertion `units_alive` failed
    a layer does not do its part

      layers  l1              16 units x 64 samples  rms 1.44
              after l1: relu  16 units x 64 samples  rms 0.325
              l2              4 units x 64 samples   rms 0.439

      confirmed  not-finite   after l1: the first value that is not finite appears in the result of `log`
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
}

#[test]
fn channels_of_an_image_are_its_units() {
    let (vars, vb) = builder(1, DType::F32);
    let conv = conv2d(1, 8, 3, Conv2dConfig::default(), vb.pp("conv")).unwrap();
    let norm = candle_nn::batch_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let head = linear(8, 4, vb.pp("head")).unwrap();
    let learner = Learner::with_modes(
        &vars,
        |x: &Tensor, train| {
            let h = norm.forward_t(&conv.forward(x)?, train)?.relu()?;
            head.forward(&h.mean((2, 3))?)
        },
        loss::cross_entropy,
    );
    let x = Seed::new(1).normal("x", (4, 1, 8, 8), DType::F32, &device()).unwrap();
    let y = Seed::new(1).tokens("y", 4, 4, &device()).unwrap();
    let report = UnitsAlive::new().check(&learner, (&x, &y)).unwrap();
    insta::assert_snapshot!(report.to_string(), @"
    conv              8 units x 144 samples  rms 1.51
    norm              8 units x 144 samples  rms 1.51
    after norm: relu  8 units x 144 samples  rms 0.844
    head              4 units x 4 samples    rms 1.06
    ");
    assert!(report.unseen.is_empty());
}

#[test]
fn what_lies_before_the_end_of_the_graph_is_unseen() {
    let (vars, vb) = builder(1, DType::F32);
    let l1 = linear(6, 8, vb.pp("l1")).unwrap();
    let norm = candle_nn::layer_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let l2 = linear(8, 4, vb.pp("l2")).unwrap();
    let learner = classifier(&vars, |x| l2.forward(&norm.forward(&l1.forward(x)?)?));
    assert_eq!(passes(&learner, 64).unseen, ["l1.bias", "l1.weight", "norm.bias", "norm.weight"]);

    let learner = classifier(&vars, |x| Ok(l2.forward(&l1.forward(x)?)?.detach()));
    let (x, y) = batch(64);
    let failure = UnitsAlive::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `units_alive` proves nothing here
    no layer can be seen from the output

      unseen  l1.bias, l1.weight, l2.bias, l2.weight and 2 more

      help       the graph ends before every layer: `assert_gradients_flow!` names the operation that ends it
    ");
}

#[test]
fn a_model_at_the_root_has_no_names() {
    let (vars, vb) = builder(1, DType::F32);
    let l = linear(6, 4, vb).unwrap();
    let (x, y) = batch(64);
    let failure =
        UnitsAlive::new().check(&classifier(&vars, |x| l.forward(x)), (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @r#"
    assertion `units_alive` proves nothing here
    no layer has a name

      help       layers are named after the prefixes of their variables: build each with its own, `vb.pp("l1")`
    "#);
}

#[test]
fn an_activation_that_lets_something_past_is_not_dead() {
    let (x, y) = batch(300);
    for seed in 0..8 {
        let (vars, vb) = builder(seed, DType::F32);
        let l = layers(&[6, 8, 8, 4], &vb);
        let learner = classifier(&vars, |x| chain(&l, &(x * 0.01)?, |h| ops::leaky_relu(h, 0.01)));
        UnitsAlive::new().check(&learner, (&x, &y)).unwrap();
    }
}

#[test]
fn a_mask_of_minus_infinity_is_no_fault() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 6, 6, 4], &vb);
    let mask = Tensor::new(&[[0f32, f32::NEG_INFINITY], [0.0, 0.0]], &device()).unwrap();
    let learner = classifier(&vars, |x| {
        let x = x.reshape((32, 2, 6))?;
        let scores = l[0].forward(&x)?.matmul(&l[1].forward(&x)?.t()?.contiguous()?)?;
        let weights = ops::softmax(&scores.broadcast_add(&mask)?, candle_core::D::Minus1)?;
        l[2].forward(&weights.matmul(&x)?)?.flatten_to(1)
    });
    passes(&learner, 64);
}

#[test]
fn a_scale_that_is_none_is_refused() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| m.forward(x));
    let (x, y) = batch(64);
    for scale in [1.0, 0.0, -3.0, f64::NAN, f64::INFINITY] {
        let failure = UnitsAlive::new().scale(scale).check(&learner, (&x, &y)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    }
}
