//! Why the input was no help.

use super::blind::Blind;
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::training::{
        learning::trained::{Trained, diagnosed},
        overfits_batch::DEFAULT_OPTIMIZER,
        wording::curve,
    },
    diagnose,
    measure::{rows::differ, values::same_bits},
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
        let same = self.same_bits();
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
        let shown =
            diagnosed(self.learner, self.batch, steps, target, self.before, with.rate, |case| {
                let wrong = diagnose::wrong_in_any_case(case)?;
                let explained = wrong.iter().any(Finding::is_confirmed);
                let why = diagnose::why_not_fitted(case, explained)?;
                Ok((wrong.into_iter().chain(why.findings).collect::<Vec<_>>(), why.ruled_out))
            })?;
        self.before.restore()?;
        let (findings, ruled_out) = shown;
        failure = failure.with_findings(findings).finding(Finding::confirmed(
            Cause::InputNotLearned,
            format!("{} with the input, {} with {}", with.way(), without.way(), blind.how),
        ));
        for (cause, evidence) in ruled_out {
            failure = failure.ruled_out(cause, evidence);
        }
        Ok(failure)
    }

    /// Every loss of the two trainings, as long as both ran.
    fn same_bits(&self) -> bool {
        let pairs = self.with.losses.iter().zip(&self.without.losses);
        pairs.map(|(a, b)| a.to_bits() == b.to_bits()).all(|same| same)
    }

    /// Not one bit of the loss depends on the input. Either the output is one and the same whatever the weights are, or the
    /// input is lost on its way.
    fn unseen(&self, blind: &Blind) -> Result<Finding> {
        let losses = self.with.losses.len().min(self.without.losses.len());
        self.before.restore()?;
        let own = self.learner.output(self.batch.input(), false)?;
        let rows_differ = own.rank() > 0 && differ(&own)?;
        for (_, var) in self.learner.trainable() {
            var.set(&var.as_tensor().affine(1.5, 0.1)?)?;
        }
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
