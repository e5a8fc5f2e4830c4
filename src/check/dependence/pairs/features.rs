//! Replacing features of an input, one slice of a dimension at a time.

use candle_core::{Tensor, Var};

use super::probes::changed;
use crate::{
    Result, Seed,
    check::function::{self, Function},
    measure::{
        backward::backward,
        values::{is_floating, same_bits, to_f64_vec},
    },
};

/// Indices of a dimension of one of the input's tensors, or that tensor as a whole.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) member: usize,
    pub(super) dim: Option<usize>,
    pub(super) indices: Vec<usize>,
    /// How many there are in all.
    pub(super) of: usize,
}

impl Group {
    /// Whether these are the last ones of a dimension of lines or of time, fewer than half: `[batch, channels, time]`,
    /// `[batch, channels, height, width]`. More than half is no rest of a step.
    pub(super) fn is_end(&self, indices: &[usize]) -> bool {
        let last = indices.iter().rev().zip((0..self.of).rev()).all(|(index, last)| *index == last);
        last && !indices.is_empty() && self.dim >= Some(2) && 2 * indices.len() < self.of
    }
}

/// Inputs at which a feature may show: the caller's own, then others of the same kind. What a unit that is off hides at one
/// it does not hide at all.
pub(super) struct Points<'p, 'f> {
    f: &'p mut Function<'f>,
    seed: Seed,
    points: Vec<Option<Point>>,
    /// How many there are at most.
    most: usize,
    pub(super) calls: usize,
}

struct Point {
    own: Vec<Tensor>,
    others: Vec<Option<Tensor>>,
    output: Tensor,
}

/// Rows in all at which a feature is tried before it counts as ignored, and the least number of inputs.
const ROWS: usize = 32;
const LEAST: usize = 4;

/// A gradient so much smaller than the largest is no proof: rounding leaves as much where a feature cancels.
const SLIGHT: f64 = 1e-6;

impl<'p, 'f> Points<'p, 'f> {
    /// The function has been found steady at `x`, where it returns `output`.
    pub(super) fn new(
        f: &'p mut Function<'f>,
        x: &[Tensor],
        output: Tensor,
        seed: Seed,
    ) -> Result<Self> {
        let own = x.iter().map(|t| t.detach().contiguous()).collect::<candle_core::Result<_>>()?;
        let others = function::alternatives(x, seed)?;
        let most = ROWS.div_ceil(x[0].dims()[0]).max(LEAST);
        Ok(Self { f, seed, points: vec![Some(Point { own, others, output })], most, calls: 2 })
    }

    /// At how many inputs a feature is tried before it counts as ignored.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Which of the input's tensors have no other values.
    pub(super) fn without_alternative(&self) -> Vec<usize> {
        let first = self.points[0].iter();
        let none = first.flat_map(|point| point.others.iter().enumerate());
        none.filter(|(_, other)| other.is_none()).map(|(member, _)| member).collect()
    }

    /// Of the indices of a group those that move nothing, at any point.
    pub(super) fn silent(&mut self, group: &Group) -> Result<Vec<usize>> {
        let all = self.most;
        if group.indices.is_empty() || !self.moves(group, &group.indices, all)? {
            return Ok(group.indices.clone());
        }
        // One by one at the caller's input, where most show; the rest in halves at all points.
        let mut rest = Vec::new();
        for index in &group.indices {
            if !self.moves(group, &[*index], 1)? {
                rest.push(*index);
            }
        }
        let mut silent = Vec::new();
        let mut open = if rest.is_empty() { Vec::new() } else { vec![rest] };
        while let Some(indices) = open.pop() {
            if !self.moves(group, &indices, all)? {
                silent.extend(indices);
            } else if indices.len() > 1 {
                open.extend(halves(&indices));
            }
        }
        silent.sort_unstable();
        Ok(silent)
    }

