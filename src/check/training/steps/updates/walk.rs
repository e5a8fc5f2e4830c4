//! The first steps of the training, as the user would see them.

use super::driver::{Driver, Update, Values, pooled};
use crate::{
    Result,
    measure::vectors::{dot, length},
};

/// What the first steps did.
pub(super) struct Walk {
    /// The first two updates, both from the starting values.
    pub(super) first: Update,
    pub(super) second: Update,
    /// The Euclidean norm of each update over all trained variables, in order: the two, then the steps in a row.
    pub(super) lengths: Vec<f64>,
    /// The same over weights alone, as a share of their size; of the steps in a row.
    pub(super) ratios: Vec<f64>,
    /// Per variable: whether any update changed a bit of it.
    pub(super) moved: Vec<bool>,
    /// Per variable: the norm of its largest update.
    pub(super) largest: Vec<f64>,
    /// Per variable: the largest change of one value.
    pub(super) farthest: Vec<f64>,
    /// The loss before the steps in a row, and after each; empty without a loss closure.
    pub(super) losses: Vec<f64>,
    /// Calls from one update to the next.
    pub(super) calls_per_update: usize,
    /// The step in a row after which a variable was not finite, and those variables.
    pub(super) broken: Option<(usize, Vec<String>)>,
    /// The values after the last step.
    pub(super) end: Values,
}

impl Walk {
    /// `None` where no call within the driver's patience changes anything.
    pub(super) fn take(driver: &mut Driver<'_>, steps: usize) -> Result<Option<Self>> {
        let first = driver.update_at(&[])?;
        let trained: Vec<usize> = driver.trained().map(|(at, _)| at).collect();
        if !driver.is_change(&first) {
            return Ok(None);
        }
        let before = driver.calls;
        let second = driver.update_at(&[])?;
        let calls_per_update = driver.calls - before;
        // A learning rate of 0 here and there may leave a step out.
        driver.patience = 2 * calls_per_update;
        let count = driver.watched.len();
        let mut walk = Self {
            lengths: Vec::new(),
            ratios: Vec::new(),
            moved: vec![false; count],
            largest: vec![0.0; count],
            farthest: vec![0.0; count],
            losses: Vec::new(),
            calls_per_update,
            broken: None,
            end: Vec::new(),
            first,
            second,
        };
        for update in [walk.first.clone(), walk.second.clone()] {
            walk.note(&update, &trained);
        }
        driver.restore()?;
        walk.note_loss(driver)?;
        for step in 1..=steps {
            let update = driver.advance()?;
            walk.note(&update, &trained);
            walk.note_ratio(driver, &update);
            let values = driver.values()?;
            let bad = |at: &usize| values[*at].iter().any(|v| !v.is_finite());
            let bad: Vec<String> = trained
                .iter()
                .filter(|at| bad(at))
                .map(|at| driver.watched[*at].name.clone())
                .collect();
            if !bad.is_empty() {
                walk.broken = Some((step, bad));
                break;
            }
            walk.note_loss(driver)?;
        }
        walk.end = driver.values()?;
        Ok(Some(walk))
    }

    fn note(&mut self, update: &Update, trained: &[usize]) {
        self.lengths.push(pooled(trained.iter().map(|at| &update.by[*at])));
        for (at, by) in update.by.iter().enumerate() {
            self.moved[at] |= update.moved[at];
            self.largest[at] = self.largest[at].max(length(by));
            self.farthest[at] = by.iter().map(|v| v.abs()).fold(self.farthest[at], f64::max);
        }
    }

    /// The update of the weights as a share of their size. Where there is no weight, vectors stand in.
    fn note_ratio(&mut self, driver: &Driver<'_>, update: &Update) {
        let judged = weights(driver);
        let size = pooled(judged.iter().map(|at| &driver.watched[*at].start));
        if size > 0.0 {
            self.ratios.push(pooled(judged.iter().map(|at| &update.by[*at])) / size);
        }
    }

    fn note_loss(&mut self, driver: &mut Driver<'_>) -> Result<()> {
        // A training pass may move running statistics: the user's next step must find them as it left them.
        let kept: Vec<_> = (driver.watched.iter())
            .filter(|w| !w.is_trained())
            .map(|w| Ok((w.var.clone(), w.var.as_tensor().copy()?.detach())))
            .collect::<Result<_>>()?;
        let gradients = driver.gradients()?;
        self.losses.extend(gradients.map(|gradients| gradients.loss));
        for (var, value) in kept {
            var.set(&value)?;
        }
        Ok(())
    }

    /// Whether two updates from the same values have one direction: then the step draws nothing at random, and its
    /// data are the same at every call.
    pub(super) fn repeats(&self, driver: &Driver<'_>) -> bool {
        let (mut across, mut one, mut other) = (0.0, 0.0, 0.0);
        for (at, _) in driver.trained() {
            let (a, b) = (&self.first.by[at], &self.second.by[at]);
            across += dot(a, b);
            one += dot(a, a);
            other += dot(b, b);
        }
        across >= SAME_DIRECTION * (one * other).sqrt()
    }
}

/// Rounding of half precision turns a step by some degrees of a thousand; other rows of the data turn it by tens.
const SAME_DIRECTION: f64 = 0.999;

/// The variables whose steps are measured by their own size: matrices, or all that there is where there is none.
pub(super) fn weights(driver: &Driver<'_>) -> Vec<usize> {
    let matrices: Vec<usize> =
        driver.trained().filter(|(_, w)| w.is_weight()).map(|(at, _)| at).collect();
    match matrices.is_empty() {
        true => driver.trained().map(|(at, _)| at).collect(),
        false => matrices,
    }
}
