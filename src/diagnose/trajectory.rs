//! How a loss went.

use std::fmt;

/// How the loss went from the first step to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trajectory {
    /// It reached its target.
    Converged,
    /// It was still falling when the steps ran out.
    Slow,
    /// It hardly moved.
    Plateau,
    /// It fell, and stopped above its target.
    FloorAboveZero,
    /// It went up and down without getting anywhere.
    Oscillating,
    /// It rose.
    Rising,
    /// It grew to many times what it was.
    Exploding,
    /// It became NaN or infinite.
    NotFinite,
}

/// Where a loss has to get to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) initial: f64,
    pub(crate) target: f64,
    /// The loss of the best constant prediction, where it is known.
    pub(crate) baseline: Option<f64>,
    /// The caller named the target, so nothing above it will do.
    pub(crate) strict: bool,
}

/// A batch that is memorised keeps losing a factor of its loss every few steps; two decades are no coincidence, and
/// every known floor of a misused loss lies far above: 0.64 of the start for a double softmax over 10 classes, 0.45 for
/// a double sigmoid.
const FITTED: f64 = 0.01;

/// A loss that has lost nine tenths and still falls is on its way: a small learning rate is no bug. The known floors of
/// misused losses lie above. A rate so small that not even this is reached is reported as what it is, too low for the
/// steps.
const ON_ITS_WAY: f64 = 0.1;

/// Growth beyond what healthy trainings do on their way: Adam at ten times its rate overshoots to 5 times the first
/// loss, and still converges.
const EXPLODED: f64 = 10.0;

/// Above the first loss by more than its own rounding: a rise.
const ROSE: f64 = 1.05;

/// Less than this share of the way to the goal is nowhere.
const HARDLY_MOVED: f64 = 0.1;

/// From the third quarter of the steps to the last: a fall of 5 % in a quarter is a fall.
const STILL_FALLING: f64 = 0.95;

/// A straight line makes a third of its whole fall from one quarter's middle to the next, a curve that has reached its
/// floor none. Half of the straight line's share is still falling, however little it is.
const STEADY_FALL: f64 = 1.0 / 6.0;

/// The share of late steps that must go down for a fall to be steady. Noise goes down half of the time.
const STEADY_STEPS: f64 = 0.9;

/// Reversals of direction by at least this share of the loss's own level count as swings.
const SWING: f64 = 0.05;

/// The share of late steps that swing, beyond which the loss oscillates. Alternation is 1, a smooth curve 0.
const SWINGING: f64 = 0.3;

impl Goal {
    /// The first loss says little where it is mostly offset or scale: then what no input is needed for is the measure.
    pub(crate) fn default_for(initial: f64, baseline: Option<f64>) -> Self {
        let goal = Self { initial, target: 0.0, baseline, strict: false };
        Self { target: FITTED * goal.reference(), ..goal }
    }

    /// The loss of which a share must be left: the first, or that of the best constant prediction where it is lower.
    fn reference(self) -> f64 {
        self.baseline.map_or(self.initial, |baseline| baseline.min(self.initial))
    }

    pub(crate) fn below(initial: f64, target: f64) -> Self {
        Self { initial, target, baseline: None, strict: true }
    }
}

impl Trajectory {
    pub(crate) fn of(losses: &[f64], last: f64, goal: Goal) -> Self {
        let grown = || losses.iter().any(|l| l.is_finite() && *l > EXPLODED * goal.initial.abs());
        if !last.is_finite() || losses.iter().any(|l| !l.is_finite()) {
            return if grown() { Self::Exploding } else { Self::NotFinite };
        }
        if last <= goal.target {
            return Self::Converged;
        }
        let level = median(tail(losses, 4, 1));
        let before = median(tail(losses, 4, 2));
        if level > EXPLODED * goal.initial.abs() {
            return Self::Exploding;
        }
        if level > goal.initial + (ROSE - 1.0) * goal.initial.abs() {
            return Self::Rising;
        }
        let way = goal.initial - goal.target;
        let progress = (goal.initial - level) / way;
        let height = |loss: f64| loss - goal.target;
        if height(level) < STILL_FALLING * height(before) && progress > 0.0 {
            return Self::Slow;
        }
        let steady = before - level > STEADY_FALL * (goal.initial - level) && level < before;
        if steady && falls(&losses[losses.len() / 2..]) >= STEADY_STEPS {
            return Self::Slow;
        }
        if swings(&losses[losses.len() / 2..]) > SWINGING {
            return Self::Oscillating;
        }
        if progress < HARDLY_MOVED { Self::Plateau } else { Self::FloorAboveZero }
    }

