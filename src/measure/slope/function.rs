//! A function of input tensors, in all the ways an input may come to it.

use candle_core::{DType, Tensor, Var};

use super::{Objective, Slot, coarser, coarsest, nearby, slot};
use crate::{
    Failure, Result, Seed,
    measure::{
        backward::backward,
        values::{is_floating, to_f64_vec},
    },
};

/// A function of input tensors, projected on a random direction of its output: one number that all of the output
/// weighs in, and nothing cancels out of, as a plain sum would behind a softmax or a norm.
pub(crate) struct OfFunction<'f> {
    f: &'f mut dyn FnMut(&[Tensor]) -> Result<Tensor>,
    members: Vec<Tensor>,
    /// The place of each slot among the members: integers have no gradient.
    floats: Vec<usize>,
    slots: Vec<Slot>,
    weights: Vec<f64>,
    dtype: DType,
    pub(crate) root: Tensor,
    /// The inputs as the graph knows them.
    pub(crate) leaves: Vec<(String, Var)>,
}

impl<'f> OfFunction<'f> {
    /// Runs the backward pass, the inputs as leaves of the graph.
    pub(crate) fn new(
        f: &'f mut dyn FnMut(&[Tensor]) -> Result<Tensor>,
        members: &[Tensor],
    ) -> Result<Self> {
        let floats: Vec<usize> =
            (0..members.len()).filter(|at| is_floating(members[*at].dtype())).collect();
        let leaves = leaves(members, &floats)?;
        let output = f(&in_place(members, &floats, |at| Ok(leaves[at].1.as_tensor().clone()))?)?;
        let weights = weights(&output)?;
        let root = project(&output, &weights)?;
        let grads = backward(&root)?;
        let slots = (leaves.iter())
            .map(|(name, leaf)| slot(name.clone(), leaf.as_tensor(), &grads))
            .collect::<Result<Vec<_>>>()?;
        let dtypes = floats.iter().map(|at| members[*at].dtype());
        let dtype = dtypes.fold(coarser(output.dtype(), coarsest(&root)), coarser);
        Ok(Self { f, members: members.to_vec(), floats, slots, weights, dtype, root, leaves })
    }

    /// The gradients where the inputs come to the function in another way; `None` where it then returns an error.
    pub(crate) fn gradients_when(&mut self, way: Way) -> Result<Option<Vec<Option<Vec<f64>>>>> {
        let leaves = leaves(&self.members, &self.floats)?;
        let stored = leaves
            .iter()
            .map(|(_, leaf)| match way {
                Way::Transposed => stored_otherwise(leaf.as_tensor()),
                _ => Ok(leaf.clone()),
            })
            .collect::<Result<Vec<_>>>()?;
        let as_given = |at: usize| -> Result<Tensor> {
            let leaf = stored[at].as_tensor();
            Ok(match way {
                Way::Computed => leaf.affine(1.0, 0.0)?,
                Way::Transposed => seen_as(leaf, self.members[self.floats[at]].dims())?,
                Way::UsedBefore | Way::UsedAfter => leaf.clone(),
            })
        };
        let given = in_place(&self.members, &self.floats, as_given)?;
        let Ok(output) = (self.f)(&given) else { return Ok(None) };
        if output.elem_count() != self.weights.len() {
            return Ok(None);
        }
        let mut root = project(&output, &self.weights)?;
        for leaf in &stored {
            let other = (leaf.as_tensor() * OTHER_USE)?.sum_all()?.to_dtype(root.dtype())?;
            root = match way {
                Way::UsedBefore => (other + root)?,
                Way::UsedAfter => (root + other)?,
                _ => root,
            };
        }
        let Ok(grads) = backward(&root) else { return Ok(None) };
        let taken = if matches!(way, Way::UsedBefore | Way::UsedAfter) { OTHER_USE } else { 0.0 };
        let mut gradients = Vec::new();
        for (at, leaf) in stored.iter().enumerate() {
            let dims = self.members[self.floats[at]].dims();
            gradients.push(match grads.get(leaf.as_tensor()) {
                Some(grad) if way == Way::Transposed => Some(to_f64_vec(&seen_as(grad, dims)?)?),
                Some(grad) => Some(to_f64_vec(grad)?.into_iter().map(|g| g - taken).collect()),
                None => None,
            });
        }
        Ok(Some(gradients))
    }

    /// The values of the function where an input is a transposed view of the same values; `None` where it refuses one.
    pub(crate) fn value_of_views(&mut self) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
        let views = in_place(&self.members, &self.floats, |at| {
            let own = &self.members[self.floats[at]];
            seen_as(stored_otherwise(own)?.as_tensor(), own.dims())
        })?;
        let Ok(seen) = (self.f)(&views) else { return Ok(None) };
        let own = (self.f)(&self.members)?;
        Ok(Some((to_f64_vec(&own)?, to_f64_vec(&seen)?)))
    }
}

