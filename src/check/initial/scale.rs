//! How far a weight's size may be from what its fans ask for.

use super::role::{Fans, Role};

/// What is wrong with a weight's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Off {
    /// How many times the signal grows, forward or backward, and over how many terms.
    TooLarge {
        gain: f64,
        terms: usize,
    },
    TooSmall {
        gain: f64,
        terms: usize,
    },
    /// Rows that are looked up, and how large their entries are.
    LargeTable {
        rms: f64,
    },
}

/// The largest gain of a published initialisation: that of tanh, in `torch.nn.init.calculate_gain`. Kaiming's is sqrt(2),
/// LeCun's and Xavier's are 1, an orthogonal weight's at most 1 forward and backward.
pub(super) const USUAL_GAIN: f64 = 5.0 / 3.0;
/// Every published initialisation has at most [`USUAL_GAIN`] on the smaller of its two fans, whichever fan it is made for.
/// Nearly twice that is none of them.
const LARGEST_GAIN: f64 = 3.0;
/// On the fan-in, where that is known: an initialisation made for the fan-out reaches this at 36 inputs an output.
const LARGEST_FORWARD: f64 = 10.0;
/// Embeddings start at 1 (candle, PyTorch) or below; there is no sum over their rows to ask for less.
const LARGEST_ENTRY: f64 = 5.0;
/// Below this on its larger fan a weight is zero for all purposes, and no published initialisation: the smallest is a head
/// of standard deviation 2e-5 (H. Bao et al., *BEiT*, 2021).
const SMALLEST_GAIN: f64 = 1e-5;
/// Most weights of a model below this on their larger fan: its output is lost. Single heads and gates may be smaller.
const SMALL_GAIN: f64 = 1e-2;
/// GPT-2 starts at 0.02 whatever the width, and at 0.02 / sqrt(2 * layers) before a residual, 0.004 with 12 layers: half of
/// that is small in a narrow model, too.
const SMALL_ENTRY: f64 = 2e-3;
/// Chance carries the size of a small weight this many standard deviations away: once in 10^9 weights.
const SIGMAS: f64 = 6.0;

/// The quantile of a chi-square of `n` degrees of freedom, divided by `n` (E. B. Wilson and M. M. Hilferty, 1931): how far
/// the mean square of `n` normal draws is from its expectation of 1.
pub(super) fn mean_square_of(n: usize, sigmas: f64) -> f64 {
    let width = 2.0 / (9.0 * n as f64);
    (1.0 - width + sigmas * width.sqrt()).max(0.0).powi(3)
}

/// What is wrong with `n` entries of this root mean square by themselves.
pub(super) fn judge(role: Role, n: usize, rms: f64) -> Option<Off> {
    match role {
        Role::Layer(fans) => large(fans, n, rms).or_else(|| small(fans, n, rms)),
        Role::Unclear(fans) => match large(fans, n, rms) {
            Some(off) if rms > LARGEST_ENTRY => Some(off),
            _ => small(fans, n, rms),
        },
        Role::Table | Role::Positions if rms > LARGEST_ENTRY => Some(Off::LargeTable { rms }),
        Role::Table | Role::Positions | Role::Apart => None,
    }
}

/// The usual gain, with the chance of `n` entries.
pub(super) fn usual_gain_of(n: usize) -> f64 {
    USUAL_GAIN * mean_square_of(n, SIGMAS).sqrt()
}

fn large(fans: Fans, n: usize, rms: f64) -> Option<Off> {
    let by_chance = usual_gain_of(n);
    let both_ways = (fans.least, LARGEST_GAIN);
    let forward = fans.fan_in.map(|fan_in| (fan_in, LARGEST_FORWARD));
    let gain = |terms: usize| rms * (terms as f64).sqrt();
    (forward.into_iter().chain([both_ways]))
        .find(|(terms, limit)| gain(*terms) > limit.max(by_chance))
        .map(|(terms, _)| Off::TooLarge { gain: gain(terms), terms })
}

fn small(fans: Fans, n: usize, rms: f64) -> Option<Off> {
    let gain = rms * (fans.most as f64).sqrt();
    let limit = SMALLEST_GAIN * mean_square_of(n, -SIGMAS).sqrt();
    (rms > 0.0 && gain < limit).then_some(Off::TooSmall { gain, terms: fans.most })
}

/// What is wrong with `n` entries of this root mean square where most layers of the model are as small.
pub(super) fn small_among_others(role: Role, n: usize, rms: f64) -> Option<Off> {
    let (Role::Layer(fans) | Role::Unclear(fans)) = role else { return None };
    let gain = rms * (fans.most as f64).sqrt();
    let entry = SMALL_ENTRY * mean_square_of(n, -SIGMAS).sqrt();
    (gain < SMALL_GAIN && rms < entry).then_some(Off::TooSmall { gain, terms: fans.most })
}

/// The gain that a table of weights shows: on the fan-in, or on the smaller fan where it is not known.
pub(super) fn shown_gain(role: Role, rms: f64) -> Option<f64> {
    match role {
        Role::Layer(fans) | Role::Unclear(fans) => {
            Some(rms * (fans.fan_in.unwrap_or(fans.least) as f64).sqrt())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(out: usize, fan_in: usize) -> Role {
        Role::Layer(Fans { least: out.min(fan_in), most: out.max(fan_in), fan_in: Some(fan_in) })
    }

    fn judged(out: usize, fan_in: usize, std: f64) -> Option<Off> {
        judge(layer(out, fan_in), out * fan_in, std)
    }

    #[test]
    fn published_initialisations_pass_at_every_size() {
        for (out, fan_in) in [(2, 2), (4, 512), (512, 4), (64, 64), (4096, 1024), (10, 784)] {
            let (i, o) = (fan_in as f64, out as f64);
            for std in [
                (2.0 / i).sqrt(),
                (1.0 / i).sqrt(),
                (1.0 / (3.0 * i)).sqrt(),
                (2.0 / (i + o)).sqrt() * USUAL_GAIN,
                (1.0 / i.max(o)).sqrt(),
                0.02 / (2.0 * 12.0f64).sqrt(),
                0.01 / i.max(o).sqrt(),
                2e-5,
            ] {
                assert_eq!(judged(out, fan_in, std), None, "{out} {fan_in} {std}");
            }
        }
        assert_eq!(judged(64, 128, (2.0 / 64.0f64).sqrt()), None);
    }

    #[test]
    fn what_no_fan_asks_for_is_told() {
        assert!(matches!(judged(32, 32, 1.0), Some(Off::TooLarge { terms: 32, .. })));
        assert!(matches!(judged(10, 784, 1.0), Some(Off::TooLarge { terms: 784, .. })));
        assert!(matches!(judged(64, 64, 1e-7), Some(Off::TooSmall { .. })));
        assert_eq!(judge(Role::Table, 1000, 1.0), None);
        assert!(judge(Role::Table, 1000, 16.0).is_some());
        let unclear = Role::Unclear(Fans { least: 64, most: 64, fan_in: None });
        assert_eq!(judge(unclear, 4096, 1.0), None);
        assert!(judge(unclear, 4096, 8.0).is_some());
    }

    #[test]
    fn the_quantiles_are_those_of_a_chi_square() {
        // Of 10 degrees of freedom, at 3.09 standard deviations: 29.59 and 1.479.
        assert!((10.0 * mean_square_of(10, 3.0902) - 29.59).abs() < 0.2);
        assert!((10.0 * mean_square_of(10, -3.0902) - 1.479).abs() < 0.2);
    }
}
