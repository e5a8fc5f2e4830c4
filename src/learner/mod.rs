//! What is under test.

mod adamw;
mod changed;
mod optimizer;

use std::{cell::RefCell, fmt, rc::Rc};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;

use crate::{
    Batch, Cause, Failure, Finding, Input, Result, Seed, Variables,
    measure::values::{extent, to_f64_vec},
    variables::{self},
};

pub(crate) use adamw::Seen;
pub(crate) use optimizer::{DEFAULT_LEARNING_RATE, Stepper};

/// What is under test: named variables, a forward closure, a loss closure, and optionally an optimizer.
///
/// The model stays as it is: no trait to implement, no layer to wrap. Closures may be `FnMut`, since many candle models
/// take `&mut self`. A closure written in place infers its types; one bound by `let` needs `|x: &Tensor|`.
///
/// ```
/// use candling::{Learner, Seed, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let model = candle_nn::linear(4, 3, vb)?;
/// let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy).frozen(["bias"]);
/// assert_eq!(learner.variables().len(), 2);
/// # candling::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Learner<'a> {
    variables: Vec<(String, Var)>,
    closures: Closures<'a>,
    optimizer: Option<Shared<'a, optimizer::Make<'a>>>,
    frozen: Vec<String>,
    factory: Option<Factory<'a>>,
}

type Shared<'a, F> = Rc<RefCell<Box<F>>>;
type Forward<'a> = dyn FnMut(&[Tensor], bool) -> candle_core::Result<Tensor> + 'a;
type Loss<'a> = dyn FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a;
type Build<'a> = dyn FnMut(VarBuilder<'static>) -> candle_core::Result<Box<Forward<'a>>> + 'a;

#[derive(Clone)]
enum Closures<'a> {
    Forward(Shared<'a, Forward<'a>>),
    /// `modes`: the forward closure tells training from evaluation.
    ForwardAndLoss {
        forward: Shared<'a, Forward<'a>>,
        loss: Shared<'a, Loss<'a>>,
        modes: bool,
    },
    Loss(Shared<'a, dyn FnMut() -> candle_core::Result<Tensor> + 'a>),
}

#[derive(Clone)]
struct Factory<'a> {
    build: Shared<'a, Build<'a>>,
    dtype: DType,
    device: Device,
}

fn shared<F: ?Sized>(closure: Box<F>) -> Rc<RefCell<Box<F>>> {
    Rc::new(RefCell::new(closure))
}

/// A closure of a typed input as one of its members.
fn erased<'a, I: Input>(
    mut forward: impl FnMut(&I, bool) -> candle_core::Result<Tensor> + 'a,
) -> Box<Forward<'a>> {
    Box::new(move |members, train| match I::from_members(members) {
        Some(input) => forward(&input, train),
        None => candle_core::bail!(
            "the forward closure takes {} but the batch has {}",
            std::any::type_name::<I>().replace("candle_core::tensor::", ""),
            crate::verdict::count(members.len(), "input tensor"),
        ),
    })
}

impl<'a> Learner<'a> {
    /// A model and its loss.
    ///
    /// `forward` maps an [`Input`] (usually a `Tensor` whose first dimension is the batch) to an output; `loss` maps the
    /// output and the targets to a scalar, so that `candle_nn::loss::cross_entropy` fits as it is.
    pub fn new<V, I, F, L>(variables: &V, mut forward: F, loss: L) -> Self
    where
        V: Variables + ?Sized,
        I: Input,
        F: FnMut(&I) -> candle_core::Result<Tensor> + 'a,
        L: FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a,
    {
        let forward = erased(move |x: &I, _| forward(x));
        Self::of(variables, Closures::with_loss(forward, loss, false))
    }

    /// A model that tells training from evaluation (`forward_t(x, train)`): dropout, batch norm.
    ///
    /// Checks that train call it with `true`; the others, and the final look at a fit, with `false`.
    pub fn with_modes<V, I, F, L>(variables: &V, forward: F, loss: L) -> Self
    where
        V: Variables + ?Sized,
        I: Input,
        F: FnMut(&I, bool) -> candle_core::Result<Tensor> + 'a,
        L: FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a,
    {
        Self::of(variables, Closures::with_loss(erased(forward), loss, true))
    }

    /// A loss whose closure owns its data. The batch of its checks is `()`.
    pub fn from_loss<V, L>(variables: &V, loss: L) -> Self
    where
        V: Variables + ?Sized,
        L: FnMut() -> candle_core::Result<Tensor> + 'a,
    {
        Self::of(variables, Closures::Loss(shared(Box::new(loss))))
    }

    /// A model for inference alone: weights from files, quantised models. Checks that need variables or a loss do not
    /// run on it, and say so.
    pub fn forward_only<I, F>(mut forward: F) -> Self
    where
        I: Input,
        F: FnMut(&I) -> candle_core::Result<Tensor> + 'a,
    {
        let forward = erased(move |x: &I, _| forward(x));
        Self::of::<[Var]>(&[], Closures::Forward(shared(forward)))
    }

