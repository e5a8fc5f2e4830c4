//! What a mask asks for, and what of it is broken.

use candle_core::Tensor;

use super::matrix::Matrix;
use crate::{
    Failure, Result,
    measure::values::{is_readable, to_f64_vec},
};

/// Of an output and an input position each.
pub(super) type Pairs = Vec<(usize, usize)>;

/// The mask: which pairs must depend, and which must not.
pub(super) struct Wanted {
    pub(super) inputs: usize,
    pub(super) depends: Vec<bool>,
}

impl Wanted {
    pub(super) fn at(&self, output: usize, input: usize) -> bool {
        self.depends[output * self.inputs + input]
    }

    /// Pairs that depend and must not, and those that do not and must.
    pub(super) fn broken(&self, matrix: &Matrix) -> (Pairs, Pairs) {
        let wrong = matrix.pairs().filter(|(t, s)| matrix.depends(*t, *s) != self.at(*t, *s));
        wrong.partition(|(t, s)| matrix.depends(*t, *s))
    }

    pub(super) fn picture(&self, matrix: &Matrix, shown: (usize, usize)) -> String {
        let sign = |t: usize, s: usize, depends: bool| match (depends, self.at(t, s)) {
            (true, true) => '#',
            (true, false) => 'X',
            (false, true) => '-',
            (false, false) => '.',
        };
        let legend =
            "outputs down, inputs across; # depends, X depends and must not, - does not and must";
        let mut lines = vec![legend.to_owned()];
        lines.extend(matrix.picture(shown, sign));
        lines.join("\n")
    }
}

/// Which entries of the mask are not zero, row after row.
pub(super) fn wanted(mask: &Tensor) -> Result<Vec<bool>> {
    if mask.rank() != 2 || mask.elem_count() == 0 {
        let was = format!("of dims {:?}", mask.dims());
        return Err(Failure::bad_argument("mask", was, "[outputs, inputs], not empty"));
    }
    if !is_readable(mask.dtype()) {
        let was = format!("of dtype {}", mask.dtype().as_str());
        return Err(Failure::bad_argument("mask", was, "a dtype whose values candle can read"));
    }
    let values = to_f64_vec(mask)?;
    match values.iter().any(|value| !value.is_finite()) {
        true => Err(Failure::bad_argument(
            "mask",
            "a tensor with NaN or infinite values",
            "0 where there is no dependence, another number where there is; a mask that is added to scores is none",
        )),
        false => Ok(values.into_iter().map(|value| value != 0.0).collect()),
    }
}
