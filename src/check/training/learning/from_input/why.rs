//! Why the input was no help.

use super::blind::Blind;
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Seed, Snapshot,
    check::training::{
        learning::trained::{Trained, beats, best, diagnosed, why_not_fitted},
        overfits_batch::DEFAULT_OPTIMIZER,
        wording::curve,
    },
    measure::{
        rows::differ,
        values::{same_bits, scalar},
    },
    verdict::number,
};

/// Two trainings, neither much better than the other.
pub(super) struct Compared<'c, 'a> {
    pub(super) learner: &'c Learner<'a>,
    pub(super) batch: &'c Batch,
    pub(super) before: &'c Snapshot,
    pub(super) with: &'c Trained,
    pub(super) without: &'c Trained,
}

impl Compared<'_, '_> {
    pub(super) fn failure(&self, blind: &Blind, steps: usize, margin: f64) -> Result<Failure> {
        let (with, without) = (self.with, self.without);
        let same = self.same_bits() && self.is_blind_elsewhere(blind)?;
        let headline = match same {
            true => format!(
                "the training does not see its input: {} changes no bit of the loss",
                blind.how
            ),
            false => format!(
                "the training does as well without its input: the loss ends at {}, and at {} with {}",
                number(with.last),
                number(without.last),
                blind.how,
            ),
        };
        let mut failure = Failure::violated(headline)
            .fact("with input", curve(&with.losses))
            .fact("without", curve(&without.losses));
        if !self.learner.has_own_optimizer() {
            let others = if same { "" } else { ", then 0.001 and 0.1; the best of each" };
            failure = failure.fact("optimizer", format!("{DEFAULT_OPTIMIZER}{others}"));
        }
        if same {
            return Ok(failure.finding(self.unseen(blind)?));
        }
        let target = (1.0 - margin) * without.last;
        let (findings, ruled_out) = diagnosed(
            self.learner,
            self.batch,
            steps,
            target,
            self.before,
            with.rate,
            why_not_fitted,
        )?;
        self.before.restore()?;
        failure = failure.with_findings(findings);
        let by_another = match self.learner.has_own_optimizer() {
            true => self.with_another_optimizer(blind, steps, margin)?,
            false => None,
        };
        let ways = format!("{} with the input, {} with {}", with.way(), without.way(), blind.how);
        failure = match by_another {
            None => failure.finding(Finding::confirmed(Cause::InputNotLearned, ways)),
            Some(finding) => {
                failure.finding(finding).help("take larger steps, or allow more `steps` here")
            }
        };
        for (cause, evidence) in ruled_out {
            let found = failure.findings().iter().any(|finding| finding.cause() == cause);
            if !found {
                failure = failure.ruled_out(cause, evidence);
            }
        }
        Ok(failure)
    }

    /// Where the default optimizer learns from the input, the learner's own one is what does not.
    fn with_another_optimizer(
        &self,
        blind: &Blind,
        steps: usize,
        margin: f64,
    ) -> Result<Option<Finding>> {
        let plain = self.learner.with_plain_adamw();
        let run = |batch: &Batch| best(&plain, batch, steps, f64::NEG_INFINITY, self.before);
        let (with, without) = (run(self.batch)?, run(&blind.batch)?);
        self.before.restore()?;
        if !beats(with.last, without.last, with.first(), margin) {
            return Ok(None);
        }
        let evidence = format!(
            "AdamW at {} does learn from the input: {}, and {} without",
            number(with.rate),
            with.way(),
            number(without.last),
        );
        let fell = self.with.last <= self.with.first();
        Ok(Some(match fell {
            true => Finding::confirmed(Cause::LearningRateLow, evidence),
            false => Finding::possible(Cause::LearningRateHigh, evidence),
        }))
    }

    /// Every loss of the two trainings, as long as both ran.
    fn same_bits(&self) -> bool {
        let mut pairs = self.with.losses.iter().zip(&self.without.losses);
        pairs.all(|(a, b)| a.to_bits() == b.to_bits())
    }

    /// Whether the loss is the same bits with and without the input at other weights, too. A head that starts at zero hides
    /// the input from the first losses, and a training may end at these.
    fn is_blind_elsewhere(&self, blind: &Blind) -> Result<bool> {
        let loss = |batch: &Batch| -> Result<f64> {
            self.move_away()?;
            Ok(scalar(&self.learner.evaluate(batch, false)?.loss)?)
        };
        let losses = loss(self.batch).and_then(|own| Ok((own, loss(&blind.batch)?)));
        self.before.restore()?;
        // What fails with other weights has shown nothing against what the losses show.
        Ok(losses.map_or(true, |(own, other)| own.to_bits() == other.to_bits()))
    }

    /// Every weight elsewhere: none at zero, and no two units alike.
    fn move_away(&self) -> Result<()> {
        self.before.restore()?;
        for (name, var) in self.learner.trainable() {
            let draws = Seed::new(0).normal(name, var.shape(), var.dtype(), var.device())?;
            var.set(&((var.as_tensor().detach() * 1.5)? + (draws * 0.1)?)?)?;
        }
        Ok(())
    }

    /// Not one bit of the loss depends on the input. Either the output is one and the same whatever the weights are, or the
    /// input is lost on its way.
    fn unseen(&self, blind: &Blind) -> Result<Finding> {
        let losses = self.with.losses.len().min(self.without.losses.len());
        self.before.restore()?;
        let own = self.learner.output(self.batch.input(), false)?;
        let rows_differ = own.rank() > 0 && differ(&own)?;
        self.move_away()?;
        let moved = self.learner.output(self.batch.input(), false);
        self.before.restore()?;
        let fixed = moved.is_ok_and(|moved| same_bits(&own, &moved).unwrap_or(false));
        let evidence =
            format!("with {} each of {losses} losses is the same, bit for bit", blind.how);
        Ok(match fixed && !rows_differ {
            true => Finding::confirmed(
                Cause::OutputConstant,
                format!(
                    "{evidence}; nor does the output change with any weight, and all its rows are equal"
                ),
            ),
            false => Finding::confirmed(Cause::InputIgnored, evidence),
        })
    }
}
