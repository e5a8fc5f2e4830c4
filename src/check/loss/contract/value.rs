//! The values of a loss, beside those of its reference.

use super::{
    LossContractReport, Seen, beside,
    closure::Loss,
    first_call::first_call,
    form::{Accepted, forms},
    laws,
    probes::{Aim, Probe, Probes},
};
use candle_core::DType;

use crate::{
    Cause, Contract, Failure, Finding, Result,
    diagnose::loss_variant::{Claim, Explained, Sample, explain},
    measure::{losses::Reduction, noise::epsilon},
    verdict::{count, number, told_apart},
};

/// A probe and the loss of it.
pub(super) struct Measured {
    pub(super) probe: Probe,
    pub(super) value: f64,
}

pub(super) struct Values {
    /// Random and undecided predictions: what the loss is judged by.
    pub(super) samples: Vec<Measured>,
    /// Perfect and wrong ones.
    pub(super) ends: Vec<Measured>,
    /// `None` where the closure computes something else.
    pub(super) accepted: Option<Accepted>,
    declared: Accepted,
    epsilon: f64,
}

impl Values {
    pub(super) fn measure(
        loss: &mut Loss<'_>,
        probes: &Probes<'_>,
        seen: &mut Vec<Seen>,
    ) -> Result<Self> {
        let epsilon = epsilon(probes.contract.dtype).unwrap_or(f64::EPSILON);
        let forms = forms(probes);
        let Some(declared) = forms.first().cloned() else {
            return Err(Failure::not_run("the contract has no formula"));
        };
        let first = probes.probe(Aim::Random, probes.rows)?;
        usable(probes, &first, &declared)?;
        let value = match first_call(loss, probes, &first)? {
            Ok(value) => value,
            Err(other) => {
                seen.push(other);
                let (samples, ends) = (Vec::new(), Vec::new());
                return Ok(Self { samples, ends, accepted: None, declared, epsilon });
            }
        };
        let n = probes.rows;
        let mut samples = vec![Measured { probe: first, value }];
        for rows in [n + 3, 2 * n + 1] {
            let probe = probes.probe(Aim::Random, rows)?;
            match loss.value(&probe.prediction, &probe.target) {
                Ok(value) => samples.push(Measured { probe, value }),
                Err(failure) => {
                    let evidence = format!(
                        "{} are taken, {rows} are an error: {}",
                        count(n, "row"),
                        failure.source_text(),
                    );
                    seen.push(Seen::new(
                        format!("the loss works for one batch size alone: {}", count(n, "row")),
                        Finding::confirmed(Cause::BatchSizeFixed, evidence),
                    ));
                    break;
                }
            }
        }
        let mut more = |aim: Aim, rows: usize, into: &mut Vec<Measured>| -> Result<()> {
            if let Some(probe) = probes.make(aim, rows)? {
                let value = loss.value(&probe.prediction, &probe.target)?;
                into.push(Measured { probe, value });
            }
            Ok(())
        };
        let fixed = samples.len() < 3;
        more(Aim::Positive, n, &mut samples)?;
        if !fixed {
            more(Aim::Positive, n + 3, &mut samples)?;
            more(Aim::Positive, 2 * n + 1, &mut samples)?;
        }
        more(Aim::Uniform, n, &mut samples)?;
        let mut ends = Vec::new();
        more(Aim::Perfect, n, &mut ends)?;
        more(Aim::Wrong, n, &mut ends)?;

        // In half precision several forms can be within rounding: the nearest is meant.
        let agreeing = forms.iter().filter(|form| samples.iter().all(|s| form.agrees(s, epsilon)));
        let off = |form: &Accepted| samples.iter().map(|m| form.off(m)).sum::<f64>();
        let accepted = agreeing.min_by(|a, b| off(a).total_cmp(&off(b))).cloned();
        let values = Self { samples, ends, accepted, declared, epsilon };
        if values.accepted.is_none() {
            let fine = in_f32(loss, probes, &forms)?;
            let (differs, explained) = values.differs(probes, fine);
            // Where no formula explains the values, the closure itself is asked. Ignored labels move nothing by right.
            if !explained
                && probes.ignored().is_none()
                && let Some(longest) = values.longest()
            {
                let overlooked = laws::overlooked(loss, &longest.probe, longest.value)?;
                seen.extend(
                    overlooked.into_iter().map(|o| Seen::new(&differs.headline, o.finding)),
                );
            }
            seen.push(differs);
        }
        Ok(values)
    }

