//! Dropout in training: whether there is any, how much it drops, what it makes of the rest, and for whom it is drawn.

use super::{evaluation::Evaluation, report::DropoutSeen};
use crate::{
    Cause, Finding,
    measure::{
        chance::surprise,
        masks::{Draws, Masks, Place},
    },
    verdict::{count, number},
};

/// The chance that an assertion on a right model alarms by the luck of its draws, for all its places together: about that
/// of a deviation of six sigma. Suites run thousands of times, and candle's generator cannot be seeded.
const CHANCE: f64 = 2e-9;

/// The chance that a model whose only dropout is one draw a pass looks as if it had none.
const CHANCE_OF_NONE: f64 = 1e-6;

/// A deviation that four sigma would call one (`z * z / 2`): not enough to alarm, but to draw on.
const FOUR_SIGMA: f64 = 8.0;

/// A mistake is told by its numbers where nothing is declared: only of a rate that is well known.
const WELL_KNOWN: usize = 200;

/// Where nothing is dropped, no more passes than these are tried.
pub(super) const MOST_PASSES: usize = 512;

/// What was seen at one place.
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) draws: Draws,
}

impl Seen {
    /// How surprising the share that is dropped would be at this rate.
    fn surprise(&self, rate: f64) -> f64 {
        surprise(self.draws.rate(), self.draws.effective(), rate)
    }

    fn is(&self, scale: f64) -> bool {
        (self.place.scale / scale - 1.0).abs() <= self.place.precision + 1e-6
    }

    /// The rate that the scale would be right for.
    fn rate_of_scale(&self) -> f64 {
        1.0 - 1.0 / self.place.scale
    }

    pub(super) fn reported(&self) -> DropoutSeen {
        DropoutSeen {
            place: self.place.name.clone(),
            rate: self.draws.rate(),
            scale: self.place.scale,
            draws: self.draws.count,
            shared: self.draws.shared.clone(),
        }
    }
}

/// All places, and what is judged of them.
pub(super) struct Dropout<'d> {
    pub(super) seen: Vec<Seen>,
    training: &'d Masks,
    evaluation: &'d Evaluation,
    declared: &'d [f64],
    rows: usize,
    passes: usize,
    /// Every variable is in the graph: there is no place that is not seen.
    is_complete: bool,
}

impl<'d> Dropout<'d> {
    pub(super) fn of(
        training: &'d Masks,
        evaluation: &'d Evaluation,
        declared: &'d [f64],
        (rows, passes): (usize, usize),
        is_complete: bool,
    ) -> Self {
        let places = training.places(&evaluation.masks);
        let seen = places.into_iter().map(|place| Seen { draws: Draws::of(&place), place });
        Self { seen: seen.collect(), training, evaluation, declared, rows, passes, is_complete }
    }

