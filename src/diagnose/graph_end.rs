//! Where did the graph end, and at which operation?
//!
//! candle tells nothing of an operation without a backward pass: its result looks like a constant. The variables before
//! it are known (moving them changes the result, and no gradient arrives), so are those after it, and a model builds its
//! variables in the order it uses them: that brackets the operation. What the bracket holds tells the likely one.
//!
//! Cost: two evaluations a bracket.

use candle_core::{DType, Var};

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

/// An end of the graph: the variables before it, and what is known of the operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) variables: Vec<String>,
    pub(crate) operation: Operation,
    /// `after attn.k, before attn.v`.
    pub(crate) bracket: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    LayerNorm,
    RmsNorm,
    /// Between queries and keys on one side and values on the other.
    Attention,
    /// The result moves in jumps: its derivative is zero wherever it has one.
    Jumps,
    Unknown,
}

impl Operation {
    pub(crate) fn evidence(self) -> &'static str {
        match self {
            Self::LayerNorm => {
                "the last of them are those of a LayerNorm, whose `forward` candle computes in one fused operation without a backward pass"
            }
            Self::RmsNorm => {
                "the last of them is that of an RmsNorm, whose `forward` candle computes in one fused operation without a backward pass"
            }
            Self::Attention => {
                "queries or keys have no gradient where the same attention's values do: `softmax_last_dim` and `rope` are fused operations without a backward pass"
            }
            Self::Jumps => {
                "a small move changes nothing and a large one does: the result moves in jumps, as rounding, `argmax`, a comparison or a cast to integers make it"
            }
            Self::Unknown => {
                "a small move changes the result too, so the derivative exists and is dropped: a `detach`, values copied out and in again, or a fused operation"
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
                "use `candle_nn::ops::softmax(x, D::Minus1)` for `softmax_last_dim`, and `rotary_emb::rope_slow` for `rope`"
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
pub(crate) fn ends(seen: &[Seen<'_>], still: Option<&Still<'_, '_>>) -> Result<Vec<End>> {
    let mut made: Vec<Seen<'_>> =
        seen.iter().copied().filter(|seen| seen.state != State::Aside).collect();
    made.sort_by_key(|seen| created(seen.var.id()));
    let mut ends: Vec<End> = Vec::new();
    let runs: Vec<&[Seen<'_>]> = made.chunk_by(|a, b| a.state == b.state).collect();
    for (at, run) in runs.iter().enumerate().filter(|(_, run)| run[0].state == State::Cut).rev() {
        let Some(last) = run.last() else { continue };
        let next = runs.get(at + 1).and_then(|run| run.first());
        let bracket = match next {
            Some(next) => format!("after `{}`, before `{}`", last.name, next.name),
            None => format!("after `{}`", last.name),
        };
        let operation = operation(last, &made, still)?;
        let names = run.iter().map(|seen| seen.name.to_owned());
        match ends.iter_mut().find(|end| end.operation == operation) {
            Some(end) => end.variables.extend(names),
            None => ends.push(End { variables: names.collect(), operation, bracket }),
        }
    }
    Ok(ends)
}

fn operation(
    last: &Seen<'_>,
    all: &[Seen<'_>],
    still: Option<&Still<'_, '_>>,
) -> Result<Operation> {
    if let Some(still) = still
        && moves_in_jumps(last, still)?
    {
        return Ok(Operation::Jumps);
    }
    let module = module_of(last.name);
    let own: Vec<&Seen<'_>> = all.iter().filter(|seen| module_of(seen.name) == module).collect();
    let vectors = own.iter().all(|seen| seen.var.rank() == 1 && seen.state == State::Cut);
    if vectors && own.len() == 2 && own[0].var.dims() == own[1].var.dims() {
        return Ok(Operation::LayerNorm);
    }
    if vectors && own.len() == 1 && !last.name.ends_with("bias") {
        return Ok(Operation::RmsNorm);
    }
    // `attn.k.weight` is cut where `attn.v.weight` is not.
    let block = module_of(module);
    let beside = |seen: &&Seen<'_>| {
        seen.state == State::Flows
            && !block.is_empty()
            && module_of(module_of(seen.name)) == block
            && seen.var.rank() >= 2
    };
    if last.var.rank() <= 2 && is_query_or_key(module) && all.iter().any(|seen| beside(&seen)) {
        return Ok(Operation::Attention);
    }
    Ok(Operation::Unknown)
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

/// A move that single precision shows in every smooth function, and that passes no step of a staircase but by chance.
const SMALL_MOVE: f64 = 1e-5;

fn moves_in_jumps(seen: &Seen<'_>, still: &Still<'_, '_>) -> Result<bool> {
    // Half precision is a staircase itself.
    if !matches!(seen.var.dtype(), DType::F32 | DType::F64) {
        return Ok(false);
    }
    Ok(!still.moving_by(seen.name, seen.var, SMALL_MOVE)?.any()
        && !still.moving_by(seen.name, seen.var, -SMALL_MOVE)?.any())
}

impl End {
    /// What it is called, among so many variables; `largest` is what moving one of them did to the loss.
    pub(crate) fn finding(&self, all: usize, largest: f64) -> Finding {
        let names: Vec<&str> = self.variables.iter().map(String::as_str).collect();
        let evidence = format!(
            "moving {} of {} changes the result (the loss by up to {}), yet no gradient arrives; the graph ends {}: {}",
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
