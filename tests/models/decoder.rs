//! What the decoders of candle-transformers have in common, and the learner, step and positions that follow from it.

use candle_core::{DType, Result, Tensor};
use candle_nn::{VarBuilder, loss};
use candling::{Batch, Learner, Seed};

use super::{
    Positions, Step,
    build::{VOCABULARY, Weights, build, tokens_and_class},
};

/// Wider than any sequence here.
pub(super) const WIDE: usize = 16;
/// Narrower than the sequences here.
pub(super) const NARROW: usize = 2;

/// A decoder with a cache.
pub(super) trait Decoder: Sized + 'static {
    const WEIGHTS: Weights = Weights::Hinted;

    /// The model; where it knows an attention window, tokens more than `window` apart do not see each other.
    fn load(vb: VarBuilder<'static>, window: usize) -> Result<Self>;

    /// The logits after the last of these tokens, with `offset` tokens in the cache: `[batch, .., vocabulary]`.
    fn logits(&mut self, ids: &Tensor, offset: usize) -> Result<Tensor>;

    /// Forgets all tokens.
    fn reset(&mut self) -> Result<()>;
}

pub(super) fn learner<D: Decoder>(
    seed: Seed,
    dtype: DType,
) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, mut model) = build(seed, dtype, D::WEIGHTS, |vb| D::load(vb, WIDE))?;
    let forward = move |ids: &Tensor| start(&mut model, ids);
    Ok((Learner::new(&vars, forward, loss::cross_entropy), tokens_and_class(seed, VOCABULARY)?))
}

pub(super) fn step<D: Decoder, const WINDOW: usize>(seed: Seed) -> candling::Result<Step> {
    let (_, mut model) = build(seed, DType::F32, D::WEIGHTS, |vb| D::load(vb, WINDOW))?;
    Ok(Box::new(move |ids, offset| match offset {
        0 => start(&mut model, ids),
        _ => one_for_each_row(&model.logits(ids, offset)?),
    }))
}

/// `hidden` makes the model anew on the variables that the builder holds, and runs it on ids.
pub(super) fn positions(
    seed: Seed,
    hidden: impl Fn(VarBuilder<'static>, &Tensor) -> Result<Tensor> + 'static,
) -> candling::Result<Positions> {
    let (_, vb) = build(seed, DType::F32, Weights::Hinted, Ok)?;
    Ok(Box::new(move |ids| hidden(vb.clone(), ids)))
}

fn start<D: Decoder>(model: &mut D, ids: &Tensor) -> Result<Tensor> {
    model.reset()?;
    one_for_each_row(&model.logits(ids, 0)?)
}

/// Some models keep a dimension of one position, some do not.
fn one_for_each_row(logits: &Tensor) -> Result<Tensor> {
    logits.flatten_from(1)
}