    /// The closure computes something else: what?
    /// Whether a known mistake explains it is the second value.
    fn differs(&self, probes: &Probes<'_>, fine_in_f32: bool) -> (Seen, bool) {
        let contract = probes.contract;
        let claim = Claim {
            name: &contract.name,
            reference: &self.declared.reference,
            reduction: self.declared.reduction,
            scale: contract.scale,
            smoothing: contract.smoothing,
            soft: contract.soft,
        };
        // An undecided prediction has no row that differs from another: it tells few mistakes apart.
        let told = self.samples.iter().filter(|s| s.probe.aim != Aim::Uniform);
        let samples: Vec<Sample<'_>> = told
            .map(|m| Sample { point: &m.probe.point, value: m.value, epsilon: self.epsilon })
            .collect();
        let worst = self.worst();
        let headline = match worst {
            Some((measured, expected)) => {
                let (value, expected) = told_apart(measured.value, expected);
                format!(
                    "the loss is not the {}: {value} for {} predictions, where {expected} is right",
                    contract.name,
                    measured.probe.aim.name(),
                )
            }
            None => format!("the loss is not the {}", contract.name),
        };
        let known = match fine_in_f32 {
            true => None,
            false => explain(&claim, &samples),
        };
        let is_known = known.is_some() || fine_in_f32;
        let finding = match known {
            None if fine_in_f32 => Finding::confirmed(
                Cause::PrecisionLoss,
                format!(
                    "the same closure gives the right values in f32: {} is too coarse for its sums",
                    contract.dtype.as_str(),
                ),
            ),
            Some(explained) => self.explained(&explained, samples.len()),
            None => {
                let evidence = format!(
                    "no known mistake explains the values of {}",
                    count(samples.len(), "random batch"),
                );
                Finding::confirmed(Cause::ValuesDiffer, evidence).advice_is(
                    "compare it with its formula on one row; a loss of your own has its place in `contract::custom`",
                )
            }
        };
        (Seen::new(headline, finding), is_known)
    }

    fn explained(&self, explained: &Explained, batches: usize) -> Finding {
        let mut evidence = format!(
            "the values of {} are exactly those of {}",
            count(batches, "random batch"),
            explained.says,
        );
        let cause = explained.causes.first().copied().unwrap_or(Cause::ValuesDiffer);
        let perfect = self.ends.iter().find(|end| end.probe.aim == Aim::Perfect);
        if let Some(perfect) = perfect
            .filter(|end| cause != Cause::LossReduction && !self.declared.agrees(end, self.epsilon))
        {
            evidence = format!(
                "{evidence}; a perfect prediction costs {}, not {}",
                digits(perfect.value),
                digits(self.declared.value(&perfect.probe.point)),
            );
        }
        let finding = Finding::confirmed(cause, evidence);
        match &explained.advice {
            Some(advice) => finding.advice_is(advice.clone()),
            None => finding,
        }
    }

    fn longest(&self) -> Option<&Measured> {
        let random = self.samples.iter().filter(|s| s.probe.aim == Aim::Random);
        random.max_by_key(|m| m.probe.point.rows)
    }

