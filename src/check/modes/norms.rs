//! Running statistics: moved by training, by training alone, towards the batch's own, and used by evaluation.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};

use super::{evaluation::Evaluation, passes::Passes, report::NormSeen};
use crate::{
    Cause, Finding, Result, Seed,
    check::function,
    learner::is_running_statistic,
    measure::{
        scan::is_finite,
        values::{extent, same_bits, to_f64_vec},
    },
    verdict::{listed, number},
};

/// A momentum within this of 1 keeps nothing of the batches before.
const ALL_OF_IT: f64 = 1e-3;

/// So many passes are tried for statistics that stay where they are.
const LEFT_OUT: usize = 16;

/// What was seen of the running statistics.
pub(super) struct Norms {
    pub(super) seen: Vec<NormSeen>,
    pub(super) settled_gap: Option<f64>,
    pub(super) findings: Vec<Finding>,
}

/// One running statistic.
struct Statistic {
    name: String,
    var: Var,
    /// A training pass moves it: from where it is, or from values that are far off.
    moves: bool,
    momentum: Option<f64>,
    /// Evaluation changes with it.
    used: Option<bool>,
}

/// `moved`: the variables that a training pass changed, and that get no gradient. `training`: the output of training passes,
/// where they have one. `runs`: whether the layer of that name is known to run in training passes.
pub(super) fn look(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
    moved: &[String],
    training: Option<&Tensor>,
    runs: &dyn Fn(&str) -> bool,
) -> Result<Norms> {
    let variables = passes.learner.variables().iter();
    let wanted = |(name, var): &&(String, Var)| {
        // A count of batches is no average, and nothing that evaluation would use.
        let counts = name.ends_with("num_batches_tracked");
        var.dtype().is_float() && !counts && (moved.contains(name) || is_running_statistic(name))
    };
    let found: Vec<(String, Var)> = variables.filter(wanted).cloned().collect();
    if found.is_empty() {
        return Ok(Norms { seen: Vec::new(), settled_gap: None, findings: Vec::new() });
    }
    let mut statistics = Vec::with_capacity(found.len());
    let measured = momenta(passes, &found)?;
    for ((name, var), measured) in found.into_iter().zip(measured) {
        let moves = moved.contains(&name) || measured.is_none_or(|m| m.moves);
        let momentum = measured.and_then(|m| m.momentum).filter(|_| moves);
        let used = is_used(passes, evaluation, &name, &var)?;
        statistics.push(Statistic { name, var, moves, momentum, used });
    }
    let settled_gap = match training.filter(|_| evaluation.is_steady) {
        Some(training) => settled_gap(passes, &statistics, training)?,
        None => None,
    };
    passes.restore()?;
    let mut layers: BTreeMap<String, Vec<Statistic>> = BTreeMap::new();
    for statistic in statistics {
        let layer = statistic.name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned();
        layers.entry(layer).or_default().push(statistic);
    }
    let mut norms = Norms { seen: Vec::new(), settled_gap, findings: Vec::new() };
    let mut mixed: Option<Option<String>> = None;
    for (layer, statistics) in layers {
        if statistics.iter().any(|statistic| is_running_statistic(&statistic.name)) {
            let mut mixes = || -> Result<Option<String>> {
                if mixed.is_none() {
                    mixed = Some(mixes_rows(passes, evaluation)?);
                }
                Ok(mixed.clone().flatten())
            };
            norms.findings.extend(judged(passes, &layer, &statistics, &mut mixes, runs(&layer))?);
        }
        norms.seen.push(seen(layer, &statistics));
    }
    Ok(norms)
}

fn seen(layer: String, statistics: &[Statistic]) -> NormSeen {
    let used: Vec<bool> = statistics.iter().filter_map(|statistic| statistic.used).collect();
    NormSeen {
        layer,
        statistics: statistics.iter().map(|statistic| statistic.name.clone()).collect(),
        moves: statistics.iter().any(|statistic| statistic.moves),
        momentum: statistics.iter().find_map(|statistic| statistic.momentum),
        used_in_eval: (!used.is_empty()).then(|| used.contains(&true)),
    }
}

