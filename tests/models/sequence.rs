//! Caches, padding and the order of positions, in models that were not written for these assertions.

use std::{cell::RefCell, rc::Rc};

use candle_core::Tensor;
use candling::{
    Cause, FailureKind, Seed, assert_cache_consistent, assert_padding_invariant,
    assert_position_sensitive,
    check::{CacheConsistent, Side},
};

use super::{Kind, Model, Step, encoders::padded, models, tokens};

const SEED: Seed = Seed::new(1);

/// Their masks know nothing of the tokens in the cache: several tokens behind others are an error.
fn takes_single_tokens(model: &Model) -> bool {
    matches!(model.name, "phi" | "t5")
}

/// The whole at once is a step at offset 0: the models have no pass without a cache.
fn both(
    step: Step,
) -> (
    impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    impl Fn(&Tensor, usize) -> candle_core::Result<Tensor>,
) {
    let step = Rc::new(RefCell::new(step));
    let again = step.clone();
    (
        move |ids: &Tensor| (step.borrow_mut())(ids, 0),
        move |ids: &Tensor, at: usize| (again.borrow_mut())(ids, at),
    )
}

#[test]
fn a_cache_changes_no_output() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for model in models() {
        let Some(step) = model.step else { continue };
        let (full, step) = both(step(SEED)?);
        let single = takes_single_tokens(&model);
        let report =
            assert_cache_consistent!(&full, &step, &ids, single_tokens = single, "{}", model.name);
        assert_eq!(report.runs.len(), if single { 4 } else { 7 }, "{}", model.name);
        if single {
            let failure = CacheConsistent::new().check(&full, &step, &ids).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::NotRun, "{}: {failure}", model.name);
        }
    }
    Ok(())
}

/// A defect of candle-transformers: a single token gets no mask, so with a cache it sees beyond the window (and in Gemma 3
/// one token less than the mask shows).
#[test]
fn a_cache_and_a_narrow_window_disagree() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for model in models() {
        let Some(step) = model.narrow_step else { continue };
        let (full, step) = both(step(SEED)?);
        let failure = CacheConsistent::new().check(full, step, &ids).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Violated, "{}: {failure}", model.name);
        assert_eq!(failure.cause(), Some(Cause::CacheMismatch), "{}: {failure}", model.name);
        let evidence = failure.findings()[0].evidence();
        // Its cache holds as many tokens as the window says, and its mask lets one more through.
        let words = match model.name {
            "gemma3" => "weighs them otherwise",
            _ => {
                "at position 5 the step sees positions 0 to 4 before it, the full pass positions 1 to 4"
            }
        };
        assert!(evidence.contains(words), "{}: {failure}", model.name);
    }
    Ok(())
}

#[test]
fn padding_changes_no_real_token() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for (name, mut model) in padded(SEED)? {
        let report = assert_padding_invariant!(&mut model, &ids, "{name}");
        assert!(report.per_position && !report.reads_pad, "{name}: {report:?}");
        if name == "modernbert" {
            // Rotary embeddings know differences of positions only.
            assert_padding_invariant!(&mut model, &ids, side = Side::Both, "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_order_of_tokens_matters() -> candling::Result<()> {
    for model in models() {
        if !model.kind.takes_ids() {
            continue;
        }
        let (learner, _) = (model.learner)(SEED)?;
        let report = assert_position_sensitive!(
            |ids| learner.forward(ids).map_err(candle_core::Error::wrap),
            &tokens(SEED)?,
            "{}",
            model.name
        );
        assert!(report.change > 100.0 * report.noise, "{}: {report:?}", model.name);
        assert_eq!(report.per_position, model.kind == Kind::Encoder && model.name != "t5 encoder");
    }
    Ok(())
}
