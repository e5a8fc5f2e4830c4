//! Sums over plain numbers.

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean norm.
pub(crate) fn length(values: &[f64]) -> f64 {
    dot(values, values).sqrt()
}

/// The root of the mean square; 0 of no values.
pub(crate) fn root_mean_square(values: &[f64]) -> f64 {
    (dot(values, values) / values.len().max(1) as f64).sqrt()
}

/// The share of a gradient, by its size, along which a step goes up, of pairs of a step and a slope; `None` where nothing
/// moves that has a slope.
pub(crate) fn share_uphill(steps_and_slopes: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (mut up, mut all) = (0.0, 0.0);
    for (step, slope) in steps_and_slopes.filter(|(step, _)| *step != 0.0) {
        all += slope.abs();
        up += if step * slope > 0.0 { slope.abs() } else { 0.0 };
    }
    (all > 0.0).then(|| up / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_textbook() {
        assert_eq!(length(&[3.0, -4.0]), 5.0);
        assert_eq!(root_mean_square(&[1.0, -1.0, 1.0]), 1.0);
        assert_eq!(root_mean_square(&[]), 0.0);
    }

    #[test]
    fn a_step_against_the_gradient_has_no_share_uphill() {
        let share = |steps: &[f64], slopes: &[f64]| {
            share_uphill(steps.iter().copied().zip(slopes.iter().copied()))
        };
        assert_eq!(share(&[-1.0, 1.0], &[2.0, -2.0]), Some(0.0));
        assert_eq!(share(&[1.0, -1.0, 0.0], &[3.0, 1.0, 9.0]), Some(0.75));
        assert_eq!(share(&[0.0, 1.0], &[1.0, 0.0]), None);
    }
}
