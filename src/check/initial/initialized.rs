use std::{collections::HashMap, fmt, panic::Location};

use candle_core::Var;

use super::{
    copies::{self, Grain},
    judged::{self, Weight},
    role::{Role, is_follower, is_vector},
    scale::{self, Off},
    weights_table::{InitialWeight, WeightVerdict, table},
    wording,
};
use crate::{
    Cause, Failure, Finding, Result, Variables,
    check::call,
    measure::{
        values::{is_readable, to_f64_vec},
        vectors::root_mean_square,
    },
    variables,
    verdict::{count, listed},
};

/// Weights start at random values of a sane size: none constant, none a copy, none far from what its fan-in asks for.
///
/// Units with equal weights get equal gradients and stay equal: a layer of them is one unit. Weights that are too large
/// or too small for their fan-in make signals grow or shrink from layer to layer, until nothing trains (X. Glorot and
/// Y. Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010; K. He et al., *Delving
/// deep into rectifiers*, 2015).
///
/// # What must hold
///
/// - Every entry of every variable is finite.
/// - No weight is constant. Zeros that are meant to be (a gate, LoRA's `B`, a head) are named with
///   [`allow_zero`](Self::allow_zero).
/// - No two rows of a weight are equal bit for bit, and no two weights, where chance makes that less likely than 1 in
///   10^9 in their number format, and where the values look drawn: an identity is no copy of another.
/// - No variable has two names.
/// - With `rms` the root of a weight's mean square, its gain `rms * sqrt(fan)` on the smaller of fan-in and fan-out is at
///   most 3: published initialisations have at most 5/3 there, whichever fan they are made for. On the fan-in, where a
///   bias beside the weight tells which that is, it is at most 10; on the larger fan at least 1e-5, and of most weights
///   of a model at least 0.01, or their entries have a size of at least 0.002. Small weights get room for chance. A table of rows that are looked up adds nothing up: its
///   entries have a size of at most 5.
///
/// How a variable is used is told by the bias beside it, its name and its shape. A matrix that may be a layer or a table
/// is judged by the wider of the two rules.
///
/// Not judged are integers, running statistics, vectors (biases, norms, class tokens; also those with dimensions of 1),
/// masks, and the state matrices of state space models. Tables of positions may be constant or equal. Copies that are
/// named as such (`target`, `ema`, `teacher`, ..) may be equal to what they follow.
///
/// Nothing is run and no variable changes.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with a table of the weights; `NotRun` without variables, or for a name in
/// `allow_zero` that no variable has; `Vacuous` where no variable is a weight.
///
/// # Examples
///
/// ```
/// use candling::{check::Initialized, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// candle_nn::linear(4, 8, vb.pp("l1"))?;
/// let report = Initialized::new().check(&vars)?;
/// assert!(report.weights[0].gain < Some(3.0));
///
/// vb.pp("l2").get((3, 8), "weight")?; // without a hint: zeros
/// let failure = Initialized::new().check(&vars).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::WeightsConstant));
/// Initialized::new().allow_zero(["l2"]).check(&vars)?;
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Initialized {
    zeros: Vec<String>,
    allowed: Vec<Cause>,
}

/// What a passed [`Initialized`] measured. `Display` is a table of the weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InitializedReport {
    /// Every weight that was judged, sorted by name.
    pub weights: Vec<InitialWeight>,
    /// The names of the variables that were not: vectors, norms, statistics, integers. Sorted by name.
    pub not_judged: Vec<String>,
}

impl fmt::Display for InitializedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table(&self.weights))
    }
}

impl Initialized {
    /// No weight may be zero, and no cause is allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weights that are meant to start at zero, by the beginning of their name or by whole parts of it: `lora_b` is in
    /// `blocks.0.query.lora_b.weight`. Default: none.
    pub fn allow_zero<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.zeros.extend(names.into_iter().map(Into::into));
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Looks at the values of all variables: a `VarMap`, a `Vec<Var>`, or a learner's
    /// [`variables`](crate::Learner::variables).
    ///
    /// # Errors
    ///
    /// See [`Initialized`].
    #[track_caller]
    pub fn check<V: Variables + ?Sized>(&self, vars: &V) -> Result<InitializedReport> {
        let (vars, location) = (variables::sorted(vars), Location::caller());
        call::run("initialized", location, || self.run(&vars))
    }

