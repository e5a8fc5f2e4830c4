//! Weights as users start them, wrong and right.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap, linear};
use candling::{
    Cause, Failure, FailureKind, Seed, Variables, assert_initialized,
    check::{Initialized, InitializedReport, WeightVerdict},
    prelude::Learner,
};

use crate::{
    support::text,
    training::models::{bits, device},
};

fn builder(seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    Seed::new(seed).var_builder(dtype, &device())
}

fn randn(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}

fn refused<V: Variables + ?Sized>(vars: &V) -> Failure {
    Initialized::new().check(vars).unwrap_err()
}

fn passed<V: Variables + ?Sized>(vars: &V) -> InitializedReport {
    Initialized::new().check(vars).unwrap()
}

/// Linear layers `l0`, `l1`, .. of these widths, with this init of their weights.
fn layers(widths: &[usize], init: Init, vb: &VarBuilder<'_>) -> Result<()> {
    for (i, w) in widths.windows(2).enumerate() {
        let vb = vb.pp(format!("l{i}"));
        vb.get_with_hints((w[1], w[0]), "weight", init)?;
        vb.get(w[1], "bias")?;
    }
    Ok(())
}

fn normal(label: &str, shape: (usize, usize)) -> Tensor {
    Seed::new(5).normal(label, shape, DType::F32, &device()).unwrap()
}

fn var(tensor: &Tensor) -> Var {
    Var::from_tensor(tensor).unwrap()
}

fn named(vars: &[(&str, &Var)]) -> Vec<(String, Var)> {
    vars.iter().map(|(name, var)| ((*name).to_owned(), (*var).clone())).collect()
}

