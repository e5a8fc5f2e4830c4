//! Group D: layers whose units are dead, saturated, or next to zero from the start.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{
    Conv2d, Conv2dConfig, Init, Linear, VarBuilder, conv2d, embedding,
    init::DEFAULT_KAIMING_NORMAL, linear, loss, ops,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{Mixture, token_loss};
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::UnitsAlive, Entry, Subject},
    models::{Attention, Norm, same, stable_bce},
};

const GROUP: &str = "initialisation";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D3b",
        group: GROUP,
        bug: "tanh layers with weights of standard deviation 10",
        cause: Cause::WeightsScale,
        assertion: UnitsAlive,
        buggy: |seed| tanh_layers(seed, Init::Randn { mean: 0.0, stdev: 10.0 }),
        clean: |seed| tanh_layers(seed, Init::Randn { mean: 0.0, stdev: 0.25 }),
        missed_today: None,
    },
    Entry {
        id: "D3c",
        group: GROUP,
        bug: "weights of standard deviation 0.0001: every layer's output is next to zero",
        cause: Cause::WeightsScale,
        assertion: UnitsAlive,
        buggy: |seed| relu_layers(seed, Init::Randn { mean: 0.0, stdev: 1e-4 }),
        clean: |seed| relu_layers(seed, DEFAULT_KAIMING_NORMAL),
        missed_today: None,
    },
    Entry {
        id: "D3d",
        group: GROUP,
        bug: "a first layer with weights of standard deviation 0.00001, under blocks that start small on purpose",
        cause: Cause::WeightsScale,
        assertion: UnitsAlive,
        buggy: |seed| small_blocks(seed, 1e-5),
        clean: |seed| small_blocks(seed, 0.4),
        missed_today: None,
    },
    Entry {
        id: "D7b",
        group: GROUP,
        bug: "biases of -10 in the middle of a convolutional net",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| convolutions(seed, -10.0),
        clean: |seed| convolutions(seed, 0.0),
        missed_today: None,
    },
    Entry {
        id: "D7c",
        group: GROUP,
        bug: "biases of -10 in a transformer's feed-forward layer: the rest learns around it",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| decoder(seed, -10.0, -1e9),
        clean: |seed| decoder(seed, 0.0, -1e9),
        missed_today: None,
    },
    Entry {
        id: "D7d",
        group: GROUP,
        bug: "raw decibels, all negative, into weights that are all positive",
        cause: Cause::InputNotScaled,
        assertion: UnitsAlive,
        buggy: |seed| decibels(seed, true),
        clean: |seed| decibels(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D7e",
        group: GROUP,
        bug: "the gates of a highway network start at -20: shut for good",
        cause: Cause::UnitsSaturated,
        assertion: UnitsAlive,
        buggy: |seed| highway(seed, -20.0),
        clean: |seed| highway(seed, -2.0),
        missed_today: None,
    },
    Entry {
        id: "D7f",
        group: GROUP,
        bug: "biases between -20 and 0: most units of a layer are dead on all of 256 rows",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| many_rows(seed, Init::Uniform { lo: -20.0, up: 0.0 }),
        clean: |seed| many_rows(seed, Init::Uniform { lo: -1.0, up: 1.0 }),
        missed_today: None,
    },
    Entry {
        id: "D7g",
        group: GROUP,
        bug: "every expert of a mixture is dead",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| experts(seed, true),
        clean: |seed| experts(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D7h",
        group: GROUP,
        bug: "a sigmoid layer that is fed pixels of 0 to 255",
        cause: Cause::InputNotScaled,
        assertion: UnitsAlive,
        buggy: |seed| pixels(seed, 1.0),
        clean: |seed| pixels(seed, 1.0 / 255.0),
        missed_today: None,
    },
    Entry {
        id: "D7i",
        group: GROUP,
        bug: "biases of -10 in a feed-forward layer, behind an attention whose mask is of minus infinities",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| decoder(seed, -10.0, f32::NEG_INFINITY),
        clean: |seed| decoder(seed, 0.0, f32::NEG_INFINITY),
        missed_today: None,
    },
    Entry {
        id: "D7j",
        group: GROUP,
        bug: "biases of -10 in a mobile net's convolution by channels",
        cause: Cause::UnitsDead,
        assertion: UnitsAlive,
        buggy: |seed| mobile(seed, -10.0),
        clean: |seed| mobile(seed, 0.0),
        missed_today: None,
    },
    Entry {
        id: "D7k",
        group: GROUP,
        bug: "a detector's output starts at a probability of 1e-9, not at one as low as the share of hits",
        cause: Cause::UnitsSaturated,
        assertion: UnitsAlive,
        buggy: |seed| detector(seed, 1e-9),
        clean: |seed| detector(seed, 1e-3),
        missed_today: None,
    },
];

fn layer(
    from: usize,
    to: usize,
    weight: Init,
    bias: Init,
    vb: VarBuilder<'_>,
) -> candle_core::Result<Linear> {
    let weight = vb.get_with_hints((to, from), "weight", weight)?;
    Ok(Linear::new(weight, Some(vb.get_with_hints(to, "bias", bias)?)))
}

fn tanh_layers(seed: Seed, init: Init) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let zero = Init::Const(0.0);
    let first = layer(6, 24, init, zero, vb.pp("first"))?;
    let second = layer(24, 24, init, zero, vb.pp("second"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let forward =
        move |x: &Tensor| head.forward(&second.forward(&first.forward(x)?.tanh()?)?.tanh()?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Rows of counts, most of them zero, and one row without any.
fn relu_layers(seed: Seed, init: Init) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let sizes = [12, 32, 32, 32, 4];
        let layers = (sizes.windows(2).enumerate())
            .map(|(i, w)| layer(w[0], w[1], init, Init::Const(0.0), vb.pp(format!("l{i}"))))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(move |x: &Tensor| {
            let (head, hidden) = layers.split_last().expect("four layers");
            let x = hidden.iter().try_fold(x.clone(), |x, layer| layer.forward(&x)?.relu())?;
            head.forward(&x)
        })
    };
    let mut counts = seed.tokens("x", 4, ROWS * 12, CPU)?.to_vec1::<u32>()?;
    for (i, count) in counts.iter_mut().enumerate() {
        let row = i / 12;
        // The first entry of a row, or the second, tells it from others that are as sparse.
        *count = if row == 0 || (i * 5 + row) % 3 > 0 { 0 } else { *count };
        if row > 0 && i % 12 == row % 12 {
            *count = 1 + row as u32 / 12;
        }
    }
    let x = Tensor::from_vec(counts, (ROWS, 12), CPU)?.to_dtype(DType::F32)?;
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F32, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Twelve residual blocks, each scaled by gains that start at 1e-4 (Touvron et al., 2021).
fn small_blocks(seed: Seed, stdev: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = Init::Randn { mean: 0.0, stdev };
    let first = layer(6, 16, init, Init::Const(0.0), vb.pp("first"))?;
    let blocks = (0..12)
        .map(|i| {
            let vb = vb.pp(format!("block{i:02}"));
            Ok((linear(16, 16, vb.clone())?, vb.get_with_hints(16, "scale", Init::Const(1e-4))?))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = first.forward(x)?;
        for (inner, scale) in &blocks {
            x = (&x + inner.forward(&x)?.gelu()?.broadcast_mul(scale)?)?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Images, a black one among them: with biases of zero, its units stand at zero exactly.
fn convolutions(seed: Seed, bias: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let conv = |from, name: &str, bias: f64| -> candle_core::Result<_> {
        let vb = vb.pp(name);
        let weight = vb.get_with_hints((6, from, 3, 3), "weight", DEFAULT_KAIMING_NORMAL)?;
        let bias = vb.get_with_hints(6, "bias", Init::Const(bias))?;
        Ok(Conv2d::new(weight, Some(bias), config))
    };
    let convs = [conv(1, "first", 0.0)?, conv(6, "second", bias)?];
    let third = conv2d(6, 6, 3, config, vb.pp("third"))?;
    let head = linear(6 * 16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = convs[0].forward(x)?.relu()?.avg_pool2d(2)?;
        let x = third.forward(&convs[1].forward(&x)?.relu()?)?.relu()?;
        head.forward(&x.flatten_from(1)?)
    };
    let (x, y) = data::images(seed, 4)?;
    let lit = Tensor::arange(0u32, ROWS as u32, CPU)?.gt(0u32)?.to_dtype(DType::F32)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x.broadcast_mul(&lit.reshape((ROWS, 1, 1, 1))?)?, y)))
}

/// `out` is added to the scores of later positions.
fn decoder(seed: Seed, bias: f64, out: f32) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 16, vb.pp("tokens"))?;
    let attention = Attention::new(16, vb.pp("attention"))?;
    let norms = [Norm::new(16, vb.pp("norm1"))?, Norm::new(16, vb.pp("norm2"))?];
    let up = layer(16, 32, DEFAULT_KAIMING_NORMAL, Init::Const(bias), vb.pp("up"))?;
    let (down, head) = (linear(32, 16, vb.pp("down"))?, linear(16, VOCAB, vb.pp("head"))?);
    let mask: Vec<f32> =
        (0..TIME * TIME).map(|i| if i % TIME > i / TIME { out } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (1, TIME, TIME), CPU)?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let weigh = |scores: &Tensor| ops::softmax(&scores.broadcast_add(&mask)?, 2);
        let x = (&x + attention.forward(&norms[0].forward(&x)?, same, weigh)?)?;
        let y = up.forward(&norms[1].forward(&x)?)?.relu()?;
        head.forward(&(x + down.forward(&y)?)?)
    };
    let ids = data::chains(seed)?;
    let (now, next) = (ids.narrow(1, 0, TIME)?, ids.narrow(1, 1, TIME)?);
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (now.contiguous()?, next.contiguous()?)))
}

