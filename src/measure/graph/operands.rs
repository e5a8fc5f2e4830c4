//! What a node was computed from.

use std::{collections::HashMap, ops::Deref};

use candle_core::{Tensor, TensorId};

/// The nodes that `tensor` was computed from, as places of `order`.
///
/// The references that [`Tensor::sorted_nodes`] returns point at the operands where they are kept: inside the operation,
/// inside its result. One whose address lies within `tensor` is an operand of it. That is not promised by candle, so it
/// serves names and diagnoses and no verdict. `Tensor::cat` keeps its operands elsewhere: they are the nodes from which
/// all others follow, so that `cat([x, f(x)])` is seen as computed from `f(x)` alone.
pub(super) fn of(tensor: &Tensor, order: &HashMap<TensorId, usize>) -> Vec<usize> {
    let below = tensor.sorted_nodes();
    let inner = tensor.deref();
    let start = std::ptr::from_ref(inner).addr();
    let within = start..start + size_of_val(inner);
    let mut operands: Vec<usize> = (below.iter())
        .filter(|node| within.contains(&std::ptr::from_ref(**node).addr()))
        .filter_map(|node| order.get(&node.id()).copied())
        .collect();
    if operands.is_empty() && below.len() > 1 {
        operands = covering(&below[1..], order);
    }
    operands.sort_unstable();
    operands
}

/// The fewest nodes on which all of `below` depend or which they are, consumers first.
fn covering(below: &[&Tensor], order: &HashMap<TensorId, usize>) -> Vec<usize> {
    let mut covered: HashMap<TensorId, ()> = HashMap::new();
    let mut operands = Vec::new();
    for node in below {
        if covered.contains_key(&node.id()) {
            continue;
        }
        covered.extend(node.sorted_nodes().iter().map(|node| (node.id(), ())));
        operands.extend(order.get(&node.id()).copied());
    }
    operands
}
