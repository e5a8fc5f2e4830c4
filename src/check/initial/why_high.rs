//! Why a loss starts too high: one thing is changed, and the loss looked at again.
//!
//! Nothing is trained. Cost: one evaluation for the input, one for weights that are off scale, and one for each variable.

use std::collections::HashMap;

use candle_core::{Tensor, Var};

use super::{
    role::Role,
    scale::{self, Off},
    start::{Seen, Side, Start},
};
use crate::{
    Cause, Finding, Result,
    diagnose::{Shown, standardised},
    measure::{
        formula::{Kind, matching},
        values::{extent, to_f64_vec},
        vectors::root_mean_square,
    },
    verdict::{count, listed, number},
};

/// Biases are drawn from -1..1 or start at 0; a forget gate's is 1 or 2. Above this one may be what is wrong.
const LARGEST_BIAS: f64 = 3.0;
/// Above so many variables none is tried by itself.
const MOST_TRIED: usize = 200;

/// None where the loss is above its band, and not far, and nothing explains it.
pub(super) fn findings(start: &Start<'_, '_>, seen: &Seen) -> Result<Shown> {
    let mut shown = Shown::default();
    if let Some(summed) = summed(start, seen.loss)? {
        shown.findings.push(summed);
        return Ok(shown);
    }
    let experiments: [Experiment; 4] = [input_rescaled, weights_rescaled, bias_at_zero, tied_table];
    run(&experiments, start, seen, &mut shown)?;
    if !shown.findings.is_empty() {
        return Ok(shown);
    }
    if seen.side == Side::Far {
        shown.findings.push(Finding::confirmed(Cause::InitialLossHigh, beside_theory(seen)));
    }
    Ok(shown)
}

/// What the scales of input and weights explain: all that is asked of a loss that is not finite.
pub(super) fn of_scales(start: &Start<'_, '_>, seen: &Seen) -> Result<Shown> {
    let mut shown = Shown::default();
    run(&[input_rescaled, weights_rescaled], start, seen, &mut shown)?;
    Ok(shown)
}

type Experiment = fn(&Start<'_, '_>, &Seen, &mut Shown) -> Result<()>;

/// One after another, up to the first that explains the loss.
fn run(
    experiments: &[Experiment],
    start: &Start<'_, '_>,
    seen: &Seen,
    shown: &mut Shown,
) -> Result<()> {
    for experiment in experiments {
        experiment(start, seen, shown)?;
        if !shown.findings.is_empty() {
            break;
        }
    }
    Ok(())
}

/// `the loss is 61.3, 26.6 times the 2.3 of an undecided model`.
pub(super) fn beside_theory(seen: &Seen) -> String {
    let (loss, center) = (seen.loss, seen.band.center);
    match center > 0.0 && loss > 0.0 {
        true => {
            let times = number(loss / center);
            format!("the loss is {}, {times} times the {} expected", number(loss), number(center))
        }
        false => format!("the loss is {}, where {} is expected", number(loss), number(center)),
    }
}

/// A sum of what should be a mean, told by its value.
fn summed(start: &Start<'_, '_>, loss: f64) -> Result<Option<Finding>> {
    let Some(target) = start.batch.target() else { return Ok(None) };
    let Some(output) = start.learner.evaluate(start.batch, true)?.output else { return Ok(None) };
    let formulas = matching(&output, target, loss)?;
    let is_mean = formulas.iter().any(|formula| !formula.summed && !formula.negated);
    let summed = formulas.iter().find(|formula| formula.summed && !formula.negated);
    let Some(formula) = summed.filter(|_| !is_mean) else { return Ok(None) };
    let terms = target.elem_count();
    let evidence = format!(
        "the loss is the sum of {}, by its value; their mean is {}",
        count(terms, term_of(formula.kind)),
        number(loss / terms as f64),
    );
    Ok(Some(Finding::confirmed(Cause::LossReduction, evidence).advice_is(
        "use `mean_all` so that the step does not change with the batch; where the sum is meant, expect \
         `.times(terms)`",
    )))
}

pub(super) fn term_of(kind: Kind) -> &'static str {
    match kind {
        Kind::CrossEntropy => "cross-entropy",
        Kind::NegativeLogLikelihood => "log-likelihood",
        Kind::BinaryCrossEntropyWithLogits => "binary cross-entropy",
        Kind::MeanSquaredError | Kind::BroadcastSquaredError => "squared error",
    }
}

fn input_rescaled(start: &Start<'_, '_>, first: &Seen, shown: &mut Shown) -> Result<()> {
    let Some(other) = standardised(start.batch.input())? else { return Ok(()) };
    // A closure that refuses a changed batch has shown nothing.
    let seen = start.now(&start.batch.with_input(other.members));
    start.before.restore()?;
    let Ok(seen) = seen else { return Ok(()) };
    let scale = format!(
        "the input has mean {} and standard deviation {}; brought to 0 and 1, the loss",
        number(other.mean),
        number(other.std),
    );
    match seen.is_cure_of(first) {
        false => {
            let still = format!("{scale} is still {}", number(seen.loss));
            shown.ruled_out.push((Cause::InputNotScaled, still));
        }
        true => {
            let evidence = format!("{scale} is {}", number(seen.loss));
            shown.findings.push(Finding::confirmed(Cause::InputNotScaled, evidence));
        }
    }
    Ok(())
}