    /// Whether other values at these indices move the output, at one of the first so many points.
    fn moves(&mut self, group: &Group, indices: &[usize], points: usize) -> Result<bool> {
        for at in 0..points {
            if self.points.len() <= at {
                let point = self.another(at)?;
                self.points.push(point);
            }
            let Some(point) = &self.points[at] else { continue };
            let Some(other) = &point.others[group.member] else { continue };
            let mut x = point.own.clone();
            x[group.member] = match group.dim {
                None => other.clone(),
                Some(dim) => replaced(&x[group.member], other, dim, indices)?,
            };
            self.calls += 1;
            let output = (self.f)(&x).map_err(changed)?;
            if !same_bits(&point.output, &output)? && values_differ(&point.output, &output)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An input with other values everywhere; `None` where the function returns an error there, or NaN, in which nothing can
    /// be seen.
    fn another(&mut self, at: usize) -> Result<Option<Point>> {
        let Some(first) = &self.points[0] else { return Ok(None) };
        let others = function::alternatives(&first.own, self.seed.split(&format!("point {at}")))?;
        let own: Vec<Tensor> = first
            .own
            .iter()
            .zip(others)
            .map(|(own, other)| other.unwrap_or_else(|| own.clone()))
            .collect();
        let others = function::alternatives(&own, self.seed.split(&format!("beside point {at}")));
        let Ok(others) = others else { return Ok(None) };
        self.calls += 1;
        // The function need not take what no one gave it.
        let Ok(output) = (self.f)(&own) else { return Ok(None) };
        let readable = !to_f64_vec(&output)?.iter().any(|value| value.is_nan());
        Ok(readable.then_some(Point { own, others, output }))
    }
}

fn halves(indices: &[usize]) -> Vec<Vec<usize>> {
    let (first, second) = indices.split_at(indices.len() / 2);
    [first, second].into_iter().filter(|half| !half.is_empty()).map(<[usize]>::to_vec).collect()
}

fn replaced(own: &Tensor, other: &Tensor, dim: usize, indices: &[usize]) -> Result<Tensor> {
    let len = own.dims()[dim];
    let mut picks: Vec<u32> = (0..len as u32).collect();
    for index in indices {
        picks[*index] += len as u32;
    }
    let pool = Tensor::cat(&[own, &other.contiguous()?], dim)?;
    Ok(pool.index_select(&Tensor::new(picks, own.device())?, dim)?)
}

/// A zero is equal to a zero of the other sign: `x * 0` is both, and depends on nothing.
fn values_differ(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() || a.dtype() != b.dtype() {
        return Ok(true);
    }
    let (a, b) = (to_f64_vec(a)?, to_f64_vec(b)?);
    Ok(a.iter().zip(&b).any(|(a, b)| a != b && !(a.is_nan() && b.is_nan())))
}

/// For each of the input's tensors the gradient of the randomly projected output: a number an element, or none where the
/// graph is cut, where the tensor has no gradient, and where the backward pass fails.
pub(super) fn gradients(
    f: &mut Function<'_>,
    x: &[Tensor],
    seed: Seed,
) -> Result<Vec<Option<Vec<f64>>>> {
    let none = || x.iter().map(|_| None).collect();
    let mut vars = Vec::new();
    let mut members = Vec::new();
    for tensor in x {
        let var = match is_floating(tensor.dtype()) {
            true => Some(Var::from_tensor(&tensor.detach().contiguous()?)?),
            false => None,
        };
        members.push(var.as_ref().map_or_else(|| tensor.clone(), |var| var.as_tensor().clone()));
        vars.push(var);
    }
    if vars.iter().all(Option::is_none) {
        return Ok(none());
    }
    let output = f(&members)?;
    if !output.dtype().is_float() {
        return Ok(none());
    }
    let projected = || -> candle_core::Result<Tensor> {
        let weights = seed.normal("projection", output.shape(), output.dtype(), output.device())?;
        (&output * weights)?.sum_all()
    };
    let Ok(grads) = projected().map_err(crate::Failure::from).and_then(|loss| backward(&loss))
    else {
        return Ok(none());
    };
    let of = |var: &Option<Var>| match var.as_ref().and_then(|var| grads.get(var)) {
        Some(gradient) => Ok(Some(to_f64_vec(gradient)?)),
        None => Ok(None),
    };
    vars.iter().map(of).collect()
}

/// The indices whose slice of the gradient says nothing: none of it is finite and more than rounding.
pub(super) fn without_gradient(group: &Group, dims: &[usize], gradient: &[f64]) -> Vec<usize> {
    let finite = |value: &f64| if value.is_finite() { value.abs() } else { 0.0 };
    let largest = gradient.iter().map(finite).fold(0.0, f64::max);
    let Some(dim) = group.dim else {
        return if largest > 0.0 { Vec::new() } else { group.indices.clone() };
    };
    let inner: usize = dims[dim + 1..].iter().product();
    let mut most = vec![0f64; dims[dim]];
    for (at, value) in gradient.iter().enumerate() {
        let index = at / inner % dims[dim];
        most[index] = most[index].max(finite(value));
    }
    let slight = |index: &&usize| most[**index] <= SLIGHT * largest;
    group.indices.iter().filter(slight).copied().collect()
}
