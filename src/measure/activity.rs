//! What the activations of a pass did: which units never fired, which sat at their bounds, which never varied.

use candle_core::{Result, Tensor};

use super::{
    graph::{Graph, operation},
    values::to_f64_vec,
};

/// One activation's units over the samples of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Activity {
    /// The node of the graph that holds its values.
    pub(crate) node: usize,
    pub(crate) operation: &'static str,
    pub(crate) units: usize,
    /// How many values each unit had: rows, times positions or pixels.
    pub(crate) samples: usize,
    /// Units of a ReLU that were 0 on every sample.
    pub(crate) dead: usize,
    /// Units of a sigmoid or a tanh whose slope was below [`FLAT`] of its largest on every sample.
    pub(crate) saturated: usize,
}

impl Activity {
    /// The share of units through which no gradient to speak of can pass.
    pub(crate) fn blocked(&self) -> f64 {
        (self.dead + self.saturated) as f64 / self.units.max(1) as f64
    }
}

/// A slope below this share of its largest passes next to nothing on: a tanh beyond 0.995, a sigmoid within 0.0025 of
/// 0 or 1.
pub(crate) const FLAT: f64 = 0.01;

/// The activations that can die or saturate, in the order they were computed.
pub(crate) fn of_graph(graph: &Graph) -> Result<Vec<Activity>> {
    let mut found = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        let [operand] = node.operands[..] else { continue };
        if node.tensor.rank() < 2 || !node.tensor.dtype().is_float() || graph.is_view(at) {
            continue;
        }
        let tensor = &graph.nodes()[operand].tensor;
        let Some(operation) = named(&node.tensor, tensor)? else { continue };
        // A leaky ReLU is the sum of a ReLU and of what else is made of its operand: nothing is blocked there.
        if operation == "relu" && graph.consumers(operand) > 1 {
            continue;
        }
        found.extend(activity(at, operation, &node.tensor, tensor)?);
    }
    Ok(found)
}

/// The activation that made `result`. Where every value is 1, or every one is -1, two give the same bits.
fn named(result: &Tensor, operand: &Tensor) -> Result<Option<&'static str>> {
    let is = |operation| operation::is_unary(operation, result, operand);
    Ok(match (is("relu")?, is("tanh")?, is("sigmoid")?) {
        (true, ..) => Some("relu"),
        (_, true, true) => Some("sigmoid or tanh"),
        (_, true, _) if is("elu")? => Some("tanh or elu"),
        (_, true, _) => Some("tanh"),
        (_, _, true) => Some("sigmoid"),
        _ => None,
    })
}

fn activity(
    node: usize,
    operation: &'static str,
    result: &Tensor,
    operand: &Tensor,
) -> Result<Option<Activity>> {
    // A chain of two ReLUs is one activation, and a ReLU of what is positive anyway is none.
    let is_relu = operation == "relu";
    if is_relu && !to_f64_vec(operand)?.iter().any(|v| *v < 0.0) {
        return Ok(None);
    }
    let columns = by_unit(result)?;
    let all = |unit: &&Vec<f64>, holds: fn(f64) -> bool| unit.iter().all(|v| holds(*v));
    let flat: fn(f64) -> bool = match operation {
        "tanh" | "tanh or elu" | "sigmoid or tanh" => |y| 1.0 - y * y < FLAT,
        _ => |y| y * (1.0 - y) < FLAT * 0.25,
    };
    let dead = if is_relu { columns.iter().filter(|u| all(u, |v| v == 0.0)).count() } else { 0 };
    let saturated = if is_relu { 0 } else { columns.iter().filter(|u| all(u, flat)).count() };
    let (units, samples) = (columns.len(), columns.first().map_or(0, Vec::len));
    Ok(Some(Activity { node, operation, units, samples, dead, saturated }))
}

/// The values of each unit: of each channel for images `(batch, channels, height, width)`, of each place of the last
/// dimension otherwise.
pub(crate) fn by_unit(tensor: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rank = tensor.rank();
    let unit_dim = if rank == 4 { 1 } else { rank.saturating_sub(1) };
    let Some(&units) = tensor.dims().get(unit_dim) else { return Ok(Vec::new()) };
    let inner: usize = tensor.dims()[unit_dim + 1..].iter().product();
    let values = to_f64_vec(tensor)?;
    let mut columns = vec![Vec::with_capacity(values.len() / units.max(1)); units];
    for (at, value) in values.into_iter().enumerate() {
        columns[at / inner.max(1) % units].push(value);
    }
    Ok(columns)
}

/// The values of one layer's output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) rms: f64,
    pub(crate) units: usize,
    pub(crate) samples: usize,
    /// Units with one value on every sample.
    pub(crate) constant: usize,
}

pub(crate) fn spread(tensor: &Tensor) -> Result<Spread> {
    let columns = by_unit(tensor)?;
    let squares: f64 = columns.iter().flatten().map(|v| v * v).sum();
    let constant = columns.iter().filter(|unit| unit.iter().all(|v| *v == unit[0])).count();
    Ok(Spread {
        rms: (squares / tensor.elem_count().max(1) as f64).sqrt(),
        units: columns.len(),
        samples: columns.first().map_or(0, Vec::len),
        constant,
    })
}