    /// Whether the batch counts as fitted: at the goal, or nine tenths down and still on its way.
    pub(crate) fn is_fitted(self, last: f64, goal: Goal, noisy: bool) -> bool {
        let on_its_way = !goal.strict && last <= ON_ITS_WAY * goal.reference();
        match self {
            Self::Converged => true,
            Self::Slow => on_its_way,
            // Dropout and other noise keep a fitted loss swinging above its floor.
            Self::FloorAboveZero | Self::Oscillating => on_its_way && noisy,
            _ => false,
        }
    }
}

/// The `which`-th part from the end, out of `parts`.
fn tail(losses: &[f64], parts: usize, which: usize) -> &[f64] {
    let n = losses.len();
    let part = n.div_ceil(parts);
    let end = n.saturating_sub(part * (which - 1)).max(1);
    &losses[end.saturating_sub(part)..end]
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The share of steps at which the loss turns round by more than [`SWING`] of its level.
fn swings(losses: &[f64]) -> f64 {
    let turns = losses.windows(3).filter(|w| {
        let (there, back) = (w[1] - w[0], w[2] - w[1]);
        there * back < 0.0 && there.abs().min(back.abs()) > SWING * w[1].abs()
    });
    turns.count() as f64 / losses.len().max(3) as f64
}

/// The share of steps that lower the loss.
fn falls(losses: &[f64]) -> f64 {
    let falls = losses.windows(2).filter(|w| w[1] < w[0]).count();
    falls as f64 / losses.len().saturating_sub(1).max(1) as f64
}

impl fmt::Display for Trajectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Converged => "converged",
            Self::Slow => "slow",
            Self::Plateau => "plateau",
            Self::FloorAboveZero => "floor above zero",
            Self::Oscillating => "oscillating",
            Self::Rising => "rising",
            Self::Exploding => "exploding",
            Self::NotFinite => "not finite",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(loss: impl Fn(f64) -> f64) -> Trajectory {
        let losses: Vec<f64> = (0..=200).map(|i| loss(f64::from(i))).collect();
        let goal = Goal::default_for(losses[0], None);
        Trajectory::of(&losses, losses[200], goal)
    }

    #[test]
    fn every_shape_is_told_from_the_others() {
        assert_eq!(shape(|t| 2.3 * (-t / 20.0).exp()), Trajectory::Converged);
        assert_eq!(shape(|t| 2.3 * (-t / 100.0).exp()), Trajectory::Slow);
        assert_eq!(shape(|t| 2.3 - 1e-5 * t), Trajectory::Slow);
        assert_eq!(shape(|t| 2.3 - 1e-5 * t.min(50.0)), Trajectory::Plateau);
        assert_eq!(shape(|t| 2.3 + 1e-3 * (t * 2.9).sin()), Trajectory::Plateau);
        assert_eq!(shape(|t| 1.46 + 0.84 * (-t / 10.0).exp()), Trajectory::FloorAboveZero);
        assert_eq!(shape(|t| 2.0 + (t * 2.9).sin()), Trajectory::Oscillating);
        assert_eq!(shape(|t| 2.3 + 0.05 * t), Trajectory::Rising);
        assert_eq!(shape(|t| 2.3 * (t / 20.0).exp()), Trajectory::Exploding);
        assert_eq!(shape(|t| if t < 50.0 { 2.3 } else { f64::NAN }), Trajectory::NotFinite);
        assert_eq!(shape(|t| 2.3 * (10.0 * t).exp()), Trajectory::Exploding);
    }

    #[test]
    fn one_step_is_enough_for_a_shape() {
        let goal = Goal::default_for(2.0, None);
        assert_eq!(Trajectory::of(&[2.0, 1.9], 1.9, goal), Trajectory::Slow);
        assert_eq!(Trajectory::of(&[2.0, 0.001], 0.001, goal), Trajectory::Converged);
        assert_eq!(Trajectory::of(&[2.0, 2.0], 2.0, goal), Trajectory::Plateau);
    }

    #[test]
    fn a_loss_on_its_way_is_fitted_unless_the_caller_named_a_target() {
        let goal = Goal::default_for(2.0, None);
        assert!(Trajectory::Slow.is_fitted(0.15, goal, false));
        assert!(!Trajectory::Slow.is_fitted(0.3, goal, false));
        assert!(!Trajectory::FloorAboveZero.is_fitted(0.15, goal, false));
        assert!(Trajectory::FloorAboveZero.is_fitted(0.15, goal, true));
        assert!(!Trajectory::Slow.is_fitted(0.15, Goal::below(2.0, 0.1), false));
    }
}
