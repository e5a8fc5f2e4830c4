//! What depends on what.

use candle_core::Tensor;
use candling::{
    Cause,
    check::{BatchIndependent, Causal, CausalReport, UsesInput},
};

use super::{NO_MASK, SEED, Said, beside, forward, on_members, rows_of};
use crate::models::{
    Kind, Model,
    build::{CPU, VOCABULARY},
    tokens,
};

/// More than three, so that other batch sizes are tried as well.
const ROWS: usize = 8;

pub(super) fn batch_independent(model: &Model) -> candling::Result<Said> {
    let check = BatchIndependent::new();
    let checked = match model.rows {
        Some(rows) => {
            let mut rows = rows(SEED)?;
            // As many rows as there are channels: with another number it returns an error.
            let ids = SEED.tokens("ids", VOCABULARY, 32, CPU)?;
            check.check(|ids: &Tensor| rows(ids), &ids)
        }
        None => {
            let (learner, batch) = model.learner(SEED)?;
            let input = rows_of(&batch, ROWS)?;
            on_members!(check, input.as_slice(), |x: &[Tensor]| forward(&learner, x))
        }
    };
    Ok(Said::of(checked, |report| format!("{} pairs", report.rows * (report.rows - 1))))
}

pub(super) fn causal(model: &Model) -> candling::Result<Said> {
    let check = Causal::new();
    let checked = match (model.kind, model.positions) {
        (_, Some(positions)) => {
            let mut positions = positions(SEED)?;
            check.check(|ids: &Tensor| positions(ids), &tokens(SEED)?)
        }
        (Kind::Encoder, _) if model.name != "t5 encoder" => {
            let (learner, batch) = model.learner(SEED)?;
            let f = |ids: &Tensor| forward(&learner, std::slice::from_ref(ids));
            return Ok(match check.check(f, &batch.input()[0]) {
                Err(failure) if failure.cause() == Some(Cause::FutureLeak) => {
                    Said::Meant(Cause::FutureLeak)
                }
                // An encoder that looks back only.
                other => Said::of(other, |_| "causal".to_owned()),
            });
        }
        (Kind::EncoderDecoder, _) if model.name == "whisper" => {
            let (learner, batch) = model.learner(SEED)?;
            let [source, target] = batch.input() else { unreachable!("two inputs") };
            let f = |ids: &Tensor| forward(&learner, &[beside(source, ids.dim(0)?)?, ids.clone()]);
            check.check(f, target)
        }
        (Kind::Decoder | Kind::EncoderDecoder, _) => {
            return Ok(Said::Not(
                "Shows its last position only; a leak would show in the cache, whose steps cannot see later tokens",
            ));
        }
        (Kind::Encoder, _) => {
            return Ok(Said::Not("A class for each row is what is built on it here"));
        }
        (Kind::Vision, _) => return Ok(Said::Not("Takes images, which have no time")),
    };
    Ok(told(checked))
}

/// Given a mask of the padding, a decoder still must not look ahead.
pub(super) fn causal_with_a_mask(model: &Model) -> candling::Result<Said> {
    let mut padded = match (model.kind, model.padded) {
        (Kind::Decoder, Some(padded)) => padded(SEED)?,
        (Kind::Decoder, None) => return Ok(Said::Not(NO_MASK)),
        _ => return Ok(Said::Not("Is no decoder that takes a mask of the padding")),
    };
    let all_real = |ids: &Tensor| padded(ids, &ids.ones_like()?);
    Ok(told(Causal::new().check(all_real, &tokens(SEED)?)))
}

fn told(checked: candling::Result<CausalReport>) -> Said {
    Said::of(checked, |report| match report.reach {
        1 => format!("{} cuts", report.cuts),
        reach => format!("{} cuts, reach {reach}", report.cuts),
    })
}

pub(super) fn uses_input(model: &Model) -> candling::Result<Said> {
    let (learner, batch) = model.learner(SEED)?;
    let checked = on_members!(UsesInput::new(), batch.input(), |x: &[Tensor]| forward(&learner, x));
    Ok(Said::of(checked, |report| match report.not_judged.as_slice() {
        [] => format!("{} features", report.features),
        not => format!("{} features, {} inputs not judged", report.features, not.len()),
    }))
}
