//! Models that are causal, on many seeds: none may be accused.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, RNN, ops};
use candling::{
    Seed,
    check::{Causal, Dependence},
};

use super::models::{Attention, CPU, Decoder, Mask, TimeConv, WIDTH, sequence};

const SEEDS: u64 = 30;

fn passes(name: &str, seed: u64, f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor, dim: usize) {
    let causal = Causal::new().dim(dim).seed(Seed::new(seed));
    let report =
        causal.check(f, x).unwrap_or_else(|failure| panic!("{name}, seed {seed}: {failure}"));
    assert_eq!(report.reach, 1);
    assert!(report.calls <= 4 + 2 + report.cuts.div_ceil(report.rows).max(2) + 2, "{report:?}");
}

#[test]
fn attention() {
    for seed in 0..SEEDS {
        for low in [f32::NEG_INFINITY, -1e9] {
            let model = Attention::new(Seed::new(seed), 2, Mask::Above(low), DType::F32);
            let rows = 1 + seed as usize % 5;
            passes("attention", seed, |x| model.forward(x), &sequence(seed, rows, 9), 1);
        }
    }
}

#[test]
fn decoders_of_token_ids() {
    for seed in 0..SEEDS {
        let model = Decoder::new(Seed::new(seed), 11, Mask::Above(f32::NEG_INFINITY));
        let ids = Seed::new(seed).tokens("ids", 11, (2, 8), CPU).unwrap();
        passes("decoder", seed, |ids| model.forward(ids), &ids, 1);
    }
}

/// `[batch, time, hidden]`; candle's own `states_to_tensor` makes `[batch, time * hidden]`.
fn over_time<'s>(states: impl Iterator<Item = &'s Tensor>) -> Result<Tensor> {
    Tensor::stack(&states.collect::<Vec<_>>(), 1)
}

#[test]
fn recurrent_networks() {
    for seed in 0..SEEDS {
        let (_, vb) = Seed::new(seed).var_builder(DType::F32, CPU);
        let gru = candle_nn::gru(WIDTH, 6, Default::default(), vb.pp("gru")).unwrap();
        let lstm = candle_nn::lstm(WIDTH, 6, Default::default(), vb.pp("lstm")).unwrap();
        let x = sequence(seed, 2, 7);
        passes("gru", seed, |x| over_time(gru.seq(x)?.iter().map(|state| state.h())), &x, 1);
        passes("lstm", seed, |x| over_time(lstm.seq(x)?.iter().map(|state| state.h())), &x, 1);
    }
}

#[test]
fn convolutions_over_time() {
    for seed in 0..SEEDS {
        let conv = TimeConv::new(Seed::new(seed), 3, (2, 0));
        let x = sequence(seed, 2, 10).transpose(1, 2).unwrap();
        passes("conv", seed, |x| conv.forward(x), &x, 2);
    }
}

#[test]
fn a_norm_and_a_residual_round_a_running_mean() {
    for seed in 0..SEEDS {
        let (_, vb) = Seed::new(seed).var_builder(DType::F32, CPU);
        let norm = candle_nn::layer_norm(WIDTH, 1e-5, vb.pp("norm")).unwrap();
        let up = candle_nn::linear(WIDTH, 4 * WIDTH, vb.pp("up")).unwrap();
        let down = candle_nn::linear(4 * WIDTH, WIDTH, vb.pp("down")).unwrap();
        let counts = Tensor::arange(1f32, 13.0, CPU).unwrap().reshape((1, 12, 1)).unwrap();
        let f = |x: &Tensor| {
            let mean = x.cumsum(1)?.broadcast_div(&counts)?;
            mean.add(&down.forward(&up.forward(&norm.forward(&mean)?)?.gelu()?)?)
        };
        passes("mean", seed, f, &sequence(seed, 3, 12), 1);
    }
}

/// The scores' mask comes from outside, as candle-transformers' models take it. Other values in it would leave a row
/// without a score: NaN, which passes any mask of the layer behind it.
#[test]
fn a_mask_of_minus_infinity_as_an_input() {
    for seed in 0..SEEDS {
        let (rows, len) = (1 + seed as usize % 4, 4 + seed as usize % 5);
        let mask = Mask::Above(f32::NEG_INFINITY).scores(len, DType::F32).unwrap();
        let mask = mask.broadcast_as((rows, len, len)).unwrap();
        let f = |x: &[Tensor; 2]| {
            let layer = |h: Tensor| {
                let scores = (h.matmul(&h.transpose(1, 2)?.contiguous()?)? + &x[1])?;
                &h + ops::softmax(&scores, 2)?.matmul(&h)?
            };
            layer(layer(x[0].clone())?)
        };
        let input = [sequence(seed, rows, len), mask];
        let causal = Causal::new().seed(Seed::new(seed));
        causal.check(f, &input).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        let lower = Tensor::tril2(len, DType::U8, CPU).unwrap();
        Dependence::new().check(f, &input, &lower).unwrap_or_else(|f| panic!("seed {seed}: {f}"));
        // A mask that is the only input is probed itself.
        let row_of_mask = |mask: &Tensor| mask.exp()?.cumsum(1);
        causal.check(row_of_mask, &input[1]).unwrap();
    }
}

#[test]
fn windows_and_strict_models() {
    for seed in 0..SEEDS {
        let conv = TimeConv::new(Seed::new(seed), 3, (2, 0));
        let x = sequence(seed, 3, 10).transpose(1, 2).unwrap();
        Causal::new().dim(2).window(3).check(|x: &Tensor| conv.forward(x), &x).unwrap();
        let shifted = TimeConv::new(Seed::new(seed), 2, (2, 0));
        let strict = Causal::new().dim(2).strict(true).window(3);
        strict.check(|x: &Tensor| shifted.forward(x)?.narrow(2, 0, 10), &x).unwrap();
        let model = Attention::new(Seed::new(seed), 2, Mask::Window(3), DType::F32);
        Causal::new()
            .window(5)
            .check(|x: &Tensor| model.forward(x), &sequence(seed, 2, 11))
            .unwrap();
    }
}

#[test]
fn every_float_and_every_layout() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let f = |x: &Tensor| x.cumsum(1)?.tanh();
        let x = (sequence(1, 2, 6).to_dtype(dtype).unwrap() * 0.2).unwrap();
        passes(dtype.as_str(), 1, f, &x, 1);
        let attended = |x: &Tensor| {
            let scores = x.matmul(&x.transpose(1, 2)?.contiguous()?)?;
            let mask = Mask::Above(f32::NEG_INFINITY).scores(6, dtype)?;
            ops::softmax(&scores.broadcast_add(&mask)?, 2)?.matmul(x)
        };
        passes(dtype.as_str(), 1, attended, &x, 1);
    }
    let x = sequence(1, 6, 4);
    let views = [
        x.transpose(0, 1).unwrap(),
        x.narrow(0, 1, 3).unwrap(),
        x.narrow(0, 0, 1).unwrap().broadcast_as((5, 4, WIDTH)).unwrap(),
    ];
    for view in views {
        passes("view", 1, |x| x.cumsum(1), &view, 1);
    }
}
