use std::panic::Location;

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::{
        call,
        tensors::{kind_of, percentage},
    },
    measure::{
        row_keys::{Shared, shared},
        values::is_readable,
    },
    verdict::count,
};

/// No row of one set is in the other.
///
/// All rows of `validation` are held against all rows of `train`, by value: the sets may differ in dtype and layout. -0 and 0 are
/// one value, and so are all NaN. The time is that of reading both once.
///
/// Rows are compared whole. A sample that was augmented before the split, or stored once as a PNG and once as a JPEG, is
/// another row: give the ids of samples, patients or documents then, `[rows]` of integers.
///
/// # Failures
///
/// - a row of both: [`Cause::SplitOverlap`];
/// - a set without rows, or rows without values, is [`Vacuous`](crate::FailureKind::Vacuous);
/// - scalars, or rows of different dimensions: the check does not run.
///
/// ```
/// use candling::{check::Disjoint, prelude::*};
///
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let report = Disjoint::new().check(&x.narrow(0, 0, 2)?, &x.narrow(0, 2, 1)?)?;
/// assert_eq!((report.train_rows, report.validation_rows), (2, 1));
///
/// let failure = Disjoint::new().check(&x.narrow(0, 0, 2)?, &x.narrow(0, 1, 2)?).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::SplitOverlap));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Disjoint {
    allowed: Vec<Cause>,
}

/// What a passed [`Disjoint`] counted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct DisjointReport {
    /// How many rows the first set has.
    pub train_rows: usize,
    /// How many rows the second set has.
    pub validation_rows: usize,
    /// How many rows of the first set equal an earlier row of it.
    pub train_duplicates: usize,
    /// How many rows of the second set equal an earlier row of it.
    pub validation_duplicates: usize,
    /// How many rows of the second set are in the first: 0, but where that is allowed.
    pub shared: usize,
}

impl Disjoint {
    /// Nothing is allowed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A cause that is no failure here: [`Cause::SplitOverlap`] for tiny discrete inputs, which repeat by nature.
    #[must_use]
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Holds every row of `validation` against every row of `train`; a row is an index of the first dimension.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, train: &Tensor, validation: &Tensor) -> Result<DisjointReport> {
        let location = Location::caller();
        call::signed("disjoint", location, self.judge(train, validation))
    }

    fn judge(&self, train: &Tensor, validation: &Tensor) -> Result<DisjointReport> {
        for (name, set) in [("train", train), ("validation", validation)] {
            if set.rank() == 0 {
                let was = format!("{}, a scalar", kind_of(set));
                return Err(Failure::bad_argument(name, was, "rows as the first dimension"));
            }
            if !is_readable(set.dtype()) {
                let allowed = "a dtype whose values candle can read";
                return Err(Failure::bad_argument(name, kind_of(set), allowed));
            }
        }
        if train.dims()[1..] != validation.dims()[1..] {
            return Err(Failure::bad_argument(
                "validation",
                format_args!("{} beside {}", kind_of(validation), kind_of(train)),
                "rows of the dimensions that `train` has",
            ));
        }
        for (name, set) in [("train", train), ("validation", validation)] {
            if set.elem_count() == 0 {
                return Err(Failure::vacuous(format!(
                    "`{name}` is empty: nothing could be shared"
                ))
                .fact(name, kind_of(set)));
            }
        }
        let found = shared(train, validation)?;
        let (train_rows, validation_rows) = (train.dims()[0], validation.dims()[0]);
        if found.pairs.is_empty() || self.allowed.contains(&Cause::SplitOverlap) {
            return Ok(DisjointReport {
                train_rows,
                validation_rows,
                train_duplicates: found.repeated[0],
                validation_duplicates: found.repeated[1],
                shared: found.pairs.len(),
            });
        }
        Err(tell(train, validation, &found))
    }
}

/// Pairs of rows that a message shows.
const SHOWN: usize = 4;

fn tell(train: &Tensor, validation: &Tensor, found: &Shared) -> Failure {
    let (rows, all) = (found.pairs.len(), validation.dims()[0]);
    let headline = match (rows, all) {
        (1, 1) => "the only validation row is in the training set".to_owned(),
        (_, _) if rows == all => format!("all {all} validation rows are in the training set"),
        (1, _) => format!("1 of {all} validation rows is in the training set"),
        _ => format!(
            "{rows} of {all} validation rows are in the training set ({})",
            percentage(rows, all)
        ),
    };
    let pairs: Vec<String> = (found.pairs.iter().take(SHOWN))
        .map(|(validation, train)| format!("{validation} = {train}"))
        .collect();
    let more = match rows.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut failure = Failure::violated(headline)
        .fact("train", kind_of(train))
        .fact("validation", kind_of(validation))
        .fact("rows", format!("validation {}{more} in train", pairs.join(", ")));
    let names = ["train", "validation"];
    for (name, repeated) in names.into_iter().zip(found.repeated).filter(|(_, n)| *n > 0) {
        let equal = if repeated == 1 { "equals" } else { "equal" };
        let times = format!("{} of {name} {equal} an earlier row of it", count(repeated, "row"));
        failure = failure.fact("repeated", times);
    }
    let (first, beside) = found.pairs[0];
    // A slice that overlaps: neighbours in one set are neighbours in the other.
    let in_order = (found.pairs.windows(2))
        .all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].1 == pair[0].1 + 1);
    let finding = match rows {
        1 => Finding::confirmed(Cause::SplitOverlap, "the same values"),
        _ if in_order => Finding::confirmed(
            Cause::SplitOverlap,
            format!(
                "validation rows {first}..{} are train rows {beside}..{}, in order: two slices of one set overlap",
                first + rows,
                beside + rows
            ),
        )
        .advice_is("let one slice begin where the other ends"),
        _ => Finding::confirmed(
            Cause::SplitOverlap,
            format!("{} of the same values", count(rows, "row")),
        ),
    };
    failure.finding(finding.at(format!("validation row {first}, train row {beside}")))
}
