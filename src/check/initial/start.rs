//! A learner before its first step, and where its loss lies.

use candle_core::{DType, Tensor};

use crate::{
    Batch, Cause, Finding, Learner, Result, Seed, Snapshot,
    expected::{Band, Expected},
    learner::Evaluation,
    measure::{
        noise::epsilon,
        undecided::over_all_targets,
        values::{scalar, to_f64_vec},
        vectors::root_mean_square,
    },
    verdict::number,
};

/// A learner whose variables have their first values.
pub(super) struct Start<'s, 'a> {
    pub(super) learner: &'s Learner<'a>,
    pub(super) batch: &'s Batch,
    pub(super) expected: &'s Expected,
    pub(super) before: &'s Snapshot,
}

/// A loss before training, and the band it is held against.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) loss: f64,
    pub(super) band: Band,
    pub(super) side: Side,
    /// The root of the mean square of the outputs.
    pub(super) output_size: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    Within,
    /// A failure where a defect explains it.
    Above,
    /// A failure by itself.
    Far,
    NotFinite,
}

impl Seen {
    /// Whether this loss, seen with one thing changed, says that the thing was what is wrong with `other`.
    pub(super) fn is_cure_of(&self, other: &Seen) -> bool {
        let excess = |seen: &Seen| seen.loss - seen.band.center;
        match self.side {
            Side::Within | Side::Above if !other.loss.is_finite() => true,
            Side::Within => excess(self) <= 0.5 * excess(other),
            Side::Above => excess(self) <= 0.1 * excess(other),
            Side::Low | Side::Far | Side::NotFinite => false,
        }
    }
}

impl<'s, 'a> Start<'s, 'a> {
    /// The loss with the variables' values of now.
    pub(super) fn now(&self, batch: &Batch) -> Result<Seen> {
        self.seen(batch, &self.learner.evaluate(batch, true)?)
    }

    /// Runs `changed` on the variables and looks; the variables get their values back.
    pub(super) fn with(&self, changed: impl FnOnce() -> Result<()>) -> Result<Seen> {
        let seen = changed().and_then(|()| self.now(self.batch));
        self.before.restore()?;
        seen
    }

    pub(super) fn seen(&self, batch: &Batch, evaluation: &Evaluation) -> Result<Seen> {
        let loss = scalar(&evaluation.loss)?;
        let (output, target) = (evaluation.output.as_ref(), batch.target());
        let band = self.expected.band(target, output)?;
        // Sums in half precision are off by some of its last places.
        let rounding = 0.02 + 8.0 * epsilon(evaluation.loss.dtype()).unwrap_or(0.0);
        let fair = match (output, target) {
            (Some(output), Some(target)) if band.over_targets => {
                over_all_targets(output, target, loss)?
            }
            _ => None,
        };
        let over = |loss: f64, limit: f64| loss > limit + rounding * limit.abs();
        let (judged, high) = match fair {
            Some(fair) => (loss.min(fair), band.high),
            None => (loss, band.high_with_luck),
        };
        let side = match () {
            () if !loss.is_finite() => Side::NotFinite,
            () if over(judged, band.far.max(high)) => Side::Far,
            () if over(judged, high) => Side::Above,
            () if loss < band.low - rounding * band.low.abs() => Side::Low,
            () => Side::Within,
        };
        Ok(Seen { loss, band, side, output_size: output.map(size).transpose()? })
    }

    /// What is found where a loss in half precision is another than that of the same outputs in f32, which lies in the
    /// band: candle's sums of half-precision values are kept in half precision.
    pub(super) fn lost_in_half_precision(&self, seen: &Seen) -> Result<Option<Finding>> {
        let Some(output) = self.learner.evaluate(self.batch, true)?.output else { return Ok(None) };
        let dtype = output.dtype();
        if !matches!(dtype, DType::F16 | DType::BF16) {
            return Ok(None);
        }
        let Some(target) = self.batch.target() else { return Ok(None) };
        let target = match target.dtype() == dtype {
            true => target.to_dtype(DType::F32)?,
            false => target.clone(),
        };
        let batch = Batch::of_members(self.batch.input().to_vec(), target);
        let output = output.detach().to_dtype(DType::F32)?;
        // A loss closure that refuses f32 has shown nothing.
        let Ok(Some(loss)) = self.learner.loss_of(&output, &batch) else { return Ok(None) };
        let exact = self.seen(&batch, &Evaluation { output: Some(output), loss })?;
        Ok((exact.side == Side::Within && seen.side != Side::Within).then(|| {
            let evidence = format!(
                "in {} the loss is {}, in f32, of the same outputs, it is {}",
                dtype.as_str(),
                number(seen.loss),
                number(exact.loss),
            );
            Finding::confirmed(Cause::PrecisionLoss, evidence)
                .advice_is("let the loss see its outputs in f32: `logits.to_dtype(DType::F32)?`")
        }))
    }

    /// The losses of the same model under other seeds, where candling can build it again.
    pub(super) fn other_seeds(&self, seeds: usize) -> Result<Vec<f64>> {
        let Some(dtype) = self.learner.built_in() else { return Ok(Vec::new()) };
        let of_seed = |at: usize| -> Result<f64> {
            let seed = Seed::new(at as u64).split("initial_loss");
            let learner = self.learner.rebuild(seed, dtype)?;
            Ok(scalar(&learner.evaluate(self.batch, true)?.loss)?)
        };
        (0..seeds).map(of_seed).collect()
    }
}

fn size(output: &Tensor) -> Result<f64> {
    Ok(root_mean_square(&to_f64_vec(output)?))
}
