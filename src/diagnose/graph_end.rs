//! Where did the graph end, and at which operation?
//!
//! candle tells nothing of an operation without a backward pass: its result looks like a constant. The variables before
//! it are known (moving them changes the result, and no gradient arrives), so are those after it, and a model builds its
//! variables in the order it uses them: that brackets the operation. What the bracket holds tells the likely one.
//!
//! Cost: two evaluations a bracket.

use candle_core::Var;

use crate::{
    Cause, Finding, Result,
    measure::{effect::Still, graph::created},
    verdict::{count, listed, number},
};

/// A variable, and whether a gradient arrives at it.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'v> {
    pub(crate) name: &'v str,
    pub(crate) var: &'v Var,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Cut,
    Flows,
    /// Neither: unused, zero, unknown.
    Aside,
}

/// An end of the graph: the variables that tell the operation, those before it, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Those that the operation is told by; all of them where nothing tells it.
    variables: Vec<String>,
    /// How many more lie before it.
    before: usize,
    operation: Operation,
    /// `after attn.k, before attn.v`, in the order the model was built.
    bracket: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    LayerNorm,
    RmsNorm,
    /// Between queries or keys on one side and values on the other.
    Attention,
    /// The result moves in jumps: its derivative is zero wherever it has one.
    Jumps,
    Unknown,
}

impl Operation {
    pub(crate) fn evidence(self) -> &'static str {
        match self {
            Self::LayerNorm => {
                "these are the variables of a LayerNorm, whose `forward` candle computes in one fused operation without a backward pass"
            }
            Self::RmsNorm => {
                "these are the variables of an RmsNorm, whose `forward` candle computes in one fused operation without a backward pass"
            }
            Self::Attention => {
                "queries or keys have none where the same attention's values do: `softmax_last_dim` or `rope`, fused operations without a backward pass, come between"
            }
            Self::Jumps => {
                "a small move changes nothing and a large one does: it moves in jumps, as rounding, `argmax`, a comparison or a cast to integers make it"
            }
            Self::Unknown => {
                "a small move changes it too, so the derivative exists and is dropped: by a `detach`, by values copied out and in again, or by a fused operation"
            }
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::LayerNorm => {
                "call `candle_nn::ops::layer_norm_slow(x, weight, bias, eps)` in its place, or build the norm with `LayerNorm::new_no_bias`"
            }
            Self::RmsNorm => {
                "call `candle_nn::ops::rms_norm_slow(x, weight, eps)` in its place, or `RmsNorm::forward_diff`"
            }
            Self::Attention => {
                "use `candle_nn::ops::softmax(x, D::Minus1)` in place of `softmax_last_dim`, and `rotary_emb::rope_slow` in place of `rope`"
            }
            Self::Jumps => {
                "let the gradient pass straight through: `&x + (rounded - &x)?.detach()`, or take a smooth operation"
            }
            Self::Unknown => {
                "look for `detach`, `to_vec`, `Var::from_tensor`, `slice_set`, `KvCache`, `QMatMul`, and candle's fused operations: `layer_norm`, `rms_norm`, `softmax_last_dim`, `rope`, `sdpa` have no backward pass; `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow` have one"
            }
        }
    }
}

