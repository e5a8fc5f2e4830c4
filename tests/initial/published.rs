//! Initialisations of the field, at all sizes and over many seeds: no alarm.

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{
    Conv1dConfig, Conv2dConfig, ConvTranspose2dConfig, Init, VarBuilder, conv_transpose2d, conv1d,
    conv2d, embedding, gru, linear, linear_no_bias, loss, lstm,
};
use candling::{
    Failure, Learner, Seed,
    check::{InitialLoss, Initialized},
    expected,
};

const CPU: &Device = &Device::Cpu;

fn randn(stdev: f64) -> Init {
    Init::Randn { mean: 0.0, stdev }
}

fn uniform(bound: f64) -> Init {
    Init::Uniform { lo: -bound, up: bound }
}

/// Every init that users take, for a matrix of these fans.
fn inits(fan_in: usize, fan_out: usize) -> Vec<Init> {
    let (i, o) = (fan_in as f64, fan_out as f64);
    vec![
        candle_nn::init::DEFAULT_KAIMING_NORMAL,
        candle_nn::init::DEFAULT_KAIMING_UNIFORM,
        // PyTorch's own, LeCun's, Xavier's with the gain of tanh, Kaiming's on the fan-out, GPT-2's and its residuals'.
        uniform(1.0 / i.sqrt()),
        randn(1.0 / i.sqrt()),
        randn(5.0 / 3.0 * (2.0 / (i + o)).sqrt()),
        randn((2.0 / o).sqrt().min(7.0 / i.sqrt())),
        randn(0.02),
        randn(0.02 / (2.0 * 12.0f64).sqrt()),
    ]
}

fn check(vars: &candle_nn::VarMap, what: &str) {
    if let Err(failure) = Initialized::new().check(vars) {
        panic!("{what}: {failure}");
    }
}

/// Sizes from 2 to 512, both ways; the seed picks the values.
const SIZES: &[(usize, usize)] = &[(2, 2), (2, 3), (3, 2), (4, 16), (16, 4), (32, 32), (64, 7)];
const LARGE: &[(usize, usize)] = &[(512, 2), (2, 512), (128, 96)];

fn matrices(seed: u64, sizes: &[(usize, usize)], dtype: DType) -> Result<()> {
    for (fan_in, fan_out) in sizes.iter().copied() {
        for (at, init) in inits(fan_in, fan_out).into_iter().enumerate() {
            let (vars, vb) = Seed::new(seed).var_builder(dtype, CPU);
            vb.get_with_hints((fan_out, fan_in), "a.weight", init)?;
            vb.get(fan_out, "a.bias")?;
            vb.get_with_hints((fan_out, fan_in), "query.weight", init)?;
            vb.get_with_hints((fan_out, fan_in), "other", init)?;
            // Of several small weights in a row most may be small by chance at no size.
            check(&vars, &format!("seed {seed}, {fan_in} -> {fan_out}, init {at}, {dtype:?}"));
        }
    }
    Ok(())
}

#[test]
fn matrices_of_every_init_and_size_pass() -> Result<()> {
    for seed in 0..SEEDS {
        matrices(seed, SIZES, DType::F32)?;
    }
    for seed in 0..SEEDS / 10 + 1 {
        matrices(seed, LARGE, DType::F32)?;
        matrices(seed, SIZES, DType::BF16)?;
        matrices(seed, SIZES, DType::F64)?;
    }
    Ok(())
}

#[test]
fn candles_own_layers_pass() -> Result<()> {
    for seed in 0..SEEDS {
        for dtype in [DType::F32, DType::BF16] {
            let (vars, vb) = Seed::new(seed).var_builder(dtype, CPU);
            layers(&vb)?;
            check(&vars, &format!("seed {seed}, {dtype:?}"));
        }
    }
    Ok(())
}

fn layers(vb: &VarBuilder<'_>) -> Result<()> {
    linear(3, 2, vb.pp("l1"))?;
    linear_no_bias(7, 5, vb.pp("l2"))?;
    conv1d(3, 4, 3, Conv1dConfig::default(), vb.pp("conv1"))?;
    conv2d(3, 8, 3, Conv2dConfig::default(), vb.pp("conv2"))?;
    conv2d(8, 8, 3, Conv2dConfig { groups: 8, ..Default::default() }, vb.pp("depthwise"))?;
    conv_transpose2d(8, 2, 2, ConvTranspose2dConfig::default(), vb.pp("up"))?;
    embedding(11, 6, vb.pp("tokens"))?;
    lstm(3, 4, Default::default(), vb.pp("lstm"))?;
    gru(3, 4, Default::default(), vb.pp("gru"))?;
    candle_nn::layer_norm(6, 1e-5, vb.pp("norm"))?;
    candle_nn::batch_norm(6, 1e-5, vb.pp("bn"))?;
    candle_nn::prelu(Some(4), vb.pp("prelu"))?;
    vb.get_with_hints((1, 1, 6), "cls_token", Init::Const(0.0))?;
    vb.get_with_hints((1, 9, 6), "pos_embed", Init::Const(0.0))?;
    vb.get_with_hints((8, 1, 1), "layer_scale", Init::Const(1e-6))?;
    Ok(())
}

