//! Operations with a wrong backward pass, recognised by computing them again.

use candle_core::{D, Result, Tensor};

use super::{Call, Site};
use crate::{
    Cause, Result as CheckResult,
    measure::{graph::Graph, values::same_bits},
};

/// Every node that one of these operations made, once for each that may have made it.
pub(super) fn of(graph: &Graph, used_elsewhere: bool) -> CheckResult<Vec<Site>> {
    let mut sites = Vec::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        let operands: Vec<&Tensor> =
            node.operands.iter().map(|operand| &graph.nodes()[*operand].tensor).collect();
        let candidates = match operands[..] {
            [x] => [
                pools(x, &node.tensor),
                upsamples(x, &node.tensor),
                unfolds(x, &node.tensor),
                maxima(x, &node.tensor),
            ]
            .into_iter()
            .flatten()
            .collect(),
            [a, b] => [conv1d(a, b, &node.tensor), matmul(a, b, &node.tensor)]
                .into_iter()
                .flatten()
                .collect(),
            _ => Vec::new(),
        };
        for candidate in candidates {
            let is_exposed = |candidate: &Candidate| -> Result<bool> {
                let alone = candidate.needs_other_use && !used_elsewhere;
                Ok(!alone || has_other_use(graph, node.operands[0])?)
            };
            if is_made_by(&candidate, &operands, &node.tensor)? && is_exposed(&candidate)? {
                let Candidate { operation, call, what, remedy, swapped, .. } = candidate;
                let mut operands = node.operands.clone();
                if swapped {
                    operands.reverse();
                }
                // A product that is wrong itself depends on how its operand lies in memory.
                let cause = match operation.as_str() {
                    STRIDED_MATMUL => Cause::LayoutDependent,
                    _ => Cause::GradientEngine,
                };
                sites.push(Site { node: at, operands, operation, call, cause, what, remedy });
            }
        }
    }
    Ok(sites)
}

/// An operation that may have made a node, going by the dimensions.
struct Candidate {
    operation: String,
    call: Call,
    what: &'static str,
    remedy: &'static str,
    /// Whether the graph lists its operands in the other order.
    swapped: bool,
    /// Whether the defect shows only where the operand is used elsewhere too.
    needs_other_use: bool,
}

