use std::{fmt, panic::Location};

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{arguments, call},
    measure::{
        activity::{self, Activity, Spread},
        gradients,
        graph::Graph,
        slope::traced,
        values::scalar,
    },
    verdict::{all, count, listed, number},
};

/// No layer is dead or saturated, and none computes next to nothing.
///
/// The intermediates of one forward pass in evaluation mode are read from the autograd graph (see
/// [`Trace`](crate::Trace)); layers are named after the prefixes of their variables, and ReLU, sigmoid and tanh are
/// recognised by their values.
///
/// # What must hold
///
/// - *Dead*: a unit of a ReLU that is 0 on every sample. Not all units of a layer are, and on 256 samples or more no more
///   than 60 %. Freshly initialised ReLU networks have dead units by right: up to 39 % of a layer on 8 samples, up to 18 %
///   on 256 (measured over seeds of healthy networks), so on small batches only a whole layer counts.
/// - *Saturated*: a unit of a tanh or sigmoid whose slope is below a tenth of its largest on average. Not all units of a
///   layer are, and on 16 samples or more no more than 60 %. An activation that is the output itself is left out, since a
///   logarithmic loss cancels its slope, unless the loss sends nothing but zeros back.
/// - Layers of fewer than 8 units count on 256 samples only: four units are dead by luck now and then.
/// - *Scale*: the root mean square of every linear layer's, convolution's and embedding's output is within a factor of
///   [`scale`](Self::scale), default 1,000, of the median layer's. Layers whose output is exactly zero begin so by design.
/// - An activation with a way around it (a leaky ReLU, a clamp written as the difference of two) blocks nothing, and is left
///   out.
/// - Every value is finite, but for masks of minus infinity. candle's `relu` makes 0 of NaN, so that a finite output proves nothing.
///
/// Samples are rows times positions or pixels. What lies before the end of the graph (candle's fused operations, a
/// `detach`) is not seen: [`UnitsAliveReport::unseen`] lists its variables, and where nothing is seen the check is
/// [`Vacuous`](crate::FailureKind::Vacuous).
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with a table of all layers; `Vacuous` where there is nothing to judge;
/// `NotRun` for a batch or a learner that cannot be used, or where a closure returns an error.
///
/// # Examples
///
/// ```
/// use candling::{check::UnitsAlive, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (256, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 256, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
/// UnitsAlive::new().check(&learner, (&x, &y))?;
///
/// let _before = candling::set_with(&vars, |name, shape| match name {
///     "l1.bias" => Tensor::full(-10f32, shape, &Device::Cpu),
///     _ => Seed::new(1).normal(name, shape, DType::F32, &Device::Cpu),
/// })?;
/// let failure = UnitsAlive::new().check(&learner, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::UnitsDead));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct UnitsAlive {
    scale: f64,
    allowed: Vec<Cause>,
}

/// What a passed [`UnitsAlive`] measured. `Display` is the table of all layers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnitsAliveReport {
    /// Layers and activations, in the order they were computed.
    pub layers: Vec<LayerActivity>,
    /// Variables whose layers could not be seen, sorted by name: the graph ends before them, or nothing uses them.
    pub unseen: Vec<String>,
}

/// What one layer or activation did on a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerActivity {
    /// The prefix of the layer's variables; for an activation the layer before it.
    pub layer: String,
    /// `relu`, `tanh`, `sigmoid`; `None` for the layer itself.
    pub activation: Option<&'static str>,
    /// How many units it has: channels of an image, else the size of the last dimension.
    pub units: usize,
    /// Values of each unit: rows, times positions or pixels.
    pub samples: usize,
    /// Units of a ReLU that are 0 on every sample.
    pub dead: usize,
    /// Units of a sigmoid or tanh that are flat on average.
    pub saturated: usize,
    /// Units with one value on every sample.
    pub constant: usize,
    /// Whether the samples differ as an activation sees them: where most of its units vary by less than a tenth of their
    /// size, all samples count as one.
    pub varied: bool,
    /// The root mean square of all values.
    pub rms: f64,
}

/// More than this share of a layer, on so many samples, does not happen to healthy networks.
const MOST: f64 = 0.6;
const ENOUGH_SAMPLES: usize = 256;

/// On so many samples no healthy unit of a tanh or sigmoid has a slope below a tenth of its largest on average: at values
/// of a standard deviation of 2.5, hot already, one unit in 50 has.
const ENOUGH_TO_SATURATE: usize = 16;

/// So many units are not all dead by luck, however few the samples: at 39 % each, one layer in 2,000.
const ENOUGH_UNITS: usize = 8;

impl Default for UnitsAlive {
    fn default() -> Self {
        Self::new()
    }
}

impl UnitsAlive {
    /// Layers within a factor of 1,000 of each other.
    pub fn new() -> Self {
        Self { scale: 1e3, allowed: Vec::new() }
    }

