//! Training passes: what differs between them, what they write to, and whether what is declared shows.

use candle_core::Tensor;

use super::{
    dropout::{Dropout, MOST_PASSES, would_show, would_show_in_rows},
    evaluation::Evaluation,
    norms,
    passes::Passes,
};
use crate::{
    Cause, Failure, Finding, Result,
    learner::is_running_statistic,
    measure::{masks::Masks, values::same_bits},
    verdict::{count, number},
};

/// A rate that is four sigma off gets so many times as many passes.
const DRAWN_ON: usize = 4;

/// What training passes were seen to do.
pub(super) struct Training {
    pub(super) passes: usize,
    pub(super) is_random: bool,
    pub(super) first: Option<Tensor>,
    pub(super) masks: Masks,
    /// Variables that a pass writes to, and that get no gradient.
    pub(super) moved: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

impl Training {
    /// The training passes, each from the same variables.
    pub(super) fn run(
        passes: &mut Passes<'_, '_>,
        evaluation: &Evaluation,
        declared: &[f64],
        wanted: usize,
    ) -> Result<Training> {
        passes.traceable(true);
        let mut training = Training::new();
        for _ in 0..wanted {
            training.add(passes)?;
        }
        if declared.is_empty() {
            return Ok(training);
        }
        let passes = &*passes;
        let mut dropout = training.dropout(passes, evaluation, declared);
        if dropout.is_undecided() {
            drop(dropout);
            for _ in 0..wanted * (DRAWN_ON - 1) {
                training.add(passes)?;
            }
            dropout = training.dropout(passes, evaluation, declared);
        }
        while dropout.lacks_passes() {
            drop(dropout);
            for _ in 0..wanted {
                training.add(passes)?;
            }
            dropout = training.dropout(passes, evaluation, declared);
        }
        if dropout.is_seen() || training.is_random {
            drop(dropout);
            return Ok(training);
        }
        drop(dropout);
        Self::inactive(passes, evaluation, declared, training)
    }

    /// All passes are equal so far, and some should not be.
    fn inactive(
        passes: &Passes<'_, '_>,
        evaluation: &Evaluation,
        declared: &[f64],
        mut training: Training,
    ) -> Result<Training> {
        let rate = declared.iter().copied().fold(0.0, f64::max);
        // What is dropped may not reach the output: of a head that starts at zero nothing does.
        let filled = || -> Result<(bool, Tensor)> {
            passes.restore()?;
            let any = norms::fill_zeros(passes)?;
            Ok((any, passes.forward(passes.x, true)?.detach()))
        };
        let (any, first) = filled()?;
        // Passes that hid it do not count.
        let mut looked_at = if any { 1 } else { training.passes };
        while !would_show(rate, looked_at) && looked_at < MOST_PASSES {
            looked_at += 1;
            if !same_bits(&first, &filled()?.1)? {
                training.is_random = true;
                return Ok(training);
            }
        }
        training.passes = training.passes.max(looked_at);
        passes.restore()?;
        let rows = passes.rows();
        let rates: Vec<String> = declared.iter().map(|rate| number(*rate)).collect();
        if !would_show(rate, training.passes) && !would_show_in_rows(rate, training.passes, rows) {
            return Err(Failure::vacuous(format!(
                "{} training passes dropped nothing, which at a rate of {} is to be expected of {}",
                training.passes,
                rates.join(" and "),
                count(rows, "row"),
            ))
            .help("give it an input of more rows, or more `passes`"));
        }
        let is_evaluation = match &training.first {
            Some(first) => same_bits(first, &evaluation.output)?,
            None => false,
        };
        let evidence = format!(
            "{} training passes on one input give the same output bit for bit{}, at a declared rate of {}",
            training.passes,
            if is_evaluation { ", that of evaluation" } else { "" },
            rates.join(" and "),
        );
        training.findings.push(Finding::confirmed(Cause::DropoutInactive, evidence));
        Ok(training)
    }

    fn new() -> Self {
        let masks = Masks::new();
        Self { passes: 0, is_random: false, first: None, masks, moved: vec![], findings: vec![] }
    }

    fn add(&mut self, passes: &Passes<'_, '_>) -> Result<()> {
        let output = passes.with_graph(true)?;
        self.masks.add(&output, passes.learner.variables(), &passes.traced)?;
        self.passes += 1;
        self.look_at(passes, &output)?;
        match &self.first {
            Some(first) => self.is_random |= !same_bits(first, &output.detach())?,
            None => self.first = Some(output.detach().copy()?),
        }
        Ok(())
    }

    /// The variables in front of the place where the graph ends, if it does.
    pub(super) fn unreached(&self, passes: &Passes<'_, '_>) -> Vec<String> {
        let is_statistic =
            |name: &str| is_running_statistic(name) || self.moved.iter().any(|moved| moved == name);
        let is_float = |name: &str| {
            let mut variables = passes.learner.variables().iter();
            variables.any(|(other, var)| other == name && var.dtype().is_float())
        };
        let unreached = self.masks.unreached().iter();
        unreached.filter(|name| !is_statistic(name) && is_float(name)).cloned().collect()
    }

    pub(super) fn dropout<'t>(
        &'t self,
        passes: &Passes<'_, '_>,
        evaluation: &'t Evaluation,
        declared: &'t [f64],
    ) -> Dropout<'t> {
        let is_complete = self.unreached(passes).is_empty();
        let size = (passes.rows(), self.passes);
        Dropout::of(&self.masks, evaluation, declared, size, is_complete)
    }

    /// What one pass shows: what it writes to, and what is not finite. A layer may run in some passes alone.
    fn look_at(&mut self, passes: &Passes<'_, '_>, output: &Tensor) -> Result<()> {
        for changed in passes.changed()? {
            let name = Some(changed.name.as_str());
            if self.moved.contains(&changed.name)
                || self.findings.iter().any(|finding| finding.place() == name)
            {
                continue;
            }
            if is_running_statistic(&changed.name) || !self.masks.reaches(&changed.name) {
                self.moved.push(changed.name);
                continue;
            }
            let evidence = "a training pass writes to it without any step, and it has a gradient: an optimizer moves it as well";
            self.findings.push(Finding::confirmed(Cause::StateKept, evidence).at(changed.name));
        }
        if self.findings.iter().any(|f| f.cause() == Cause::NotFinite) {
            return Ok(());
        }
        self.findings.extend(norms::not_finite(passes)?);
        if self.findings.iter().all(|f| f.cause() != Cause::NotFinite) {
            self.findings.extend(passes.not_a_number(output, "a training pass")?);
        }
        Ok(())
    }
}