/// The slope of the other use that an input is given.
const OTHER_USE: f64 = 0.5;

/// How an input comes to a function, other than as a leaf of the graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// As the result of another operation.
    Computed,
    /// Used once more, before and after what the function makes of it is added up.
    UsedBefore,
    UsedAfter,
    /// As a view whose values lie in another order.
    Transposed,
}

impl Objective for OfFunction<'_> {
    fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn value(&mut self, slot: usize, replaced: &Tensor) -> Result<f64> {
        let mut members = self.members.clone();
        members[self.floats[slot]] = replaced.clone();
        let output = (self.f)(&members)?;
        let values = to_f64_vec(&output)?;
        if values.len() != self.weights.len() {
            return Err(Failure::not_run(
                "the function's output has another size for other values of its input",
            ));
        }
        Ok(values.iter().zip(&self.weights).map(|(v, w)| v * w).sum())
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn go_elsewhere(&mut self, seed: Seed) -> Result<()> {
        let moved = in_place(&self.members, &self.floats, |at| {
            Ok(nearby(&self.members[self.floats[at]], seed, "input")?)
        })?;
        let there = OfFunction::new(self.f, &moved)?;
        let (members, slots) = (there.members, there.slots);
        (self.members, self.slots) = (members, slots);
        Ok(())
    }
}

fn leaves(members: &[Tensor], floats: &[usize]) -> Result<Vec<(String, Var)>> {
    let name = |at: usize| match members.len() {
        1 => "x".to_owned(),
        _ => format!("x[{at}]"),
    };
    floats.iter().map(|at| Ok((name(*at), Var::from_tensor(&members[*at])?))).collect()
}

/// The members with those of a float dtype replaced.
fn in_place(
    members: &[Tensor],
    floats: &[usize],
    replacement: impl Fn(usize) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut replaced = members.to_vec();
    for (at, place) in floats.iter().enumerate() {
        replaced[*place] = replacement(at)?;
    }
    Ok(replaced)
}

/// Between 0.5 and 1.5 in size, of either sign: no element of the output weighs little, and none is weighed as another.
fn weights(output: &Tensor) -> Result<Vec<f64>> {
    let n = output.elem_count();
    let drawn =
        Seed::new(0).uniform("weights", -1.0..1.0, n, DType::F64, &candle_core::Device::Cpu)?;
    Ok(drawn.to_vec1::<f64>()?.into_iter().map(|v| v + 0.5 * v.signum()).collect())
}

fn project(output: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let weights = Tensor::from_vec(weights.to_vec(), output.shape(), &candle_core::Device::Cpu)?
        .to_dtype(output.dtype())?
        .to_device(output.device())?;
    Ok((output * weights)?.sum_all()?)
}

/// A variable that holds the values with the last two dimensions in the other order.
fn stored_otherwise(tensor: &Tensor) -> Result<Var> {
    let rank = tensor.rank();
    Ok(match rank {
        0 | 1 => Var::from_tensor(tensor)?,
        _ => Var::from_tensor(&tensor.transpose(rank - 1, rank - 2)?.contiguous()?)?,
    })
}

/// The inverse of [`stored_otherwise`], as a view.
fn seen_as(stored: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let rank = dims.len();
    Ok(match rank {
        0 | 1 => stored.clone(),
        _ => stored.transpose(rank - 1, rank - 2)?,
    })
}

/// Where gradients that must be equal are not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deviation {
    pub(crate) name: String,
    /// The entry with the largest difference, in row-major order.
    pub(crate) at: usize,
    pub(crate) as_leaf: f64,
    pub(crate) this_way: f64,
}

/// Two backward passes over the same values may add in another order: a part in so many of the tolerance on slopes.
const ORDER_OF_ADDING: f64 = 1e-2;

impl OfFunction<'_> {
    /// The first input whose gradient is another where the inputs come in another way.
    pub(crate) fn differs_when(
        &mut self,
        way: Way,
        fineness: super::Fineness,
    ) -> Result<Option<Deviation>> {
        let Some(gradients) = self.gradients_when(way)? else { return Ok(None) };
        for (slot, gradient) in self.slots.iter().zip(gradients) {
            let own = super::gradient_or_zeros(slot)?;
            let other = gradient.unwrap_or_else(|| vec![0.0; own.len()]);
            let size = own.iter().chain(&other).map(|g| g.abs()).fold(OTHER_USE, f64::max);
            let differences = own.iter().zip(&other).map(|(a, b)| (a - b).abs()).enumerate();
            let worst = differences.max_by(|(_, a), (_, b)| a.total_cmp(b));
            if let Some((at, difference)) = worst
                && difference > ORDER_OF_ADDING * fineness.tolerance * size
            {
                let (as_leaf, this_way) = (own[at], other[at]);
                return Ok(Some(Deviation { name: slot.name.clone(), at, as_leaf, this_way }));
            }
        }
        Ok(None)
    }
}
