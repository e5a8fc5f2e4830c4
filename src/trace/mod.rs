//! What a model computed on the way to its output.

mod tap;

use std::fmt;

use candle_core::{Tensor, Var};

use crate::{
    Failure, Result, Variables,
    measure::{
        graph::{Graph, created},
        scan::is_finite,
        stack,
        values::{norm, to_f64_vec},
    },
    variables::sorted,
    verdict::{count, number},
};

use tap::Recorder;
pub use tap::tap;

/// The intermediates of one forward pass, read from the autograd graph of its result.
///
/// Without any change to the model every module has its output here, under the prefix of its variables' names: the
/// output of module `p` is the earliest intermediate that depends on every variable under `p`. Where a finer name is
/// wanted, [`tap`](crate::tap) gives one. Layers come in the order they were computed.
///
/// candle's fused operations (`LayerNorm::forward`, `RmsNorm::forward`, `softmax_last_dim`, `rope`) end the graph, and so
/// does `detach`: what lies before the last of them is not seen from the result. [`unreached`](Trace::unreached) lists
/// the variables the graph does not reach, and nothing is ever said of what was not seen.
///
/// ```
/// use candling::{Trace, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(2, 4, vb.pp("l1"))?, candle_nn::linear(4, 1, vb.pp("l2"))?);
/// let x = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
///
/// let trace = Trace::record(&vars, || l2.forward(&l1.forward(&x)?.relu()?))?;
/// let names: Vec<&str> = trace.layers().iter().map(|layer| layer.name()).collect();
/// assert_eq!(names, ["l1", "l2"]);
/// assert_eq!(trace.get("l1").unwrap().dims(), [3, 4]);
/// assert!(trace.unreached().is_empty());
/// # candling::Result::Ok(())
/// ```
pub struct Trace {
    graph: Graph,
    layers: Vec<Layer>,
    unreached: Vec<String>,
    recorder: Recorder,
    output: Tensor,
}

/// A named intermediate.
#[derive(Clone, Debug)]
pub struct Layer {
    name: String,
    value: Tensor,
    tapped: bool,
}

impl Layer {
    /// The prefix of the module's variables, or the name given to [`tap`](crate::tap).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, with its graph.
    pub fn value(&self) -> &Tensor {
        &self.value
    }
}

impl Trace {
    /// Runs `forward` and keeps what it computed.
    ///
    /// `vars` are those the layers are named after. The result of `forward` is an output or a loss; nothing is changed.
    ///
    /// # Errors
    ///
    /// The error of `forward`.
    pub fn record<V, F>(vars: &V, forward: F) -> Result<Self>
    where
        V: Variables + ?Sized,
        F: FnOnce() -> candle_core::Result<Tensor>,
    {
        let vars = sorted(vars);
        let forward = || forward().map_err(|e| Failure::from_candle("the closure of the trace", e));
        stack::deep(|| Self::of(&vars, forward))
    }

    pub(crate) fn of(
        vars: &[(String, Var)],
        forward: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Self> {
        let recorder = Recorder::default();
        let output = recorder.listen(forward)?;
        let graph = Graph::of(&output, vars);
        let mut layers: Vec<Layer> = (graph.modules().into_iter())
            .map(|(name, node)| {
                let value = graph.nodes()[node].tensor.clone();
                Layer { name, value, tapped: false }
            })
            .collect();
        let tapped = recorder.values.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        layers.extend(tapped.iter().map(|(name, value)| Layer {
            name: name.clone(),
            value: value.clone(),
            tapped: true,
        }));
        drop(tapped);
        layers.sort_by_key(|layer| created(layer.value.id()));
        let unreached = graph.unreached().into_iter().map(str::to_owned).collect();
        Ok(Self { graph, layers, unreached, recorder, output })
    }

    /// What the closure returned, with its graph.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// Every named intermediate, in the order they were computed.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The first layer of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.layers.iter().find(|layer| layer.name == name).map(Layer::value)
    }

    /// The gradient that came by at that [`tap`](crate::tap) in the last backward pass through it; `None` before one,
    /// and for a layer that was not tapped.
    pub fn gradient(&self, name: &str) -> Option<Tensor> {
        let gradients =
            self.recorder.gradients.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (gradients.iter().rev()).find(|(tapped, _)| tapped == name).map(|(_, grad)| grad.clone())
    }

    /// The variables that the graph does not reach, sorted by name: nothing uses them, or the graph ends before them.
    pub fn unreached(&self) -> &[String] {
        &self.unreached
    }

    /// The place where the first value that is not finite appeared, as far as the graph reaches: a layer's name, or
    /// `after` one. `None` where every value is finite.
    ///
    /// # Errors
    ///
    /// candle's, from the device.
    pub fn first_not_finite(&self) -> Result<Option<String>> {
        for layer in self.layers.iter().filter(|layer| layer.tapped) {
            if !is_finite(&layer.value)? && self.graph.first_not_finite()?.is_none() {
                return Ok(Some(layer.name.clone()));
            }
        }
        let Some(node) = self.graph.first_not_finite()? else { return Ok(None) };
        let place = self.graph.place(node, &self.graph.modules());
        Ok(Some(place.unwrap_or_else(|| "before the first named layer".to_owned())))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Trace {
    /// A line a layer: its name, dtype and dimensions, root mean square, and the share of zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        for Layer { name, value, .. } in &self.layers {
            let kind = format!("{} {:?}", value.dtype().as_str(), value.dims());
            let elements = value.elem_count().max(1) as f64;
            let rms = norm(value).map_or(f64::NAN, |norm| norm / elements.sqrt());
            let zeros = to_f64_vec(value).map_or(0, |v| v.iter().filter(|v| **v == 0.0).count());
            let share = number(100.0 * zeros as f64 / elements);
            writeln!(f, "{name:<width$}  {kind:<18}  rms {:<8}  {share} % zero", number(rms))?;
        }
        match self.unreached.as_slice() {
            [] => Ok(()),
            unreached => writeln!(
                f,
                "not reached: {} ({})",
                unreached.join(", "),
                count(unreached.len(), "variable"),
            ),
        }
    }
}
