//! What came of one padded input.

use super::{
    super::{
        grid::{Apart, Grid, worse},
        rounding::Bound,
    },
    padded::Layout,
};
use crate::verdict::number;

/// What is asked of an input with padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Does the width matter?
    Length,
    /// Does it matter what stands in the padding?
    Content,
    /// Does it matter to a row alone?
    OneRow,
    /// Does the length of other rows matter?
    Mixed,
}

/// One padded input.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) question: Question,
    pub(super) left: bool,
    pub(super) name: String,
    pub(super) difference: f64,
    /// Where a real position differs by more than is allowed.
    pub(super) apart: Option<Apart>,
    /// How much of the first row's width is padding: `T / (T + P)`.
    pub(super) share: f64,
    /// The padded outputs, and those without padding.
    pub(super) outputs: (Grid, Grid),
}

impl Tried {
    pub(super) fn is_bad(&self) -> bool {
        self.apart.is_some()
    }

    pub(super) fn line(&self) -> String {
        match (&self.apart, self.difference) {
            (Some(_), by) if by.is_nan() => "NaN at a real position".to_owned(),
            (Some(_), by) => format!("differs by {}", number(by)),
            (None, 0.0) => "equal".to_owned(),
            (None, by) => format!("equal within {}", number(by)),
        }
    }
}

/// Content is judged by the bits: a masked value is multiplied by 0, or was never there.
pub(super) const EXACT: Bound = Bound { relative: 0.0, absolute: 0.0 };

pub(super) fn judged(
    question: Question,
    layout: &Layout,
    name: String,
    (was, expected): (&[Grid], &[Grid]),
    bound: &Bound,
) -> Tried {
    let (mut difference, mut apart) = (0.0, None);
    for (row, (was, expected)) in was.iter().zip(expected).enumerate() {
        difference = worse(difference, was.distance(expected));
        for at in 0..expected.positions().min(was.positions()) {
            let found = Apart::in_cell((was, expected), (0, at, at), bound);
            apart = apart.or(found.map(|found| Apart { row, ..found }));
        }
    }
    let share = layout.lengths[0] as f64 / layout.width as f64;
    let outputs = (was[0].clone(), expected[0].clone());
    let left = layout.left;
    Tried { question, left, name, difference, apart, share, outputs }
}
