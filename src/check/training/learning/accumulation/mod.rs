//! Micro-batches add up to the batch.

mod accumulated;
mod judged;
mod options;
mod split;
mod weighting;
mod why;

pub use options::{AccumulationEquivalent, AccumulationEquivalentReport};
pub use weighting::{Count, Weighting};

use self::split::{Off, Split, Whole, joined};
use crate::{Result, measure::micro_batches::Gradient, verdict::number};

/// The whole batch, the ways it was cut, and what the parts' gradients are compared in.
struct Cut {
    whole: Whole,
    splits: Vec<Split>,
    /// The variables in which a wrong weight would show.
    of: Vec<usize>,
}

impl Cut {
    /// The split and the variable in which a weighting is furthest off.
    fn worst(&self, weighting: &Weighting) -> Result<(usize, Off)> {
        let mut worst: Option<(usize, Off)> = None;
        for (at, split) in self.splits.iter().enumerate() {
            let off = split.weighted(&self.whole, weighting, &self.of)?;
            let excess = |off: &Off| off.share / off.allowed;
            if worst.is_none_or(|(_, other)| excess(&off) > excess(&other)) {
                worst = Some((at, off));
            }
        }
        Ok(worst.unwrap_or((0, Off { variable: 0, share: 0.0, allowed: f64::INFINITY })))
    }

    fn holds(&self, weighting: &Weighting) -> Result<bool> {
        Ok(self.worst(weighting)?.1.holds())
    }

    /// Whether every part has the whole batch's gradient, so that any weights with the sum 1 would do.
    fn all_alike(&self) -> bool {
        self.splits.iter().all(|split| {
            split
                .gradients
                .iter()
                .all(|part| split.off(&self.whole, part, &[1.0], &self.of).holds())
        })
    }

    /// Every way of cutting, once.
    fn sizes(&self) -> Vec<Vec<usize>> {
        self.splits.iter().map(|split| split.sizes.clone()).collect()
    }

    /// `8 and 8; 1 and 15`.
    fn named(&self) -> String {
        let sizes = |split: &Split| joined(split.sizes.iter().map(usize::to_string));
        self.splits.iter().map(sizes).collect::<Vec<_>>().join("; ")
    }

    /// The weights that the loss itself gives the parts, where there are such: the same row counts the same in every
    /// split.
    fn of_the_loss(&self) -> Option<Vec<Vec<f64>>> {
        let mut all = Vec::new();
        for split in &self.splits {
            let weights = split.fitted(&self.whole, &self.whole.gradient)?;
            let sum = Gradient::weighted(&split.gradients(), &weights);
            if !split.off(&self.whole, &sum, &weights, &self.of).holds() {
                return None;
            }
            all.push(weights);
        }
        consistent(&self.sizes(), &all).then_some(all)
    }
}

/// Weights that were fitted to rounded gradients agree to about this.
const AGREE: f64 = 0.02;

/// Whether the weights are shares of one count over the rows: not negative, and what stands for the same rows in two
/// splits is the same.
fn consistent(sizes: &[Vec<usize>], weights: &[Vec<f64>]) -> bool {
    // What the rows up to each border count in a split.
    let mut borders: Vec<(usize, f64)> = Vec::new();
    for (sizes, weights) in sizes.iter().zip(weights) {
        if weights.iter().any(|weight| *weight < -AGREE) {
            return false;
        }
        let (mut row, mut sum) = (0, 0.0);
        for (rows, weight) in sizes.iter().zip(weights) {
            row += rows;
            sum += weight;
            borders.push((row, sum));
        }
    }
    borders.iter().all(|(row, sum)| {
        let same = borders.iter().filter(|(other, _)| other == row);
        same.map(|(_, other)| (sum - other).abs()).all(|apart| apart <= AGREE)
    })
}

/// `12 %`, `1.2e-5 %`.
fn percent(share: f64) -> String {
    format!("{} %", number(100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_one_count_agree_where_splits_share_a_border() {
        let sizes = [vec![4, 4], vec![1, 7], vec![1, 3, 4]];
        let of = |weights: [Vec<f64>; 3]| consistent(&sizes, &weights);
        assert!(of([vec![0.3, 0.7], vec![0.1, 0.9], vec![0.1, 0.2, 0.7]]));
        assert!(!of([vec![0.3, 0.7], vec![0.1, 0.9], vec![0.2, 0.1, 0.7]]));
        assert!(!of([vec![1.3, -0.3], vec![0.1, 0.9], vec![0.1, 1.2, -0.3]]));
    }
}