    /// A model that candling builds, and can build again with another seed or dtype.
    ///
    /// `build` is given a seeded [`VarBuilder`] and returns the forward closure; the learner owns the variables. This
    /// lets checks measure the spread over seeds, and check an f32 model's gradients in f64.
    ///
    /// ```
    /// use candling::{Learner, Seed, prelude::*};
    ///
    /// let learner = Learner::build(Seed::new(7), DType::F32, &Device::Cpu, |vb| {
    ///     let layer = candle_nn::linear(4, 3, vb)?;
    ///     Ok(move |x: &Tensor| layer.forward(x))
    /// }, loss::cross_entropy)?;
    /// let in_f64 = learner.rebuild(Seed::new(7), DType::F64)?;
    /// assert_eq!(in_f64.variables()[0].1.dtype(), DType::F64);
    /// # candling::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of `build`.
    pub fn build<I, B, F, L>(
        seed: Seed,
        dtype: DType,
        device: &Device,
        mut build: B,
        loss: L,
    ) -> Result<Self>
    where
        I: Input,
        B: FnMut(VarBuilder<'static>) -> candle_core::Result<F> + 'a,
        F: FnMut(&I) -> candle_core::Result<Tensor> + 'a,
        L: FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a,
    {
        let mut build = move |vb: VarBuilder<'static>| -> candle_core::Result<Box<Forward<'a>>> {
            let mut forward = build(vb)?;
            Ok(erased(move |x: &I, _| forward(x)))
        };
        let (vars, vb) = seed.var_builder(dtype, device);
        let forward = build(vb).map_err(|e| Failure::from_candle("the build closure", e))?;
        let mut learner = Self::of(&vars, Closures::with_loss(forward, loss, false));
        learner.factory =
            Some(Factory { build: shared(Box::new(build)), dtype, device: device.clone() });
        Ok(learner)
    }

    /// The same model with fresh variables from another seed, in another dtype. Loss, optimizer and frozen names stay.
    ///
    /// # Errors
    ///
    /// A learner that was not made by [`Learner::build`]; the error of the build closure.
    pub fn rebuild(&self, seed: Seed, dtype: DType) -> Result<Self> {
        let Some(factory) = &self.factory else {
            return Err(Failure::bad_argument(
                "learner",
                "one that candling did not build",
                "a learner from `Learner::build`",
            ));
        };
        let (vars, vb) = seed.var_builder(dtype, &factory.device);
        let forward = (factory.build.borrow_mut())(vb)
            .map_err(|e| Failure::from_candle("the build closure", e))?;
        let mut learner = self.clone();
        learner.variables = variables::sorted(&vars);
        if let Closures::ForwardAndLoss { forward: old, .. } = &mut learner.closures {
            *old = shared(forward);
        }
        if let Some(factory) = &mut learner.factory {
            factory.dtype = dtype;
        }
        Ok(learner)
    }

    /// The dtype a learner from [`Learner::build`] was built in; `None` for any other.
    pub fn built_in(&self) -> Option<DType> {
        self.factory.as_ref().map(|factory| factory.dtype)
    }

    fn of<V: Variables + ?Sized>(vars: &V, closures: Closures<'a>) -> Self {
        Self {
            variables: variables::sorted(vars),
            closures,
            optimizer: None,
            frozen: Vec::new(),
            factory: None,
        }
    }

    /// Names, or prefixes of names, of variables that must not train.
    #[must_use]
    pub fn frozen<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.frozen.extend(prefixes.into_iter().map(Into::into));
        self
    }

    /// Every variable, sorted by name.
    pub fn variables(&self) -> &[(String, Var)] {
        &self.variables
    }