/// Where a weight is too large for its fans, all that are above the usual gain are brought to a gain of 1.
fn weights_rescaled(start: &Start<'_, '_>, first: &Seen, shown: &mut Shown) -> Result<()> {
    let mut large: Vec<(&str, f64)> = Vec::new();
    let mut all: Vec<(&Var, f64)> = Vec::new();
    for (name, var, role) in roles(start) {
        let values = to_f64_vec(var.as_tensor())?;
        let rms = root_mean_square(&values);
        let gain = match scale::judge(role, values.len(), rms) {
            Some(Off::TooLarge { gain, .. }) => {
                large.push((name, gain));
                Some(gain)
            }
            Some(Off::LargeTable { rms }) => {
                large.push((name, rms));
                Some(rms)
            }
            _ => scale::shown_gain(role, rms).filter(|gain| *gain > scale::USUAL_GAIN),
        };
        all.extend(gain.map(|gain| (var, gain)));
    }
    let Some(worst) = large.iter().map(|(_, gain)| *gain).reduce(f64::max) else {
        return Ok(());
    };
    let seen = start.with(|| all.iter().try_for_each(|(var, gain)| shrink(var, *gain)))?;
    let names: Vec<&str> = large.iter().map(|(name, _)| *name).collect();
    let grow = format!("signals grow up to {} times; with a gain of 1, the loss", number(worst));
    match seen.is_cure_of(first) {
        false => {
            let still = format!("{}: {grow} is still {}", listed(&names), number(seen.loss));
            shown.ruled_out.push((Cause::WeightsScale, still));
        }
        true => {
            let evidence = format!("{grow} is {}", number(seen.loss));
            let finding = Finding::confirmed(Cause::WeightsScale, evidence);
            shown.findings.push(finding.at(listed(&names)));
        }
    }
    Ok(())
}

/// The bias without which the loss is fine.
fn bias_at_zero(start: &Start<'_, '_>, first: &Seen, shown: &mut Shown) -> Result<()> {
    let biases = || start.learner.variables().iter().filter(|(name, var)| is_bias(name, var));
    if biases().count() > MOST_TRIED {
        return Ok(());
    }
    let mut best: Option<(&str, f64, f64)> = None;
    for (name, var) in biases() {
        let (low, high) = extent(&to_f64_vec(var.as_tensor())?).unwrap_or((0.0, 0.0));
        if low.abs().max(high.abs()) <= LARGEST_BIAS {
            continue;
        }
        let seen = start.with(|| Ok(var.set(&var.zeros_like()?)?))?;
        if seen.is_cure_of(first) && best.is_none_or(|(_, loss, _)| seen.loss < loss) {
            best = Some((name.as_str(), seen.loss, high.abs().max(low.abs())));
        }
    }
    if let Some((name, loss, largest)) = best {
        let evidence = format!(
            "it reaches {} in size; with zeros there, the loss is {}",
            number(largest),
            number(loss),
        );
        shown.findings.push(Finding::confirmed(Cause::InitialLossHigh, evidence).at(name).advice_is(
            "start the bias at 0, or the last one at what the targets ask for: the logarithm of the classes' shares, or \
             their mean",
        ));
    }
    Ok(())
}

/// A table whose rows are the head's weights as well: a tenth of it cures the loss, and of no other weight.
fn tied_table(start: &Start<'_, '_>, first: &Seen, shown: &mut Shown) -> Result<()> {
    let weights = || roles(start).filter(|(_, _, role)| *role != Role::Apart);
    let is_table = |role: Role| matches!(role, Role::Table | Role::Unclear(_));
    // Of the sums over its rows, as a head.
    let gain_as_head = |var: &Var| -> Result<(f64, f64)> {
        let values = to_f64_vec(var.as_tensor())?;
        let width = var.dims().last().copied().unwrap_or(1) as f64;
        Ok((root_mean_square(&values) * width.sqrt(), scale::usual_gain_of(values.len())))
    };
    if weights().count() > MOST_TRIED || weights().count() < 2 {
        return Ok(());
    }
    let mut cured: Vec<(&str, &Var, f64, Role)> = Vec::new();
    for (name, var, role) in weights() {
        let seen = start.with(|| shrink(var, 10.0))?;
        if seen.is_cure_of(first) {
            cured.push((name, var, seen.loss, role));
        }
    }
    // In a chain of layers a tenth of any of them is a tenth of the output, and tells nothing.
    let [(name, var, loss, role)] = cured[..] else { return Ok(()) };
    let (gain, usual) = gain_as_head(var)?;
    if is_table(role) && gain > usual {
        let evidence = format!(
            "as a head it has a gain of {}; with a tenth of it the loss is {}, and with a tenth of no other weight",
            number(gain),
            number(loss),
        );
        shown.findings.push(Finding::confirmed(Cause::InitialLossHigh, evidence).at(name).advice_is(
            "the outputs are sums over its rows: an embedding that is the head, too, starts at a standard deviation of \
             0.02, or 1/sqrt(width)",
        ));
    }
    Ok(())
}

fn is_bias(name: &str, var: &Var) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    var.dtype().is_float() && last.contains("bias")
}

/// Each variable with its name and what it is to the model.
pub(super) fn roles<'s>(
    start: &'s Start<'_, '_>,
) -> impl Iterator<Item = (&'s str, &'s Var, Role)> {
    let variables = start.learner.variables();
    let all: HashMap<&str, &Var> =
        variables.iter().map(|(name, var)| (name.as_str(), var)).collect();
    variables.iter().map(move |(name, var)| (name.as_str(), var, Role::of(name, var, &all)))
}

fn shrink(var: &Var, times: f64) -> Result<()> {
    let smaller: Tensor = (var.as_tensor() / times)?;
    Ok(var.set(&smaller.detach())?)
}