/// Orthonormal rows or columns, by Gram and Schmidt.
fn orthogonal(seed: Seed, rows: usize, columns: usize, gain: f64) -> Result<Tensor> {
    let (few, many) = (rows.min(columns), rows.max(columns));
    let drawn: Vec<Vec<f64>> = seed.normal("w", (few, many), DType::F64, CPU)?.to_vec2()?;
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for mut row in drawn {
        for other in &kept {
            let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v *= gain / norm);
        kept.push(row);
    }
    let matrix = Tensor::from_vec(kept.concat(), (few, many), CPU)?.to_dtype(DType::F32)?;
    if rows <= columns { Ok(matrix) } else { matrix.t()?.contiguous() }
}

#[test]
fn orthogonal_identity_and_sparse_weights_pass() -> std::result::Result<(), Failure> {
    for seed in 0..SEEDS {
        let mut vars: Vec<(String, Var)> = Vec::new();
        // The policy's head of a PPO agent has a gain of 0.01.
        for (at, (rows, columns, gain)) in
            [(8, 8, 1.0), (16, 4, 1.41), (4, 16, 1.41), (2, 16, 0.01)].into_iter().enumerate()
        {
            let weight = orthogonal(Seed::new(seed).split(&at.to_string()), rows, columns, gain)?;
            vars.push((format!("l{at}.weight"), Var::from_tensor(&weight)?));
        }
        for name in ["rnn1.weight_hh", "rnn2.weight_hh"] {
            vars.push((name.to_owned(), Var::from_tensor(&Tensor::eye(6, DType::F32, CPU)?)?));
        }
        let drawn = Seed::new(seed).normal("s", (12, 10), DType::F32, CPU)?;
        let kept = Seed::new(seed).uniform("k", 0.0..1.0, (12, 10), DType::F32, CPU)?.ge(0.8)?;
        vars.push((
            "sparse.weight".to_owned(),
            Var::from_tensor(&(drawn * kept.to_dtype(DType::F32)?)?)?,
        ));
        Initialized::new().check(&vars)?;
    }
    Ok(())
}

/// More by hand: 200 were run when the limits were set, and 500 of the losses.
const SEEDS: u64 = 10;

/// Fresh classifiers and regressions on inputs in clusters, which a lucky model separates by itself, and on inputs
/// without any.
fn fresh_losses(seed: u64, dtype: DType) -> std::result::Result<(), Failure> {
    let shapes =
        [(2, 1, 1), (2, 2, 8), (4, 16, 16), (3, 300, 2), (10, 32, 40), (100, 8, 64), (5, 64, 5)];
    for (at, (classes, width, rows)) in shapes.into_iter().enumerate() {
        let own = Seed::new(seed).split(&at.to_string());
        let (vars, vb) = own.var_builder(dtype, CPU);
        let features = 1 + at;
        let (l1, l2) =
            (linear(features, width, vb.pp("l1"))?, linear(width, classes, vb.pp("l2"))?);
        let y = own.tokens("y", classes, rows, CPU)?;
        let centers = own.normal("centers", (classes, features), dtype, CPU)?;
        let clusters = centers.index_select(&y, 0)?;
        let noise = own.normal("noise", (rows, features), dtype, CPU)?;
        for x in [&clusters, &noise] {
            // candle's means in bf16 are not those of their terms.
            let forward = |x: &Tensor| l2.forward(&l1.forward(x)?.relu()?)?.to_dtype(DType::F32);
            let learner = Learner::new(&vars, forward, loss::cross_entropy);
            let what = |f: Failure| f.context(format!("seed {seed}, shape {at}, {dtype:?}"));
            let expected = expected::cross_entropy(classes);
            InitialLoss::new().check(&learner, (x, &y), expected).map_err(what)?;

            let targets = own.normal("targets", (rows, classes), DType::F32, CPU)?;
            let regression = Learner::new(&vars, forward, loss::mse);
            let expected = expected::mse(&targets);
            InitialLoss::new().check(&regression, (x, &targets), expected).map_err(what)?;

            let answers = targets.gt(0.0)?.to_dtype(DType::F32)?;
            let binary = Learner::new(&vars, forward, |o: &Tensor, y: &Tensor| {
                let tail = (o.abs()?.neg()?.exp()? + 1.0)?.log()?;
                ((o.relu()? - (o * y)?)? + tail)?.mean_all()
            });
            InitialLoss::new().check(&binary, (x, &answers), expected::bce()).map_err(what)?;
        }
    }
    Ok(())
}

#[test]
fn fresh_models_start_within_theory() {
    for seed in 0..SEEDS {
        for dtype in [DType::F32, DType::BF16] {
            if let Err(failure) = fresh_losses(seed, dtype) {
                panic!("{failure}");
            }
        }
    }
}
