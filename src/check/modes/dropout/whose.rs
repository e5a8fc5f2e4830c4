//! Whose a mask is: each row's own, and each pass's.

use super::{Dropout, FOUR_SIGMA, Seen};
use crate::{
    Cause, Finding,
    measure::{chance::surprise, masks::Masks},
    verdict::{count, number},
};

impl Dropout<'_> {
    /// A mask with the scale of dropout, the same in every pass, and not there in evaluation.
    pub(super) fn drawn_once(&self, seen: &Seen) -> Option<Finding> {
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
    pub(super) fn one_for_all_rows(&self, seen: &Seen) -> Option<Finding> {
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
