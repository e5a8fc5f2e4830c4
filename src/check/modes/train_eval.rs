use std::panic::Location;

use candle_core::Tensor;

use super::{
    DropoutRates, TrainEvalModesReport, evaluation, norms,
    passes::Passes,
    report::{dropout_table, norm_table},
    training::Training,
};
use crate::{
    Cause, Failure, Finding, Input, Learner, Result,
    check::{call, function},
    learner::is_running_statistic,
    verdict::listed,
};

/// Training and evaluation mode do what they say.
///
/// The learner is one of [`Learner::with_modes`], whose forward closure takes `train`; `x` is an input of it, a few rows
/// (16 or more show most) of any dtype. No target and no step is needed: both modes are run on `x`, and each pass starts
/// from the same variables.
///
/// # What must hold
///
/// - *Evaluation* repeats bit for bit, also after other inputs; it writes to no variable.
/// - *Dropout*: where it is declared (`dropout`), training passes differ, each place in sight drops a share that is
///   declared, and multiplies what it keeps by `1/(1-p)` (or evaluation multiplies all by `1-p`, as in the first paper).
///   Each row has a mask of its own, and each pass a new one. Where nothing is declared, random training is no failure:
///   the report has what is dropped and where, and only the numbers of known mistakes are one (a scale of `1/p`, of `1-p`,
///   or twice).
/// - *Running statistics* (variables named `running_mean`, `running_var`, and others that a training pass writes to and
///   that have no gradient) move in training, stay in evaluation, and are what evaluation uses. A momentum of 1, which
///   keeps the last batch's alone, is a failure. Statistics of layers declared frozen may stay.
/// - No other variable moves without a step, and nothing becomes NaN.
///
/// # How a mask is seen
///
/// A mask is inside the operation that applied it. What shows in the autograd graph of a training pass is a value that is
/// another one times 0 or times one number, in every element: so rate and scale are read off where they are applied, not
/// guessed from the output, which any layer behind it bends. The input is traced as a variable is, so that all float
/// values are in the graph, and dropout on weights, on attention's probabilities, of whole channels, of words and of
/// blocks shows as well. candle's fused operations (`LayerNorm::forward`, `softmax_last_dim`, ..) end the graph: what is
/// dropped before the last of them is not seen, and the report says where that is. Then it is only checked that training
/// passes differ.
///
/// Rates are counted over all passes, in draws (one for a channel, where a channel is dropped as a whole), and compared by
/// Chernoff's bound with a chance of 2e-9 (six sigma) for all places together: candle's generator has no seed on a CPU, and
/// a suite runs many times. A rate that is four sigma off is drawn on, four times as many passes. A scale is exact. Where a
/// declared rate is not found, as many passes are run as it takes to see it, at one draw a pass.
///
/// # Not a failure
///
/// A rate of 0; masks shared over time, channels or a whole block; dropout on weights; running statistics of the biased or
/// the unbiased variance; a norm without statistics; a batch norm that cannot train on one row, as long as it is given more;
/// running statistics that are kept outside of the variables (the report says so: they are not saved with them, and nothing
/// can put them back).
///
/// Every variable gets its value back. Cost: 16 training passes with their graphs, and some 15 in evaluation.
///
/// # Failures
///
/// - [`Cause::DropoutInEval`]: confirmed where the place is in sight, else by how the calls differ.
/// - [`Cause::DropoutInactive`]: declared, and training passes are all equal; or a rate of several is found nowhere; or a
///   mask is drawn once and kept.
/// - [`Cause::DropoutRate`], [`Cause::DropoutUnscaled`]: by the numbers; [`Cause::BatchMixed`]: one mask for all rows.
/// - [`Cause::NormStatsFrozen`], [`Cause::NormStatsOfBatch`]; [`Cause::VariableUnused`]: statistics that evaluation does not
///   use.
/// - [`Cause::EvalChangesState`]: evaluation writes to a variable, or to what is none. [`Cause::StateKept`]: a training pass
///   writes to a variable that has a gradient.
/// - [`Cause::NotFinite`]: NaN in the output of a mode, or in a running statistic after a pass: a batch norm on one row.
/// - `Vacuous`: dropout is declared, no pass dropped anything, and by the declared rate that was to be expected.
/// - `NotRun`: a learner without modes, an input without rows or with NaN, a closure that returns an error or panics.
///
/// ```
/// use candling::{check::TrainEvalModes, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 32, vb.pp("l1"))?, candle_nn::linear(32, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (16, 4), DType::F32, &Device::Cpu)?;
/// let with = |p: f32| {
///     let dropout = candle_nn::Dropout::new(p);
///     let (l1, l2) = (&l1, &l2);
///     let forward = move |x: &Tensor, train: bool| {
///         l2.forward(&dropout.forward(&l1.forward(x)?.relu()?, train)?)
///     };
///     Learner::with_modes(&vars, forward, loss::cross_entropy)
/// };
///
/// let report = TrainEvalModes::new().dropout(0.2).check(&with(0.2), &x)?;
/// assert!(report.train_is_random);
/// assert_eq!(report.dropout[0].place, "after l1");
///
/// // Meant was a rate of 0.2: the share to keep is given as the share to drop.
/// let failure = TrainEvalModes::new().dropout(0.2).check(&with(0.8), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::DropoutRate));
/// # candling::Result::Ok(())
/// ```
///
/// *Sources:* N. Srivastava et al., [Dropout](https://jmlr.org/papers/v15/srivastava14a.html) (2014), with the scale in
/// evaluation; `torch.nn.Dropout` and candle scale in training. S. Ioffe, C. Szegedy, [Batch
/// Normalization](https://arxiv.org/abs/1502.03167) (2015); `momentum` as of `torch.nn.BatchNorm1d`. H. Chernoff's bound: A
/// measure of asymptotic efficiency (1952).
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct TrainEvalModes {
    dropout: DropoutRates,
    passes: usize,
    allowed: Vec<Cause>,
}

