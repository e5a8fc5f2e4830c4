//! Dropout in training: whether there is any, how much it drops, what it makes of the rest, and for whom it is drawn.

mod rates;
mod whose;

use super::{evaluation::Evaluation, report::DropoutSeen};
use crate::{
    Finding,
    measure::{
        chance::surprise,
        masks::{Draws, Masks, Place},
    },
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
        found.extend(self.missing().into_iter().filter_map(|missing| self.inactive(missing)));
        for seen in &self.seen {
            if !told.contains(&seen.place.name) {
                found.extend(self.drawn_once(seen).map(|f| f.at(seen.place.name.clone())));
            }
            found.extend(self.one_for_all_rows(seen).map(|f| f.at(seen.place.name.clone())));
        }
        found
    }
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