    /// Whether a variable of that name is declared frozen.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// The variables an optimizer should move: of a float dtype, not frozen, and no running statistic.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        (self.variables.iter())
            .filter(|(name, var)| {
                var.dtype().is_float() && !self.is_frozen(name) && !is_running_statistic(name)
            })
            .map(|(name, var)| (name.as_str(), var))
    }

    /// Every variable that should not move, with its value: frozen ones, integers, running statistics.
    pub(crate) fn untrained_values(&self) -> Result<Vec<(Var, Tensor)>> {
        let trained: Vec<_> = self.trainable().map(|(_, var)| var.id()).collect();
        let others = self.variables.iter().filter(|(_, var)| !trained.contains(&var.id()));
        others.map(|(_, var)| Ok((var.clone(), var.as_tensor().copy()?.detach()))).collect()
    }

    /// The first declared frozen prefix that names no variable: a typing error that would silently freeze nothing.
    pub(crate) fn frozen_without_effect(&self) -> Option<&str> {
        let names_one = |prefix: &&String| {
            self.variables.iter().any(|(name, _)| name.starts_with(prefix.as_str()))
        };
        self.frozen.iter().find(|prefix| !names_one(prefix)).map(String::as_str)
    }

    /// Whether the forward closure tells training from evaluation.
    pub(crate) fn has_modes(&self) -> bool {
        matches!(self.closures, Closures::ForwardAndLoss { modes: true, .. })
    }

    /// Whether the learner's closure owns its data, so that its batch is `()`.
    pub(crate) fn owns_data(&self) -> bool {
        matches!(self.closures, Closures::Loss(_))
    }

    pub(crate) fn has_loss(&self) -> bool {
        !matches!(self.closures, Closures::Forward(_))
    }

    /// Runs the model in evaluation mode.
    ///
    /// # Errors
    ///
    /// The error of the forward closure; a learner from [`Learner::from_loss`], which has none.
    pub fn forward<I: Input>(&self, input: &I) -> Result<Tensor> {
        self.output(input.members(), false)
    }

    /// Runs the model and its loss, in evaluation mode.
    ///
    /// # Errors
    ///
    /// The error of a closure; a learner from [`Learner::forward_only`], which has no loss.
    pub fn loss(&self, batch: impl Into<Batch>) -> Result<Tensor> {
        Ok(self.evaluate(&batch.into(), false)?.loss)
    }

    pub(crate) fn output(&self, input: &[Tensor], train: bool) -> Result<Tensor> {
        let (Closures::Forward(forward) | Closures::ForwardAndLoss { forward, .. }) =
            &self.closures
        else {
            return Err(Failure::bad_argument(
                "learner",
                "one from `Learner::from_loss`, without a forward closure",
                "a learner with a forward closure",
            ));
        };
        let mut forward = forward.try_borrow_mut().map_err(|_| reentered())?;
        forward(input, train).map_err(|e| Failure::from_candle("the forward closure", e))
    }

    /// The loss of an output that is given; `None` where the learner has no loss closure of outputs.
    pub(crate) fn loss_of(&self, output: &Tensor, batch: &Batch) -> Result<Option<Tensor>> {
        let (Closures::ForwardAndLoss { loss, .. }, Some(target)) =
            (&self.closures, batch.target())
        else {
            return Ok(None);
        };
        let mut loss = loss.try_borrow_mut().map_err(|_| reentered())?;
        loss(output, target).map(Some).map_err(|e| loss_failed(e, output, target))
    }

    pub(crate) fn evaluate(&self, batch: &Batch, train: bool) -> Result<Evaluation> {
        match (&self.closures, batch.target()) {
            (Closures::ForwardAndLoss { loss, .. }, Some(target)) => {
                let output = self.output(batch.input(), train)?;
                let mut loss = loss.try_borrow_mut().map_err(|_| reentered())?;
                let loss = loss(&output, target).map_err(|e| loss_failed(e, &output, target))?;
                Ok(Evaluation { output: Some(output), loss })
            }
            (Closures::Loss(loss), None) => {
                let mut loss = loss.try_borrow_mut().map_err(|_| reentered())?;
                let loss = loss().map_err(|e| Failure::from_candle("the loss closure", e))?;
                Ok(Evaluation { output: None, loss })
            }
            (Closures::Forward(_), _) => Err(Failure::bad_argument(
                "learner",
                "one from `Learner::forward_only`, without a loss",
                "a learner with a loss closure",
            )),
            (Closures::Loss(_), Some(_)) => Err(Failure::bad_argument(
                "batch",
                "an input and targets",
                "`()`: the closure of `Learner::from_loss` owns its data",
            )),
            (Closures::ForwardAndLoss { .. }, None) => {
                Err(Failure::bad_argument("batch", "`()`", "an input and its targets, `(&x, &y)`"))
            }
        }
    }
}

/// One pass through model and loss; no output where the closure owns its data.
pub(crate) struct Evaluation {
    pub(crate) output: Option<Tensor>,
    pub(crate) loss: Tensor,
}

impl<'a> Closures<'a> {
    fn with_loss(
        forward: Box<Forward<'a>>,
        loss: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a,
        modes: bool,
    ) -> Self {
        Self::ForwardAndLoss { forward: shared(forward), loss: shared(Box::new(loss)), modes }
    }
}

/// Batch norm keeps its running statistics as variables of the `VarMap`; they never have a gradient.
pub(crate) fn is_running_statistic(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked")
}

fn loss_failed(error: candle_core::Error, output: &Tensor, target: &Tensor) -> Failure {
    let describe = |t: &Tensor| format!("{:?} {}", t.dims(), t.dtype().as_str());
    let failure = Failure::from_candle("the loss closure", error)
        .fact("output", describe(output))
        .fact("targets", describe(target));
    match outside_classes(output, target) {
        Some(evidence) => failure.finding(Finding::confirmed(Cause::LabelOutOfRange, evidence)),
        None => failure,
    }
}

/// What is wrong with class ids that are none of the output's classes; `None` for targets that are no class ids.
fn outside_classes(output: &Tensor, target: &Tensor) -> Option<String> {
    let classes = *output.dims().last()?;
    if target.dtype().is_float() || target.elem_count() * classes != output.elem_count() {
        return None;
    }
    let (low, high) = extent(&to_f64_vec(target).ok()?)?;
    (low < 0.0 || high >= classes as f64).then(|| {
        format!("the targets reach from {low} to {high}, the output has {classes} classes")
    })
}

fn reentered() -> Failure {
    Failure::not_run("the learner's closure calls the learner it belongs to")
}

impl fmt::Debug for Learner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Learner")
            .field("variables", &names)
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}