    /// Places that drop other values in each pass.
    fn random(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.place.is_fixed)
    }

    pub(super) fn reported(&self) -> Vec<DropoutSeen> {
        self.random().map(Seen::reported).collect()
    }

    pub(super) fn is_seen(&self) -> bool {
        self.random().next().is_some()
    }

    /// From here on a rate is another one.
    fn limit(&self) -> f64 {
        (2.0 * self.seen.len().max(1) as f64 * self.declared.len().max(1) as f64 / CHANCE).ln()
    }

    fn fits(&self, seen: &Seen, rate: f64) -> bool {
        seen.surprise(rate) <= self.limit()
    }

    /// A rate is neither clearly the declared one nor clearly another: more draws will tell.
    pub(super) fn is_undecided(&self) -> bool {
        let nearest = |seen: &Seen| {
            let surprises = self.declared.iter().map(|rate| seen.surprise(*rate));
            surprises.fold(f64::INFINITY, f64::min)
        };
        !self.declared.is_empty()
            && self.random().any(|seen| (FOUR_SIGMA..=self.limit()).contains(&nearest(seen)))
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found: Vec<Finding> = Vec::new();
        for seen in self.random() {
            let finding = match self.declared.is_empty() {
                true => self.undeclared(seen),
                false => self.declared(seen),
            };
            found.extend(finding.map(|finding| finding.at(seen.place.name.clone())));
        }
        found.extend(self.scaled_twice());
        let told: Vec<String> = found.iter().filter_map(|f| f.place().map(str::to_owned)).collect();
        if !found.iter().any(|finding| finding.cause() == Cause::DropoutRate) {
            found.extend(self.missing().into_iter().filter_map(|m| self.inactive(m)));
        }
        for seen in &self.seen {
            if !told.contains(&seen.place.name) {
                found.extend(self.drawn_once(seen).map(|f| f.at(seen.place.name.clone())));
            }
            found.extend(self.one_for_all_rows(seen).map(|f| f.at(seen.place.name.clone())));
        }
        found
    }

    fn declared(&self, seen: &Seen) -> Option<Finding> {
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
            let factors = masks.factors().iter();
            let near = factors.filter(|(f, _)| (f / factor - 1.0).abs() <= precision + 1e-6);
            near.map(|(_, place)| place.as_str()).collect()
        }
        let evaluation = these(&self.evaluation.masks, factor, precision);
        let training = these(self.training, factor, precision);
        if evaluation.len() > training.len() { evaluation.last().copied() } else { None }
    }

    /// A scale that is right in training, and evaluation scales as well.
    fn scaled_twice(&self) -> Option<Finding> {
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
    fn undeclared(&self, seen: &Seen) -> Option<Finding> {
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
        let mut rates: Vec<f64> = self.declared.to_vec();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let counted = rates.into_iter().map(|rate| {
            let wanted = self.declared.iter().filter(|declared| **declared == rate).count();
            (rate, wanted, self.random().filter(|seen| self.fits(seen, rate)).count())
        });
        counted.filter(|(_, wanted, fit)| fit < wanted).collect()
    }

    /// A place that dropped nothing in any pass is not seen as one.
    fn inactive(&self, (rate, wanted, fit): (f64, usize, usize)) -> Option<Finding> {
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

    /// A mask with the scale of dropout, the same in every pass, and not there in evaluation.
    fn drawn_once(&self, seen: &Seen) -> Option<Finding> {
        if !seen.place.is_fixed || seen.is(1.0) {
            return None;
        }
        // The same mask in every pass is drawn once.
        let passes = seen.place.masks.len().max(1);
        let draws = seen.draws.count as f64 / passes as f64;
        let rate = seen.rate_of_scale();
        let fits = (0.0..1.0).contains(&rate)
            && draws >= 30.0
            && surprise(seen.draws.rate(), draws, rate) <= FOUR_SIGMA;
        let is_declared = self.declared.iter().any(|declared| seen.is(1.0 / (1.0 - declared)));
        let other = Masks::new();
        let is_in_evaluation = (self.evaluation.masks.places(&other).iter()).any(|place| {
            place.dims == seen.place.dims && (place.scale / seen.place.scale - 1.0).abs() < 1e-3
        });
        if !fits && !is_declared || is_in_evaluation {
            return None;
        }
        let evidence = format!(
            "{} of the values are dropped, the same ones in each of {passes} training passes: the mask is drawn once",
            number(seen.draws.rate()),
        );
        Some(Finding::confirmed(Cause::DropoutInactive, evidence).advice_is(
            "draw a new mask in every forward pass: one that is kept removes units for good",
        ))
    }

    /// Every row loses the same values.
    fn one_for_all_rows(&self, seen: &Seen) -> Option<Finding> {
        let dims = &seen.place.dims;
        let is_batch = dims.first() == Some(&self.rows)
            // Time first, and as long as the batch is.
            && dims.iter().filter(|dim| **dim == self.rows).count() == 1;
        // Without a scale, and nothing declared, it may be an augmentation: channels of the input that are left out.
        if self.declared.is_empty() && seen.is(1.0) {
            return None;
        }
        let limit = self.limit();
        let by_luck = seen.draws.rows_share.filter(|share| *share > limit)?;
        // Weights that are dropped have one mask for all rows by right.
        if !is_batch || !seen.place.of_input || seen.place.is_fixed || self.rows < 2 {
            return None;
        }
        let evidence = format!(
            "all {} lose the same values in each pass, which by luck is one in 10^{:.0}: one mask is drawn for the whole batch",
            count(self.rows, "row"),
            by_luck / std::f64::consts::LN_10,
        );
        Some(Finding::confirmed(Cause::BatchMixed, evidence).advice_is(
            "draw the mask in the input's own shape, `Tensor::rand(0f32, 1f32, x.shape(), ..)`, so that each row has one of its own",
        ))
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

/// Whether a rate would have shown in so many passes, however seldom it is drawn for: once a pass where a block is left out
/// for the whole batch.
pub(super) fn would_show(rate: f64, passes: usize) -> bool {
    passes as f64 * (1.0 - rate).ln() <= CHANCE_OF_NONE.ln()
}

/// The same where each row has a draw of its own.
pub(super) fn would_show_in_rows(rate: f64, passes: usize, rows: usize) -> bool {
    (passes * rows) as f64 * (1.0 - rate).ln() <= CHANCE.ln()
}
