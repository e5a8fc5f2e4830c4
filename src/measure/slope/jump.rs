//! Does a function jump? A codebook's nearest code, a router's one expert, a sign: past a jump no slope at one point tells
//! of the next, and the gradient is made up on purpose (a straight-through estimator).

use crate::Result;

/// The way is looked along in so many parts, and so many of them are halved so many times.
const PARTS: usize = 16;
const FOLLOWED: usize = 4;
const HALVINGS: usize = 12;

/// What is left of a part's change, or of the mean part's, after the halvings. A steep slope shrinks 4,000 times, a jump not
/// at all.
const LEFT: f64 = 0.05;

/// How far is looked, in the size of what is moved. What is added to much larger values (a bias of 0.01 before codes that lie
/// 1 apart) reaches the next step of a staircase far beyond its own size.
pub(crate) const FAR: [f64; 3] = [1.0, 8.0, 64.0];

/// Whether the function jumps on the way from 0 to `reach` or to `-reach`: the way is followed into the parts where it does
/// not go on as beside them.
pub(crate) fn jumps(
    at: &mut dyn FnMut(f64) -> Result<f64>,
    reach: f64,
    noise: f64,
) -> Result<bool> {
    for side in [reach, -reach] {
        let mut at = |part: f64| at(side * part);
        let mut values = Vec::new();
        for part in 0..=PARTS {
            values.push(at(part as f64 / PARTS as f64)?);
        }
        // What runs over has left the floats, and its change says nothing.
        if values.iter().any(|value| !value.is_finite()) {
            continue;
        }
        // A part that goes up and comes down again changes by next to nothing itself.
        let changes = values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let mean = changes.sum::<f64>() / PARTS as f64;
        for part in uneven(&values) {
            let (mut low, mut high) =
                (part as f64 / PARTS as f64, (part + 1) as f64 / PARTS as f64);
            let (mut below, mut above) = (values[part], values[part + 1]);
            let mut largest = (above - below).abs().max(mean);
            for _ in 0..HALVINGS {
                let middle = 0.5 * (low + high);
                let value = at(middle)?;
                largest = largest.max((value - below).abs()).max((above - value).abs());
                if (value - below).abs() >= (above - value).abs() {
                    (high, above) = (middle, value);
                } else {
                    (low, below) = (middle, value);
                }
            }
            let left = (above - below).abs();
            if left > LEFT * largest && left > 4.0 * noise {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The parts in which a jump is likely: the steepest, and those whose change is least like the mean of their neighbours'. On
/// a curved way the steepest part is the last, whatever jumps before it.
fn uneven(values: &[f64]) -> Vec<usize> {
    let changes: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let surprise = |part: usize| {
        let beside = match (part.checked_sub(1), changes.get(part + 1)) {
            (Some(before), Some(after)) => 0.5 * (changes[before] + after),
            (Some(before), None) => changes[before],
            (None, Some(after)) => *after,
            (None, None) => 0.0,
        };
        (changes[part] - beside).abs()
    };
    let mut parts: Vec<usize> = (0..changes.len()).collect();
    let steepest =
        parts.iter().copied().max_by(|a, b| changes[*a].abs().total_cmp(&changes[*b].abs()));
    parts.sort_by(|a, b| surprise(*b).total_cmp(&surprise(*a)));
    parts.truncate(FOLLOWED);
    match steepest {
        Some(steepest) if !parts.contains(&steepest) => parts.push(steepest),
        _ => {}
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump_within_1(f: fn(f64) -> f64) -> bool {
        jumps(&mut |x| Ok(f(x)), 1.0, 1e-12).unwrap()
    }

    #[test]
    fn a_jump_is_found_under_a_curve_that_is_steeper_elsewhere() {
        let step = |x: f64| f64::from(u8::from(x > 0.2371));
        assert!(jump_within_1(|x| f64::from(u8::from(x > 0.2371))));
        assert!(jumps(&mut |x| Ok(0.3 * step(x) + 40.0 * x * x), 1.0, 1e-12).unwrap());
        assert!(jump_within_1(|x| 0.1 * (x * 3.0 + 0.5).floor() + 10.0 * x.powi(3)));
    }

    #[test]
    fn neither_a_kink_nor_a_steep_or_curved_way_is_a_jump() {
        assert!(!jump_within_1(f64::abs));
        assert!(!jump_within_1(f64::exp));
        assert!(!jump_within_1(|x| (x - 0.3).max(0.0)));
        assert!(!jump_within_1(|x| (40.0 * x).tanh()));
        assert!(!jump_within_1(|x| (x - 0.4).abs().sqrt() + 1e4 * x * x));
        assert!(!jump_within_1(|_| 1.0));
        // Thousands of kinks, as of a maximum over windows: in some parts it ends where it began.
        assert!(!jump_within_1(|x| ((x * 700.0).sin().asin() * 0.01).max(0.003) + x.abs()));
        assert!(!jump_within_1(|x| (x * 16.0 * std::f64::consts::PI).sin().abs()));
    }

    #[test]
    fn what_runs_over_is_no_jump_and_one_on_its_other_side_is() {
        let over = |x: f64| if x > 0.5 { f64::INFINITY } else { x };
        assert!(!jumps(&mut |x| Ok(over(x)), 1.0, 1e-12).unwrap());
        let both = |x: f64| over(x) + if x < -0.7 { 1.0 } else { 0.0 };
        assert!(jumps(&mut |x| Ok(both(x)), 1.0, 1e-12).unwrap());
    }
}
