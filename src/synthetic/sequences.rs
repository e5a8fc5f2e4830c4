//! Sequences that ask for memory.

use candle_core::{Device, Tensor};

use super::at_least;
use crate::{Result, Seed};

/// The copy task: a sequence of tokens, then as many blanks, during which the tokens are to be said again (Hochreiter
/// and Schmidhuber 1997; Graves, Wayne and Danihelka 2014).
///
/// Returns u32 `[n, 2 * length]` twice. Tokens are `0..vocab`, the blank is `vocab`, so an embedding and a head have
/// `vocab + 1` entries. Input: `length` tokens, `length` blanks. Targets: `length` blanks, then the tokens. The best
/// cross-entropy over all positions is 0; without memory, ln(vocab) / 2.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::copy_task(Seed::new(1), 8, 5, 4)?;
/// assert_eq!((x.dims(), y.dims()), (&[8, 8][..], &[8, 8][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n`, `vocab` or `length` of 0.
pub fn copy_task(seed: Seed, n: usize, vocab: usize, length: usize) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1), ("vocab", vocab, 1), ("length", length, 1)])?;
    let tokens = seed.tokens("copy", vocab, (n, length), &Device::Cpu)?;
    let blanks = Tensor::full(vocab as u32, (n, length), &Device::Cpu)?;
    Ok((Tensor::cat(&[&tokens, &blanks], 1)?, Tensor::cat(&[&blanks, &tokens], 1)?))
}

/// Rows of bits, and whether the number of ones is odd.
///
/// Returns the bits, f32 `[n, bits]` of 0 and 1, and u32 `[n]`. Each prefix of a row says nothing of the label, nor does
/// any other subset of its bits. The best cross-entropy is 0; of a model that misses one bit, ln 2 on average. Rows
/// repeat where `n` is large beside 2^bits.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::parity(Seed::new(1), 32, 5)?;
/// assert_eq!((x.dims(), y.dims()), (&[32, 5][..], &[32][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` or `bits` of 0.
pub fn parity(seed: Seed, n: usize, bits: usize) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1), ("bits", bits, 1)])?;
    let drawn: Vec<u32> = seed.tokens("parity", 2, n * bits, &Device::Cpu)?.to_vec1()?;
    let odd: Vec<u32> = drawn.chunks_exact(bits).map(|row| row.iter().sum::<u32>() % 2).collect();
    let drawn: Vec<f32> = drawn.into_iter().map(|bit| bit as f32).collect();
    Ok((Tensor::from_vec(drawn, (n, bits), &Device::Cpu)?, Tensor::from_vec(odd, n, &Device::Cpu)?))
}

/// Random tokens, of which the first is to be said at the end.
///
/// Returns the tokens, u32 `[n, length]` of `0..vocab`, and the first of each row, u32 `[n]`. The best cross-entropy is
/// 0; of a model that has forgotten the first token, ln vocab. The tokens between are noise: the gradient has to reach
/// back over all of them.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::delayed_recall(Seed::new(1), 16, 4, 10)?;
/// assert_eq!((x.dims(), y.dims()), (&[16, 10][..], &[16][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n`, `vocab` or `length` of 0.
pub fn delayed_recall(
    seed: Seed,
    n: usize,
    vocab: usize,
    length: usize,
) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1), ("vocab", vocab, 1), ("length", length, 1)])?;
    let tokens = seed.tokens("recall", vocab, (n, length), &Device::Cpu)?;
    let first = tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
    Ok((tokens, first))
}
