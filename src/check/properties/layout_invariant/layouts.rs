//! A function on inputs of the same values that lie otherwise in memory.

use std::cmp::Ordering;

use candle_core::{DType, Tensor};

use super::told::ignores;
use crate::{
    Result, Seed,
    check::function::{self, Function, steady},
    measure::{
        compare::{self, Bounds, Mismatches},
        noise::{epsilon, nudged, size},
        values::{is_floating, same_bits, to_f64_vec},
        views::{View, repeated},
    },
};

/// A network rounds at each of its operations: 64 roundings in a row reach 8 times one. The largest of four draws may be
/// half of the largest of many, and as much again is left to chance: of 20 kinds of models in order, over 30 seeds, the
/// worst came to a ninth of the bound. A view that is read wrongly gives other numbers altogether.
const ROUNDINGS: f64 = 32.0;
/// How often the last places are drawn.
const DRAWS: usize = 4;
/// Of integers that follow from a comparison, such as an argmax, a few may be ties that rounding decides.
const TIES: f64 = 0.01;
/// How many other inputs are tried before a function is said to ignore its input.
const OTHERS: usize = 16;
/// In half precision a large part of a value may be rounding, but hardly more than this.
const COARSEST: f64 = 0.125;

/// A function, contiguous copies of its input, and what it makes of them.
pub(super) struct Layouts<'l, 'f> {
    pub(super) traced: &'l mut Function<'f>,
    given: &'l [Tensor],
    pub(super) base: Vec<Tensor>,
    pub(super) around: Vec<Tensor>,
    pub(super) expected: Tensor,
    /// What may differ: an amount for each value, or, of integers, a number of values.
    pub(super) bound: f64,
}

/// A layout.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layout {
    AsGiven,
    Seen(View),
    Broadcast(usize),
}

impl Layout {
    fn name(self) -> String {
        match self {
            Self::AsGiven => "the input as it was given".to_owned(),
            Self::Seen(View::Transposed(i, j)) => {
                format!("a transposed view of dimensions {i} and {j}")
            }
            Self::Seen(View::Reversed) => "a view of all dimensions in reverse order".to_owned(),
            Self::Seen(View::LastOutermost) => {
                "a view of the last dimension outermost in memory".to_owned()
            }
            Self::Seen(View::FirstInnermost) => {
                "a view of the first dimension innermost in memory".to_owned()
            }
            Self::Seen(View::Narrowed(dim)) => {
                format!("a narrowed view along dimension {dim} of a larger storage")
            }
            Self::Seen(View::Strided) => "a view of every second value of a storage".to_owned(),
            Self::Broadcast(dim) => format!("a broadcast view along dimension {dim}"),
        }
    }
}

/// What all layouts came to.
pub(super) struct Tried {
    /// With the largest difference.
    pub(super) agreed: Vec<(String, f64)>,
    /// With the error.
    pub(super) refused: Vec<(String, String)>,
    pub(super) differing: Vec<Differing>,
}

/// A layout with another result.
pub(super) struct Differing {
    pub(super) layout: String,
    pub(super) kind: Layout,
    pub(super) found: Found,
}

pub(super) enum Found {
    Values { elements: usize, largest: f64, mismatches: Box<Mismatches> },
    Dims(Vec<usize>, DType),
}

impl Differing {
    /// Other dims before other values; NaN before numbers.
    pub(super) fn severity(&self, other: &Self) -> Ordering {
        let of = |differing: &Self| match &differing.found {
            Found::Dims(..) => f64::INFINITY,
            Found::Values { largest, .. } if largest.is_nan() => f64::INFINITY,
            Found::Values { largest, .. } => *largest,
        };
        of(self).total_cmp(&of(other))
    }
}

impl<'l, 'f> Layouts<'l, 'f> {
    pub(super) fn new(
        traced: &'l mut Function<'f>,
        given: &'l [Tensor],
        seed: Seed,
    ) -> Result<Self> {
        let copies = given.iter().map(|t| t.detach().force_contiguous());
        let base = copies.collect::<candle_core::Result<Vec<_>>>()?;
        let mut detached = |members: &[Tensor]| traced(members).map(|output| output.detach());
        let expected = steady(&mut detached, &base)?;
        let around = match others(&base, seed)? {
            None => base.clone(),
            Some(around) => {
                // Any of them will do: an argmax of a single row may be the same for many.
                let mut notices = false;
                for at in 0..OTHERS {
                    let seed = if at == 0 { seed } else { seed.split(&format!("other {at}")) };
                    let Some(other) = others(&base, seed)? else { break };
                    notices = match detached(&other) {
                        Ok(output) => !same_bits(&expected, &output)?,
                        Err(_) => true,
                    };
                    if notices {
                        break;
                    }
                }
                if !notices {
                    return Err(ignores(&expected));
                }
                around
            }
        };
        let bound = bound(&mut detached, &base, &expected, seed)?;
        Ok(Self { traced, given, base, around, expected, bound })
    }

