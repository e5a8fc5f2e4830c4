//! One element in, one element out, and pairs of them.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Activation, PReLU, ops};

use crate::audit::case::{Table, constant, exactly, positive, signed, spread, unit};

type Unary = fn(&Tensor) -> Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;

pub(super) fn fill(table: &mut Table) {
    table.group("elementwise");
    unary(table);
    scalars(table);
    binary(table);
    broadcast(table);
    activations(table);
    points(table);
}

fn unary(table: &mut Table) {
    let any_sign: [(&str, Unary); 19] = [
        ("neg", Tensor::neg),
        ("exp", Tensor::exp),
        ("sin", Tensor::sin),
        ("cos", Tensor::cos),
        ("tanh", Tensor::tanh),
        ("abs", Tensor::abs),
        ("sqr", Tensor::sqr),
        ("gelu", Tensor::gelu),
        ("gelu_erf", Tensor::gelu_erf),
        ("erf", Tensor::erf),
        ("relu", Tensor::relu),
        ("silu", Tensor::silu),
        ("ceil", Tensor::ceil),
        ("floor", Tensor::floor),
        ("round", Tensor::round),
        ("sign", Tensor::sign),
        ("ops::silu", ops::silu),
        ("ops::sigmoid", ops::sigmoid),
        ("ops::mish", ops::mish),
    ];
    for (name, f) in any_sign {
        table.case(name, "", [signed([2, 3])], move |x| f(&x[0]));
    }
    let above_zero: [(&str, Unary); 3] =
        [("log", Tensor::log), ("sqrt", Tensor::sqrt), ("recip", Tensor::recip)];
    for (name, f) in above_zero {
        table.case(name, "", [positive([2, 3])], move |x| f(&x[0]));
    }
    table.case("round_to", "0 decimals", [signed([2, 3])], |x| x[0].round_to(0));
    table.case("elu", "1.3", [signed([2, 3])], |x| x[0].elu(1.3));
    table.case("ops::hard_sigmoid", "", [signed([2, 3])], |x| ops::hard_sigmoid(&x[0]));
    table.case("ops::leaky_relu", "0.1", [signed([2, 3])], |x| ops::leaky_relu(&x[0], 0.1));
    table.case("ops::swiglu", "", [signed([2, 4])], |x| ops::swiglu(&x[0]));
    table.case("ops::selu", "f64", [signed([2, 3])], |x| ops::selu(&x[0], 1.67, 1.05));
    table.case("ops::selu", "f32", [signed([2, 3])], |x| ops::selu(&x[0], 1.67, 1.05)).f32();
    table.case("ops::dropout", "p 0", [signed([2, 3])], |x| ops::dropout(&x[0], 0.0));
    let kept = |x: &[Tensor]| ops::Dropout::new(0.5).forward(&x[0], false);
    table.case("ops::Dropout", "eval", [signed([2, 3])], kept);
    for e in [2.0, 3.0, 0.5, -1.0, 1.0, 0.0] {
        table.case("powf", format!("{e}, x > 0"), [positive([2, 3])], move |x| x[0].powf(e));
    }
    for e in [2.0, 3.0] {
        table.case("powf", format!("{e}, any sign"), [signed([2, 3])], move |x| x[0].powf(e));
    }
    table.case("detach", "", [signed([2, 3])], |x| x[0].detach() * 2.0).blocks_gradient();
}

fn scalars(table: &mut Table) {
    for (mul, add) in [(2.0, 3.0), (0.0, 3.0)] {
        let setting = format!("{mul}, {add}");
        table.case("affine", setting, [signed([2, 3])], move |x| x[0].affine(mul, add));
    }
    table.case("x * 0 + x", "", [signed([2, 3])], |x| (&x[0] * 0.0)? + &x[0]);
    table.case("x / 3", "", [signed([2, 3])], |x| &x[0] / 3.0);
    table.case("3 / x", "", [positive([2, 3])], |x| 3.0 / &x[0]);
    table.case("1 - x", "", [signed([2, 3])], |x| 1.0 - &x[0]);
    table.case("ones_like * x", "", [signed([2, 3])], |x| x[0].ones_like()? * &x[0]);
    table.case("maximum", "scalar", [signed([2, 3])], |x| x[0].maximum(0.3));
    table.case("minimum", "scalar", [signed([2, 3])], |x| x[0].minimum(0.3));
    table.case("clamp", "scalars", [signed([2, 3])], |x| x[0].clamp(-0.5, 0.5));
    let bounds = [signed([2, 3]), constant(exactly([2, 3], &[-0.5; 6]))];
    table.case("clamp", "tensor, scalar", bounds, |x| x[0].clamp(&x[1], 0.5));
}

