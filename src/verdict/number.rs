//! Numbers and counts as a failure text shows them.

/// Three significant digits, in the shortest form a person reads at a glance.
///
/// `0.0043`, `2.31`, `41.7`, `1.2e-7`, `NaN`; whole numbers below a million stay whole.
pub(crate) fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < 1e6 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{value:.2e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => format!("{}e{exponent}", trim_zeros(mantissa)),
            None => text,
        };
    }
    let decimals = (2 - magnitude.log10().floor() as i32).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Two values in three digits, or in as many as it takes to see that they differ.
pub(crate) fn told_apart(a: f64, b: f64) -> (String, String) {
    let short = (number(a), number(b));
    if short.0 != short.1 || !a.is_finite() || !b.is_finite() {
        return short;
    }
    // Zeros of two signs.
    if a == b {
        return (a.to_string(), b.to_string());
    }
    let digits = (4..17).find(|digits| format!("{a:.0$e}", digits) != format!("{b:.0$e}", digits));
    let Some(digits) = digits else { return (a.to_string(), b.to_string()) };
    let precise = |v: f64| match v.abs() {
        size if (1e-4..1e6).contains(&size) => {
            let decimals = (digits as i32 - size.log10().floor() as i32).max(0) as usize;
            format!("{v:.decimals$}")
        }
        _ => format!("{v:.digits$e}"),
    };
    (precise(a), precise(b))
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// `1 row`, `2 rows`: every plural in the crate's texts is made here.
pub(crate) fn count(n: usize, singular: &str) -> String {
    match (n, singular) {
        (1, _) => format!("1 {singular}"),
        (_, "index") => format!("{n} indices"),
        (_, noun) if noun.ends_with("ch") || noun == "class" => format!("{n} {noun}es"),
        (_, noun) => match noun.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{n} {stem}ies"),
            _ => format!("{n} {noun}s"),
        },
    }
}

/// `all 16 units`, `the only unit`.
pub(crate) fn all(n: usize, singular: &str) -> String {
    match n {
        1 => format!("the only {singular}"),
        n => format!("all {}", count(n, singular)),
    }
}

/// The first names, and how many more.
pub(crate) fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_in_their_shortest_form() {
        let shown: Vec<String> =
            [2.3059, 41.66, 0.0043, 0.01, 118.0, 1.23e-7, -0.5, 0.0, 123456.7, 1.0e9, 0.99999]
                .into_iter()
                .map(number)
                .collect();
        assert_eq!(
            shown,
            ["2.31", "41.7", "0.0043", "0.01", "118", "1.23e-7", "-0.5", "0", "123457", "1e9", "1"]
        );
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn two_values_get_the_digits_that_tell_them_apart() {
        let apart = |a, b| {
            let (a, b) = told_apart(a, b);
            format!("{a} {b}")
        };
        assert_eq!(apart(1.0, 2.5), "1 2.5");
        assert_eq!(apart(131.0137, 131.0005), "131.01 131.00");
        assert_eq!(apart(-1.2345678e-7, -1.2345679e-7), "-1.2345678e-7 -1.2345679e-7");
        assert_eq!(apart(0.0, -0.0), "0 -0");
        assert_eq!(apart(f64::NAN, 1.0), "NaN 1");
    }

    #[test]
    fn plurals() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(0, "row"), "0 rows");
        assert_eq!(count(2, "class"), "2 classes");
        assert_eq!(count(2, "batch"), "2 batches");
        assert_eq!(count(3, "entry"), "3 entries");
    }
}
