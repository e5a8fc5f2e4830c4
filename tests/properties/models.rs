//! The models of candle-transformers: networks that no one wrote for the sake of this crate.

use candle_core::Tensor;
use candling::{
    Batch, FailureKind, Learner, Seed,
    check::{
        Deterministic, DeterministicReport, LayoutInvariant, LayoutInvariantReport, Nonlinear,
        NonlinearReport,
    },
};

use crate::models::models;

const SEED: Seed = Seed::new(1);

/// Ids and images are one tensor, a source with its target two.
fn each(mut check: impl FnMut(&'static str, &Learner<'_>, &Batch)) {
    for model in models() {
        let (learner, batch) = (model.learner)(SEED).expect("a model that can be built");
        check(model.name, &learner, &batch);
    }
}

macro_rules! of_members {
    ($options:expr, $learner:expr, $batch:expr) => {
        match $batch.input() {
            [x] => $options
                .check(|x: &Tensor| $learner.forward(x).map_err(candle_core::Error::wrap), x),
            [x, y] => $options.check(
                |both: &[Tensor; 2]| $learner.forward(both).map_err(candle_core::Error::wrap),
                &[x.clone(), y.clone()],
            ),
            more => unreachable!("{} inputs", more.len()),
        }
    };
}

fn deterministic(learner: &Learner<'_>, batch: &Batch) -> candling::Result<DeterministicReport> {
    of_members!(Deterministic::new(), learner, batch)
}

fn layout_invariant(
    learner: &Learner<'_>,
    batch: &Batch,
) -> candling::Result<LayoutInvariantReport> {
    of_members!(LayoutInvariant::new(), learner, batch)
}

fn nonlinear(learner: &Learner<'_>, batch: &Batch) -> candling::Result<NonlinearReport> {
    of_members!(Nonlinear::new(), learner, batch)
}

#[test]
fn every_model_is_deterministic() {
    each(|name, learner, batch| {
        let report = deterministic(learner, batch).unwrap_or_else(|f| panic!("{name}: {f}"));
        assert_eq!(report.refused, [], "{name}");
        let images = batch.input()[0].dtype().is_float();
        assert_eq!(report.between.len(), if images { 4 } else { 3 }, "{name}");
    });
}

#[test]
fn no_model_minds_the_layout() {
    each(|name, learner, batch| {
        let report = layout_invariant(learner, batch).unwrap_or_else(|f| panic!("{name}: {f}"));
        assert_eq!(report.refused, [], "{name}");
        assert!(report.agreed.len() >= 6, "{name}: {:?}", report.agreed);
    });
}

#[test]
fn models_of_images_and_sounds_are_bent_and_ids_have_no_combinations() {
    each(|name, learner, batch| {
        let floats = batch.input().iter().any(|x| x.dtype().is_float());
        match nonlinear(learner, batch) {
            Ok(report) => assert!(floats && report.deviation > 0.01, "{name}: {report:?}"),
            Err(failure) => {
                assert!(!floats && failure.kind() == FailureKind::NotRun, "{name}: {failure}")
            }
        }
    });
}
