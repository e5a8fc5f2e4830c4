//! A batch in parts, and how far their gradients are from adding up.

use super::weighting::Weighting;
use crate::{
    Batch, Cause, Failure, Finding, Result,
    check::function::guarded,
    measure::micro_batches::{Gradient, Micro, Rounding, part},
    verdict::number,
};

/// The gradient of the batch, and what is known of its rounding.
pub(super) struct Whole {
    pub(super) gradient: Gradient,
    rounding: Vec<Rounding>,
    pub(super) names: Vec<String>,
    rows: usize,
}

/// The last bits of the variables move a gradient by the rounding of one operation each; parts of other sizes run other
/// kernels, which round every sum of the network otherwise. So many times the one allows for the other.
const NUDGES: f64 = 16.0;

/// In half precision kernels sum in f32, and the last places of weights and results are all the rounding there is.
const NUDGES_OF_HALF: f64 = 2.0;

/// The last place of f16; that of bf16 is larger.
const HALF: f64 = 1.0 / 1024.0;

/// The order of rows is one drawn rounding of the sum over them; the largest of many is within a factor of a few.
const TURNS: f64 = 4.0;

/// A change beyond this share of the gradient when rows change places is no rounding: the order matters.
const DECISION: f64 = 1.0 / 32.0;

/// A difference of this share of a variable's gradient has to be seen, else nothing is said of the variable.
const TELLING: f64 = 0.1;

impl Whole {
    pub(super) fn of(micro: &Micro<'_, '_>, gradient: Gradient) -> Result<Self> {
        Ok(Self {
            rounding: micro.rounding(&gradient)?,
            names: micro.learner.trainable().map(|(name, _)| name.to_owned()).collect(),
            rows: micro.batch.rows().unwrap_or(1),
            gradient,
        })
    }

    /// How far off a sum of parts may be by rounding alone.
    pub(super) fn tolerance(&self, variable: usize, parts: &[&Gradient], weights: &[f64]) -> f64 {
        let Rounding { nudged, turned, epsilon } = self.rounding[variable];
        let own = self.gradient.norm(variable);
        let turned = if turned <= DECISION * own { turned } else { 0.0 };
        // A sum of n rounded terms is off by about the root of n last places of them (N. J. Higham, 2002).
        let terms: f64 = parts.iter().zip(weights).map(|(g, w)| w.abs() * g.norm(variable)).sum();
        let summed = epsilon * (self.rows as f64).sqrt() * terms.max(own);
        let nudges = if epsilon >= HALF { NUDGES_OF_HALF } else { NUDGES };
        nudges * nudged + TURNS * turned + summed
    }

    /// The variables whose rounding is small enough beside their gradient that a wrong weight would show.
    pub(super) fn telling(&self) -> Vec<usize> {
        let whole = [&self.gradient];
        let tells = |v: &usize| {
            let size = self.gradient.norm(*v);
            size > 0.0 && self.tolerance(*v, &whole, &[1.0]) < TELLING * size
        };
        (0..self.names.len()).filter(tells).collect()
    }
}

/// One way to cut the batch.
pub(super) struct Split {
    pub(super) sizes: Vec<usize>,
    pub(super) parts: Vec<Batch>,
    pub(super) gradients: Vec<Gradient>,
}

/// The variable that is furthest off, in units of what rounding allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Off {
    pub(super) variable: usize,
    /// The difference, as a share of the gradient's norm.
    pub(super) share: f64,
    /// What rounding allows, as such a share.
    pub(super) allowed: f64,
}

impl Off {
    pub(super) fn holds(&self) -> bool {
        self.share <= self.allowed
    }
}

impl Split {
    pub(super) fn of(micro: &mut Micro<'_, '_>, sizes: Vec<usize>) -> Result<Self> {
        let (mut parts, mut gradients, mut first) = (Vec::new(), Vec::new(), 0);
        for rows in &sizes {
            parts.push(part(micro.batch, first, *rows)?);
            let of_part = || micro.gradient_of_part(first, *rows);
            let gradient = guarded("a micro-batch", of_part).map_err(|f| refused(f, &sizes))?;
            if !gradient.is_finite() {
                return Err(not_finite(first, *rows));
            }
            gradients.push(gradient);
            first += rows;
        }
        Ok(Self { sizes, parts, gradients })
    }

    pub(super) fn gradients(&self) -> Vec<&Gradient> {
        self.gradients.iter().collect()
    }

    /// How far `sum` is from the batch's gradient.
    pub(super) fn off(&self, whole: &Whole, sum: &Gradient, weights: &[f64], of: &[usize]) -> Off {
        let parts = self.gradients();
        let each = of.iter().map(|variable| {
            let size = whole.gradient.norm(*variable);
            Off {
                variable: *variable,
                share: sum.distance(&whole.gradient, *variable) / size,
                allowed: whole.tolerance(*variable, &parts, weights) / size,
            }
        });
        let worst = each.max_by(|a, b| (a.share / a.allowed).total_cmp(&(b.share / b.allowed)));
        worst.unwrap_or(Off { variable: 0, share: 0.0, allowed: f64::INFINITY })
    }

