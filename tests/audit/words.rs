//! Numbers as they are told: three digits, the same on every machine.

use super::case::Case;

pub(crate) fn number(x: f64) -> String {
    digits(x, 3)
}

/// Two digits, for what is only an order of magnitude.
pub(crate) fn rough(x: f64) -> String {
    digits(x, 2)
}

fn digits(x: f64, count: i32) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    // Rounding residue of a sum is no number to show.
    if x.abs() < 1e-9 {
        return "0".to_owned();
    }
    let decimals = count - 1 - x.abs().log10().floor() as i32;
    let text = format!("{x:.*}", decimals.clamp(0, 8) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The first few.
pub(crate) fn list(values: &[f64]) -> String {
    let shown: Vec<String> = values.iter().take(4).map(|x| number(*x)).collect();
    let more = if values.len() > 4 { ", .." } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

pub(crate) fn operand(case: &Case, place: usize) -> String {
    match case.operands.len() {
        1 => "operand".to_owned(),
        _ => format!("operand {place}"),
    }
}

/// Wrong gradients of one operand, as pairs of what came and what is right.
pub(crate) fn wrong(case: &Case, place: usize, bad: &[(f64, f64)], of: usize) -> String {
    format!("{}: {}", operand(case, place), differences(bad, of))
}

/// How many differ, by what ratio, and the worst of them.
pub(crate) fn differences(pairs: &[(f64, f64)], of: usize) -> String {
    let ratios: Vec<f64> = pairs
        .iter()
        .filter(|(_, right)| right.abs() > 1e-9)
        .map(|(came, right)| came / right)
        .collect();
    let smallest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let distance = |pair: &(f64, f64)| (pair.0 - pair.1).abs();
    let worst = pairs.iter().max_by(|a, b| distance(a).total_cmp(&distance(b)));
    let worst = worst.map_or(String::new(), |(came, right)| {
        format!(", such as {} for {}", number(*came), number(*right))
    });
    let finite = ratios.iter().all(|ratio| ratio.is_finite());
    let ratio =
        match finite && ratios.len() == pairs.len() && largest - smallest <= 1e-4 * largest.abs() {
            true => format!(", all by the factor {}", number(largest)),
            false if ratios.is_empty() || !finite => String::new(),
            false => format!(", by factors from {} to {}", number(smallest), number(largest)),
        };
    format!("{} of {of} differ{ratio}{worst}", pairs.len())
}