#[test]
fn zeros_are_named_and_may_be_meant() -> Result<()> {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (vars, vb) = builder(1, dtype);
        linear(6, 8, vb.pp("first"))?;
        vb.get((8, 8), "second.weight")?;
        vb.get((4, 8), "head.weight")?;
        let before = bits(&vars);
        let failure = refused(&vars);
        assert_eq!(failure.cause(), Some(Cause::WeightsConstant));
        if dtype == DType::F32 {
            insta::assert_snapshot!(text(&failure), @"
            assertion `initialized` failed
            2 of 3 weights do not start as they should

              weights  first.weight   [8, 6]  fine  entries 0.465, gain 1.14
                       head.weight    [4, 8]  zero
                       second.weight  [8, 8]  zero

              confirmed  weights-constant   head.weight, second.weight: every entry is 0, so all its units are alike
              help       `vb.get` without a hint is zeros; use `get_with_hints` with a random init, or name what starts at
                         zero by intent (a gate, LoRA's B, a head) with `allow_zero`; see docs/causes.md#weights-constant
            ");
        }
        let options = Initialized::new().allow_zero(["head"]);
        let failure = options.check(&vars).unwrap_err();
        assert_eq!(failure.findings()[0].place(), Some("second.weight"));
        let report = options.allow_zero(["second"]).check(&vars).unwrap();
        assert_eq!(report.weights[1].verdict, WeightVerdict::ZeroByIntent);
        assert_eq!(report.not_judged, ["first.bias"]);
        assert_eq!(bits(&vars), before);
        Initialized::new().allow(Cause::WeightsConstant).check(&vars).unwrap();
    }
    Ok(())
}

#[test]
fn constants_copies_and_sizes_are_told_apart() -> Result<()> {
    let (vars, vb) = builder(1, DType::F32);
    layers(&[6, 32, 32, 4], Init::Const(0.01), &vb)?;
    insta::assert_snapshot!(text(&refused(&vars)), @"
    assertion `initialized` failed
    3 of 3 weights do not start as they should

      weights  l0.weight  [32, 6]   constant  entries 0.01, gain 0.0245
               l1.weight  [32, 32]  constant  entries 0.01, gain 0.0566
               l2.weight  [4, 32]   constant  entries 0.01, gain 0.0566

      confirmed  weights-constant   l0.weight: every entry is 0.01, so all its units are alike
      confirmed  weights-constant   l1.weight: every entry is 0.01, so all its units are alike
      confirmed  weights-constant   l2.weight: every entry is 0.01, so all its units are alike
      help       `vb.get` without a hint is zeros; use `get_with_hints` with a random init; see
                 docs/causes.md#weights-constant
    ");

    let (vars, vb) = builder(1, DType::F32);
    layers(&[6, 32, 32, 4], randn(1.0), &vb)?;
    insta::assert_snapshot!(text(&refused(&vars)), @"
    assertion `initialized` failed
    1 of 3 weights does not start as it should

      weights  l0.weight  [32, 6]   fine       entries 1.04, gain 2.56
               l1.weight  [32, 32]  too large  entries 1.01, gain 5.69
               l2.weight  [4, 32]   fine       entries 0.938, gain 5.31

      confirmed  weights-scale   l1.weight: entries of size 1.01 (root mean square) over 32 terms: signals grow
                                 5.69 times, where initialisations are made for 1.67 at most
      help       use Kaiming initialisation: a standard deviation of sqrt(2/fan_in) before a ReLU; see
                 docs/causes.md#weights-scale
    ");

    let (vars, vb) = builder(1, DType::F32);
    layers(&[6, 32, 32, 4], randn(1e-4), &vb)?;
    insta::assert_snapshot!(text(&refused(&vars)), @"
    assertion `initialized` failed
    3 of 3 weights do not start as they should

      weights  l0.weight  [32, 6]   too small  entries 0.000104, gain 0.000256
               l1.weight  [32, 32]  too small  entries 0.000101, gain 0.000569
               l2.weight  [4, 32]   too small  entries 9.38e-5, gain 0.000531

      confirmed  weights-scale   l0.weight: entries of size 0.000104 (root mean square) over at most 32 terms: a
                                 signal shrinks to 0.00059 of itself or less
      confirmed  weights-scale   l1.weight: entries of size 0.000101 (root mean square) over at most 32 terms: a
                                 signal shrinks to 0.000569 of itself or less
      confirmed  weights-scale   l2.weight: entries of size 9.38e-5 (root mean square) over at most 32 terms: a
                                 signal shrinks to 0.000531 of itself or less
      help       use Kaiming initialisation: a standard deviation of sqrt(2/fan_in) before a ReLU; see
                 docs/causes.md#weights-scale
    ");
    Ok(())
}

#[test]
fn copies_are_named_together() {
    let start = normal("expert", (8, 4));
    let experts: Vec<(String, Var)> = (0..4)
        .map(|i| (format!("experts.{i}.weight"), var(&start.copy().unwrap())))
        .chain([("router.weight".to_owned(), var(&normal("router", (4, 4))))])
        .collect();
    insta::assert_snapshot!(text(&refused(&experts)), @"
    assertion `initialized` failed
    4 of 5 weights do not start as they should

      weights  experts.0.weight  [8, 4]  a copy  entries 0.894, gain 1.79
               experts.1.weight  [8, 4]  a copy  entries 0.894, gain 1.79
               experts.2.weight  [8, 4]  a copy  entries 0.894, gain 1.79
               experts.3.weight  [8, 4]  a copy  entries 0.894, gain 1.79
               router.weight     [4, 4]  fine    entries 1.15, gain 2.29

      confirmed  weights-duplicated   experts.0.weight, experts.1.weight, experts.2.weight, experts.3.weight: 4
                                      weights with the same values, bit for bit
      help       draw each variable anew; one init tensor was given to several; see
                 docs/causes.md#weights-duplicated
    ");

    let one = normal("row", (1, 6)).broadcast_as((5, 6)).unwrap().contiguous().unwrap();
    let rows = Tensor::cat(&[&one, &normal("others", (3, 6))], 0).unwrap();
    insta::assert_snapshot!(text(&refused(&named(&[("head.weight", &var(&rows))]))), @"
    assertion `initialized` failed
    1 of 1 weight does not start as it should

      weights  head.weight  [8, 6]  equal rows  entries 0.938, gain 2.3

      confirmed  weights-duplicated   head.weight: rows 0, 1, 2, 3 and 1 more are equal bit for bit; 4 of 8 rows
                                      repeat an earlier one
      help       draw every row anew: one row was repeated, or broadcast, into all; see
                 docs/causes.md#weights-duplicated
    ");

    let tied = var(&start);
    insta::assert_snapshot!(text(&refused(&named(&[("embed.weight", &tied), ("head.weight", &tied)]))), @"
    assertion `initialized` failed
    2 of 2 weights do not start as they should

      weights  embed.weight  [8, 4]  shared  entries 0.894
               head.weight   [8, 4]  shared  entries 0.894, gain 1.79

      confirmed  variable-shared   embed.weight, head.weight: 2 names of one variable
      help       give each layer a prefix of its own, or allow the sharing; see docs/causes.md#variable-shared
    ");
    // A copy that follows, and a list of variables without names.
    let copy = var(&start.copy().unwrap());
    passed(&named(&[("online.l1.weight", &tied), ("target.l1.weight", &copy)]));
    let failure = refused(&vec![tied.clone(), copy]);
    assert_eq!(failure.findings()[0].place(), Some("var.0, var.1"));
    assert_eq!(refused(&[tied.clone(), tied]).cause(), Some(Cause::VariableShared));
}

#[test]
fn values_that_are_not_finite_come_first() {
    let mut values = normal("w", (3, 4)).to_vec2::<f32>().unwrap();
    (values[1][2], values[2][0]) = (f32::NAN, f32::INFINITY);
    let weight = var(&Tensor::new(values, &device()).unwrap());
    insta::assert_snapshot!(text(&refused(&named(&[("l1.weight", &weight)]))), @"
    assertion `initialized` failed
    1 of 1 weight does not start as it should

      weights  l1.weight  [3, 4]  not finite

      confirmed  not-finite   l1.weight: 2 of 12 values NaN or infinite before training
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let bias = var(&Tensor::new(&[0f32, f32::NAN], &device()).unwrap());
    insta::assert_snapshot!(text(&refused(&named(&[("l1.bias", &bias)]))), @"
    assertion `initialized` failed
    a variable is not finite before training

      confirmed  not-finite   l1.bias: 1 of 2 values NaN or infinite before training
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let mask = [[0f32, f32::NEG_INFINITY], [0.0, 0.0]];
    let mask = var(&Tensor::new(&mask, &device()).unwrap());
    let report = passed(&named(&[("l1.weight", &var(&normal("w", (3, 4)))), ("mask", &mask)]));
    assert_eq!(report.not_judged, ["mask"]);
}

#[test]
fn what_cannot_be_judged_says_so() -> Result<()> {
    insta::assert_snapshot!(text(&refused(&VarMap::new())), @"
    assertion `initialized` did not run
    there are no variables to look at

      possible   variable-untracked   a `VarMap` is empty until the model is built from it, and weights of
                                      `from_mmaped_safetensors` are not in it
      help       build the model first, then pass its `VarMap`
    ");
    let (vars, vb) = builder(1, DType::F32);
    vb.get(4, "bias")?;
    vb.get_with_hints((1, 4), "scale", Init::Const(1.0))?;
    vb.get_with_hints((), "temperature", Init::Const(1.0))?;
    vb.get_with_hints((1, 1), "gain.weight", Init::Const(1.0))?;
    let empty = var(&Tensor::zeros((0, 3), DType::F32, &device())?);
    let ids = var(&Tensor::zeros((2, 3), DType::U32, &Device::Cpu)?);
    let more: Vec<(String, Var)> =
        vars.named().into_iter().chain(named(&[("empty.weight", &empty), ("ids", &ids)])).collect();
    let failure = refused(&more);
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `initialized` proves nothing here
    none of the 6 variables is a weight: there is nothing to judge in bias, empty.weight, gain.weight, ids and 2 more
    ");
    linear(2, 3, vb.pp("l1"))?;
    let failure = Initialized::new().allow_zero(["lora"]).check(&vars).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun);
    insta::assert_snapshot!(text(&failure), @r#"
    assertion `initialized` did not run
    `allow_zero` is "lora", which is in no variable's name; allowed: the beginning, or a whole part, of one of bias, gain.weight, l1.bias, l1.weight, scale, temperature
    "#);
    Ok(())
}

#[test]
fn a_long_model_shows_what_is_wrong_alone() -> Result<()> {
    let (vars, vb) = builder(1, DType::BF16);
    for i in 0..30 {
        linear(8, 8, vb.pp(format!("blocks.{i:02}")))?;
    }
    vb.get((8, 8), "blocks.30.weight")?;
    insta::assert_snapshot!(text(&refused(&vars)), @"
    assertion `initialized` failed
    1 of 31 weights does not start as it should

      weights  blocks.30.weight  [8, 8]  zero
               and 30 more

      confirmed  weights-constant   blocks.30.weight: every entry is 0, so all its units are alike
      help       `vb.get` without a hint is zeros; use `get_with_hints` with a random init, or name what starts at
                 zero by intent (a gate, LoRA's B, a head) with `allow_zero`; see docs/causes.md#weights-constant
    ");
    Ok(())
}

#[test]
fn a_strided_variable_and_a_learner_are_looked_at_as_any() {
    let weight = Var::from_tensor(&normal("w", (4, 6)).t().unwrap()).unwrap();
    let report = passed(&vec![weight.clone()]);
    assert_eq!(report.weights[0].dims, [6, 4]);
    let vars = named(&[("l1.weight", &weight)]);
    let learner = Learner::from_loss(&vars, || weight.sqr()?.mean_all());
    let report = assert_initialized!(learner.variables(), "a {}", "learner");
    insta::assert_snapshot!(report.to_string(), @"l1.weight  [6, 4]  fine  entries 0.958, gain 1.92");
}
