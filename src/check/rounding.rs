//! What rounding may make of an output where it was not measured: the bound that the checks share.

/// So many last places of the largest output. Independent roundings add as a random walk: 4096 of them reach 64, about the
/// 1e-5 that `torch.testing.assert_close` allows at size 1 in f32. Healthy decoders in f32 were 7 apart.
const PLACES: f64 = 64.0;

/// But no more than this share of its size: 16 places of bf16, a walk of 256. In f16, 64 places are a sixteenth: one
/// rounding of a logit of 20 moves its probability by four of them.
pub(in crate::check) const SHARE: f64 = 1.0 / 8.0;

/// How many last places of the largest output are left to rounding, in a format with this distance from 1 to its next number.
pub(in crate::check) fn places(epsilon: f64) -> f64 {
    match epsilon > 0.0 {
        true => PLACES.min(SHARE / epsilon),
        false => PLACES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_formats_have_few_places() {
        let of = |bits: i32| places(f64::powi(2.0, -bits));
        assert_eq!([of(52), of(23), of(10), of(7), places(0.0)], [64.0, 64.0, 64.0, 16.0, 64.0]);
    }
}