    /// By what factor a layer's root mean square may differ from the median layer's. Default 1,000.
    pub fn scale(mut self, factor: f64) -> Self {
        self.scale = factor;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `learner` forward on `batch`: `(&x, &y)`, or `()` for a learner from [`Learner::from_loss`].
    ///
    /// # Errors
    ///
    /// See [`UnitsAlive`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<UnitsAliveReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("units_alive", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<UnitsAliveReport> {
        if !(self.scale > 1.0 && self.scale.is_finite()) {
            return Err(Failure::bad_argument("scale", self.scale, "a factor above 1"));
        }
        arguments::learner(learner)?;
        arguments::batch(learner, batch)?;
        let _guard = Snapshot::take(learner.variables())?.guard();
        let evaluation = learner.evaluate(&traced(batch)?, false)?;
        let root = evaluation.output.as_ref().unwrap_or(&evaluation.loss);
        let graph = Graph::of(root, learner.variables());
        let seen = Seen::of(learner, batch, &graph)?;
        if seen.layers.is_empty() {
            return Err(nothing_seen(&seen.unseen));
        }
        let mut findings = self.findings(&seen);
        if let Some(node) = graph.first_not_finite()? {
            findings.insert(0, not_finite(&graph, node)?);
        }
        let findings = call::not_allowed(findings, &self.allowed);
        let report = UnitsAliveReport { layers: seen.layers, unseen: seen.unseen };
        if findings.is_empty() {
            return Ok(report);
        }
        let headline = match findings.len() {
            1 => "a layer does not do its part".to_owned(),
            n => format!("{n} layers do not do their part"),
        };
        let mut failure = Failure::violated(headline).fact("layers", report.table());
        if !report.unseen.is_empty() {
            let unseen: Vec<&str> = report.unseen.iter().map(String::as_str).collect();
            failure = failure.fact("unseen", listed(&unseen));
        }
        Err(failure.with_findings(findings))
    }

    fn findings(&self, seen: &Seen) -> Vec<Finding> {
        let mut found = Vec::new();
        for layer in &seen.layers {
            let (blocked, cause, state) = match layer.dead >= layer.saturated {
                true => (layer.dead, Cause::UnitsDead, "0"),
                false => (layer.saturated, Cause::UnitsSaturated, "at the ends of their range"),
            };
            let many = layer.samples >= ENOUGH_SAMPLES;
            let whole = blocked == layer.units && (layer.units >= ENOUGH_UNITS || many);
            let many = layer.varied
                && (many
                    || (cause == Cause::UnitsSaturated
                        && layer.samples >= ENOUGH_TO_SATURATE
                        && layer.units >= ENOUGH_UNITS));
            if blocked > 0 && (whole || (many && blocked as f64 > MOST * layer.units as f64)) {
                let evidence = format!(
                    "{blocked} of {} of the {} {} {state} on {}",
                    count(layer.units, "unit"),
                    layer.activation.unwrap_or("activation"),
                    if blocked == 1 { "is" } else { "are" },
                    all(layer.samples, "sample"),
                );
                found.push(Finding::confirmed(cause, evidence).at(&layer.layer));
            }
        }
        // What a dead layer passes on is constant, and of any size.
        if found.is_empty() {
            found.extend(self.out_of_scale(seen));
        }
        found
    }

    fn out_of_scale(&self, seen: &Seen) -> Vec<Finding> {
        let mut sizes: Vec<f64> =
            seen.weighted.iter().map(|layer| layer.rms).filter(|rms| *rms > 0.0).collect();
        sizes.sort_by(f64::total_cmp);
        let Some(median) = sizes.get(sizes.len() / 2).copied() else { return Vec::new() };
        let outside = |layer: &&LayerActivity| {
            layer.rms > self.scale * median || (layer.rms > 0.0 && layer.rms * self.scale < median)
        };
        let finding = |layer: &LayerActivity| {
            let evidence = format!(
                "the root mean square of its output is {}, of the median layer's {}",
                number(layer.rms),
                number(median),
            );
            Finding::confirmed(Cause::WeightsScale, evidence).at(&layer.layer)
        };
        seen.weighted.iter().filter(outside).map(finding).collect()
    }
}

/// What a graph shows of a learner's layers.
struct Seen {
    /// Layers and activations, in the order they were computed.
    layers: Vec<LayerActivity>,
    /// Layers with a weight of two dimensions and more.
    weighted: Vec<LayerActivity>,
    unseen: Vec<String>,
}

impl Seen {
    fn of(learner: &Learner<'_>, batch: &Batch, graph: &Graph) -> Result<Self> {
        let modules = graph.modules();
        let mut found: Vec<(usize, LayerActivity)> = Vec::new();
        let mut weighted = Vec::new();
        for (name, node) in &modules {
            let value = &graph.nodes()[*node].tensor;
            if value.rank() < 2 || !value.dtype().is_float() || !is_innermost(name, &modules) {
                continue;
            }
            let layer = layer(name, &activity::spread(value)?);
            if has_weight(learner, name) {
                weighted.push(layer.clone());
            }
            found.push((*node, layer));
        }
        let output = graph.nodes().len().saturating_sub(1);
        for mut activity in activity::of_graph(graph)? {
            let is_output = graph.is_seen_as(activity.node, output);
            if is_output && !(activity.all_flat && nothing_arrives(learner, batch)?) {
                activity.saturated = 0;
            }
            let place = graph.place(activity.node, &modules);
            let value = &graph.nodes()[activity.node].tensor;
            found.push((activity.node, activated(place, &activity, &activity::spread(value)?)));
        }
        found.sort_by_key(|(node, _)| *node);
        let statistic = |name: &&str| !crate::learner::is_running_statistic(name);
        let unseen = graph.unreached().into_iter().filter(statistic).map(str::to_owned).collect();
        Ok(Self { layers: found.into_iter().map(|(_, layer)| layer).collect(), weighted, unseen })
    }
}