fn judged(
    passes: &Passes<'_, '_>,
    layer: &str,
    statistics: &[Statistic],
    mixes: &mut dyn FnMut() -> Result<Option<String>>,
    runs: bool,
) -> Result<Option<Finding>> {
    let place = |statistics: &[&Statistic]| {
        let names: Vec<&str> = statistics.iter().map(|s| s.name.as_str()).collect();
        match layer.is_empty() || names.len() < 2 {
            true => listed(&names),
            false => layer.to_owned(),
        }
    };
    let all: Vec<&Statistic> = statistics.iter().collect();
    // Where evaluation does not notice any of them it normalises by something else.
    let unused = all.iter().all(|statistic| statistic.used == Some(false));
    if unused && let Some(evidence) = mixes()? {
        let evidence = format!(
            "evaluation does not notice its running statistics, and {evidence}: it normalises by the batch's own"
        );
        return Ok(Some(Finding::confirmed(Cause::NormStatsOfBatch, evidence).at(place(&all))));
    }
    let stays: Vec<&Statistic> = (all.iter().copied())
        .filter(|s| !s.moves && !passes.learner.is_frozen(&s.name))
        // A norm that takes no mean off (`remove_mean: false`) has a mean that stays 0.
        .filter(|s| !s.name.ends_with("running_mean") || all.iter().all(|other| !other.moves))
        .collect();
    let noticed = stays.iter().any(|statistic| statistic.used != Some(false));
    if !stays.is_empty() && noticed && runs {
        let names: Vec<&str> = stays.iter().map(|s| s.name.as_str()).collect();
        let values: Vec<String> = stays.iter().map(|s| range(s.var.as_tensor())).collect();
        let evidence = format!(
            "no training pass moves {}: they stay at {}, also when they are set far off",
            names.join(" and "),
            values.join(" and "),
        );
        let evidence = match stays.len() {
            1 => {
                evidence.replace(": they stay", ": it stays").replace("when they are", "when it is")
            }
            _ => evidence,
        };
        return Ok(Some(Finding::confirmed(Cause::NormStatsFrozen, evidence).at(place(&stays))));
    }
    let idle: Vec<&Statistic> = all
        .iter()
        .copied()
        .filter(|s| is_running_statistic(&s.name) && s.moves && s.used == Some(false))
        .collect();
    if !idle.is_empty() {
        let evidence = "training moves it, and evaluation does not notice when it is moved";
        let finding = Finding::confirmed(Cause::VariableUnused, evidence).at(place(&idle));
        return Ok(Some(finding.advice_is(
            "normalise by the running statistics in evaluation: training keeps them for nothing else",
        )));
    }
    let momentum = all.iter().find_map(|s| s.momentum.map(|momentum| (*s, momentum)));
    Ok(match momentum {
        Some((_, momentum)) if (momentum - 1.0).abs() <= ALL_OF_IT => {
            let evidence = "each training pass replaces its running statistics: a momentum of 1 keeps those of the last batch alone";
            let finding = Finding::confirmed(Cause::NormStatsOfBatch, evidence).at(place(&all));
            Some(finding.advice_is(
                "momentum is the share of the new batch in candle and PyTorch, 0.1 as a rule, and 1 minus that in Keras",
            ))
        }
        Some((statistic, momentum)) if !(-ALL_OF_IT..=2.0).contains(&momentum) => {
            let evidence = format!(
                "each training pass multiplies {} by {}, and adds to it: it grows without end",
                statistic.name,
                number(1.0 - momentum),
            );
            Some(Finding::possible(Cause::NotFinite, evidence).at(statistic.name.clone()))
        }
        _ => None,
    })
}