/// How many training passes are compared.
const PASSES: usize = 16;

impl Default for TrainEvalModes {
    fn default() -> Self {
        Self { dropout: DropoutRates::default(), passes: PASSES, allowed: Vec::new() }
    }
}

impl TrainEvalModes {
    /// No dropout declared, 16 training passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rates of dropout that the model declares: `0.1`, or `[0.1, 0.3]`. Default: none; whatever is found is reported.
    ///
    /// Of several rates each must be found in as many places as it is listed, where all of the graph is in sight.
    pub fn dropout(mut self, rates: impl Into<DropoutRates>) -> Self {
        self.dropout = rates.into();
        self
    }

    /// How many training passes are compared. Default: 16; at least 2. More tell closer rates apart.
    pub fn passes(mut self, passes: usize) -> Self {
        self.passes = passes;
        self
    }

    /// Does not fail for this cause: it is intended here (Monte Carlo dropout, frozen statistics).
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `learner` on `x` in both modes.
    ///
    /// # Errors
    ///
    /// See [`TrainEvalModes`].
    #[track_caller]
    pub fn check<I: Input>(&self, learner: &Learner<'_>, x: &I) -> Result<TrainEvalModesReport> {
        call::run("train_eval_modes", Location::caller(), || self.run(learner, x.members()))
    }

