//! A curve in one line of text.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws `values` in at most `width` characters, each the mean of its share of the points.
///
/// The scale is logarithmic when all values are positive and span more than two decades, so that a loss going to its
/// floor still shows how it got there. Points that are not finite are drawn as `✗`.
pub(crate) fn sparkline(values: &[f64], width: usize) -> String {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let logarithmic = low > 0.0 && high > 100.0 * low;
    let scale = |v: f64| if logarithmic { v.ln() } else { v };
    let (bottom, top) = (scale(low), scale(high));
    let columns = width.min(values.len()).max(1);
    (0..columns)
        .filter_map(|column| {
            let share =
                &values[column * values.len() / columns..(column + 1) * values.len() / columns];
            (!share.is_empty()).then(|| level(share.iter().map(|v| scale(*v)), bottom, top))
        })
        .collect()
}

fn level(share: impl ExactSizeIterator<Item = f64>, bottom: f64, top: f64) -> char {
    let points = share.len() as f64;
    let mean = share.sum::<f64>() / points;
    if !mean.is_finite() {
        return '✗';
    }
    let height = if top > bottom { (mean - bottom) / (top - bottom) } else { 0.0 };
    LEVELS[((height * 8.0) as usize).min(7)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_from_the_lowest_to_the_highest_level() {
        let ramp: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(sparkline(&ramp, 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&ramp, 4).chars().count(), 4);
    }

    #[test]
    fn a_fall_over_decades_is_drawn_on_a_logarithmic_scale() {
        let fall: Vec<f64> = (0..9).map(|i| 10f64.powi(-i)).collect();
        assert_eq!(sparkline(&fall, 9), "██▇▆▅▄▃▂▁");
    }

    #[test]
    fn flat_empty_and_non_finite_curves_are_drawn_too() {
        assert_eq!(sparkline(&[1.0, 1.0], 10), "▁▁");
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[1.0, f64::NAN, 2.0], 3), "▁✗█");
    }
}