fn binary(table: &mut Table) {
    let all: [(&str, Binary); 4] =
        [("add", Tensor::add), ("sub", Tensor::sub), ("mul", Tensor::mul), ("div", Tensor::div)];
    for (name, f) in all {
        let pair = [positive([2, 3]), positive([2, 3])];
        table.case(name, "", pair, move |x| f(&x[0], &x[1]));
        table.case(name, "x, x", [positive([2, 3])], move |x| f(&x[0], &x[0]));
    }
    let pair = || [spread([2, 3]), spread([2, 3])];
    table.case("maximum", "", pair(), |x| x[0].maximum(&x[1]));
    table.case("minimum", "", pair(), |x| x[0].minimum(&x[1]));
    let tied = || [exactly([3], &[1.0, 2.0, 3.0]), exactly([3], &[1.0, 1.0, 4.0])];
    table.case("maximum", "tied", tied(), |x| x[0].maximum(&x[1]));
    table.case("minimum", "tied", tied(), |x| x[0].minimum(&x[1]));
    table.case("pow", "base > 0", [positive([2, 3]), signed([2, 3])], |x| x[0].pow(&x[1]));
    let even = [signed([2, 3]), constant(exactly([2, 3], &[2.0; 6]))];
    table.case("pow", "base < 0, exponent 2", even, |x| x[0].pow(&x[1]));
    let masked = [signed([2, 3]), signed([2, 3])];
    table.case("where_cond", "by gt", masked, |x| {
        x[0].gt(&x[1])?.where_cond(&x[0], &(&x[1] * 2.0)?)
    });
}

fn broadcast(table: &mut Table) {
    let all: [(&str, Binary); 7] = [
        ("broadcast_add", Tensor::broadcast_add),
        ("broadcast_sub", Tensor::broadcast_sub),
        ("broadcast_mul", Tensor::broadcast_mul),
        ("broadcast_div", Tensor::broadcast_div),
        ("broadcast_maximum", Tensor::broadcast_maximum),
        ("broadcast_minimum", Tensor::broadcast_minimum),
        ("broadcast_pow", Tensor::broadcast_pow),
    ];
    for (name, f) in all {
        let op = move |x: &[Tensor]| f(&x[0], &x[1]);
        table.case(name, "(2,3), (3)", [positive([2, 3]), positive([3])], op);
        table.case(name, "(2,1), (1,3)", [positive([2, 1]), positive([1, 3])], op);
        table.case(name, "(1), (2,3)", [positive([1]), positive([2, 3])], op);
        table.case(name, "(), (2,3)", [positive([]), positive([2, 3])], op);
        table.case(name, "(1,1,3), (2,1,3)", [positive([1, 1, 3]), positive([2, 1, 3])], op);
    }
}

fn activations(table: &mut Table) {
    let all = [
        Activation::Gelu,
        Activation::NewGelu,
        Activation::Relu,
        Activation::Relu2,
        Activation::Relu6,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::Swiglu,
        Activation::Swish,
        Activation::Mish,
        Activation::HardSwish,
        Activation::Elu(1.2),
        Activation::LeakyRelu(0.1),
        Activation::GeluPytorchTanh,
    ];
    for activation in all {
        let setting = format!("{activation:?}");
        table.case("Activation", setting, [signed([2, 4])], move |x| activation.forward(&x[0]));
    }
    table.case("PReLU", "per channel", [signed([2, 3]), positive([3])], |x| {
        PReLU::new(x[1].clone(), false).forward(&x[0])
    });
    table.case("PReLU", "one weight", [signed([2, 3]), positive([1])], |x| {
        PReLU::new(x[1].clone(), true).forward(&x[0])
    });
    table.case("ops::sigmoid", "x in (0, 1)", [unit([2, 3])], |x| ops::sigmoid(&x[0]));
}

/// Where a formula for the slope has a corner, or runs out of the range of its numbers.
fn points(table: &mut Table) {
    let zero: [(&str, &str, Unary); 4] = [
        ("relu", "at 0", Tensor::relu),
        ("abs", "at 0", Tensor::abs),
        ("powf", "0, at 0", |x| x.powf(0.0)),
        ("powf", "2, at 0", |x| x.powf(2.0)),
    ];
    for (name, setting, f) in zero {
        table.case(name, setting, [exactly([3], &[0.0, 1.0, -0.0])], move |x| f(&x[0]));
    }
    let large: [(&str, Unary); 8] = [
        ("gelu", Tensor::gelu),
        ("gelu_erf", Tensor::gelu_erf),
        ("silu", Tensor::silu),
        ("tanh", Tensor::tanh),
        ("erf", Tensor::erf),
        ("elu", |x| x.elu(1.0)),
        ("ops::sigmoid", ops::sigmoid),
        ("ops::mish", ops::mish),
    ];
    for (name, f) in large {
        table.case(name, "at ±800", [exactly([2], &[-800.0, 800.0])], move |x| f(&x[0]));
    }
}