/// Whether the loss sends nothing but zeros back: a clamp before its logarithm leaves nothing of a saturated output.
fn nothing_arrives(learner: &Learner<'_>, batch: &Batch) -> Result<bool> {
    if !learner.has_loss() {
        return Ok(false);
    }
    let pass = gradients::pass(learner, batch, false)?;
    let all_zero = pass.arrived.iter().all(|arrived| arrived.is_some_and(|a| a.norm == 0.0));
    Ok(all_zero && scalar(&pass.evaluation.loss)? != 0.0)
}

fn nothing_seen(unseen: &[String]) -> Failure {
    if unseen.is_empty() {
        return Failure::vacuous("no layer has a name").help(
            "layers are named after the prefixes of their variables: build each with its own, `vb.pp(\"l1\")`",
        );
    }
    Failure::vacuous("no layer can be seen from the output")
        .fact("unseen", listed(&unseen.iter().map(String::as_str).collect::<Vec<_>>()))
        .help("the graph ends before every layer: `assert_gradients_flow!` names the operation that ends it")
}

/// Whether no other module lies within: a block's output is that of its last layer.
fn is_innermost(name: &str, modules: &[(String, usize)]) -> bool {
    let within = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    !modules.iter().any(|(other, _)| within(other))
}

/// Whether the layer is a matrix or a kernel and perhaps its bias: a gain of its own would set the scale at will.
fn has_weight(learner: &Learner<'_>, layer: &str) -> bool {
    let own: Vec<(&str, usize)> = (learner.variables().iter())
        .filter_map(|(name, var)| Some((name.rsplit_once('.')?, var.rank())))
        .filter(|((prefix, _), _)| *prefix == layer)
        .map(|((_, last), rank)| (last, rank))
        .collect();
    own.iter().any(|(_, rank)| *rank >= 2)
        && own.iter().all(|(last, rank)| *rank >= 2 || *last == "bias")
}

fn layer(name: &str, spread: &Spread) -> LayerActivity {
    LayerActivity {
        layer: name.to_owned(),
        activation: None,
        units: spread.units,
        samples: spread.samples,
        dead: 0,
        saturated: 0,
        constant: spread.constant,
        varied: true,
        rms: spread.rms,
    }
}

fn activated(place: Option<String>, activity: &Activity, spread: &Spread) -> LayerActivity {
    LayerActivity {
        activation: Some(activity.operation),
        dead: activity.dead,
        saturated: activity.saturated,
        varied: activity.varied,
        ..layer(place.as_deref().unwrap_or("before the first layer"), spread)
    }
}

fn not_finite(graph: &Graph, node: usize) -> Result<Finding> {
    let place = graph.place(node, &graph.modules());
    let made = match graph.operation(node)? {
        Some(operation) => format!("in the result of `{operation}`"),
        None => "here".to_owned(),
    };
    let evidence = format!("the first value that is not finite appears {made}");
    Ok(Finding::confirmed(Cause::NotFinite, evidence)
        .at(place.unwrap_or_else(|| "before the first layer".to_owned())))
}

/// So many rows of the table are shown.
const ROWS: usize = 24;

impl UnitsAliveReport {
    fn table(&self) -> String {
        let rows: Vec<[String; 4]> = self.layers.iter().take(ROWS).map(row).collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let (a, b, c) = (width(0), width(1), width(2));
        let line = |[name, units, rms, state]: &[String; 4]| {
            format!("{name:<a$}  {units:<b$}  {rms:<c$}  {state}").trim_end().to_owned()
        };
        let mut lines: Vec<String> = rows.iter().map(line).collect();
        if self.layers.len() > ROWS {
            lines.push(format!("and {} more lines", self.layers.len() - ROWS));
        }
        lines.join("\n")
    }
}

fn row(layer: &LayerActivity) -> [String; 4] {
    let name = match layer.activation {
        Some(activation) => format!("{}: {activation}", layer.layer),
        None => layer.layer.clone(),
    };
    let state = match (layer.dead, layer.saturated, layer.constant) {
        (0, 0, 0) => String::new(),
        (0, 0, constant) => format!("{constant} constant"),
        (0, saturated, _) => format!("{saturated} saturated"),
        (dead, ..) => format!("{dead} dead"),
    };
    let units = format!("{} x {}", count(layer.units, "unit"), count(layer.samples, "sample"));
    [name, units, format!("rms {}", number(layer.rms)), state]
}

impl fmt::Display for UnitsAliveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table())
    }
}