    pub(super) fn try_all(&mut self) -> Result<Tried> {
        let rank = self.base.iter().map(Tensor::rank).max().unwrap_or(0);
        let mut layouts = Vec::new();
        if self.given.iter().any(|t| !t.is_contiguous() || t.layout().start_offset() > 0) {
            layouts.push(Layout::AsGiven);
        }
        layouts.extend(View::all(rank).into_iter().map(Layout::Seen));
        layouts.extend((0..rank).map(Layout::Broadcast));

        let mut tried = Tried { agreed: Vec::new(), refused: Vec::new(), differing: Vec::new() };
        for layout in layouts {
            let Some((members, expected)) = self.laid_out(layout, &|_| true)? else { continue };
            let output = match (self.traced)(&members) {
                Ok(output) => output.detach(),
                Err(error) => {
                    tried.refused.push((layout.name(), error.source_text()));
                    continue;
                }
            };
            match self.compare(&output, &expected)? {
                (by, None) => tried.agreed.push((layout.name(), by)),
                (_, Some(found)) => {
                    tried.differing.push(Differing { layout: layout.name(), kind: layout, found })
                }
            }
        }
        Ok(tried)
    }

    /// The members in a layout, those that `takes_part` holds for, and what the function makes of their values; `None` where
    /// no member can lie so, or the function has no answer to such values.
    pub(super) fn laid_out(
        &mut self,
        layout: Layout,
        takes_part: &dyn Fn(usize) -> bool,
    ) -> Result<Option<(Vec<Tensor>, Tensor)>> {
        let (mut members, mut any) = (self.base.clone(), false);
        let mut values = None;
        for i in (0..members.len()).filter(|i| takes_part(*i)) {
            let (own, around) = (&self.base[i], &self.around[i]);
            let view = match layout {
                Layout::AsGiven => Some(self.given[i].detach()),
                Layout::Seen(view) => {
                    view.stored(own, around)?.map(|s| view.seen(&s)).transpose()?
                }
                Layout::Broadcast(dim) => repeated(own, dim)?.map(|(view, stored)| {
                    values.get_or_insert_with(|| self.base.clone())[i] = stored;
                    view
                }),
            };
            if let Some(view) = view {
                (members[i], any) = (view, true);
            }
        }
        if !any {
            return Ok(None);
        }
        let expected = match values {
            None => self.expected.clone(),
            Some(values) => match (self.traced)(&values) {
                Ok(output) => output.detach(),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some((members, expected)))
    }

    pub(super) fn compare(
        &self,
        output: &Tensor,
        expected: &Tensor,
    ) -> Result<(f64, Option<Found>)> {
        if output.dims() != expected.dims() || output.dtype() != expected.dtype() {
            let found = Found::Dims(output.dims().to_vec(), output.dtype());
            return Ok((f64::INFINITY, Some(found)));
        }
        let floating = is_floating(expected.dtype());
        let absolute = if floating { self.bound } else { 0.0 };
        let compared = compare::compare(output, expected, Bounds { relative: 0.0, absolute })?;
        let by = compared.max_absolute;
        Ok((
            by,
            match compared.mismatches {
                Some(mismatches) if floating || mismatches.count as f64 > self.bound => {
                    // NaN where a contiguous input has NaN, too (its values repeated may be such), says nothing.
                    let told = mismatches.count > mismatches.nan_in_expected;
                    told.then_some(Found::Values {
                        elements: compared.elements,
                        largest: by,
                        mismatches: Box::new(mismatches),
                    })
                }
                _ => None,
            },
        ))
    }
}

/// Other values for all members that have some; `None` where none has.
fn others(x: &[Tensor], seed: Seed) -> Result<Option<Vec<Tensor>>> {
    let Ok(others) = function::alternatives(x, seed) else { return Ok(None) };
    let pairs = others.into_iter().zip(x);
    Ok(Some(pairs.map(|(other, own)| other.unwrap_or_else(|| own.clone())).collect()))
}

/// What rounding may make of the output: an amount, or of integers a number.
fn bound(f: &mut Function<'_>, x: &[Tensor], expected: &Tensor, seed: Seed) -> Result<f64> {
    let floating = is_floating(expected.dtype());
    let values = to_f64_vec(expected)?;
    // A masked logit, infinite or of -1e9, is equal or it is not; the others have a size.
    let size = size(&values);
    let mut noise: f64 = 0.0;
    for draw in 0..DRAWS {
        let seed = seed.split(&format!("noise {draw}"));
        let members = x.iter().enumerate().map(|(i, t)| nudged(t, seed, &format!("input {i}")));
        let Ok(moved) = f(&members.collect::<candle_core::Result<Vec<_>>>()?) else { continue };
        if moved.dims() != expected.dims() || moved.dtype() != expected.dtype() {
            continue;
        }
        noise = noise.max(match floating {
            true => {
                let moved = to_f64_vec(&moved)?;
                let unmasked = values.iter().zip(&moved).filter(|(own, _)| own.abs() <= size);
                unmasked.map(|(own, moved)| (own - moved).abs()).fold(0.0, f64::max)
            }
            false => {
                let exact = Bounds { relative: 0.0, absolute: 0.0 };
                let compared = compare::compare(&moved, expected, exact)?;
                compared.mismatches.map_or(0.0, |m| m.count as f64)
            }
        });
    }
    let Some(epsilon) = epsilon(expected.dtype()) else {
        return Ok((ROUNDINGS * noise).max(TIES * expected.elem_count() as f64));
    };
    // A sum of n numbers in another order moves by up to sqrt(n) roundings.
    let terms = x.iter().map(|t| t.elem_count() / t.dims()[0]).max().unwrap_or(1).max(1);
    let sums = (ROUNDINGS * epsilon * (terms as f64).sqrt()).min(COARSEST);
    // Where the output is finer than the input (f32 inside, f64 out), the input's own format is in `noise`.
    let noise = if noise.is_finite() { noise } else { 0.0 };
    Ok((ROUNDINGS * noise).max(sums * size))
}
