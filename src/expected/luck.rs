//! How low a loss may be by luck: an untrained model may happen to be right.

use crate::measure::student;

/// Luck that comes once in 10^this, ..
const RARE: f64 = 7.0;
/// .. and as many standard deviations of a mean of many draws.
pub(super) const SIGMAS: f64 = 5.2;

/// Few draws are all right together; of many the mean ends sooner.
pub(super) fn lower_end(n: f64, all: f64, mean: f64) -> f64 {
    if n < 5.0 { 0.9 * all } else { all.min(mean.max(0.0)) }
}

/// How many equally likely classes would be as varied.
pub(super) fn effective(shares: &[f64]) -> f64 {
    1.0 / shares.iter().map(|p| p * p).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// The normal deviate that `n` independent draws are all above once in 10^[`RARE`].
pub(super) fn by_luck(n: f64) -> f64 {
    let p = 10f64.powf(-RARE / n.max(1.0));
    if p >= 0.5 {
        return 0.0;
    }
    -student::normal(p)
}
