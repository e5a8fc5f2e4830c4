//! Which operation made a node, told from its value: candle does not say, so it is computed again and compared.

use candle_core::{Result, Tensor};
use candle_nn::ops;

use crate::measure::values::{same_bits, to_f64_vec};

type Unary = fn(&Tensor) -> Result<Tensor>;

/// The element-wise operations that are told apart. Where two give the same bits here the first is named.
const UNARY: [(&str, Unary); 20] = [
    ("relu", Tensor::relu),
    ("tanh", Tensor::tanh),
    ("sigmoid", ops::sigmoid),
    ("silu", Tensor::silu),
    ("gelu", Tensor::gelu),
    ("gelu_erf", Tensor::gelu_erf),
    ("exp", Tensor::exp),
    ("log", Tensor::log),
    ("sqrt", Tensor::sqrt),
    ("recip", Tensor::recip),
    ("sqr", Tensor::sqr),
    ("abs", Tensor::abs),
    ("neg", Tensor::neg),
    ("sin", Tensor::sin),
    ("cos", Tensor::cos),
    ("erf", Tensor::erf),
    ("hard_sigmoid", ops::hard_sigmoid),
    ("elu", |x| x.elu(1.0)),
    ("leaky_relu", |x| ops::leaky_relu(x, 0.01)),
    ("relu6", |x| x.clamp(0f32, 6f32)),
];

/// The element-wise operation that makes `result` of `operand`, bit for bit; `None` where it is none of those known.
pub(crate) fn unary(result: &Tensor, operand: &Tensor) -> Result<Option<&'static str>> {
    if result.dims() != operand.dims() || result.dtype() != operand.dtype() {
        return Ok(None);
    }
    let operand = operand.detach();
    for (name, operation) in UNARY {
        // Not every operation takes every dtype; one that does not take this one did not make it.
        let Ok(value) = operation(&operand) else { continue };
        if same_bits(&value, result)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether `result` is what this operation makes of `operand`.
pub(crate) fn is_unary(name: &str, result: &Tensor, operand: &Tensor) -> Result<bool> {
    if result.dims() != operand.dims() || result.dtype() != operand.dtype() {
        return Ok(false);
    }
    let Some((_, operation)) = UNARY.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    match operation(&operand.detach()) {
        Ok(value) => same_bits(&value, result),
        Err(_) => Ok(false),
    }
}

/// The operation that makes `result` of its operands, as far as it is one of those known.
pub(crate) fn of(result: &Tensor, operands: &[&Tensor]) -> Result<Option<&'static str>> {
    match operands {
        [operand] => match unary(result, operand)? {
            Some(name) => Ok(Some(name)),
            None => reduction(result, operand),
        },
        [a, b] => binary(result, a, b),
        _ => Ok(None),
    }
}

fn reduction(result: &Tensor, operand: &Tensor) -> Result<Option<&'static str>> {
    if result.elem_count() >= operand.elem_count() || result.dtype() != operand.dtype() {
        return Ok(None);
    }
    let operand = operand.detach();
    let same = |value: Result<Tensor>| match value {
        Ok(value) if value.elem_count() == result.elem_count() => {
            same_bits(&value.flatten_all()?, &result.flatten_all()?.detach())
        }
        _ => Ok(false),
    };
    for dim in 0..operand.rank() {
        if same(operand.sum_keepdim(dim))? {
            return Ok(Some("sum"));
        }
        if same(operand.max_keepdim(dim))? {
            return Ok(Some("max"));
        }
    }
    Ok(same(operand.sum_all())?.then_some("sum_all"))
}

type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;

const BINARY: [(&str, Binary); 5] = [
    ("mul", Tensor::broadcast_mul),
    ("div", Tensor::broadcast_div),
    ("add", Tensor::broadcast_add),
    ("sub", Tensor::broadcast_sub),
    ("matmul", Tensor::matmul),
];

fn binary(result: &Tensor, a: &Tensor, b: &Tensor) -> Result<Option<&'static str>> {
    let (a, b) = (a.detach(), b.detach());
    for (name, operation) in BINARY {
        for (x, y) in [(&a, &b), (&b, &a)] {
            let Ok(value) = operation(x, y) else { continue };
            if value.dims() == result.dims() && same_bits(&value, &result.detach())? {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// The last node whose derivative is not finite at the values it was computed from, and why.
pub(crate) fn singular(graph: &super::Graph) -> Result<Option<(usize, &'static str)>> {
    for (at, node) in graph.nodes().iter().enumerate().rev() {
        let [operand] = node.operands[..] else { continue };
        let operand = &graph.nodes()[operand].tensor;
        if !operand.dtype().is_float() || !to_f64_vec(operand)?.contains(&0.0) {
            continue;
        }
        if is_unary("sqrt", &node.tensor, operand)? {
            return Ok(Some((at, "the derivative of a square root is infinite at 0")));
        }
        if is_unary("log", &node.tensor, operand)? {
            return Ok(Some((at, "the derivative of a logarithm is infinite at 0")));
        }
    }
    Ok(None)
}
