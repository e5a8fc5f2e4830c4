//! No alarm on what is in order.

use candle_core::{DType, Module, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind, Seed,
    check::{Deterministic, LayoutInvariant, Nonlinear},
};

use super::zoo::{CPU, Specimen, bag_of_tokens, clean, linear_ones};

/// Thirty seeds in f32, and a few in the other formats.
const SEEDS: [(DType, u64); 4] =
    [(DType::F32, 30), (DType::F64, 4), (DType::F16, 6), (DType::BF16, 6)];

fn each(
    specimens: impl Fn(Seed, DType) -> Result<Vec<Specimen>>,
    mut check: impl FnMut(Seed, Specimen) -> std::result::Result<(), Failure>,
) {
    let mut alarms = Vec::new();
    for (dtype, seeds) in SEEDS {
        for seed in (0..seeds).map(Seed::new) {
            for specimen in specimens(seed, dtype).expect("models that can be built") {
                let name = specimen.name;
                if let Err(failure) = check(seed, specimen) {
                    let dtype = dtype.as_str();
                    alarms.push(format!("{name}, seed {}, {dtype}: {failure}", seed.value()));
                }
            }
        }
    }
    assert!(alarms.is_empty(), "{} alarms\n\n{}", alarms.len(), alarms.join("\n\n"));
}

#[test]
fn models_in_order_are_deterministic() {
    each(clean, |seed, Specimen { name, mut forward, x }| {
        let report = Deterministic::new().seed(seed).check(|x: &Tensor| forward(x), &x)?;
        assert_eq!((report.calls, report.refused.len()), (7, 0), "{name}");
        Ok(())
    });
}

#[test]
fn models_in_order_do_not_mind_the_layout() {
    each(clean, |seed, Specimen { name, mut forward, x }| {
        let report = LayoutInvariant::new().seed(seed).check(|x: &Tensor| forward(x), &x)?;
        assert_eq!(report.refused, [], "{name}");
        Ok(())
    });
}

#[test]
fn networks_with_an_activation_are_not_affine() {
    each(clean, |seed, Specimen { mut forward, x, .. }| {
        Nonlinear::new().seed(seed).check(|x: &Tensor| forward(x), &x).map(|_| ())
    });
}

#[test]
fn affine_maps_are_straight() {
    each(linear_ones, |seed, Specimen { name, mut forward, x }| {
        let result = Nonlinear::new().seed(seed).check(|x: &Tensor| forward(x), &x);
        let failure = result.expect_err(name);
        // In half precision rounding may be all there is to see.
        let is_coarse = x.dtype().size_in_bytes() == 2;
        match failure.cause() {
            Some(Cause::NetworkLinear) => Ok(()),
            None if is_coarse && failure.kind() == FailureKind::Vacuous => Ok(()),
            _ => Err(failure),
        }
    });
}

#[test]
fn ids_are_deterministic_in_any_layout() -> candling::Result<()> {
    for seed in (0..30).map(Seed::new) {
        let Specimen { mut forward, x, .. } = bag_of_tokens(seed)?;
        Deterministic::new().check(|x: &Tensor| forward(x), &x)?;
        LayoutInvariant::new().check(|x: &Tensor| forward(x), &x)?;
    }
    Ok(())
}

/// The other way round: faults on the same seeds, each caught and named.
#[test]
fn faults_are_named_on_every_seed() -> candling::Result<()> {
    for seed in (0..30).map(Seed::new) {
        let x = seed.normal("x", (3, 5, 4), DType::F32, CPU)?;
        let (_vars, vb) = seed.var_builder(DType::F32, CPU);
        let linear = candle_nn::linear(4, 6, vb)?;
        let mixer = |x: &Tensor| linear.forward(x)?.gelu()?.mean(1);
        let failure = LayoutInvariant::new().check(mixer, &x).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::LayoutDependent), "{failure}");

        let dropout = candle_nn::Dropout::new(0.3);
        let failure = Deterministic::new().check(|x: &Tensor| dropout.forward(x, true), &x);
        assert_eq!(failure.unwrap_err().cause(), Some(Cause::DropoutInEval));
        let behind = |x: &Tensor| linear.forward(&dropout.forward(&x.flatten(0, 1)?, true)?);
        let failure = Deterministic::new().check(behind, &x).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::DropoutInEval), "{failure}");
    }
    Ok(())
}
