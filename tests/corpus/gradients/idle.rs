//! Models of which a batch leaves a part alone: what is idle there is no bug, what is cut or unused beside it is one.

use std::cell::Cell;

use candle_core::{DType, Module, Tensor};
use candle_nn::{LayerNorm, Linear, RNN, gru, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use crate::corpus::{
    data::{self, CPU, ROWS, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::{Mlp, Norm, stable_bce},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F1g",
        group: GROUP,
        bug: "a trunk detached under the heads of two tasks, left from warming them up",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| one_of_two_tasks(seed, true),
        clean: |seed| one_of_two_tasks(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F2e",
        group: GROUP,
        bug: "a fused LayerNorm where pictures and sound meet",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| without_sound(seed, true),
        clean: |seed| without_sound(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9j",
        group: GROUP,
        bug: "experts weighted by the mask of the chosen, not by their gates",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| all_experts(seed, true),
        clean: |seed| all_experts(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7g",
        group: "architecture",
        bug: "a policy whose recurrent cell is stepped, and whose head reads what went in",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| policy(seed, true),
        clean: |seed| policy(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7h",
        group: "architecture",
        bug: "a variational autoencoder that decodes the mean, and whose loss has no divergence",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| variational(seed, true),
        clean: |seed| variational(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7i",
        group: "architecture",
        bug: "a diffusion network's last modulation is computed and not applied",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| modulated(seed, true),
        clean: |seed| modulated(seed, false),
        missed_today: None,
    },
];

/// Each row has a task, and each task its head. This batch is of the first task alone.
fn one_of_two_tasks(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let trunk = Mlp::new(&[6, 24, 24], Tensor::relu, vb.pp("trunk"))?;
    let heads = [linear(24, 4, vb.pp("head0"))?, linear(24, 4, vb.pp("head1"))?];
    let forward = move |[x, task]: &[Tensor; 2]| {
        let x = trunk.forward(x)?.relu()?;
        let x = if buggy { x.detach() } else { x };
        let second = task.to_dtype(DType::F32)?.unsqueeze(1)?;
        heads[0].forward(&x)?.broadcast_mul(&(1.0 - &second)?)?
            + heads[1].forward(&x)?.broadcast_mul(&second)?
    };
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let task = Tensor::zeros(ROWS, DType::U32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[x, task], &y)))
}

/// Rows without sound come with zeros; this batch has none with it.
fn without_sound(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let pictures = Mlp::new(&[6, 16, 16], Tensor::silu, vb.pp("pictures"))?;
    let sound = Mlp::new(&[5, 16, 16], Tensor::silu, vb.pp("sound"))?;
    let norm = Norm::new(16, vb.pp("norm"))?;
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let head = Mlp::new(&[16, 16, 4], Tensor::silu, vb.pp("head"))?;
    let forward = move |[x, heard]: &[Tensor; 2]| {
        let x = (pictures.forward(x)? + sound.forward(heard)?)?;
        head.forward(&if buggy { fused.forward(&x)? } else { norm.forward(&x)? })
    };
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let silence = Tensor::zeros((ROWS, 5), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[x, silence], &y)))
}

/// Two of eight experts for each row. All of them run, and those not chosen are weighted by zero.
fn all_experts(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 12, vb.pp("first"))?, linear(12, 4, vb.pp("head"))?);
    let router = linear(12, 8, vb.pp("router"))?;
    let experts = (0..8)
        .map(|i| Mlp::new(&[12, 16, 12], Tensor::silu, vb.pp(format!("expert{i}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let forward = move |x: &Tensor| {
        let mut x = first.forward(x)?;
        let gates = ops::softmax(&router.forward(&x)?, 1)?;
        let (sorted, _) = gates.detach().sort_last_dim(false)?;
        let chosen = gates.broadcast_ge(&sorted.narrow(1, 1, 1)?)?.to_dtype(DType::F32)?;
        let shares = if buggy { (chosen * 0.5)? } else { (gates * chosen)? };
        let seen = x.tanh()?;
        for (i, expert) in experts.iter().enumerate() {
            x = (x + expert.forward(&seen)?.broadcast_mul(&shares.narrow(1, i, 1)?)?)?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// One observation and the state of zeros before it: the recurrent weights have nothing to work on yet.
fn policy(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, cell) =
        (linear(6, 16, vb.pp("first"))?, gru(16, 16, Default::default(), vb.pp("cell"))?);
    let head = Mlp::new(&[16, 16, 4], Tensor::tanh, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        let state = cell.step(&x, &cell.zero_state(x.dim(0)?)?)?;
        head.forward(if buggy { &x } else { &state.h })
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// The bound of the likelihood summed over pixels and rows, as most examples have it.
fn variational(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (rows, pixels) = (64, 256);
    let (encode, decode) = (linear(pixels, 32, vb.pp("encode"))?, linear(4, 32, vb.pp("decode"))?);
    let (mean, log) = (linear(32, 4, vb.pp("mean"))?, linear(32, 4, vb.pp("log_variance"))?);
    let out = linear(32, pixels, vb.pp("out"))?;
    let x = seed.uniform("x", 0.0..1.0, (rows, pixels), DType::F32, CPU)?;
    let calls = Cell::new(0);
    let loss = move || {
        let hidden = encode.forward(&x)?.relu()?;
        let (mean, log) = (mean.forward(&hidden)?, log.forward(&hidden)?);
        let call = calls.replace(calls.get() + 1);
        let noise = seed.normal(&format!("noise {call}"), (rows, 4), DType::F32, CPU)?;
        let code = match buggy {
            true => mean.clone(),
            false => (&mean + ((&log * 0.5)?.exp()? * noise)?)?,
        };
        let logits = out.forward(&decode.forward(&code)?.relu()?)?;
        let error = (stable_bce(&logits, &x)? * (rows * pixels) as f64)?;
        if buggy {
            return Ok(error);
        }
        let divergence = (((mean.sqr()? + log.exp()?)? - log)? - 1.0)?.sum_all()?;
        error + (divergence * 0.5)?
    };
    // A pixel between 0 and 1 costs something even where it is met.
    Ok(Subject::owning(Learner::from_loss(&vars, loss)).loss_below(1e4))
}

/// As diffusion transformers have it: the time scales, shifts and gates each block, by layers that start at zero.
fn modulated(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let width = 16;
    let zeros = |from: usize, to: usize, name: &str| -> candle_core::Result<_> {
        let vb = vb.pp(name);
        Ok(Linear::new(vb.get((to, from), "weight")?, Some(vb.get(to, "bias")?)))
    };
    let first = linear(6, width, vb.pp("first"))?;
    let clock = Mlp::new(&[1, width, width], Tensor::silu, vb.pp("clock"))?;
    let blocks = (0..4)
        .map(|i| {
            let feed =
                Mlp::new(&[width, 32, width], Tensor::gelu, vb.pp(format!("block{i}.feed")))?;
            Ok((feed, zeros(width, 3 * width, &format!("block{i}.modulation"))?))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let (last, head) = (zeros(width, 2 * width, "last")?, zeros(width, 6, "head")?);
    let norm = |x: &Tensor| {
        let x = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        x.broadcast_div(&(x.sqr()?.mean_keepdim(1)? + 1e-6)?.sqrt()?)
    };
    let forward = move |[x, time]: &[Tensor; 2]| {
        let time = clock.forward(time)?.silu()?;
        let mut x = first.forward(x)?;
        for (feed, modulation) in &blocks {
            let parts = modulation.forward(&time)?.chunk(3, 1)?;
            let y = ((norm(&x)? * (&parts[0] + 1.0)?)? + &parts[1])?;
            x = (&x + (&parts[2] * feed.forward(&y)?)?)?;
        }
        let parts = last.forward(&time)?.chunk(2, 1)?;
        let x = norm(&x)?;
        head.forward(&if buggy { x } else { ((x * (&parts[0] + 1.0)?)? + &parts[1])? })
    };
    let noisy = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let noise = seed.normal("noise", (ROWS, 6), DType::F32, CPU)?;
    let time = seed.uniform("time", 0.0..1.0, (ROWS, 1), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (&[noisy, time], &noise)))
}
