//! Draws that are the same bits on every platform.

use rand::RngCore;

/// FNV-1a of the label, mixed with the seed by SplitMix64's finaliser. Not std's hasher, which may change.
pub(super) fn key(seed: u64, label: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in label.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash ^ seed.wrapping_mul(GOLDEN))
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser (Steele, Lea and Flood, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 256-bit key of a stream: four steps of SplitMix64. `seed_from_u64` may change between versions of rand.
pub(super) fn stream(key: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (word, step) in bytes.chunks_exact_mut(8).zip(1u64..) {
        word.copy_from_slice(&mix(key.wrapping_add(step.wrapping_mul(GOLDEN))).to_le_bytes());
    }
    bytes
}

/// The key of the stream's next 256 bits.
#[cfg(all(
    feature = "seed-candle",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(super) fn after_stream(key: u64) -> u64 {
    key.wrapping_add(4u64.wrapping_mul(GOLDEN))
}

/// 53 random bits as a number in [0, 1).
fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Box and Muller's pairs. Std's `ln` and `cos` are the platform's; libm's are plain arithmetic.
pub(super) fn normal(rng: &mut impl RngCore, n: usize) -> Vec<f64> {
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(rng)));
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * unit(rng));
        values.push(radius * cos);
        values.push(radius * sin);
    }
    values.truncate(n);
    values
}

pub(super) fn uniform(rng: &mut impl RngCore, low: f64, high: f64, n: usize) -> Vec<f64> {
    // The product can round up to `high`, which the range excludes.
    let last = high.next_down();
    (0..n).map(|_| (low + (high - low) * unit(rng)).min(last)).collect()
}

/// Whole numbers below `bound`, without bias (Lemire, 2019).
pub(super) fn below(rng: &mut impl RngCore, bound: u64, n: usize) -> Vec<u32> {
    let threshold = bound.wrapping_neg() % bound;
    (0..n)
        .map(|_| {
            loop {
                let product = u128::from(rng.next_u64()) * u128::from(bound);
                if product as u64 >= threshold {
                    break (product >> 64) as u32;
                }
            }
        })
        .collect()
}