    /// How far the parts are from adding up under a weighting.
    pub(super) fn weighted(
        &self,
        whole: &Whole,
        weighting: &Weighting,
        of: &[usize],
    ) -> Result<Off> {
        let weights = weighting.of(&self.parts)?;
        let sum = Gradient::weighted(&self.gradients(), &weights);
        Ok(self.off(whole, &sum, &weights, of))
    }

    /// The weights that bring the sum of the parts closest to `sum`, by least squares; `None` where they are not
    /// determined.
    pub(super) fn fitted(&self, whole: &Whole, sum: &Gradient) -> Option<Vec<f64>> {
        /// So many equations an unknown: else weights fit whatever they are given.
        const EQUATIONS: usize = 8;
        let k = self.gradients.len();
        if sum.elements() < EQUATIONS * k {
            return None;
        }
        // Every variable on the scale of its own gradient.
        let scale: Vec<f64> = (0..whole.names.len())
            .map(|v| Some(whole.gradient.norm(v)).filter(|n| *n > 0.0).unwrap_or(f64::INFINITY))
            .collect();
        let dot = |a: &Gradient, b: &Gradient| a.dot(b, &scale);
        let matrix: Vec<Vec<f64>> = (0..k)
            .map(|i| (0..k).map(|j| dot(&self.gradients[i], &self.gradients[j])).collect())
            .collect();
        let right: Vec<f64> = (0..k).map(|i| dot(&self.gradients[i], sum)).collect();
        solved(matrix, right)
    }

    /// `parts of 8 and 8 rows`.
    pub(super) fn name(&self) -> String {
        format!("parts of {} rows", joined(self.sizes.iter().map(usize::to_string)))
    }
}

/// `0.25, 0.25 and 0.5`.
pub(super) fn joined(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    }
}

pub(super) fn numbers(values: &[f64]) -> String {
    joined(values.iter().map(|value| number(*value)))
}

/// Gaussian elimination with pivoting; `None` where the matrix is singular to rounding.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    const SINGULAR: f64 = 1e-9;
    let n = b.len();
    let size = a.iter().flatten().fold(0.0f64, |most, v| most.max(v.abs()));
    for at in 0..n {
        let pivot = (at..n).max_by(|i, j| a[*i][at].abs().total_cmp(&a[*j][at].abs()))?;
        if a[pivot][at].abs() <= SINGULAR * size {
            return None;
        }
        a.swap(at, pivot);
        b.swap(at, pivot);
        let above = a[at].clone();
        for row in at + 1..n {
            let factor = a[row][at] / above[at];
            a[row].iter_mut().zip(&above).for_each(|(value, above)| *value -= factor * above);
            b[row] -= factor * b[at];
        }
    }
    for at in (0..n).rev() {
        let known: f64 = (at + 1..n).map(|column| a[at][column] * b[column]).sum();
        b[at] = (b[at] - known) / a[at][at];
    }
    Some(b)
}

fn refused(failure: Failure, sizes: &[usize]) -> Failure {
    let rows: usize = sizes.iter().sum();
    let evidence = format!("the batch of {rows} rows works, a part of it does not");
    failure
        .fact("parts", format!("{} rows", joined(sizes.iter().map(usize::to_string))))
        .finding(Finding::confirmed(Cause::BatchSizeFixed, evidence))
}

fn not_finite(first: usize, rows: usize) -> Failure {
    let place = match rows {
        1 => format!("row {first} alone"),
        _ => format!("rows {first} to {}", first + rows - 1),
    };
    let evidence = "NaN or infinite values, where the whole batch has finite ones";
    Failure::violated(format!("the gradient of a micro-batch is not finite: {place}"))
        .finding(Finding::confirmed(Cause::NotFinite, evidence).at(place))
        .help(
            "a mean over the targets that count divides by 0 where a part has none of them, and a deviation over the batch \
             is none of one row",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_solved_and_singular_ones_are_none() {
        let x = solved(vec![vec![0.0, 2.0], vec![1.0, 1.0]], vec![4.0, 3.0]);
        assert_eq!(x, Some(vec![1.0, 2.0]));
        assert_eq!(solved(vec![vec![1.0, 2.0], vec![2.0, 4.0]], vec![1.0, 2.0]), None);
    }

    #[test]
    fn words_are_joined_as_they_are_read() {
        assert_eq!(numbers(&[0.25]), "0.25");
        assert_eq!(numbers(&[0.25, 0.25, 0.5]), "0.25, 0.25 and 0.5");
    }
}
