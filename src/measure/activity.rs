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
    /// Units of a sigmoid or a tanh whose slope was below [`FLAT`] of its largest on average.
    pub(crate) saturated: usize,
    /// Whether every unit of a sigmoid or tanh was that flat on every sample.
    pub(crate) all_flat: bool,
    /// Whether the samples differ as the layer sees them: where its units hardly vary, all of them count as one.
    pub(crate) varied: bool,
}

impl Activity {
    /// Whether no gradient to speak of can pass.
    pub(crate) fn is_blocked(&self) -> bool {
        self.dead == self.units || self.all_flat
    }
}

/// A slope below this share of its largest passes little on: a tanh beyond 0.95, a sigmoid within 0.025 of 0 or 1.
pub(crate) const FLAT: f64 = 0.1;

/// The activations that can die or saturate, in the order they were computed.
pub(crate) fn of_graph(graph: &Graph) -> Result<Vec<Activity>> {
    let mut found = Vec::new();
    let outputs: Vec<usize> = graph.modules().into_iter().map(|(_, node)| node).collect();
    for (at, node) in graph.nodes().iter().enumerate() {
        let [operand] = node.operands[..] else { continue };
        if node.tensor.rank() < 2 || !node.tensor.dtype().is_float() || graph.is_view(at) {
            continue;
        }
        let tensor = &graph.nodes()[operand].tensor;
        let Some(operation) = named(&node.tensor, tensor)? else { continue };
        if operation == "relu" && has_way_around(graph, operand, &outputs)? {
            continue;
        }
        found.extend(activity(at, operation, &node.tensor, tensor)?);
    }
    Ok(found)
}

/// Whether something else is made of the operand, or of what it was made of since its layer's output, that is not blocked
/// itself: a leaky ReLU is the sum of a ReLU and of that, a clamp the difference of two ReLUs.
fn has_way_around(graph: &Graph, operand: usize, outputs: &[usize]) -> Result<bool> {
    let mut at = operand;
    loop {
        let consumers = graph.consumers(at);
        if consumers.len() > 1 {
            for consumer in consumers {
                if !is_dead_end(graph, at, consumer)? {
                    return Ok(true);
                }
            }
        }
        let before = graph.nodes()[at].operands.iter().copied().max();
        match before.filter(|_| !outputs.contains(&at)) {
            Some(before) => at = before,
            None => return Ok(false),
        }
    }
}

/// Whether what `consumer` makes of `from` leads into a ReLU of zeros and nowhere else.
fn is_dead_end(graph: &Graph, mut from: usize, mut consumer: usize) -> Result<bool> {
    loop {
        let node = &graph.nodes()[consumer];
        if node.operands != [from] {
            return Ok(false);
        }
        if operation::is_unary("relu", &node.tensor, &graph.nodes()[from].tensor)? {
            return Ok(to_f64_vec(&node.tensor)?.iter().all(|v| *v == 0.0));
        }
        let [next] = graph.consumers(consumer)[..] else { return Ok(false) };
        (from, consumer) = (consumer, next);
    }
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
    let slope: fn(f64) -> f64 = match operation {
        "tanh" | "tanh or elu" | "sigmoid or tanh" => |y| 1.0 - y * y,
        _ => |y| 4.0 * y * (1.0 - y),
    };
    let mean = |unit: &Vec<f64>| unit.iter().map(|y| slope(*y)).sum::<f64>() / unit.len() as f64;
    let is_dead = |unit: &Vec<f64>| unit.iter().all(|v| *v == 0.0);
    let (units, samples) = (columns.len(), columns.first().map_or(0, Vec::len));
    let before = by_unit(operand)?;
    let alive = before.into_iter().zip(&columns).filter(|(_, unit)| !is_dead(unit));
    let varied = is_varied(&alive.map(|(before, _)| before).collect::<Vec<_>>());
    Ok(Some(match is_relu {
        true => {
            let dead = columns.iter().filter(|unit| is_dead(unit)).count();
            Activity {
                node,
                operation,
                units,
                samples,
                dead,
                saturated: 0,
                all_flat: false,
                varied,
            }
        }
        false => {
            let saturated = columns.iter().filter(|unit| mean(unit) < FLAT).count();
            let all_flat = columns.iter().flatten().all(|y| slope(*y) < FLAT);
            Activity { node, operation, units, samples, dead: 0, saturated, all_flat, varied }
        }
    }))
}

/// A unit that varies by less than this share of its size sees one sample over and over. Dead units do not count: theirs
/// is a bias that drowns what varies.
const STILL: f64 = 0.1;

fn is_varied(columns: &[Vec<f64>]) -> bool {
    let varies = |unit: &&Vec<f64>| {
        let n = unit.len() as f64;
        let mean = unit.iter().sum::<f64>() / n;
        let spread = (unit.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        spread > STILL * mean.abs()
    };
    2 * columns.iter().filter(varies).count() >= columns.len()
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