    /// The sample that is furthest from the reference, and what the reference gives for it.
    fn worst(&self) -> Option<(&Measured, f64)> {
        let form = &self.declared;
        let random = self.samples.iter().filter(|s| s.probe.aim == Aim::Random);
        let off = |m: &Measured| {
            let expected = form.value(&m.probe.point);
            let off = (m.value - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
            (off, expected)
        };
        let all = random.map(|m| (m, off(m)));
        let worst = all.max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
        Some((worst.0, worst.1.1))
    }

    fn form(&self) -> &Accepted {
        self.accepted.as_ref().unwrap_or(&self.declared)
    }

    pub(super) fn facts(&self, called_with: &str) -> Vec<(&'static str, String)> {
        let mut facts = vec![("called with", called_with.to_owned())];
        let shown = [Aim::Random, Aim::Perfect, Aim::Uniform, Aim::Wrong];
        for aim in shown {
            let mut all = self.samples.iter().chain(&self.ends);
            if let Some(measured) = all.find(|m| m.probe.aim == aim) {
                let expected = self.form().value(&measured.probe.point);
                facts.push((aim.name(), beside(measured.value, expected)));
            }
        }
        facts
    }

    pub(super) fn note(&self, report: &mut LossContractReport) {
        let of = |aim: Aim| {
            let mut all = self.samples.iter().chain(&self.ends);
            all.find(|m| m.probe.aim == aim).map(|m| m.value)
        };
        report.perfect = of(Aim::Perfect);
        report.uniform = of(Aim::Uniform);
        report.wrong = of(Aim::Wrong);
        let form = self.form();
        report.scale = form.scale;
        report.reduction = Some(match form.reduction {
            Reduction::Sum => "summed over the batch",
            Reduction::MeanOfRowSums => "summed over each row, averaged over the rows",
            _ => "averaged over the batch",
        });
        report.probes = self.samples.len() + self.ends.len();
        report.max_absolute_difference =
            self.samples.iter().map(|m| form.off(m)).fold(0.0, f64::max);
    }

    /// A perfect prediction has its floor; it costs less than one that knows nothing, and that less than a wrong one.
    pub(super) fn judge_order(&self, seen: &mut Vec<Seen>) {
        let Some(accepted) = &self.accepted else { return };
        let end = |aim: Aim| self.ends.iter().find(|m| m.probe.aim == aim);
        let uniform = self.samples.iter().find(|m| m.probe.aim == Aim::Uniform);
        let (Some(perfect), Some(wrong)) = (end(Aim::Perfect), end(Aim::Wrong)) else { return };
        if !perfect.value.is_finite() || !wrong.value.is_finite() {
            return;
        }
        let floor = accepted.value(&perfect.probe.point);
        let usual = uniform.map_or(1.0, |m| m.value.abs());
        // A clamp of probabilities to 0.001 and 0.999 leaves this much above the floor.
        let near = 5e-3 * usual + accepted.tolerance(&perfect.probe.point, self.epsilon);
        if (perfect.value - floor).abs() > near {
            let (value, floor) = (digits(perfect.value), digits(floor));
            seen.push(Seen::new(
                format!("a perfect prediction costs {value}, where {floor} is right"),
                Finding::confirmed(
                    Cause::ValuesDiffer,
                    format!("random predictions cost what they should, a perfect one {value}, not {floor}"),
                ),
            ));
        }
        let middle = uniform.map_or(perfect.value, |m| m.value);
        if perfect.value > middle || middle >= wrong.value {
            let evidence = format!(
                "perfect {}, undecided {}, wrong {}",
                digits(perfect.value),
                digits(middle),
                digits(wrong.value),
            );
            seen.push(Seen::new(
                "a wrong prediction does not cost more than an undecided one",
                Finding::confirmed(Cause::WrongDirection, evidence),
            ));
        }
    }
}

/// Floors are recognised by their fourth digit: 1.4612, 0.3133.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        size if (0.01..1000.0).contains(&size) && value.fract() != 0.0 => {
            format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => number(value),
    }
}

/// Whether a closure that is wrong in half precision is right in f32.
fn in_f32(loss: &mut Loss<'_>, probes: &Probes<'_>, forms: &[Accepted]) -> Result<bool> {
    if !matches!(probes.contract.dtype, DType::F16 | DType::BF16) {
        return Ok(false);
    }
    let contract = Contract { dtype: DType::F32, ..probes.contract.clone() };
    let Some(probes) = probes.of(&contract) else { return Ok(false) };
    let mut measured = Vec::new();
    for rows in [probes.rows, probes.rows + 3] {
        let probe = probes.probe(Aim::Random, rows)?;
        let Ok(value) = loss.value(&probe.prediction, &probe.target) else { return Ok(false) };
        measured.push(Measured { probe, value });
    }
    let epsilon = f64::from(f32::EPSILON);
    Ok(forms.iter().any(|form| measured.iter().all(|m| form.agrees(m, epsilon))))
}

/// A formula of the user's own gives numbers for what it is tested with.
fn usable(probes: &Probes<'_>, first: &Probe, form: &Accepted) -> Result<()> {
    let value = form.value(&first.point);
    match value.is_finite() {
        true => Ok(()),
        false => Err(Failure::not_run(format!(
            "the formula of the contract `{}` gives {} for random predictions",
            probes.contract.name,
            number(value),
        ))
        .help("say with `predictions(range)` and `targets(range)` where they lie")),
    }
}
