//! Ops that candle_nn implements as one kernel, beside those it builds from others.

use candle_core::{DType, Module, Result, Tensor, quantized};
use candle_nn::{LayerNorm, RmsNorm, ops, rotary_emb};

use crate::audit::case::{Operand, Table, constant, positive, signed, spread, unit};

type Rope = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

pub(super) fn fill(table: &mut Table) {
    table.group("softmax, norms and rope");
    table
        .case("ops::softmax_last_dim", "", [spread([2, 3])], |x| ops::softmax_last_dim(&x[0]))
        .batched(&[0]);
    norms(table);
    ropes(table);
    quantized(table);
}

fn norms(table: &mut Table) {
    let scaled = || [signed([2, 4]), positive([4])];
    let affine = || [signed([2, 4]), positive([4]), signed([4])];
    table
        .case("ops::rms_norm_slow", "", scaled(), |x| ops::rms_norm_slow(&x[0], &x[1], 1e-5))
        .batched(&[0]);
    table
        .case("ops::layer_norm_slow", "", affine(), |x| {
            ops::layer_norm_slow(&x[0], &x[1], &x[2], 1e-5)
        })
        .batched(&[0]);
    // The fused ones in f64, which they lack, and in f32.
    for dtype in [DType::F64, DType::F32] {
        let mut case = |op: &str, operands: Vec<Operand>, f: fn(&[Tensor]) -> Result<Tensor>| {
            let setting = dtype.as_str();
            let case = match <[Operand; 2]>::try_from(operands) {
                Ok(pair) => table.case(op, setting, pair, f),
                Err(all) => {
                    table.case(op, setting, [all[0].clone(), all[1].clone(), all[2].clone()], f)
                }
            };
            case.batched(&[0]);
            if dtype == DType::F32 {
                case.f32();
            }
        };
        case("ops::rms_norm", scaled().into(), |x| ops::rms_norm(&x[0], &x[1], 1e-5));
        case("ops::layer_norm", affine().into(), |x| ops::layer_norm(&x[0], &x[1], &x[2], 1e-5));
        case("RmsNorm::forward", scaled().into(), |x| {
            RmsNorm::new(x[1].clone(), 1e-5).forward(&x[0])
        });
        case("LayerNorm::forward", affine().into(), |x| {
            LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0])
        });
    }
    table
        .case("RmsNorm::forward_diff", "", scaled(), |x| {
            RmsNorm::new(x[1].clone(), 1e-5).forward_diff(&x[0])
        })
        .batched(&[0]);
    table
        .case("LayerNorm::forward", "no bias", scaled(), |x| {
            LayerNorm::new_no_bias(x[1].clone(), 1e-5).forward(&x[0])
        })
        .batched(&[0]);
    table
        .case("LayerNorm::forward", "rms_norm", scaled(), |x| {
            LayerNorm::rms_norm(x[1].clone(), 1e-5).forward(&x[0])
        })
        .batched(&[0]);
}

fn ropes(table: &mut Table) {
    let all: [(&str, Rope); 4] = [
        ("rotary_emb::rope", rotary_emb::rope),
        ("rotary_emb::rope_slow", rotary_emb::rope_slow),
        ("rotary_emb::rope_i", rotary_emb::rope_i),
        ("rotary_emb::rope_i_slow", rotary_emb::rope_i_slow),
    ];
    let angles = || constant(unit([3, 2]));
    for (name, f) in all {
        table
            .case(name, "", [signed([2, 2, 3, 4]), angles(), angles()], move |x| {
                f(&x[0], &x[1], &x[2])
            })
            .batched(&[0]);
    }
    table
        .case("rotary_emb::rope_thd", "", [signed([2, 3, 2, 4]), angles(), angles()], |x| {
            rotary_emb::rope_thd(&x[0], &x[1], &x[2])
        })
        .batched(&[0]);
}

fn quantized(table: &mut Table) {
    table
        .case("quantized::QMatMul", "Q8_0", [signed([2, 32])], |x| {
            let weight = Tensor::ones((4, 32), DType::F32, x[0].device())?;
            let weight = quantized::QTensor::quantize(&weight, quantized::GgmlDType::Q8_0)?;
            quantized::QMatMul::from_qtensor(weight)?.forward(&x[0])
        })
        .f32()
        .batched(&[0]);
}
