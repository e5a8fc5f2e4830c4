//! Small data sets from a seed, each learnable to a known best loss; and marker samples, which a data pipeline is
//! tested with.
//!
//! | data | input | targets | for | best loss | without the signal |
//! |---|---|---|---|---|---|
//! | [`blobs`] | f32 `[n, 2]` | u32 `[n]` | cross-entropy | 0, of a linear model | ln classes |
//! | [`spirals`] | f32 `[n, 2]` | u32 `[n]` | cross-entropy | 0 | ln classes |
//! | [`xor`] | f32 `[n, 2]` | u32 `[n]` | cross-entropy | 0 | ln 2, of every linear model |
//! | [`linear_regression`] | f32 `[n, features]` | f32 `[n, 1]` | mean squared error | noise², of a linear model | the targets' variance |
//! | [`sine_regression`] | f32 `[n, 1]` | f32 `[n, 1]` | mean squared error | noise² | the targets' variance |
//! | [`parity`] | f32 `[n, bits]` | u32 `[n]` | cross-entropy | 0 | ln 2 |
//! | [`copy_task`] | u32 `[n, 2 length]` | u32 `[n, 2 length]` | cross-entropy of each position | 0 | ln(vocab) / 2 |
//! | [`delayed_recall`] | u32 `[n, length]` | u32 `[n]` | cross-entropy | 0 | ln vocab |
//! | [`moving_bars`] | f32 `[n, 1, size, size]` | u32 `[n]` | cross-entropy | 0 | ln 2 |
//!
//! A best loss of 0 is a limit: it is reached as the weights grow. Everything is on the CPU; the same seed gives the
//! same bits on every platform.

mod images;
pub(crate) mod markers;
mod points;
mod regression;
mod sequences;
mod spirals;

pub use images::moving_bars;
pub use markers::{marker_pictures, markers};
pub use points::{blobs, xor};
pub use regression::{linear_regression, sine_regression};
pub use sequences::{copy_task, delayed_recall, parity};
pub use spirals::spirals;

use crate::{Failure, Result};

/// Every argument is at least its least value.
fn at_least<const N: usize>(arguments: [(&str, usize, usize); N]) -> Result<()> {
    for (argument, value, least) in arguments {
        if value < least {
            return Err(Failure::bad_argument(argument, value, format_args!("{least} or more")));
        }
    }
    Ok(())
}
