use std::panic::Location;

use super::{
    start::{Seen, Side, Start},
    why_high, why_low,
};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{arguments, call},
    diagnose::Shown,
    expected::Expected,
    measure::scan::is_finite,
    verdict::{count, number},
};

/// The loss before training is what theory says of a model that knows nothing.
///
/// A classifier over ten classes starts near `ln 10`. One that starts ten times as high spends its first steps on
/// unlearning a scale or an offset, and one that starts near zero was trained already, sees its targets, or divides its
/// loss once too often (A. Karpathy, *A recipe for training neural networks*, 2019: "verify loss @ init", "init well").
///
/// # What must hold
///
/// The loss of one pass in training mode lies in the band of [`expected`](crate::expected), which says where its ends come
/// from. A learner from [`Learner::build`] is built again with other seeds: a loss outside the band that lies in the
/// spread of theirs, while their median is inside, is chance, and passes. A loss that is above its band and not far above
/// passes, too, where nothing is found that explains it: deep models start there by right.
///
/// A failure is diagnosed by changing one thing and looking again: the loss is told to be a sum by its value; the input is
/// brought to mean 0 and standard deviation 1; weights that are too large for their fan-in are brought to a gain of 1; each
/// bias above 3 is set to zero, each weight to a tenth; a loss in half precision is taken in f32; weights are drawn anew;
/// targets are taken from other rows. Below four fifths of what is expected the weights are drawn anew 24 times, even
/// inside the band: a loss that is 5 standard deviations below theirs is no luck. Every variable gets its value back.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with what was found; `NotRun` for a batch, a learner or an expectation that
/// cannot be used, or where a closure returns an error.
///
/// # Examples
///
/// ```
/// use candling::{check::InitialLoss, expected, prelude::*, synthetic};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// let l2 = candle_nn::linear(32, 3, vb.pp("l2"))?;
/// let (x, y) = synthetic::spirals(Seed::new(1), 3, 8)?;
///
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
/// let report = InitialLoss::new().check(&learner, (&x, &y), expected::cross_entropy(3))?;
/// assert!(report.loss < report.high);
///
/// // Pixels from 0 to 255, as they come out of the file:
/// let raw = ((x * 127.0)? + 128.0)?;
/// let failure = InitialLoss::new().check(&learner, (&raw, &y), expected::cross_entropy(3)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::InputNotScaled));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct InitialLoss {
    seeds: usize,
    allowed: Vec<Cause>,
}

/// What a passed [`InitialLoss`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InitialLossReport {
    /// The loss before training.
    pub loss: f64,
    /// What theory says.
    pub expected: f64,
    /// The lower end of the band.
    pub low: f64,
    /// The upper end of the band.
    pub high: f64,
    /// The loss of the best output that looks at no input, where it is well below what is expected: what a last bias that
    /// starts at the targets' shares, or at their mean, would give.
    pub best_constant: Option<f64>,
    /// How to start there.
    pub advice: Option<&'static str>,
    /// The losses under other seeds, for a learner from [`Learner::build`].
    pub seeds: Vec<f64>,
}

impl Default for InitialLoss {
    fn default() -> Self {
        Self::new()
    }
}

impl InitialLoss {
    /// Five other seeds, where the learner can be built again.
    pub fn new() -> Self {
        Self { seeds: 5, allowed: Vec::new() }
    }