/// Spectra of 16 bands around -50 dB. The first layer starts as a bank of filters, none of them negative.
fn decibels(seed: Seed, raw: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let bank = Init::Uniform { lo: 0.0, up: 0.5 };
    let first = layer(16, 24, bank, Init::Const(0.0), vb.pp("first"))?;
    let second = linear(24, 24, vb.pp("second"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = if raw { x.clone() } else { ((x + 50.0)? / 10.0)? };
        head.forward(&second.forward(&first.forward(&x)?.relu()?)?.relu()?)
    };
    let (x, y) = data::classes(seed, 16, 4, DType::F32)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x.affine(10.0, -50.0)?, y)))
}

/// `gate * new + (1 - gate) * old`; gates that start a little shut, at -2, are usual.
fn highway(seed: Seed, bias: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let first = linear(6, 16, vb.pp("first"))?;
    let blocks = (0..6)
        .map(|i| {
            let vb = vb.pp(format!("block{i}"));
            let gate = layer(16, 16, DEFAULT_KAIMING_NORMAL, Init::Const(bias), vb.pp("gate"))?;
            Ok((gate, linear(16, 16, vb.pp("new"))?))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = first.forward(x)?;
        for (gate, new) in &blocks {
            let gate = ops::sigmoid(&gate.forward(&x)?)?;
            x = ((&gate * new.forward(&x)?.gelu_erf()?)? + ((1.0 - &gate)? * &x)?)?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F64)?))
}

