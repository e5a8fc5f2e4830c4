//! The share that is dropped, and what is made of the rest.

use super::{Dropout, FOUR_SIGMA, MOST_PASSES, Seen, WELL_KNOWN, would_show, would_show_in_rows};
use crate::{
    Cause, Finding,
    measure::masks::Masks,
    verdict::{count, number},
};

impl Dropout<'_> {
    pub(super) fn declared(&self, seen: &Seen) -> Option<Finding> {
        let fitting: Vec<f64> =
            self.declared.iter().copied().filter(|rate| self.fits(seen, *rate)).collect();
        let scale_of = |rate: f64| 1.0 / (1.0 - rate);
        let rate = seen.draws.rate();
        if let Some(first) = fitting.first().copied() {
            if fitting.iter().any(|rate| seen.is(scale_of(*rate)) || self.is_undone(seen, *rate)) {
                return None;
            }
            let is_small = seen.draws.count < WELL_KNOWN;
            if is_small
                && seen.is(1.0)
                && self.declared.iter().any(|rate| self.is_elsewhere(seen, *rate))
            {
                return None;
            }
            let own = seen.rate_of_scale();
            let is_own = (0.0..1.0).contains(&own)
                && seen.surprise(own) <= FOUR_SIGMA
                && seen.surprise(own) <= seen.surprise(first);
            if seen.is(1.0) || !is_own {
                return Some(unscaled(seen, first));
            }
        }
        // A choice of experts, of tokens to hide: random, and no dropout, which is somewhere else.
        if seen.is(1.0) && self.declared.iter().any(|rate| self.is_elsewhere(seen, *rate)) {
            return None;
        }
        let declared: Vec<String> = self.declared.iter().map(|rate| number(*rate)).collect();
        let mut evidence = format!(
            "{} of {} are dropped, {} declared",
            number(rate),
            count(seen.draws.count, if seen.draws.shared.is_empty() { "value" } else { "draw" }),
            declared.join(" and "),
        );
        let kept = self.declared.iter().find(|declared| self.fits(seen, 1.0 - **declared));
        let mut finding = |more: String| {
            evidence.push_str(&more);
            Finding::confirmed(Cause::DropoutRate, evidence.clone())
        };
        Some(match kept {
            Some(kept) => finding(format!(
                ": {} is the share that is kept, where it should be the share that is dropped",
                number(*kept),
            ))
            .advice_is("candle's `dropout(x, p)` and `Dropout::new(p)` take the share that is dropped, as PyTorch does: give them 1 - keep"),
            None => finding(String::new()),
        })
    }

    /// Whether another place drops at this rate, and scales for it.
    fn is_elsewhere(&self, seen: &Seen, rate: f64) -> bool {
        self.random().any(|other| {
            other.place.name != seen.place.name
                && self.fits(other, rate)
                && other.is(1.0 / (1.0 - rate))
        })
    }

    /// In evaluation all values are multiplied by the share that training keeps, as in the first papers.
    fn is_undone(&self, seen: &Seen, rate: f64) -> bool {
        seen.is(1.0) && self.in_evaluation_alone(1.0 - rate, seen.place.precision).is_some()
    }

    /// Where evaluation multiplies by a constant that training does not multiply by.
    fn in_evaluation_alone(&self, factor: f64, precision: f64) -> Option<&str> {
        fn these(masks: &Masks, factor: f64, precision: f64) -> Vec<&str> {
            let all = masks.factors();
            let factors = all.iter();
            let near = factors.filter(|(f, _)| (f / factor - 1.0).abs() <= precision + 1e-6);
            near.map(|(_, place)| *place).collect()
        }
        let evaluation = these(&self.evaluation.masks, factor, precision);
        let training = these(self.training, factor, precision);
        if evaluation.len() > training.len() { evaluation.last().copied() } else { None }
    }

    /// A scale that is right in training, and evaluation scales as well.
    pub(super) fn scaled_twice(&self) -> Option<Finding> {
        for seen in self.random() {
            let rate = match self.declared.iter().find(|r| seen.is(1.0 / (1.0 - **r))) {
                Some(declared) => *declared,
                None => seen.rate_of_scale(),
            };
            if seen.is(1.0) || !(0.0..1.0).contains(&rate) || !self.fits(seen, rate) {
                continue;
            }
            if let Some(place) = self.in_evaluation_alone(1.0 - rate, seen.place.precision) {
                let evidence = format!(
                    "training multiplies what it keeps by {}, and evaluation multiplies all by {} as well: once is enough",
                    number(seen.place.scale),
                    number(1.0 - rate),
                );
                let finding = Finding::confirmed(Cause::DropoutUnscaled, evidence);
                return Some(finding.at(place).advice_is(
                    "scale in training or in evaluation, not in both: leave values as they are in evaluation",
                ));
            }
        }
        None
    }

    /// Without a declared rate a scale of 1 may be meant (hidden tokens, chosen experts), and the numbers of a few known
    /// mistakes cannot be.
    pub(super) fn undeclared(&self, seen: &Seen) -> Option<Finding> {
        let s = seen.place.scale;
        let right = seen.rate_of_scale();
        let is_right = (0.0..1.0).contains(&right) && self.fits(seen, right);
        if is_right || seen.is(1.0) || seen.is(0.5) || seen.draws.count < WELL_KNOWN {
            return None;
        }
        // Scaled by 1/p, by 1 - p, and by 1/(1-p) twice. Half of two branches, at random, is another thing.
        let mistaken = [1.0 / s, 1.0 - s, 1.0 - (1.0 / s).sqrt()];
        let near = |rate: &f64| *rate > 0.0 && *rate < 1.0 && seen.surprise(*rate) <= FOUR_SIGMA;
        let rate = mistaken.into_iter().find(near)?;
        Some(unscaled(seen, rate))
    }

    /// Rates that are declared, and dropped in fewer places: the rate, in how many, and in how many it is.
    pub(super) fn missing(&self) -> Vec<(f64, usize, usize)> {
        // Without one place in sight, there is no saying where the others are.
        if !self.is_complete || !self.is_seen() {
            return Vec::new();
        }
        // One that is wrong is the one that is missing.
        let fits_none = |seen: &Seen| !self.declared.iter().any(|rate| self.fits(seen, *rate));
        if self.random().any(fits_none) {
            return Vec::new();
        }
        let mut rates: Vec<f64> = self.declared.to_vec();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let counted = rates.into_iter().map(|rate| {
            let wanted = self.declared.iter().filter(|declared| **declared == rate).count();
            (rate, wanted, self.random().filter(|seen| self.fits(seen, rate)).count())
        });
        counted.filter(|(_, wanted, fit)| fit < wanted).collect()
    }

    /// A rate that is not found would not have shown yet for sure.
    pub(in crate::check::modes) fn lacks_passes(&self) -> bool {
        let unsure = |(rate, ..): &(f64, usize, usize)| !would_show(*rate, self.passes);
        self.passes < MOST_PASSES && self.missing().iter().any(unsure)
    }

    /// A place that dropped nothing in any pass is not seen as one.
    pub(super) fn inactive(&self, (rate, wanted, fit): (f64, usize, usize)) -> Option<Finding> {
        let is_sure = would_show(rate, self.passes)
            || self.passes >= MOST_PASSES && would_show_in_rows(rate, self.passes, self.rows);
        let evidence = format!(
            "a rate of {} is declared {}, and found in {}",
            number(rate),
            count(wanted, "time"),
            count(fit, "place"),
        );
        is_sure.then(|| Finding::confirmed(Cause::DropoutInactive, evidence))
    }
}

fn unscaled(seen: &Seen, rate: f64) -> Finding {
    let (s, wanted) = (seen.place.scale, 1.0 / (1.0 - rate));
    let how = if seen.is(1.0) {
        "are left as they are".to_owned()
    } else if seen.is(wanted * wanted) {
        format!("are multiplied by {}, which is 1/(1-p) twice", number(s))
    } else if seen.is(1.0 / rate) {
        format!("are multiplied by {}, which is 1/p", number(s))
    } else if seen.is(1.0 - rate) {
        format!("are multiplied by {}, which is 1-p", number(s))
    } else {
        format!("are multiplied by {}", number(s))
    };
    let evidence = format!(
        "{} of {} are dropped, and those that stay {how}; at p = {} it must be {}",
        number(seen.draws.rate()),
        count(seen.draws.count, "value"),
        number(rate),
        number(wanted),
    );
    Finding::confirmed(Cause::DropoutUnscaled, evidence)
}
