//! Where two runs part, and how.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::runs::Produced;
use crate::{
    Result,
    measure::{
        compare::{self, Bounds},
        noise::epsilon,
        values::{is_floating, multi_index, same_bits, to_f64_vec},
    },
    verdict::{count, listed, number, told_apart},
};

/// The first place at which two runs part.
pub(super) struct Difference {
    /// How many tensors are equal before it.
    at: usize,
    name: String,
    how: How,
}

enum How {
    /// A tensor of the first run that the second has not.
    Missing,
    /// A tensor of the second run that the first has not.
    Extra,
    /// The same names in another order; `same`: under each name stand the same bits.
    Order {
        instead: String,
        same: bool,
    },
    Kind {
        first: String,
        second: String,
    },
    Values {
        element: Vec<usize>,
        values: (f64, f64),
        differ: usize,
        of: usize,
        like: Like,
    },
}

/// What the values of the two have in common.
#[derive(Clone, Copy, PartialEq)]
enum Like {
    /// They are the same values in other places.
    Order,
    /// They are equal up to so many units in the last place of the largest.
    LastPlaces(f64),
    Nothing,
}

/// Beyond so many last places of the largest value a difference is not said to be one of rounding alone.
const LAST_PLACES: f64 = 256.0;

impl Difference {
    pub(super) fn between(first: &Produced, second: &Produced) -> Result<Option<Self>> {
        for at in 0..first.len().max(second.len()) {
            let (name, how) = match (first.get(at), second.get(at)) {
                (Some((a, _)), Some((b, _))) if a != b => named(first, second, a, b)?,
                (Some((name, _)), None) => (name.clone(), How::Missing),
                (None, Some((name, _))) => (name.clone(), How::Extra),
                (Some((name, a)), Some((_, b))) => {
                    if a.dims() != b.dims() || a.dtype() != b.dtype() {
                        (name.clone(), How::Kind { first: kind(a), second: kind(b) })
                    } else if same_bits(a, b)? {
                        continue;
                    } else {
                        (name.clone(), values(a, b)?)
                    }
                }
                (None, None) => continue,
            };
            return Ok(Some(Self { at, name, how }));
        }
        Ok(None)
    }

    /// `` `loss of step 3` is the first of 12 tensors to differ``.
    pub(super) fn headline(&self, tensors: usize) -> String {
        let name = &self.name;
        match &self.how {
            How::Missing => format!("`{name}` is missing"),
            How::Extra => format!("`{name}` is new"),
            How::Order { instead, .. } => {
                format!("tensor {} is `{instead}`, and was `{name}`", self.at + 1)
            }
            How::Kind { first, second } => format!("`{name}` is {second}, and was {first}"),
            How::Values { .. } if tensors == 1 => format!("`{name}` differs"),
            How::Values { .. } => {
                format!("`{name}` is the first of {} to differ", count(tensors, "tensor"))
            }
        }
    }

    pub(super) fn place(&self) -> String {
        format!("`{}`", self.name)
    }

    /// `settles`: repeated runs agree, so that nothing is drawn anew in each.
    pub(super) fn evidence(&self, settles: bool) -> String {
        match &self.how {
            How::Missing => "returned by one run, and not by another of the same seed".to_owned(),
            How::Extra => "not returned by the first run of the same seed".to_owned(),
            How::Order { same: true, .. } => {
                "the same tensors come in another order, each with the same bits: the order of a hash map, or of threads"
                    .to_owned()
            }
            How::Order { same: false, .. } => {
                "the same names come in another order, and with other values".to_owned()
            }
            How::Kind { .. } => "another shape or dtype with the same seed".to_owned(),
            How::Values { like: Like::Order, .. } => {
                "the same values in other places: a shuffle that the seed does not reach, or the order of a hash map or \
                 of threads"
                    .to_owned()
            }
            How::Values { like: Like::LastPlaces(places), .. } => format!(
                "equal up to {} in the last place of the largest: sums in another order, as over a hash map or by threads",
                match *places {
                    places if places <= 1.0 => "a unit".to_owned(),
                    places => format!("{} units", number(places.ceil())),
                },
            ),
            How::Values { like: Like::Nothing, .. } if settles => {
                "other values altogether, though nothing is drawn anew in each run".to_owned()
            }
            How::Values { like: Like::Nothing, .. } => {
                "other values altogether: a draw, or a counter, that the seed does not reach".to_owned()
            }
        }
    }