/// Convolutions by channels and over them in turn, with the ReLU that ends at 6: of two, and the second is still at rest.
fn mobile(seed: Seed, bias: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let first = conv2d(1, 8, 3, Conv2dConfig { stride: 2, ..config }, vb.pp("first"))?;
    let weight = vb.get_with_hints((8, 1, 3, 3), "deep.weight", DEFAULT_KAIMING_NORMAL)?;
    let bias = vb.get_with_hints(8, "deep.bias", Init::Const(bias))?;
    let deep = Conv2d::new(weight, Some(bias), Conv2dConfig { groups: 8, ..config });
    let point = conv2d(8, 8, 1, Conv2dConfig::default(), vb.pp("point"))?;
    let head = linear(8 * 16, 4, vb.pp("head"))?;
    let relu6 = |x: &Tensor| x.relu()? - (x - 6.0)?.relu()?;
    let forward = move |x: &Tensor| {
        let x = relu6(&first.forward(x)?)?;
        let x = relu6(&point.forward(&relu6(&deep.forward(&x)?)?)?)?;
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// Four rare things to find in each of 256 rows. The last bias starts at a low rate of hits (Lin et al., 2017).
fn detector(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 48, vb.pp("first"))?;
    let bias = Init::Const((rate / (1.0 - rate)).ln());
    let head = layer(48, 4, Init::Randn { mean: 0.0, stdev: 0.01 }, bias, vb.pp("head"))?;
    let forward = move |x: &Tensor| ops::sigmoid(&head.forward(&first.forward(x)?.relu()?)?);
    let loss = |p: &Tensor, y: &Tensor| {
        let p = p.clamp(1e-7f32, 1.0 - 1e-7)?;
        let hits = (y * p.log()?)?;
        (hits + ((1.0 - y)? * (1.0 - p)?.log()?)?)?.mean_all()?.neg()
    };
    let x = seed.normal("x", (256, 6), DType::F32, CPU)?;
    let direction = seed.normal("direction", (6, 4), DType::F32, CPU)?;
    let length = direction.sqr()?.sum_keepdim(0)?.sqrt()?;
    let y = x.matmul(&direction.broadcast_div(&length)?)?.gt(2.0)?.to_dtype(DType::F32)?;
    Ok(Subject::new(Learner::new(&vars, forward, loss), (x, y)))
}

/// 256 points on two sides of a plane.
fn many_rows(seed: Seed, bias: Init) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = layer(6, 48, DEFAULT_KAIMING_NORMAL, bias, vb.pp("first"))?;
    let head = linear(48, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor| head.forward(&first.forward(x)?.relu()?);
    let x = seed.normal("x", (256, 6), DType::F32, CPU)?;
    let direction = seed.normal("direction", (6, 1), DType::F32, CPU)?;
    let y = x.matmul(&direction)?.gt(0.0)?.to_dtype(DType::F32)?;
    let learner = Learner::new(&vars, forward, stable_bce);
    Ok(Subject::new(learner, (x, y)))
}

/// One expert of eight for each row: those without a row do not run, and are not dead.
fn experts(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 12, vb.pp("first"))?, linear(12, 4, vb.pp("head"))?);
    let mixture = Mixture::new(12, 8, 1, Tensor::relu, vb.pp("mixture"))?;
    if buggy {
        let named = vars.data().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (name, var) in named.iter().filter(|(name, _)| name.ends_with("l0.bias")) {
            assert!(name.starts_with("mixture."), "{name}");
            var.set(&(var.ones_like()? * -10.0)?)?;
        }
    }
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        let weigh = |logits: &Tensor| ops::softmax(logits, 1);
        let y = mixture.forward(&x, weigh, |gates| Ok(gates.clone()))?;
        head.forward(&(x + y)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn pixels(seed: Seed, scale: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(64, 24, vb.pp("first"))?, linear(24, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        head.forward(&ops::sigmoid(&first.forward(&(x.flatten_from(1)? * scale)?)?)?)
    };
    let x = seed.uniform("x", 0.0..256.0, (ROWS, 1, 8, 8), DType::F32, CPU)?.floor()?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}
