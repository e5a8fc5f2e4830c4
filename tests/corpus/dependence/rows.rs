//! Rows of a batch that get to know of each other: group B.

use candle_core::{DType, IndexOp, Module, Tensor};
use candle_nn::{
    Conv2dConfig, LSTMConfig, RNN, conv2d, embedding, group_norm, linear, loss, lstm, ops,
    rnn::LSTMState,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{HIDDEN, Heads, fused_norm, mask, softmax};
use crate::corpus::{
    data::{self, CPU, PAD, ROWS, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::Mlp,
    property::Property::BatchIndependent,
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "B2",
        group: GROUP,
        bug: "`reshape` for `transpose`: a recurrent layer's time steps hold other rows",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| time_first(seed, true),
        clean: |seed| time_first(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B2b",
        group: GROUP,
        bug: "images with channels last are reshaped to channels and batch, for a permutation",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| channels_last(seed, true),
        clean: |seed| channels_last(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B2e",
        group: GROUP,
        bug: "a linear layer over a transposed view: candle's product of matrices reads other rows",
        cause: Cause::LayoutDependent,
        assertion: Property(BatchIndependent),
        buggy: |seed| token_mixer(seed, true),
        clean: |seed| token_mixer(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B2f",
        group: GROUP,
        bug: "rows are sorted by length for a recurrent layer, and not put back",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| sorted(seed, true),
        clean: |seed| sorted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B3",
        group: GROUP,
        bug: "point clouds are flattened to coordinates by points, and come back mixed",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| points(seed, true),
        clean: |seed| points(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B3b",
        group: GROUP,
        bug: "sequences packed into one, without a mask between them",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| packed(seed, true),
        clean: |seed| packed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B3c",
        group: GROUP,
        bug: "tokens are pruned by their scores over the whole batch, not within each row",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| pruned(seed, true),
        clean: |seed| pruned(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B4",
        group: GROUP,
        bug: "the weights of an attention pooling are a softmax over the batch",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| pooled_by_attention(seed, 0),
        clean: |seed| pooled_by_attention(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "B4b",
        group: GROUP,
        bug: "the gates of a mixture of experts are a softmax over the batch",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| gated(seed, 0),
        clean: |seed| gated(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "B4c",
        group: GROUP,
        bug: "experts choose their rows, where rows were to choose their experts",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| routed(seed, true),
        clean: |seed| routed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B4d",
        group: GROUP,
        bug: "activations are quantised by one scale for the batch, its largest value",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| quantised(seed, true),
        clean: |seed| quantised(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B10",
        group: GROUP,
        bug: "a prediction is the argmax over the batch",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| predicted(seed, 0),
        clean: |seed| predicted(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "B15",
        group: GROUP,
        bug: "outputs of the crops of an image are averaged as if crops of an image lay side by side",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| crops(seed, true),
        clean: |seed| crops(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B15b",
        group: GROUP,
        bug: "`repeat` for `repeat_interleave`: beams attend to other rows' memories",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| beams(seed, true),
        clean: |seed| beams(seed, false),
        missed_today: None,
    },
];

fn time_first(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let cell = lstm(4, 8, LSTMConfig::default(), vb.pp("lstm"))?;
    let head = linear(8, 3, vb.pp("head"))?;
    let x = seed.normal("x", (5, 4, 4), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let (batch, time, width) = x.dims3()?;
        let x = match buggy {
            true => x.reshape((time, batch, width))?,
            false => x.transpose(0, 1)?,
        };
        let mut state = cell.zero_state(batch)?;
        for t in 0..time {
            state = cell.step(&x.get(t)?.contiguous()?, &state)?;
        }
        head.forward(state.h())
    }))
}

fn channels_last(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let conv = conv2d(3, 8, 3, config, vb.pp("conv"))?;
    let norm = group_norm(2, 8, 1e-5, vb.pp("norm"))?;
    let head = linear(8, 4, vb.pp("head"))?;
    let x = seed.uniform("x", 0.0..1.0, (3, 5, 6, 3), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let (batch, height, width, channels) = x.dims4()?;
        let x = match buggy {
            true => x.reshape((channels, batch, height, width))?.transpose(0, 1)?,
            false => x.permute((0, 3, 1, 2))?,
        };
        let x = norm.forward(&conv.forward(&x.contiguous()?)?)?.silu()?;
        head.forward(&x.mean((2, 3))?)
    }))
}

/// A layer over time, then one over features; trains.
fn token_mixer(seed: Seed, strided: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (over_time, over_width) = (linear(4, 4, vb.pp("time"))?, linear(8, 8, vb.pp("width"))?);
    let head = linear(32, 4, vb.pp("head"))?;
    let x = seed.normal("x", (ROWS, 4, 8), DType::F32, CPU)?;
    let forward = move |x: &Tensor| {
        let turned = x.transpose(1, 2)?;
        let turned = if strided { turned } else { turned.contiguous()? };
        let x = (over_time.forward(&turned)?.transpose(1, 2)?.relu()? + x)?;
        head.forward(&(over_width.forward(&x)?.relu()? + x)?.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// The maximum over a cloud's points, each through the same layers.
fn points(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let each = Mlp::new(&[3, 24, 24], Tensor::relu, vb.pp("each"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let x = seed.normal("x", (ROWS, 5, 3), DType::F32, CPU)?;
    let forward = move |x: &Tensor| {
        let (batch, points, _) = x.dims3()?;
        let x = match buggy {
            true => x.flatten_all()?.reshape((3, batch * points))?.t()?.contiguous()?,
            false => x.reshape((batch * points, 3))?,
        };
        head.forward(&each.forward(&x)?.reshape((batch, points, 24))?.max(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Rows of equal length in one long sequence: no padding, one call. The norm and the softmax are candle's fused ones.
fn packed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let norm = fused_norm(8, vb.pp("norm"))?;
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let x = seed.normal("x", (4, 3, 8), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let (batch, time, width) = x.dims3()?;
        let long = x.reshape((1, batch * time, width))?;
        let between = |query: usize, key: usize| !buggy && query / time != key / time;
        let apart = mask((batch * time, batch * time), x.dtype(), HIDDEN, between)?;
        let normed = norm.forward(&long)?;
        let weigh = |scores: &Tensor| ops::softmax_last_dim(&scores.broadcast_add(&apart)?);
        (&long + attention.forward(&normed, &normed, weigh)?)?.reshape((batch, time, width))
    }))
}

fn pooled_by_attention(seed: Seed, dim: usize) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let (score, head) = (linear(6, 1, vb.pp("score"))?, linear(6, 2, vb.pp("head"))?);
    let x = seed.normal("x", (7, 5, 6), DType::F64, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let weights = ops::softmax(&score.forward(x)?.squeeze(2)?, dim)?;
        head.forward(&x.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)?)
    }))
}

/// Every expert runs on every row; the gates weigh them.
fn gated(seed: Seed, dim: usize) -> Result<Subject> {
    const EXPERTS: usize = 3;
    let (vars, vb) = weights(seed, DType::F32);
    let router = linear(6, EXPERTS, vb.pp("router"))?;
    let expert = |i| Mlp::new(&[6, 12, 4], Tensor::tanh, vb.pp(format!("expert{i}")));
    let experts = (0..EXPERTS).map(expert).collect::<candle_core::Result<Vec<_>>>()?;
    let forward = move |x: &Tensor| {
        let gates = ops::softmax(&router.forward(x)?, dim)?;
        let parts = experts.iter().enumerate();
        let parts = parts.map(|(i, e)| e.forward(x)?.broadcast_mul(&gates.narrow(1, i, 1)?));
        let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::stack(&parts, 0)?.sum(0)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Each expert runs on the rows sent to it alone.
fn routed(seed: Seed, experts_choose: bool) -> Result<Subject> {
    const EXPERTS: usize = 3;
    let (_, vb) = weights(seed, DType::F32);
    let router = linear(6, EXPERTS, vb.pp("router"))?;
    let expert = |i| Mlp::new(&[6, 12, 6], Tensor::silu, vb.pp(format!("expert{i}")));
    let experts = (0..EXPERTS).map(expert).collect::<candle_core::Result<Vec<_>>>()?;
    let x = seed.normal("x", (12, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let scores = router.forward(x)?;
        let gates = softmax(&scores)?;
        let best = scores.argmax(1)?.to_vec1::<u32>()?;
        let share = x.dim(0)? / EXPERTS;
        let by_expert = scores.t()?.contiguous()?.arg_sort_last_dim(false)?.to_vec2::<u32>()?;
        let mut sum = x.clone();
        for (i, expert) in experts.iter().enumerate() {
            let rows: Vec<u32> = match experts_choose {
                true => by_expert[i][..share.max(1)].to_vec(),
                false => (0..best.len() as u32).filter(|r| best[*r as usize] == i as u32).collect(),
            };
            if rows.is_empty() {
                continue;
            }
            let rows = Tensor::new(rows, CPU)?;
            let gate = gates.narrow(1, i, 1)?.contiguous()?.index_select(&rows, 0)?;
            let part = expert.forward(&x.index_select(&rows, 0)?)?.broadcast_mul(&gate)?;
            sum = sum.index_add(&rows, &part, 0)?;
        }
        Ok(sum)
    }))
}

/// As many rows as classes: the shape is right either way.
fn predicted(seed: Seed, dim: usize) -> Result<Subject> {
    const CLASSES: usize = 5;
    let (vars, vb) = weights(seed, DType::F32);
    let model = std::rc::Rc::new(Mlp::new(&[6, 24, CLASSES], Tensor::relu, vb)?);
    let x = seed.normal("x", (CLASSES, 6), DType::F32, CPU)?;
    let y = Tensor::arange(0, CLASSES as u32, CPU)?;
    let logits = model.clone();
    let learner = Learner::new(&vars, move |x| logits.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x.clone(), y)).part(x, move |x| model.forward(x)?.argmax(dim)))
}

/// Three crops of each signal in one batch, crop after crop.
fn crops(seed: Seed, buggy: bool) -> Result<Subject> {
    const CROPS: usize = 3;
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let forward = move |x: &Tensor| {
        let (rows, width) = x.dims2()?;
        let crops = (0..CROPS).map(|i| x.narrow(1, i, width + 1 - CROPS));
        let all = Tensor::cat(&crops.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let logits = model.forward(&all)?;
        match buggy {
            true => logits.reshape((rows, CROPS, 4))?.mean(1),
            false => logits.reshape((CROPS, rows, 4))?.mean(0),
        }
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 8, 4, DType::F32)?))
}

/// Memories of `[batch, time, width]` and beams of `[batch, beams, width]`, of which each attends to its row's memory.
fn beams(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::BF16);
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let memory = seed.normal("memory", (3, 4, 8), DType::BF16, CPU)?;
    let beams = seed.normal("beams", (3, 2, 8), DType::BF16, CPU)?;
    Ok(Subject::inference([memory, beams], move |[memory, beams]: &[Tensor; 2]| {
        let (batch, count, width) = beams.dims3()?;
        let flat = beams.reshape((batch * count, 1, width))?;
        let memory = match buggy {
            true => memory.repeat((count, 1, 1))?,
            false => memory.unsqueeze(1)?.repeat((1, count, 1, 1))?.flatten_to(1)?,
        };
        attention.forward(&flat, &memory, softmax)?.reshape((batch, count, width))
    }))
}

/// The longest rows first. Padding is 0; a row's state stays as it is there.
fn sorted(seed: Seed, left_sorted: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 6, vb.pp("tokens"))?;
    let cell = lstm(6, 8, LSTMConfig::default(), vb.pp("lstm"))?;
    let head = linear(8, 3, vb.pp("head"))?;
    let (ids, _) = data::tagged(seed)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let real = ids.ne(PAD)?.to_dtype(DType::F32)?;
        let order = real.sum(1)?.arg_sort_last_dim(false)?;
        let (ids, real) = (ids.index_select(&order, 0)?, real.index_select(&order, 0)?);
        let x = tokens.forward(&ids)?;
        let mut state = cell.zero_state(ids.dim(0)?)?;
        for t in 0..ids.dim(1)? {
            let next = cell.step(&x.i((.., t))?.contiguous()?, &state)?;
            let keep = real.narrow(1, t, 1)?;
            let mix = |new: &Tensor, old: &Tensor| {
                new.broadcast_mul(&keep)? + old.broadcast_mul(&keep.affine(-1.0, 1.0)?)?
            };
            state = LSTMState::new(mix(next.h(), state.h())?, mix(next.c(), state.c())?);
        }
        let outputs = head.forward(state.h())?;
        if left_sorted {
            return Ok(outputs);
        }
        outputs.index_select(&order.arg_sort_last_dim(true)?, 0)
    }))
}

/// Half of the tokens go on to the next layer; the others are zeros.
fn pruned(seed: Seed, over_batch: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let score = linear(4, 1, vb.pp("score"))?;
    let attention = Heads::new(4, 1, vb.pp("attention"))?;
    let x = seed.normal("x", (6, 8, 4), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let (rows, time, _) = x.dims3()?;
        let scores = score.forward(x)?.squeeze(2)?;
        // The place of each token among the others, from the highest score.
        let place = |scores: &Tensor| {
            scores.contiguous()?.arg_sort_last_dim(false)?.arg_sort_last_dim(true)
        };
        let kept = match over_batch {
            true => place(&scores.flatten_all()?)?.lt((rows * time / 2) as u32)?,
            false => place(&scores)?.lt((time / 2) as u32)?,
        };
        let x = x.broadcast_mul(&kept.reshape((rows, time, 1))?.to_dtype(DType::F32)?)?;
        attention.forward(&x, &x, softmax)?.mean(1)
    }))
}

/// Eight bits: from -127 to 127.
fn quantised(seed: Seed, one_scale: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 16, vb.pp("first"))?, linear(16, 4, vb.pp("head"))?);
    let x = seed.normal("x", (10, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = first.forward(x)?.gelu()?;
        let scale = match one_scale {
            true => x.abs()?.max_all()?.reshape((1, 1))?,
            false => x.abs()?.max_keepdim(1)?,
        };
        let scale = (scale / 127.0)?;
        let quantised = x.broadcast_div(&scale)?.round()?.broadcast_mul(&scale)?;
        head.forward(&quantised)
    }))
}
