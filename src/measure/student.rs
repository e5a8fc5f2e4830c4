//! Student's t distribution: how far a mean of few rows may lie from the true one.

/// The value that `|t|` exceeds with probability `p`, for a deviation estimated with `degrees` of freedom.
///
/// Hill, Algorithm 396: Student's t-quantiles (1970); better than three digits for every `p` below 0.1.
pub(crate) fn quantile(p: f64, degrees: usize) -> f64 {
    let pi = std::f64::consts::PI;
    let n = degrees.max(1) as f64;
    if degrees <= 1 {
        return 1.0 / (p * pi / 2.0).tan();
    }
    if degrees == 2 {
        return (2.0 / (p * (2.0 - p)) - 2.0).sqrt();
    }
    let a = 1.0 / (n - 0.5);
    let b = 48.0 / (a * a);
    let mut c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36;
    let d = ((94.5 / (b + c) - 3.0) / b + 1.0) * (a * pi / 2.0).sqrt() * n;
    let mut y = (d * p).powf(2.0 / n);
    if y > 0.05 + a {
        let x = -normal(p / 2.0);
        y = x * x;
        if n < 5.0 {
            c += 0.3 * (n - 4.5) * (x + 0.6);
        }
        c += (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b;
        y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x;
        y = (a * y * y).exp_m1();
    } else {
        y = ((1.0 / (((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0)
            + 0.5 / (n + 4.0))
            * y
            - 1.0)
            * (n + 1.0)
            / (n + 2.0)
            + 1.0 / y;
    }
    (n * y).sqrt()
}

/// The lower quantile of the normal distribution, for `p` below a half (Abramowitz and Stegun, 26.2.23).
pub(crate) fn normal(p: f64) -> f64 {
    let t = (-2.0 * p.ln()).sqrt();
    let above = 2.515517 + t * (0.802853 + t * 0.010328);
    let below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    above / below - t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables: two-sided 5 %, 1 % and 0.1 %.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (0.05, 1, 12.706),
            (0.05, 2, 4.3027),
            (0.05, 5, 2.5706),
            (0.01, 3, 5.8409),
            (0.01, 10, 3.1693),
            (0.01, 30, 2.7500),
            (0.001, 4, 8.6103),
            (0.001, 20, 3.8495),
            (0.001, 120, 3.3735),
        ];
        for (p, degrees, expected) in table {
            let t = quantile(p, degrees);
            assert!((t / expected - 1.0).abs() < 2e-3, "{p}, {degrees}: {t}, not {expected}");
        }
        // Near the normal distribution's 4.8916 for 1e-6, and falling towards it.
        assert!((quantile(1e-6, 100_000) - 4.8917).abs() < 5e-3);
        let falling = (1..200).all(|n| quantile(1e-6, n) > quantile(1e-6, n + 1));
        assert!(falling);
    }
}
