//! How likely a count is, by bounds that hold for any number of draws.

/// The Kullback-Leibler divergence of two coins: `seen` is the share that came up, `expected` the one that should.
fn divergence(seen: f64, expected: f64) -> f64 {
    let term = |seen: f64, expected: f64| match seen {
        0.0 => 0.0,
        _ if expected <= 0.0 => f64::INFINITY,
        _ => seen * (seen / expected).ln(),
    };
    term(seen, expected) + term(1.0 - seen, 1.0 - expected)
}

/// Minus the logarithm of a bound on the chance that `draws` independent coins of this expectation come up as far off as
/// `share`, on one side: Chernoff's bound, `exp(-n KL(share, expected))`. It is valid for any number of draws and any
/// expectation, where the normal approximation is not. In the middle it is `z * z / 2` of a deviation of `z` sigma.
pub(crate) fn surprise(share: f64, draws: f64, expected: f64) -> f64 {
    draws * divergence(share, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_middle_the_bound_is_that_of_the_normal_distribution() {
        // 10,000 coins, 4 sigma off.
        let surprise = surprise(0.52, 1e4, 0.5);
        assert!((surprise - 8.0).abs() < 0.01, "{surprise}");
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(surprise(0.0, 10.0, 0.0), 0.0);
        assert_eq!(surprise(0.1, 10.0, 0.0), f64::INFINITY);
        // No zero in 20 draws at 0.5: 2^-20.
        assert!((surprise(0.0, 20.0, 0.5) - 20.0 * 2f64.ln()).abs() < 1e-9);
    }
}