/// Whether more than one node is computed from this one.
///
/// The graph does not show `x` as an operand of `f(x) + x`, nor of `cat([f(x), x])`: those are known by their values.
fn has_other_use(graph: &Graph, x: usize) -> Result<bool> {
    if graph.consumers(x).len() > 1 {
        return Ok(true);
    }
    let own = graph.nodes()[x].tensor.detach();
    for node in &graph.nodes()[x + 1..] {
        let result = node.tensor.detach();
        if let [operand] = node.operands[..]
            && operand != x
            && result.dims() == own.dims()
        {
            let other = graph.nodes()[operand].tensor.detach();
            for binary in [Tensor::add, Tensor::mul, Tensor::sub] {
                if other.dims() == own.dims() && same_bits(&binary(&other, &own)?, &result)? {
                    return Ok(true);
                }
            }
        }
        if is_an_end(&own, &result)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `whole` begins or ends with `part` along one dimension, as a concatenation does.
fn is_an_end(part: &Tensor, whole: &Tensor) -> Result<bool> {
    if part.rank() != whole.rank() || part.dtype() != whole.dtype() {
        return Ok(false);
    }
    let longer: Vec<usize> =
        (0..part.rank()).filter(|dim| part.dims()[*dim] != whole.dims()[*dim]).collect();
    let [dim] = longer[..] else { return Ok(false) };
    let (own, all) = (part.dims()[dim], whole.dims()[dim]);
    if own >= all {
        return Ok(false);
    }
    Ok(same_bits(&whole.narrow(dim, 0, own)?, part)?
        || same_bits(&whole.narrow(dim, all - own, own)?, part)?)
}

fn is_made_by(candidate: &Candidate, operands: &[&Tensor], result: &Tensor) -> Result<bool> {
    let mut operands: Vec<Tensor> = operands.iter().map(|operand| operand.detach()).collect();
    if candidate.swapped {
        operands.reverse();
    }
    match (candidate.call)(&operands) {
        Ok(value) => same_bits(&value, &result.detach()),
        Err(_) => Ok(false),
    }
}

fn unary(
    operation: String,
    what: &'static str,
    remedy: &'static str,
    call: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Candidate {
    let call = Box::new(move |operands: &[Tensor]| call(&operands[0]));
    let needs_other_use = what == UPSAMPLE;
    Candidate { operation, call, what, remedy, swapped: false, needs_other_use }
}

/// Pooling with equal kernel and stride, the only kind that has a backward pass.
fn pools(x: &Tensor, result: &Tensor) -> Vec<Candidate> {
    let (Ok((b, c, h, w)), Ok((rb, rc, rh, rw))) = (x.dims4(), result.dims4()) else {
        return Vec::new();
    };
    if (b, c) != (rb, rc) || rh == 0 || rw == 0 || (rh, rw) == (h, w) || rh > h || rw > w {
        return Vec::new();
    }
    let kernels = |all: usize, left: usize| (1..=all).filter(move |k| all / k == left);
    let mut found = Vec::new();
    for kh in kernels(h, rh) {
        for kw in kernels(w, rw) {
            let k = (kh, kw);
            let name = if kh == kw { format!("{kh}") } else { format!("({kh}, {kw})") };
            found.push(unary(
                format!("max_pool2d({name})"),
                "its backward pass divides the gradient by the number of cells in the window",
                "take the maximum over a reshaped tensor: `x.reshape((b, c, h / k, k, w / k, k))?.max(5)?.max(3)`",
                move |x| x.max_pool2d(k),
            ));
            found.push(unary(
                format!("avg_pool2d({name})"),
                "its backward pass gives the gradient to other cells where the size is no multiple of the kernel",
                "pad or narrow the input to a multiple of the kernel first",
                move |x| x.avg_pool2d(k),
            ));
        }
    }
    found
}

const UPSAMPLE: &str =
    "its backward pass overwrites what the input's other uses gave, in place of adding to it";
const UPSAMPLE_REMEDY: &str =
    "upsample by `reshape`, `broadcast_as` and `reshape`, or upsample a copy: `(&x + 0.0)?`";

fn upsamples(x: &Tensor, result: &Tensor) -> Vec<Candidate> {
    // A broadcast has the same values, and a stride of 0 where an upsampled tensor has its own storage.
    let is_broadcast = result.stride().contains(&0);
    match (x.dims(), result.dims()) {
        ([b, c, h, w], [rb, rc, rh, rw])
            if (b, c) == (rb, rc) && rh >= h && rw >= w && (rh, rw) != (h, w) && !is_broadcast =>
        {
            let (rh, rw) = (*rh, *rw);
            let name = format!("upsample_nearest2d({rh}, {rw})");
            vec![unary(name, UPSAMPLE, UPSAMPLE_REMEDY, move |x| x.upsample_nearest2d(rh, rw))]
        }
        ([b, c, l], [rb, rc, rl]) if (b, c) == (rb, rc) && rl > l && !is_broadcast => {
            let rl = *rl;
            let name = format!("upsample_nearest1d({rl})");
            vec![unary(name, UPSAMPLE, UPSAMPLE_REMEDY, move |x| x.upsample_nearest1d(rl))]
        }
        _ => Vec::new(),
    }
}

/// Windows that do not overlap, the only ones that have a backward pass.
fn unfolds(x: &Tensor, result: &Tensor) -> Vec<Candidate> {
    let Some((&size, kept)) = result.dims().split_last() else { return Vec::new() };
    if kept.len() != x.rank() || size < 2 {
        return Vec::new();
    }
    let dims = (0..x.rank()).filter(|dim| {
        let others = (0..x.rank()).filter(|other| other != dim);
        kept[*dim] * size == x.dims()[*dim] && { others }.all(|d| kept[d] == x.dims()[d])
    });
    dims.map(|dim| {
        unary(
            format!("unfold({dim}, {size}, {size})"),
            "its backward pass takes it for a reshape, which it is for the last dimension alone",
            "use `reshape` and `transpose`",
            move |x| x.unfold(dim, size, size),
        )
    })
    .collect()
}

/// A maximum or minimum with ties.
fn maxima(x: &Tensor, result: &Tensor) -> Vec<Candidate> {
    type Reduce = fn(&Tensor, usize) -> Result<Tensor>;
    const TIES: &str =
        "its backward pass gives every one of several equal largest values the whole gradient";
    const TIES_REMEDY: &str = "break the ties, or take `log_sum_exp` for a maximum";
    let reduces: [(&str, Reduce); 4] = [
        ("max", |x, dim| x.max(dim)),
        // What `max` itself is made of: `squeeze` comes after it.
        ("max", |x, dim| x.max_keepdim(dim)),
        ("min", |x, dim| x.min(dim)),
        ("min", |x, dim| x.min_keepdim(dim)),
    ];
    if result.elem_count() >= x.elem_count() || !x.dtype().is_float() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for dim in 0..x.rank() {
        let mut reduced = x.dims().to_vec();
        let size = reduced.remove(dim);
        if size < 2 || reduced.iter().product::<usize>() != result.elem_count() {
            continue;
        }
        for (name, reduce) in reduces {
            let name = format!("{name} along dimension {dim}");
            found.push(unary(name, TIES, TIES_REMEDY, move |x| reduce(x, dim)));
        }
    }
    found
}

/// Strides and dilations that are looked for.
const STRIDES: std::ops::RangeInclusive<usize> = 1..=4;

fn conv1d(a: &Tensor, b: &Tensor, result: &Tensor) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (x, kernel, swapped) in [(a, b, false), (b, a, true)] {
        let (Ok((n, c_in, l)), Ok((c_out, k_in, k)), Ok((rn, rc, rl))) =
            (x.dims3(), kernel.dims3(), result.dims3())
        else {
            continue;
        };
        if (n, c_out) != (rn, rc) || k_in == 0 || c_in % k_in != 0 || k == 0 {
            continue;
        }
        let groups = c_in / k_in;
        for stride in STRIDES {
            for dilation in STRIDES {
                for padding in 0..=dilation * k {
                    let span = dilation * (k - 1) + 1;
                    let padded = l + 2 * padding;
                    if padded < span || (padded - span) / stride + 1 != rl {
                        continue;
                    }
                    found.push(Candidate {
                        operation: format!(
                            "conv1d(padding {padding}, stride {stride}, dilation {dilation})"
                        ),
                        call: Box::new(move |operands: &[Tensor]| {
                            operands[0].conv1d(&operands[1], padding, stride, dilation, groups)
                        }),
                        what: "its backward pass is wrong for batches of two rows and more",
                        remedy: "call `conv2d` on `x.unsqueeze(2)` with `kernel.unsqueeze(2)`",
                        swapped,
                        needs_other_use: false,
                    });
                }
            }
        }
    }
    found
}

pub(super) const STRIDED_MATMUL: &str = "matmul of a strided tensor";

fn matmul(a: &Tensor, b: &Tensor, result: &Tensor) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (x, y, swapped) in [(a, b, false), (b, a, true)] {
        let inner = |t: &Tensor, dim: D| t.dim(dim).ok();
        // Contiguous operands are multiplied rightly.
        let strided = !x.is_contiguous() && x.rank() > 2;
        let fits = inner(x, D::Minus1) == inner(y, D::Minus2)
            && inner(x, D::Minus2) == inner(result, D::Minus2)
            && inner(y, D::Minus1) == inner(result, D::Minus1);
        if strided && fits && x.rank() == y.rank() {
            found.push(Candidate {
                operation: STRIDED_MATMUL.to_owned(),
                call: laid_out(x, y, |x, y| x.matmul(y)),
                what: "its product is wrong where the left side is no contiguous tensor and the right side is one matrix for the whole batch",
                remedy: "call `.contiguous()?` on the left side, the input of the `Linear`",
                swapped,
                needs_other_use: false,
            });
        }
    }
    found
}

/// A call on operands that lie in memory as these two do: the order of their dimensions, and a matrix that stands for a
/// whole batch of equal ones.
fn laid_out(x: &Tensor, y: &Tensor, call: fn(&Tensor, &Tensor) -> Result<Tensor>) -> Call {
    let order = |t: &Tensor| {
        let mut order: Vec<usize> = (0..t.rank()).collect();
        order.sort_by_key(|dim| std::cmp::Reverse(t.stride()[*dim]));
        order
    };
    let (order, shared) = (order(x), y.stride().first() == Some(&0));
    Box::new(move |operands: &[Tensor]| {
        let mut back = vec![0; order.len()];
        for (place, dim) in order.iter().enumerate() {
            back[*dim] = place;
        }
        let x = operands[0].permute(order.clone())?.contiguous()?.permute(back)?;
        let y = &operands[1];
        match shared {
            // As `Linear` does: the transpose of a weight, the same for all rows.
            true => {
                let one = y.get(0)?.t()?.contiguous()?;
                call(&x, &one.broadcast_left(y.dim(0)?)?.t()?)
            }
            false => call(&x, y),
        }
    })
}
