//! Code words of one weight: for any two there is a bit that the one has and the other has not.

/// The number of bits, and a word for each of `n`: the shortest words of which half the bits are set (Sperner, 1928).
///
/// Replacing, for each bit, the rows that carry it tests every ordered pair of rows: a row that stays is seen beside every
/// other row replaced, at least once.
pub(crate) fn code_words(n: usize) -> (u32, Vec<u32>) {
    let bits = (1..32).find(|bits| binomial(*bits, bits / 2) >= n as u64).unwrap_or(32);
    let weight = bits / 2;
    // The next number with as many bits set: Gosper's way (HAKMEM 175).
    let next = |word: &u32| {
        let low = word & word.wrapping_neg();
        let high = word.checked_add(low)?;
        Some(high | (((word ^ high) / low) >> 2))
    };
    let first = (1u32 << weight) - 1;
    match weight {
        0 => (bits, vec![0; n]),
        _ => (bits, std::iter::successors(Some(first), next).take(n).collect()),
    }
}

/// From so many on, a call less is worth more than testing neighbours twice.
const SHARED: usize = 128;

/// [`code_words`] with two more bits, one the other's opposite, which tell neighbours apart. The number of bits without
/// those two, and the words with them.
///
/// Of many, two neighbours have one word otherwise, since the two bits test them in either order: 256 rows take 12 bits
/// in all where words of their own would take 13.
pub(crate) fn code_words_and_halves(n: usize) -> (u32, Vec<u32>) {
    let share = if n < SHARED { 1 } else { 2 };
    let (bits, words) = code_words(n.div_ceil(share));
    // Neighbours are split, and so are the two halves of a batch.
    let half = |at: usize| 1 << (bits + at.count_ones() % 2);
    (bits, (0..n).map(|at| words[at / share] | half(at)).collect())
}

fn binomial(n: u32, k: u32) -> u64 {
    (0..u64::from(k)).fold(1, |product, i| product * (u64::from(n) - i) / (i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_bit_that_any_other_has_not() {
        for n in [2, 3, 4, 7, 70, 71, 256, 300] {
            let (bits, words) = code_words(n);
            assert_eq!(words.len(), n);
            for (i, a) in words.iter().enumerate() {
                assert!(u64::from(*a) < 1 << bits);
                assert!(words.iter().enumerate().all(|(j, b)| i == j || a & !b != 0), "{n}");
            }
        }
        for n in [2, 3, 4, 7, 127, 128, 253, 256, 300] {
            let (bits, words) = code_words_and_halves(n);
            assert_eq!(words.len(), n);
            for (i, a) in words.iter().enumerate() {
                assert!(u64::from(*a) < 1 << (bits + 2));
                assert!(words.iter().enumerate().all(|(j, b)| i == j || a & !b != 0), "{n}");
            }
        }
        assert_eq!((code_words_and_halves(256).0, code_words_and_halves(4).0), (10, 4));
        assert_eq!(code_words(256).0, 11);
        assert_eq!(code_words(252).0, 10);
        assert_eq!(code_words(1), (1, vec![0]));
    }
}