    pub(in crate::check) fn run(
        &self,
        learner: &Learner<'_>,
        x: &[Tensor],
    ) -> Result<TrainEvalModesReport> {
        self.validate(learner)?;
        function::input(x)?;
        let mut passes = Passes::new(learner, x)?;
        passes.traceable(false);
        let output = passes.with_graph(false)?;
        if let Some(finding) = passes.not_a_number(&output, "evaluation")? {
            return Err(Failure::violated("evaluation makes NaN").finding(finding));
        }
        let evaluation = evaluation::look(&passes)?;
        let declared = self.dropout.active();
        let training = Training::run(&mut passes, &evaluation, &declared, self.passes)?;
        let output = training.first.as_ref().filter(|_| !training.is_random);
        let norms = norms::look(&passes, &evaluation, &training.moved, output, &|layer| {
            !training.is_random || training.masks.reaches_any(layer)
        })?;
        let dropout = training.dropout(&passes, &evaluation, &declared);

        let mut findings = training.findings.clone();
        // What evaluation normalises by explains that it moves the statistics.
        let (first, later): (Vec<Finding>, Vec<Finding>) =
            norms.findings.into_iter().partition(|f| f.cause() == Cause::NormStatsOfBatch);
        let explained = !first.is_empty() && !evaluation.moved_statistics.is_empty();
        findings.extend(first);
        let own = evaluation.findings.iter().filter(|finding| {
            let is_statistic = finding.place().is_some_and(is_running_statistic);
            !(explained && is_statistic && finding.cause() == Cause::EvalChangesState)
        });
        findings.extend(own.cloned());
        if explained {
            let names: Vec<&str> = evaluation.moved_statistics.iter().map(String::as_str).collect();
            let evidence = "an evaluation pass moves them, as one in training mode does";
            findings.push(Finding::confirmed(Cause::EvalChangesState, evidence).at(listed(&names)));
        }
        findings.extend(dropout.findings());
        findings.extend(later);
        let hidden_state = evaluation::is_moved_by_training(&passes, &evaluation)?;
        passes.restore()?;

        let allowed = |finding: &Finding| self.allowed.contains(&finding.cause());
        let (allowed, findings): (Vec<Finding>, Vec<Finding>) =
            findings.into_iter().partition(allowed);
        let reported = dropout.reported();
        // One guess at what evaluation does that is allowed allows the others at the same.
        let is_allowed = |cause: Cause| allowed.iter().any(|finding| finding.cause() == cause);
        let (findings, guessed): (Vec<Finding>, Vec<Finding>) = findings
            .into_iter()
            .partition(|finding| finding.is_confirmed() || !is_allowed(Cause::DropoutInEval));
        let allowed = allowed.into_iter().chain(guessed).collect();
        if findings.is_empty() {
            return Ok(TrainEvalModesReport {
                train_is_random: training.is_random,
                passes: training.passes,
                dropout: reported,
                norms: norms.seen,
                settled_gap: norms.settled_gap,
                hidden_state,
                unreached: training.unreached(&passes),
                allowed,
            });
        }
        let mut failure = Failure::violated(headline(&findings));
        if !reported.is_empty() {
            failure = failure.fact("dropout", dropout_table(&reported).trim_end());
        }
        if !norms.seen.is_empty() {
            failure = failure.fact("norms", norm_table(&norms.seen).trim_end());
        }
        Err(failure.with_findings(findings))
    }

    fn validate(&self, learner: &Learner<'_>) -> Result<()> {
        if !learner.has_modes() {
            return Err(Failure::bad_argument(
                "learner",
                "one whose forward closure knows no modes",
                "a learner from `Learner::with_modes`, whose closure takes `train`",
            ));
        }
        if self.passes < 2 {
            let allowed = "2 or more: a single pass has nothing to be compared with";
            return Err(Failure::bad_argument("passes", self.passes, allowed));
        }
        self.dropout.validate()
    }
}

fn headline(findings: &[Finding]) -> String {
    let confirmed = findings.iter().find(|finding| finding.is_confirmed());
    let what = match confirmed.or(findings.first()).map(Finding::cause) {
        Some(Cause::DropoutInEval) => "evaluation drops values at random",
        Some(Cause::DropoutInactive) => "dropout is declared, and training does without",
        Some(Cause::DropoutUnscaled) => "dropout changes the scale of what it passes on",
        Some(Cause::DropoutRate) => "dropout drops another share than declared",
        Some(Cause::BatchMixed) => "the rows of a batch share one dropout mask",
        Some(Cause::NormStatsFrozen) => "training does not move the running statistics",
        Some(Cause::NormStatsOfBatch) => "evaluation normalises by the statistics of a batch",
        Some(Cause::VariableUnused) => "evaluation does not use the running statistics",
        Some(Cause::EvalChangesState) => "evaluation changes the model",
        Some(Cause::StateKept) => "a training pass changes more than running statistics",
        Some(Cause::NotFinite) if confirmed.is_some() => "training makes NaN",
        Some(Cause::NotFinite) => "running statistics grow without end",
        _ => "training and evaluation mode do not do what they say",
    };
    // Evaluation that cannot be told from dropout by its outputs.
    match (what, confirmed) {
        ("evaluation drops values at random", None) => {
            "evaluation gives another output each time".to_owned()
        }
        _ => what.to_owned(),
    }
}