    pub(super) fn facts(
        &self,
        first: &Produced,
        second: &Produced,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut facts = Vec::new();
        if let How::Values { element, values, differ, of, .. } = &self.how {
            let (a, b) = told_apart(values.0, values.1);
            let place = match element.is_empty() {
                true => format!("{a}, then {b}"),
                false => format!(
                    "at {element:?}: {a}, then {b}; {differ} of {} differ",
                    count(*of, "element")
                ),
            };
            facts.push(("first difference", format!("`{}` {place}", self.name)));
        }
        let name = |(name, _): &(String, Tensor)| name.clone();
        let equal: Vec<String> = first.iter().take(self.at).map(name).collect();
        if !equal.is_empty() {
            let equal: Vec<&str> = equal.iter().map(String::as_str).collect();
            facts.push(("equal before it", listed(&equal)));
        }
        if let How::Values { .. } = self.how {
            let rest = first.len() - self.at - 1;
            let mut also = 0;
            for ((_, a), (_, b)) in first.iter().zip(second).skip(self.at + 1) {
                also += usize::from(!same_bits(a, b)?);
            }
            if rest > 0 {
                facts.push(("after it", format!("{also} of {} differ", count(rest, "tensor"))));
            }
        }
        Ok(facts)
    }
}

/// Two names where one was expected.
fn named(first: &Produced, second: &Produced, a: &str, b: &str) -> Result<(String, How)> {
    let times = |run: &Produced, name: &str| run.iter().filter(|(other, _)| other == name).count();
    let missing = first.iter().find(|(name, _)| times(first, name) > times(second, name));
    if let Some((name, _)) = missing {
        return Ok((name.clone(), How::Missing));
    }
    let extra = second.iter().find(|(name, _)| times(second, name) > times(first, name));
    if let Some((name, _)) = extra {
        return Ok((name.clone(), How::Extra));
    }
    let mut same = true;
    for (name, tensor) in first {
        let other = second.iter().find(|(other, _)| other == name);
        same = same && times(first, name) == 1;
        same = same && other.map(|(_, other)| same_bits(tensor, other)).transpose()? == Some(true);
    }
    Ok((a.to_owned(), How::Order { instead: b.to_owned(), same }))
}

fn values(a: &Tensor, b: &Tensor) -> Result<How> {
    let mut differ = 0;
    let mut first: Option<(usize, (f64, f64))> = None;
    // No bound is kept by a value that differs; whether bits do is asked of each pair, so that NaN equals itself.
    let bounds = Bounds { relative: 0.0, absolute: 0.0 };
    compare::visit(a, b, bounds, &mut |pair| {
        if pair.actual.to_bits() != pair.expected.to_bits()
            || pair.difference != 0.0 && !pair.difference.is_nan()
        {
            differ += 1;
            if first.is_none_or(|(at, _)| pair.position() < at) {
                first = Some((pair.position(), (pair.actual, pair.expected)));
            }
        }
        ControlFlow::Continue(())
    })?;
    let (at, values) = first.unwrap_or((0, (f64::NAN, f64::NAN)));
    Ok(How::Values {
        element: multi_index(at, a.dims()),
        values,
        differ,
        of: a.elem_count(),
        like: like(a, b)?,
    })
}

fn like(a: &Tensor, b: &Tensor) -> Result<Like> {
    let (a_values, b_values) = (to_f64_vec(a)?, to_f64_vec(b)?);
    let sorted = |values: &[f64]| {
        let mut values: Vec<f64> = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    if a_values.len() > 1 {
        let (left, right) = (sorted(&a_values), sorted(&b_values));
        if left.iter().zip(&right).all(|(a, b)| a.to_bits() == b.to_bits()) {
            return Ok(Like::Order);
        }
    }
    let Some(epsilon) = epsilon(a.dtype()).filter(|_| is_floating(a.dtype())) else {
        return Ok(Like::Nothing);
    };
    let size = a_values.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let apart = a_values.iter().zip(&b_values).map(|(a, b)| (a - b).abs());
    // A NaN on one side alone makes the largest difference a NaN.
    let apart = apart
        .fold(0.0, |most: f64, d| if d.is_nan() || most.is_nan() { f64::NAN } else { most.max(d) });
    let places = apart / (epsilon * size);
    Ok(if places <= LAST_PLACES { Like::LastPlaces(places) } else { Like::Nothing })
}

fn kind(tensor: &Tensor) -> String {
    format!("{:?} {}", tensor.dims(), tensor.dtype().as_str())
}
