//! What `assert_gradients_flow!` says of a model's variables.

use candle_core::{Result, Tensor};
use candling::{
    Batch, Cause, Failure, Learner,
    check::{GradientVerdict, GradientsFlow},
};

/// The verdicts on all variables, and the operations that the failure's text names as the ones that cut.
pub(crate) struct Flows {
    pub(crate) verdicts: Vec<GradientVerdict>,
    pub(crate) named: Vec<&'static str>,
}

impl Flows {
    pub(crate) fn of(learner: &Learner<'_>, batch: &Batch) -> candling::Result<Self> {
        let named = match GradientsFlow::new().check(learner, batch) {
            Ok(_) => Vec::new(),
            Err(failure) => operations(&failure),
        };
        // What is cut or unused is what is counted here, not what is wrong with the model.
        let counted = [Cause::GradientCut, Cause::VariableUnused];
        let lenient = counted.into_iter().fold(GradientsFlow::new(), GradientsFlow::allow);
        let report = lenient.check(learner, batch)?;
        let verdicts = report.variables.iter().map(|variable| variable.verdict).collect();
        Ok(Self { verdicts, named })
    }

    pub(crate) fn count(&self, verdict: GradientVerdict) -> usize {
        self.verdicts.iter().filter(|v| **v == verdict).count()
    }
}

/// A `?` stands for a finding that names none.
fn operations(failure: &Failure) -> Vec<&'static str> {
    const KNOWN: [&str; 4] = ["LayerNorm", "RmsNorm", "softmax_last_dim", "rope"];
    let mut named = Vec::new();
    for finding in failure.findings().iter().filter(|f| f.cause() == Cause::GradientCut) {
        let of_this = KNOWN.iter().filter(|operation| finding.evidence().contains(**operation));
        let before = named.len();
        named.extend(of_this);
        if named.len() == before {
            named.push("?");
        }
    }
    named.sort_unstable();
    named.dedup();
    named
}

/// The first row of a batch.
pub(crate) fn one_row(batch: &Batch) -> Result<Batch> {
    let first = |t: &Tensor| t.narrow(0, 0, 1)?.contiguous();
    let Some(target) = batch.target() else { candle_core::bail!("no targets") };
    Ok(match batch.input() {
        [only] => (first(only)?, first(target)?).into(),
        [one, other] => ([first(one)?, first(other)?], first(target)?).into(),
        more => candle_core::bail!("{} inputs", more.len()),
    })
}
