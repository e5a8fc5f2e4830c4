use std::{fmt, panic::Location};

use candle_core::{DType, Device, Tensor};

use super::{
    flow_findings::findings,
    judged::{Judged, Judgement},
    table::{VariableGradient, table},
};
use crate::{
    Batch, Cause, Failure, Learner, Result, Snapshot,
    check::{arguments, call},
    measure::{gradients, graph::created, values::scalar},
    verdict::count,
};

/// Every variable that is not frozen gets a gradient: finite, not zero, and of a sane size beside the others.
///
/// candle's optimizers skip a variable without a gradient in silence, and some of candle's operations
/// (`LayerNorm::forward`, `RmsNorm::forward`, `softmax_last_dim`, `rope`) drop it in silence. This check runs one backward
/// pass from the learner's loss and gives every variable a [`GradientVerdict`](crate::check::GradientVerdict). A variable
/// without a gradient is moved: if the result changes, the gradient was *cut*, and the message brackets the operation that
/// cut it; if nothing changes, neither on this batch nor on sixteen others like it, the variable is *unused*.
///
/// # What must hold
///
/// - A gradient arrives, and it is finite.
/// - It is not exactly zero, unless the result does not depend on the variable beyond rounding, and stays so: gates that
///   begin at zero (LoRA, a zeroed head, ReZero) are looked at again after eight steps.
/// - Moving a weight by its own size changes the loss (the product of the norms of gradient and weight) by at least 1e-5
///   of what moving the most telling weight does, or 1e-10 where a weight before it has its gradient. For bias-free ReLU
///   networks that product is the same for all layers.
/// - The gradients together are at most 1,000 times as large as the variables.
///
/// No alarm are: running statistics of a batch norm, frozen variables, experts that no token of this batch was sent to
/// (they do not run, or are weighted by zero) and that other inputs or a router a step further on reach, rows of an
/// embedding that are not looked up, the key bias of an attention and a bias before a norm, whose gradients are zero but
/// for rounding. Rounding is measured on this model, by moving every variable by its last bit.
///
/// The pass runs in training mode. Every variable gets its value back. A passing check costs one forward and one backward
/// pass, and some ten more where a gradient, or a row of one, is zero.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with a table of all variables; `NotRun` for a batch or a learner that cannot
/// be used, or where a closure or the backward pass returns an error.
///
/// # Examples
///
/// ```
/// use candling::{check::GradientsFlow, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(4, 8, vb.pp("l1"))?;
/// let norm = candle_nn::layer_norm(8, 1e-5, vb.pp("norm"))?;
/// let l2 = candle_nn::linear(8, 3, vb.pp("l2"))?;
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
///
/// // candle's own LayerNorm::forward ends the graph:
/// let cut = Learner::new(&vars, |x| l2.forward(&norm.forward(&l1.forward(x)?)?), loss::cross_entropy);
/// let failure = GradientsFlow::new().check(&cut, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::GradientCut));
///
/// let slow = |x: &Tensor| candle_nn::ops::layer_norm_slow(x, norm.weight(), norm.bias().unwrap(), 1e-5);
/// let flows = Learner::new(&vars, |x| l2.forward(&slow(&l1.forward(x)?)?), loss::cross_entropy);
/// let report = GradientsFlow::new().check(&flows, (&x, &y))?;
/// assert_eq!(report.variables.len(), 6);
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct GradientsFlow {
    allowed: Vec<Cause>,
}

/// What a passed [`GradientsFlow`] measured. `Display` is the table of all variables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GradientsFlowReport {
    /// Every variable that may train, in the order the model made them.
    pub variables: Vec<VariableGradient>,
    /// The loss of the pass.
    pub loss: f64,
}

impl fmt::Display for GradientsFlowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table(&self.variables))
    }
}

impl GradientsFlow {
    /// No cause allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs one backward pass of `learner` on `batch`: `(&x, &y)`, or `()` for a learner from [`Learner::from_loss`].
    ///
    /// # Errors
    ///
    /// See [`GradientsFlow`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<GradientsFlowReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("gradients_flow", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<GradientsFlowReport> {
        arguments::learner(learner)?;
        arguments::batch(learner, batch)?;
        let _guard = Snapshot::take(learner.variables())?.guard();
        let began = created(Tensor::zeros((), DType::U8, &Device::Cpu)?.id());
        let first = learner.evaluate(batch, true)?;
        arguments::evaluation(batch, &first)?;
        let pass = gradients::of_evaluation(learner, first)?;
        at_the_floor(&pass)?;
        let judgement = Judgement::of(learner, batch, pass, began)?;

        let findings = call::not_allowed(findings(&judgement)?, &self.allowed);
        let variables = rows(&judgement);
        if findings.is_empty() {
            let loss = scalar(&judgement.pass.evaluation.loss)?;
            return Ok(GradientsFlowReport { variables, loss });
        }
        let wrong = variables.iter().filter(|variable| !variable.verdict.is_fine()).count();
        let headline = format!(
            "{} of {} {} not get the gradient {} should",
            wrong,
            count(variables.len(), "variable"),
            if wrong == 1 { "does" } else { "do" },
            if wrong == 1 { "it" } else { "they" },
        );
        Err(Failure::violated(headline)
            .fact("gradients", table(&variables))
            .with_findings(findings))
    }
}

/// A loss with a margin (a hinge, triplets) is exactly 0 where the margin is kept, and so are all its gradients.
fn at_the_floor(pass: &gradients::Pass) -> Result<()> {
    let all_zero = pass.arrived.iter().all(|arrived| arrived.is_some_and(|a| a.norm == 0.0));
    match all_zero && scalar(&pass.evaluation.loss)? == 0.0 {
        true => {
            Err(Failure::vacuous("the loss is exactly 0 on this batch, and so is every gradient")
                .help("give it a batch that is not fitted already"))
        }
        false => Ok(()),
    }
}

/// The rows of the table.
fn rows(judgement: &Judgement<'_, '_>) -> Vec<VariableGradient> {
    let row = |variable: &Judged| VariableGradient {
        name: variable.name.clone(),
        dims: variable.var.dims().to_vec(),
        verdict: variable.verdict,
        norm: variable.arrived.map(|arrived| arrived.norm),
        size: variable.size,
    };
    judgement.variables.iter().map(row).collect()
}