    fn run(&self, vars: &[(String, Var)]) -> Result<InitializedReport> {
        self.validate(vars)?;
        let all: HashMap<&str, &Var> =
            vars.iter().map(|(name, var)| (name.as_str(), var)).collect();
        let mut findings = Vec::new();
        let (mut weights, mut not_judged) = (Vec::new(), Vec::new());
        for (name, var) in vars {
            let values = match is_readable(var.dtype()) {
                true => to_f64_vec(var.as_tensor())?,
                false => Vec::new(),
            };
            let role = if is_mask(&values) { Role::Apart } else { Role::of(name, var, &all) };
            if let Some(finding) = not_finite(name, var, &values, role) {
                findings.push(finding);
            }
            match role {
                _ if values.is_empty() => not_judged.push(name.clone()),
                Role::Apart => not_judged.push(name.clone()),
                _ => weights.push(self.judged(name, var, role, &values)),
            }
        }
        if weights.is_empty() && findings.is_empty() {
            return Err(nothing_judged(&not_judged));
        }
        let copies = judged::copies(&mut weights)?;
        let shared = judged::shared(vars, &mut weights);
        judged::mostly_small(&mut weights);
        findings.extend(wording::constants_and_rows(&weights));
        findings.extend(copies.into_iter().chain(shared));
        findings.extend(wording::off_scale(&weights));
        let findings = call::not_allowed(findings, &self.allowed);
        let weights: Vec<InitialWeight> = weights.into_iter().map(|weight| weight.row).collect();
        match findings.is_empty() {
            true => Ok(InitializedReport { weights, not_judged }),
            false => Err(failed(&weights, findings)),
        }
    }

    fn validate(&self, vars: &[(String, Var)]) -> Result<()> {
        if vars.is_empty() {
            return Err(Failure::not_run("there are no variables to look at")
                .finding(Finding::possible(
                    Cause::VariableUntracked,
                    "a `VarMap` is empty until the model is built from it, and weights of `from_mmaped_safetensors` are not in it",
                ))
                .help("build the model first, then pass its `VarMap`"));
        }
        let none = |zero: &&String| !vars.iter().any(|(name, _)| is_named(name, zero));
        match self.zeros.iter().find(none) {
            None => Ok(()),
            Some(zero) => {
                let names: Vec<&str> = vars.iter().map(|(name, _)| name.as_str()).collect();
                Err(Failure::bad_argument(
                    "allow_zero",
                    format_args!("{zero:?}, which is in no variable's name"),
                    format_args!("the beginning, or a whole part, of one of {}", names.join(", ")),
                ))
            }
        }
    }

    fn judged<'v>(&self, name: &str, var: &'v Var, role: Role, values: &[f64]) -> Weight<'v> {
        let rms = root_mean_square(values);
        let (first, dims) = (values[0], var.dims());
        let constant = values.len() > 1 && values.iter().all(|v| *v == first);
        let must_differ = role != Role::Positions && !is_vector(dims);
        let grain = Grain::of(var.dtype(), values);
        let mut weight = Weight {
            var,
            role,
            off: None,
            rows: None,
            first,
            drawn: None,
            row: InitialWeight {
                name: name.to_owned(),
                dims: dims.to_vec(),
                verdict: WeightVerdict::Fine,
                rms,
                gain: scale::shown_gain(role, rms),
            },
        };
        let by_intent = || self.zeros.iter().any(|zero| is_named(name, zero));
        weight.row.verdict = match () {
            () if !rms.is_finite() => WeightVerdict::NotFinite,
            () if constant && first == 0.0 && by_intent() => WeightVerdict::ZeroByIntent,
            () if constant && first == 0.0 && must_differ => WeightVerdict::Zero,
            () if constant && must_differ => WeightVerdict::Constant,
            () => {
                let width = values.len() / dims[0].max(1);
                weight.rows =
                    must_differ.then(|| copies::equal_rows(values, width, grain)).flatten();
                weight.off = scale::judge(role, values.len(), rms);
                let tells = must_differ
                    && !is_follower(name)
                    && copies::tells_weights(values, grain, MANY_WEIGHTS);
                weight.drawn = tells.then(|| copies::hash(values));
                match (&weight.rows, weight.off) {
                    (Some(_), _) => WeightVerdict::RowsEqual,
                    (_, Some(Off::TooSmall { .. })) => WeightVerdict::TooSmall,
                    (_, Some(_)) => WeightVerdict::TooLarge,
                    _ => WeightVerdict::Fine,
                }
            }
        };
        weight
    }
}