    /// Under how many other seeds a learner from [`Learner::build`] is built for comparison. Default 5; 0 for none.
    pub fn seeds(mut self, seeds: usize) -> Self {
        self.seeds = seeds;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `learner` once on `batch`: `(&x, &y)`, or `()` for a learner from [`Learner::from_loss`].
    ///
    /// # Errors
    ///
    /// See [`InitialLoss`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
        expected: Expected,
    ) -> Result<InitialLossReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("initial_loss", location, || self.run(learner, &batch, &expected))
    }

    fn run(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
        expected: &Expected,
    ) -> Result<InitialLossReport> {
        expected.band(None, None)?;
        arguments::batch(learner, batch)?;
        let guard = Snapshot::take(learner.variables())?.guard();
        let first = learner.evaluate(batch, true)?;
        arguments::evaluation(batch, &first)?;
        let start = Start { learner, batch, expected, before: guard.snapshot() };
        let mut seen = start.seen(batch, &first)?;
        if seen.side == Side::NotFinite {
            let output = first.output.as_ref().map(is_finite).transpose()?;
            let shown = not_finite(&start, &seen, output)?;
            return self.failed(&seen, &[], shown);
        }
        // What the pass itself changed (running statistics) must not differ between the experiments.
        start.before.restore()?;
        let seeds = start.other_seeds(self.seeds)?;
        if seen.side == Side::Within && why_low::is_low_after_all(&start, &seen)? {
            seen.side = Side::Low;
        } else if seen.side == Side::Within || is_chance(&seen, &seeds) {
            return Ok(report(seen, seeds));
        }
        let shown = match seen.side {
            Side::Low => Shown { findings: why_low::findings(&start, &seen)?, ..Shown::default() },
            _ => why_high::findings(&start, &seen)?,
        };
        self.failed(&seen, &seeds, shown)
    }

    /// A failure, unless all that was found is allowed.
    fn failed(&self, seen: &Seen, seeds: &[f64], shown: Shown) -> Result<InitialLossReport> {
        let findings = call::not_allowed(shown.findings, &self.allowed);
        if findings.is_empty() {
            return Ok(report(seen.clone(), seeds.to_vec()));
        }
        let band = &seen.band;
        let (loss, center) = (number(seen.loss), number(band.center));
        let headline = match seen.side {
            Side::NotFinite => format!("the loss is {loss} before the first step"),
            Side::Low => format!(
                "the loss before training is {loss}, too low for a model that knows nothing: {center} is expected"
            ),
            _ => format!(
                "the loss before training is {loss}, too high for an undecided model: {center} is expected"
            ),
        };
        let mut failure = Failure::violated(headline)
            .fact("expected", format!("{center}: {}", band.of))
            .fact("allowed", band.ends());
        if let Some(size) = seen.output_size.filter(|size| size.is_finite()) {
            failure =
                failure.fact("outputs", format!("of size {} (root mean square)", number(size)));
        }
        if let (Some(least), Some(most)) =
            (seeds.iter().copied().reduce(f64::min), seeds.iter().copied().reduce(f64::max))
        {
            let others = count(seeds.len(), "other seed");
            failure =
                failure.fact("seeds", format!("{others}: {} .. {}", number(least), number(most)));
        }
        failure = failure.with_findings(findings);
        for (cause, evidence) in shown.ruled_out {
            failure = failure.ruled_out(cause, evidence);
        }
        Err(failure)
    }
}

fn report(seen: Seen, seeds: Vec<f64>) -> InitialLossReport {
    let band = seen.band;
    InitialLossReport {
        loss: seen.loss,
        expected: band.center,
        low: band.low,
        high: band.high,
        best_constant: band.best_constant,
        advice: band.advice,
        seeds,
    }
}

/// Whether the loss lies in the spread over seeds whose median is inside the band.
fn is_chance(seen: &Seen, seeds: &[f64]) -> bool {
    let mut sorted = seeds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [least, .., most] = sorted[..] else { return false };
    let median = sorted[sorted.len() / 2];
    // The range of five normal draws is some two standard deviations: twice the range beyond its ends is five.
    let room = 2.0 * (most - least);
    (seen.band.low..=seen.band.high).contains(&median)
        && (least - room..=most + room).contains(&seen.loss)
}

/// A variable that is not finite; else what keeps the loss from being so.
fn not_finite(start: &Start<'_, '_>, seen: &Seen, output: Option<bool>) -> Result<Shown> {
    let found = |finding| Shown { findings: vec![finding], ..Shown::default() };
    for (name, var) in start.learner.variables() {
        if !is_finite(var.as_tensor())? {
            let evidence = "it holds NaN or infinite values before training";
            return Ok(found(Finding::confirmed(Cause::NotFinite, evidence).at(name.as_str())));
        }
    }
    if let Some(rounded) = start.lost_in_half_precision(seen)? {
        return Ok(found(rounded));
    }
    let explained = why_high::of_scales(start, seen)?;
    if !explained.findings.is_empty() {
        return Ok(explained);
    }
    let evidence = match output {
        Some(false) => "the output is not finite already, and all variables are",
        Some(true) => "variables and output are finite, the loss of them is not",
        None => "all variables are finite, the loss is not",
    };
    Ok(found(Finding::confirmed(Cause::NotFinite, evidence)))
}
