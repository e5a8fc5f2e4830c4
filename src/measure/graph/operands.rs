//! What a node was computed from.

use std::{
    collections::HashMap,
    ops::{Deref, Range},
};

use candle_core::{Tensor, TensorId};

/// The nodes that each node was computed from, as places of `sorted`, which has operands before their consumers.
///
/// The references that [`Tensor::sorted_nodes`] returns point at the operands where they are kept: inside the operation,
/// inside its result. One whose address lies within a node is an operand of it. That is not promised by candle, so it
/// serves names and diagnoses and no verdict. `Tensor::cat` keeps its operands elsewhere: they are the nodes from which
/// all others follow, so that `cat([x, f(x)])` is seen as computed from `f(x)` alone.
///
/// A walk returns each node at the first place it is met, so only what is met before anything else is sure to show all of
/// its operands: the root of the walk, its first operand, the first operand of that, and so on. Every other node needs a
/// walk of its own or of a node it is the first operand of: one for each branch of a residual network.
pub(super) fn of_all(sorted: &[&Tensor]) -> Vec<Vec<usize>> {
    let order = sorted.iter().enumerate().map(|(at, tensor)| (tensor.id(), at)).collect();
    let known = sorted.iter().map(|tensor| tensor.is_variable().then(Vec::new)).collect();
    let mut reader = Reader { order, known };
    // Consumers first: a node that is somebody's first operand is known before its turn.
    for at in (0..sorted.len()).rev() {
        if reader.known[at].is_none() {
            reader.walk(sorted[at], at);
        }
    }
    reader.known.into_iter().map(Option::unwrap_or_default).collect()
}

struct Reader {
    /// The place of each node.
    order: HashMap<TensorId, usize>,
    /// The operands of each node, where they are known. Variables have none.
    known: Vec<Option<Vec<usize>>>,
}

/// A node whose operands are still coming.
struct Open {
    at: usize,
    /// Where it is in the walk.
    met: usize,
    /// Where it lies in memory.
    memory: Range<usize>,
    operands: Vec<usize>,
}

impl Open {
    fn new(tensor: &Tensor, at: usize, met: usize) -> Self {
        let inner = tensor.deref();
        let start = std::ptr::from_ref(inner).addr();
        Self { at, met, memory: start..start + size_of_val(inner), operands: Vec::new() }
    }
}

impl Reader {
    /// Learns the operands of a node, of its first operand, and so on down to one that is known.
    fn walk(&mut self, tensor: &Tensor, at: usize) {
        // Every node comes right before what was met through it, its first operand last.
        let below = tensor.sorted_nodes();
        let mut open = vec![Open::new(tensor, at, 0)];
        // Most references lie in none of the open nodes, and outside of all.
        let mut around = open[0].memory.clone();
        for (met, node) in below.iter().enumerate().skip(1) {
            let address = std::ptr::from_ref(*node).addr();
            if address < around.start || address >= around.end {
                continue;
            }
            let Some(holder) = open.iter().rposition(|open| open.memory.contains(&address)) else {
                continue;
            };
            let Some(operand) = self.order.get(&node.id()).copied() else { continue };
            // All that was met through later operands of the holder has come.
            open.truncate(holder + 1);
            open[holder].operands.push(operand);
            if self.known[operand].is_none() {
                let next = Open::new(node, operand, met);
                around.start = around.start.min(next.memory.start);
                around.end = around.end.max(next.memory.end);
                open.push(next);
            }
        }
        for Open { at, met, mut operands, .. } in open {
            if operands.is_empty() {
                operands = covering(&below[met + 1..], &self.order);
            }
            operands.sort_unstable();
            self.known[at] = Some(operands);
        }
    }
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