/// The ends of the graph, the last first: what lies before it may hide others.
///
/// Variables without a gradient that were built one after another are a run. Its last modules tell the operation if they
/// are norms or projections of an attention; what was built before them merely lies before it.
pub(crate) fn ends(seen: &[Seen<'_>], still: Option<&Still<'_, '_>>) -> Result<Vec<End>> {
    let mut made: Vec<Seen<'_>> =
        seen.iter().copied().filter(|seen| seen.state != State::Aside).collect();
    made.sort_by_key(|seen| created(seen.var.id()));
    let mut told: Vec<End> = Vec::new();
    let mut untold: Vec<(&[Seen<'_>], String)> = Vec::new();
    let mut before = 0;
    let runs: Vec<&[Seen<'_>]> = made.chunk_by(|a, b| a.state == b.state).collect();
    for (at, run) in runs.iter().enumerate().filter(|(_, run)| run[0].state == State::Cut).rev() {
        let next = runs.get(at + 1).and_then(|run| run.first());
        let bracket = match (run.last(), next) {
            (Some(last), Some(next)) => format!("after `{}`, before `{}`", last.name, next.name),
            (Some(last), None) => format!("after `{}`", last.name),
            (None, _) => continue,
        };
        let modules: Vec<&[Seen<'_>]> =
            run.chunk_by(|a, b| module_of(a.name) == module_of(b.name)).collect();
        let mut telling = 0;
        for module in modules.iter().rev() {
            let Some(operation) = told_by(module, &made) else { break };
            telling += module.len();
            let names = module.iter().map(|seen| seen.name.to_owned());
            match told.iter_mut().find(|end| end.operation == operation) {
                Some(end) => end.variables.extend(names),
                None => told.push(End {
                    variables: names.collect(),
                    before: 0,
                    operation,
                    bracket: bracket.clone(),
                }),
            }
        }
        match telling {
            0 => untold.push((run, bracket)),
            n => before += run.len() - n,
        }
    }
    if let Some(first) = told.first_mut() {
        first.before = before + untold.iter().map(|(run, _)| run.len()).sum::<usize>();
        return Ok(told);
    }
    untold.into_iter().map(|(run, bracket)| unknown(run, bracket, still)).collect()
}

fn unknown(run: &[Seen<'_>], bracket: String, still: Option<&Still<'_, '_>>) -> Result<End> {
    let operation = match (still, run.last()) {
        (Some(still), Some(last)) if still.moves_in_jumps(last.name, last.var)? => Operation::Jumps,
        _ => Operation::Unknown,
    };
    let variables = run.iter().map(|seen| seen.name.to_owned()).collect();
    Ok(End { variables, before: 0, operation, bracket })
}

/// The operation that a module without a gradient tells of; `None` where it only lies before one.
fn told_by(module: &[Seen<'_>], all: &[Seen<'_>]) -> Option<Operation> {
    let name = module_of(module[0].name);
    if is_vectors(module) && !other_norms_flow(module, all) {
        match module {
            [a, b] if a.var.dims() == b.var.dims() => return Some(Operation::LayerNorm),
            [only] if !only.name.ends_with("bias") => return Some(Operation::RmsNorm),
            _ => {}
        }
    }
    // `attn.k.weight` is cut where `attn.v.weight` is not.
    let block = module_of(name);
    let beside = all.iter().any(|seen| {
        seen.state == State::Flows
            && seen.var.rank() >= 2
            && !block.is_empty()
            && module_of(module_of(seen.name)) == block
    });
    (beside && is_query_or_key(name)).then_some(Operation::Attention)
}

fn is_vectors(module: &[Seen<'_>]) -> bool {
    module.iter().all(|seen| seen.var.rank() == 1)
}

/// Whether another norm of the same kind has its gradients: then this model's norms have a backward pass, since candle's
/// fused ones have none anywhere.
fn other_norms_flow(norm: &[Seen<'_>], all: &[Seen<'_>]) -> bool {
    let kind = |module: &[Seen<'_>]| -> Vec<String> {
        module.iter().map(|seen| seen.name[module_of(seen.name).len()..].to_owned()).collect()
    };
    let own = kind(norm);
    all.chunk_by(|a, b| module_of(a.name) == module_of(b.name)).any(|module| {
        is_vectors(module)
            && kind(module) == own
            && module.iter().all(|seen| seen.state == State::Flows)
    })
}

/// `attn.k` of `attn.k.weight`; nothing of `weight`.
fn module_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}

/// Whether the module is called as the projections of an attention are: `q`, `wk`, `key`, `k_proj`, `query_norm`.
fn is_query_or_key(module: &str) -> bool {
    let last = module.rsplit('.').next().unwrap_or(module).to_ascii_lowercase();
    let word = |word: &str| last.split('_').any(|part| part == word);
    ["q", "k", "wq", "wk", "query", "key", "qkv", "queries", "keys", "to_q", "to_k"]
        .iter()
        .any(|name| word(name) || last == *name)
}

impl End {
    /// What it is called, among so many variables; `largest` is what moving one of them did to the loss.
    pub(crate) fn finding(&self, all: usize, largest: f64) -> Finding {
        let names: Vec<&str> = self.variables.iter().map(String::as_str).collect();
        let before = match self.before {
            0 => String::new(),
            more => format!(" ({more} more lie before)"),
        };
        let evidence = format!(
            "moving {} of {} changes the result (the loss by up to {}), yet no gradient arrives{before}; the graph ends {}: {}",
            names.len(),
            count(all, "variable"),
            number(largest),
            self.bracket,
            self.operation.evidence(),
        );
        Finding::confirmed(Cause::GradientCut, evidence)
            .at(listed(&names))
            .advice_is(self.operation.remedy())
    }
}