/// `0`; `0.8..1.2`.
fn range(tensor: &Tensor) -> String {
    let values = to_f64_vec(tensor).unwrap_or_default();
    match extent(&values) {
        Some((low, high)) if low == high => number(low),
        Some((low, high)) => format!("{}..{}", number(low), number(high)),
        None => "nothing".to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Measured {
    moves: bool,
    momentum: Option<f64>,
}

/// What a training pass makes of statistics that are far off, at `a` and at `2 a`: the batch's own statistic comes out the
/// same, so that the difference is `(1 - momentum) a`. `None` where the pass fails on such values.
///
/// A cumulative average, which divides by the number of passes, replaces its statistics in the first one. Two passes go
/// before.
fn momenta(passes: &Passes<'_, '_>, statistics: &[(String, Var)]) -> Result<Vec<Option<Measured>>> {
    let none = || vec![None; statistics.len()];
    passes.restore()?;
    for _ in 0..2 {
        if passes.forward(passes.x, true).is_err() {
            return Ok(none());
        }
    }
    let mut far = Vec::with_capacity(statistics.len());
    for (_, var) in statistics {
        let values = to_f64_vec(var.as_tensor())?;
        let size = extent(&values).map_or(1.0, |(low, high)| low.abs().max(high.abs()));
        // In half precision larger numbers would be out of range.
        let times = if var.dtype() == DType::F16 { 64.0 } else { 1024.0 };
        far.push(times * if size.is_finite() { size.max(1.0) } else { 1.0 });
    }
    // From the same state each time: what is counted is put back.
    let state = crate::Snapshot::take(passes.learner.variables())?;
    let far_off = |times: f64| -> Result<Option<Vec<Vec<f64>>>> {
        let mut values: Vec<Vec<f64>> = Vec::new();
        // A layer that is left out at random moves its statistics in some passes alone.
        for _ in 0..LEFT_OUT {
            state.restore()?;
            for ((_, var), far) in statistics.iter().zip(&far) {
                let to = Tensor::full(far * times, var.shape(), &candle_core::Device::Cpu)?;
                var.set(&to.to_dtype(var.dtype())?.to_device(var.device())?)?;
            }
            if passes.forward(passes.x, true).is_err() {
                return Ok(None);
            }
            let mut all_moved = true;
            for (at, ((_, var), far)) in statistics.iter().zip(&far).enumerate() {
                let now = to_f64_vec(var.as_tensor())?;
                let stays = |values: &[f64]| values.iter().all(|v| *v == far * times);
                match values.get_mut(at) {
                    None => values.push(now),
                    Some(before) if stays(before) => *before = now,
                    Some(_) => {}
                }
                all_moved &= !stays(&values[at]);
            }
            if all_moved {
                break;
            }
        }
        Ok(Some(values))
    };
    let (Some(once), Some(twice)) = (far_off(1.0)?, far_off(2.0)?) else { return Ok(none()) };
    let mut measured = Vec::with_capacity(statistics.len());
    for ((once, twice), far) in once.iter().zip(&twice).zip(&far) {
        let [moves_once, moves_twice] = [(once, 1.0), (twice, 2.0)]
            .map(|(values, times)| values.iter().any(|v| *v != times * far));
        let moves = moves_once || moves_twice;
        let kept: Vec<f64> = once.iter().zip(twice).map(|(a, b)| (b - a) / far).collect();
        // Of a moving average all elements move by one law.
        let momentum = extent(&kept)
            .filter(|(low, high)| (high - low).abs() <= 0.02 && low.is_finite())
            .map(|(low, high)| 1.0 - (low + high) / 2.0)
            .map(|m| (m * 1e3).round() / 1e3)
            .filter(|_| moves_once && moves_twice);
        measured.push(Some(Measured { moves, momentum }));
    }
    Ok(measured)
}

/// How far evaluation is from training when every moving average is at its fixed point, `old + (new - old) / momentum` of
/// one pass. A running variance may be the biased one or, of `n` values, `n / (n - 1)` times as large.
fn settled_gap(
    passes: &Passes<'_, '_>,
    statistics: &[Statistic],
    training: &Tensor,
) -> Result<Option<f64>> {
    let averages = statistics.iter().filter_map(|s| Some((s, s.momentum.filter(|m| *m > 0.0)?)));
    let averages: Vec<(&Statistic, f64)> = averages.collect();
    if averages.is_empty() {
        return Ok(None);
    }
    passes.restore()?;
    let mut fixed = Vec::with_capacity(averages.len());
    for (statistic, _) in &averages {
        fixed.push(statistic.var.as_tensor().copy()?.detach());
    }
    if passes.forward(passes.x, true).is_err() {
        return Ok(None);
    }
    for ((statistic, momentum), old) in averages.iter().zip(&mut fixed) {
        let step = (statistic.var.as_tensor().copy()?.detach() - &*old)?;
        *old = (&*old + (step / *momentum)?)?;
    }
    let wanted = to_f64_vec(training)?;
    let size = wanted.iter().map(|v| v * v).sum::<f64>().sqrt();
    let rows = passes.rows() as f64;
    let mut nearest: Option<f64> = None;
    for of_variance in [1.0, (rows - 1.0) / rows] {
        passes.restore()?;
        for ((statistic, _), fixed) in averages.iter().zip(&fixed) {
            let is_variance = statistic.name.ends_with("running_var");
            statistic.var.set(&(fixed * if is_variance { of_variance } else { 1.0 })?)?;
        }
        let Ok(output) = passes.forward(passes.x, false) else { return Ok(None) };
        if output.dims() != training.dims() {
            return Ok(None);
        }
        let squares =
            to_f64_vec(&output)?.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let gap = squares.sqrt() / size;
        nearest = Some(nearest.map_or(gap, |nearest| nearest.min(gap)));
    }
    Ok(nearest.filter(|gap| gap.is_finite()))
}

/// Whether evaluation changes with a statistic. Where it does not, variables that are all zero may hide it: a block whose
/// last scale starts at zero.
fn is_used(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
    name: &str,
    var: &Var,
) -> Result<Option<bool>> {
    if !evaluation.is_steady {
        return Ok(None);
    }
    passes.restore()?;
    let moved = elsewhere(var, name)?;
    var.set(&moved)?;
    let Ok(output) = passes.forward(passes.x, false) else { return Ok(None) };
    if !same_bits(&output.detach(), &evaluation.output)? {
        return Ok(Some(true));
    }
    passes.restore()?;
    if !fill_zeros(passes)? {
        return Ok(Some(false));
    }
    let Ok(before) = passes.forward(passes.x, false) else { return Ok(None) };
    var.set(&moved)?;
    let Ok(after) = passes.forward(passes.x, false) else { return Ok(None) };
    Ok(Some(!same_bits(&after.detach(), &before.detach())?))
}

/// Other values of the statistic, positive where they were.
fn elsewhere(var: &Var, name: &str) -> Result<Tensor> {
    let draws = Seed::new(0).uniform(name, 1.0..2.0, var.shape(), DType::F32, var.device())?;
    let moved = (var.as_tensor().to_dtype(DType::F32)?.detach() * 1.5)?.add(&draws)?;
    Ok(moved.to_dtype(var.dtype())?)
}

/// Gives variables that may train and are all zero other values; `false` where there are none.
pub(super) fn fill_zeros(passes: &Passes<'_, '_>) -> Result<bool> {
    let mut any = false;
    for (name, var) in passes.learner.variables() {
        let values = to_f64_vec(var.as_tensor())?;
        if !var.dtype().is_float() || is_running_statistic(name) || values.iter().any(|v| *v != 0.0)
        {
            continue;
        }
        let draws = Seed::new(0).normal(name, var.shape(), DType::F32, var.device())?;
        var.set(&(draws * 0.1)?.to_dtype(var.dtype())?)?;
        any = true;
    }
    Ok(any)
}

/// Whether the first row of evaluation depends on the others: they get other values, and the number of rows stays, so that
/// the same kernels run.
fn mixes_rows(passes: &Passes<'_, '_>, evaluation: &Evaluation) -> Result<Option<String>> {
    let rows = passes.rows();
    if rows < 2 || !evaluation.is_steady || evaluation.output.dims().first() != Some(&rows) {
        return Ok(None);
    }
    let others = function::alternatives(passes.x, Seed::new(0))?;
    let mut x = Vec::with_capacity(others.len());
    for (own, other) in passes.x.iter().zip(others) {
        let own = own.detach();
        x.push(match other {
            Some(other) => Tensor::cat(&[own.narrow(0, 0, 1)?, other.narrow(0, 1, rows - 1)?], 0)?,
            None => own,
        });
    }
    passes.restore()?;
    let Ok(output) = passes.forward(&x, false) else { return Ok(None) };
    let output = output.detach();
    if output.dims() != evaluation.output.dims() {
        return Ok(None);
    }
    let (a, b) = (output.narrow(0, 0, 1)?, evaluation.output.narrow(0, 0, 1)?);
    if same_bits(&a.contiguous()?, &b.contiguous()?)? {
        return Ok(None);
    }
    let (a, b) = (to_f64_vec(&a)?, to_f64_vec(&b)?);
    let most = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Ok(Some(format!("its first row moves by {} when the other rows change", number(most))))
}

/// A training pass that leaves NaN or infinity in a running statistic.
pub(super) fn not_finite(passes: &Passes<'_, '_>) -> Result<Option<Finding>> {
    let mut bad = Vec::new();
    for (name, var) in passes.named_statistics() {
        if !is_finite(var.as_tensor())? {
            bad.push(name);
        }
    }
    let names: Vec<&str> = bad.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let finding = Finding::confirmed(
        Cause::NotFinite,
        "NaN or infinite after one training pass, and with them everything in evaluation, for good",
    )
    .at(listed(&names));
    Ok(Some(match passes.rows() {
        1 => finding.advice_is(
            "the variance of one value is 0/0: train batch norm on two rows or more, and drop a last batch of one",
        ),
        _ => finding.advice_is(
            "look at what the norm is given: one row at a time (the variance of one value is 0/0), or NaN",
        ),
    }))
}
