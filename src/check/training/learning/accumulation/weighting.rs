//! What a micro-batch counts for.

use std::{fmt, rc::Rc};

use crate::{Batch, Failure, Result, check::function::guarded, measure::values::to_f64_vec};

/// What the gradient of a micro-batch is multiplied by before it is added to the others.
#[derive(Clone)]
#[non_exhaustive]
pub enum Weighting {
    /// Its share of the batch's rows, as a mean over rows asks for: `loss * part_rows / batch_rows`.
    Rows,
    /// 1, as a sum over rows asks for.
    Sum,
    /// One over the number of micro-batches: `loss / parts`. Right for a mean where all have as many rows, and all rows as
    /// many tokens.
    Equal,
    /// Its share of the targets that are not this id, as a mean over tokens asks for that leaves padding out.
    Ignoring(i64),
    /// Its share of what a function counts; made by [`Weighting::counted`].
    Counted(Count),
    /// The shares that its loss gives it, where they are none of these; found by the check, and not to be asked for.
    OfTheLoss,
}

/// A count over a micro-batch.
#[derive(Clone)]
pub struct Count(Rc<Counts>);

type Counts = dyn Fn(&Batch) -> candle_core::Result<f64>;

impl Weighting {
    /// The share of what `count` counts in a micro-batch: its tokens, the sum of its mask, the weights of its classes.
    ///
    /// ```
    /// use candling::{Batch, check::Weighting, prelude::*};
    ///
    /// let tokens = Weighting::counted(|part: &Batch| {
    ///     let mask = part.input()[1].to_dtype(DType::F64)?;
    ///     mask.sum_all()?.to_scalar::<f64>()
    /// });
    /// assert_eq!(tokens.to_string(), "by a count of one's own");
    /// ```
    pub fn counted(count: impl Fn(&Batch) -> candle_core::Result<f64> + 'static) -> Self {
        Self::Counted(Count(Rc::new(count)))
    }

    /// The weight of each part.
    pub(super) fn of(&self, parts: &[Batch]) -> Result<Vec<f64>> {
        let rows = |part: &Batch| part.rows().unwrap_or(0) as f64;
        Ok(match self {
            Self::Sum => vec![1.0; parts.len()],
            Self::Equal => vec![1.0 / parts.len() as f64; parts.len()],
            Self::Rows => shares(parts.iter().map(rows).collect())?,
            Self::Ignoring(id) => {
                shares(parts.iter().map(|part| not_ignored(part, *id)).collect::<Result<_>>()?)?
            }
            Self::Counted(Count(count)) => {
                const WHAT: &str = "the count of the weighting";
                let counts = parts.iter().map(|part| {
                    guarded(WHAT, || count(part).map_err(|e| Failure::from_candle(WHAT, e)))
                });
                shares(counts.collect::<Result<_>>()?)?
            }
            Self::OfTheLoss => {
                return Err(Failure::bad_argument(
                    "weighting",
                    "`OfTheLoss`",
                    "one that a training loop can compute: `Rows`, `Sum`, `Equal`, `Ignoring(id)` or `counted(..)`",
                ));
            }
        })
    }
}

fn shares(counts: Vec<f64>) -> Result<Vec<f64>> {
    let all: f64 = counts.iter().sum();
    if !all.is_finite() || all == 0.0 {
        return Err(Failure::bad_argument(
            "weighting",
            format_args!("a count of {all} in the whole batch"),
            "a count that is finite, and not 0",
        ));
    }
    Ok(counts.into_iter().map(|count| count / all).collect())
}

fn not_ignored(part: &Batch, id: i64) -> Result<f64> {
    let Some(target) = part.target() else { return Ok(0.0) };
    if target.dtype().is_float() {
        return Err(Failure::bad_argument(
            "weighting",
            format_args!("`Ignoring({id})` for targets of dtype {}", target.dtype().as_str()),
            "targets that are ids, or `Weighting::counted(..)`",
        ));
    }
    Ok(to_f64_vec(target)?.iter().filter(|target| **target != id as f64).count() as f64)
}

/// The ids that the targets may be padded with: each that some rows have more often than others.
pub(super) fn ids(batch: &Batch) -> Result<Vec<i64>> {
    /// Of a large vocabulary the most frequent ids: padding is one of them.
    const MOST: usize = 8;
    let Some(target) = batch.target().filter(|target| !target.dtype().is_float()) else {
        return Ok(Vec::new());
    };
    let mut values = to_f64_vec(target)?;
    values.sort_by(f64::total_cmp);
    let mut ids: Vec<(usize, i64)> =
        values.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0] as i64)).collect();
    ids.sort_by_key(|(times, id)| (std::cmp::Reverse(*times), *id));
    Ok(ids.into_iter().take(MOST).map(|(_, id)| id).collect())
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => f.write_str("by rows"),
            Self::Sum => f.write_str("as a sum"),
            Self::Equal => f.write_str("each the same"),
            Self::Ignoring(id) => write!(f, "by the targets that are not {id}"),
            Self::Counted(_) => f.write_str("by a count of one's own"),
            Self::OfTheLoss => f.write_str("by what the loss counts"),
        }
    }
}

impl fmt::Debug for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => f.write_str("Rows"),
            Self::Sum => f.write_str("Sum"),
            Self::Equal => f.write_str("Equal"),
            Self::Ignoring(id) => write!(f, "Ignoring({id})"),
            Self::Counted(_) => f.write_str("Counted(..)"),
            Self::OfTheLoss => f.write_str("OfTheLoss"),
        }
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Count(..)")
    }
}