/// For so many weights the chance of a meeting is reckoned.
const MANY_WEIGHTS: usize = 1000;

/// A mask that is kept as a variable: nothing but zeros and minus infinity, or numbers that stand for it.
fn is_mask(values: &[f64]) -> bool {
    let masks = |v: &f64| *v <= -1e4;
    values.iter().any(masks) && values.iter().all(|v| *v == 0.0 || masks(v))
}

fn not_finite(name: &str, var: &Var, values: &[f64], role: Role) -> Option<Finding> {
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    let is_mask = role == Role::Apart && is_mask(values);
    (bad > 0 && !is_mask).then(|| {
        let evidence = format!(
            "{bad} of {} NaN or infinite before training",
            count(var.elem_count(), "value")
        );
        Finding::confirmed(Cause::NotFinite, evidence).at(name)
    })
}

fn failed(weights: &[InitialWeight], findings: Vec<Finding>) -> Failure {
    let wrong = weights.iter().filter(|weight| !weight.verdict.is_fine()).count();
    let headline = match wrong {
        0 => "a variable is not finite before training".to_owned(),
        _ => format!(
            "{wrong} of {} {} not start as {} should",
            count(weights.len(), "weight"),
            if wrong == 1 { "does" } else { "do" },
            if wrong == 1 { "it" } else { "they" },
        ),
    };
    let failure = Failure::violated(headline);
    let failure = match weights.is_empty() {
        true => failure,
        false => failure.fact("weights", table(weights)),
    };
    failure.with_findings(findings)
}

fn nothing_judged(names: &[String]) -> Failure {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Failure::vacuous(format!(
        "none of the {} is a weight: there is nothing to judge in {}",
        count(names.len(), "variable"),
        listed(&names),
    ))
}

/// The beginning of a name, or whole parts of it.
fn is_named(name: &str, wanted: &str) -> bool {
    let is_edge = |at: Option<char>| at.is_none_or(|c| c == '.');
    let inside = || {
        name.match_indices(wanted).any(|(at, _)| {
            is_edge(name[..at].chars().next_back())
                && is_edge(name[at + wanted.len()..].chars().next())
        })
    };
    !wanted.is_empty() && (name.starts_with(wanted) || inside())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_are_whole() {
        let lora = "blocks.0.query.lora_b.weight";
        for wanted in ["blocks.0", "lora_b", "lora_b.weight", "query.lora_b", "bl", lora] {
            assert!(is_named(lora, wanted), "{wanted}");
        }
        for wanted in ["", "lora", "b.weight", "0.q", "lora_a"] {
            assert!(!is_named(lora, wanted), "{wanted}");
        }
    }

    #[test]
    fn masks_are_no_weights() {
        assert!(is_mask(&[0.0, f64::NEG_INFINITY, 0.0]));
        assert!(is_mask(&[0.0, -1e9]));
        assert!(!is_mask(&[0.0, 0.0]));
        assert!(!is_mask(&[0.1, f64::NEG_INFINITY]));
    }
}
