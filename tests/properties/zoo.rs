//! Models without a fault, on which no assertion may raise an alarm.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{
    Conv1dConfig, Conv2dConfig, GRUConfig, Init, Linear, RNN, VarBuilder, conv1d, conv2d,
    embedding, group_norm, gru, layer_norm, linear, ops,
};
use candling::Seed;

pub(crate) const CPU: &Device = &Device::Cpu;

type Activation = fn(&Tensor) -> Result<Tensor>;

pub(crate) type Forward = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

pub(crate) struct Specimen {
    pub(crate) name: &'static str,
    pub(crate) forward: Forward,
    pub(crate) x: Tensor,
}

fn specimen(
    name: &'static str,
    x: Tensor,
    forward: impl FnMut(&Tensor) -> Result<Tensor> + 'static,
) -> Specimen {
    Specimen { name, forward: Box::new(forward), x }
}

pub(crate) fn layers(sizes: &[usize], vb: &VarBuilder<'_>) -> Result<Vec<Linear>> {
    let pairs = sizes.windows(2).enumerate();
    pairs.map(|(i, w)| linear(w[0], w[1], vb.pp(format!("l{i}")))).collect()
}

pub(crate) fn through(
    layers: &[Linear],
    x: &Tensor,
    activation: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut x = layers[0].forward(x)?;
    for layer in &layers[1..] {
        x = layer.forward(&activation(&x)?)?;
    }
    Ok(x)
}

/// A head of attention; `[batch, time, width]`, contiguous.
fn attention(
    width: usize,
    vb: &VarBuilder<'_>,
) -> Result<impl Fn(&Tensor) -> Result<Tensor> + use<>> {
    let [q, k, v, out] = ["q", "k", "v", "out"].map(|name| linear(width, width, vb.pp(name)));
    let (q, k, v, out) = (q?, k?, v?, out?);
    Ok(move |x: &Tensor| {
        let x = x.contiguous()?;
        let scores =
            (q.forward(&x)?.matmul(&k.forward(&x)?.t()?.contiguous()?)? / (width as f64).sqrt())?;
        out.forward(&ops::softmax(&scores, 2)?.matmul(&v.forward(&x)?)?)
    })
}

/// Models with an activation, which are in order whatever the layout of their input.
pub(crate) fn clean(seed: Seed, dtype: DType) -> Result<Vec<Specimen>> {
    let (_vars, vb) = seed.var_builder(dtype, CPU);
    let normal = |dims: &[usize]| seed.normal("x", dims, dtype, CPU);
    let flat = normal(&[6, 8])?;
    let sequence = normal(&[3, 5, 8])?;
    let mut all = Vec::new();

    let activations: [(&str, Activation); 4] = [
        ("relu", Tensor::relu),
        ("gelu", Tensor::gelu),
        ("tanh", Tensor::tanh),
        ("silu", Tensor::silu),
    ];
    for (name, activation) in activations {
        let mlp = layers(&[8, 16, 16, 3], &vb.pp(name))?;
        all.push(specimen(name, flat.clone(), move |x| through(&mlp, x, activation)));
    }
    let deep = layers(&[8, 16, 16, 16, 16, 16, 16, 3], &vb.pp("deep"))?;
    all.push(specimen("deep relu", flat.clone(), move |x| through(&deep, x, Tensor::relu)));
    let mlp = layers(&[8, 16, 3], &vb.pp("small"))?;
    let small = (&flat * 1e-2)?;
    all.push(specimen("small inputs", small, move |x| through(&mlp, x, Tensor::relu)));
    let mlp = layers(&[8, 16, 3], &vb.pp("pixels"))?;
    let pixels = ((&flat * 60.0)? + 120.0)?;
    all.push(specimen("pixels", pixels, move |x| through(&mlp, x, Tensor::relu)));
    let mlp = layers(&[8, 16, 3], &vb.pp("bits"))?;
    let bits = flat.ge(0.0)?.to_dtype(dtype)?;
    all.push(specimen("bits", bits, move |x| through(&mlp, x, Tensor::tanh)));
    let one = layers(&[1, 16, 1], &vb.pp("one"))?;
    all.push(specimen("one feature", normal(&[16, 1])?, move |x| through(&one, x, Tensor::relu)));
    all.push(specimen("log", (flat.abs()? + 0.5)?, |x| x.log()?.sum(1)));

    // Residual blocks, one of them with its branch at zero, and all of them under a norm.
    let blocks = layers(&[8, 8, 8, 8], &vb.pp("blocks"))?;
    let residual = move |x: &Tensor, gates: [f64; 3]| -> Result<Tensor> {
        let mut x = x.clone();
        for (layer, gate) in blocks.iter().zip(gates) {
            x = (&x + (layer.forward(&x)?.relu()? * gate)?)?;
        }
        Ok(x)
    };
    let open = residual.clone();
    all.push(specimen("residual", flat.clone(), move |x| open(x, [1.0; 3])));
    let nearly = residual.clone();
    let share = if dtype.size_in_bytes() == 2 { 0.3 } else { 1e-3 };
    all.push(specimen("nearly closed gates", flat.clone(), move |x| nearly(x, [0.0, share, 0.0])));
    let norm = layer_norm(8, 1e-5, vb.pp("norm"))?;
    all.push(specimen("closed gates under a norm", flat.clone(), move |x| {
        let x = residual(x, [0.0; 3])?;
        ops::layer_norm_slow(&x, norm.weight(), norm.bias().expect("it has one"), 1e-5)
    }));

    let attend = attention(8, &vb.pp("attention"))?;
    all.push(specimen("attention", sequence.clone(), attend));
    all.push(specimen("softmax over time", sequence.clone(), |x| ops::softmax(x, 1)?.mean(2)));
    if dtype != DType::BF16 && dtype != DType::F16 {
        let config = GRUConfig::default();
        let cell = gru(8, 8, config, vb.pp("gru"))?;
        all.push(specimen("gru", sequence.clone(), move |x| {
            Ok(cell.seq(x)?.last().expect("five steps").h.clone())
        }));
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let (c1, c2) =
            (conv2d(2, 4, 3, config, vb.pp("c1"))?, conv2d(4, 4, 3, config, vb.pp("c2"))?);
        let head = linear(4, 3, vb.pp("head"))?;
        let groups = group_norm(2, 4, 1e-5, vb.pp("groups"))?;
        let image = normal(&[3, 2, 6, 6])?;
        all.push(specimen("conv2d", image.clone(), move |x| {
            let x = groups.forward(&c1.forward(x)?)?.relu()?.avg_pool2d(2)?;
            head.forward(&c2.forward(&x)?.relu()?.mean((2, 3))?)
        }));
        all.push(specimen("max pool", image, |x| x.max_pool2d(2)));
    }
    let config = Conv1dConfig { padding: 1, ..Conv1dConfig::default() };
    let c1 = conv1d(8, 4, 3, config, vb.pp("c1d"))?;
    let channels = normal(&[3, 8, 5])?;
    all.push(specimen("conv1d", channels, move |x| c1.forward(x)?.gelu()?.mean(2)));
    Ok(all)
}

/// Affine maps of several kinds.
pub(crate) fn linear_ones(seed: Seed, dtype: DType) -> Result<Vec<Specimen>> {
    let (_vars, vb) = seed.var_builder(dtype, CPU);
    let normal = |dims: &[usize]| seed.normal("x", dims, dtype, CPU);
    let flat = normal(&[6, 8])?;
    let same = |x: &Tensor| Ok(x.clone());
    let mut all = Vec::new();
    for (name, sizes) in [
        ("one layer", &[8, 3][..]),
        ("two layers", &[8, 16, 3]),
        ("four layers", &[8, 64, 64, 64, 3]),
        ("eight layers", &[8, 32, 32, 32, 32, 32, 32, 32, 3]),
        ("wide", &[8, 512, 3]),
    ] {
        let mlp = layers(sizes, &vb.pp(name))?;
        all.push(specimen(name, flat.clone(), move |x| through(&mlp, x, same)));
    }
    let mlp = layers(&[8, 16, 3], &vb.pp("pixels"))?;
    let pixels = ((&flat * 60.0)? + 120.0)?;
    all.push(specimen("pixels", pixels, move |x| through(&mlp, x, same)));
    let mlp = layers(&[256, 64, 10], &vb.pp("image"))?;
    all.push(specimen("image", normal(&[4, 256])?, move |x| through(&mlp, x, same)));
    let mlp = layers(&[8, 16, 8], &vb.pp("residual"))?;
    all.push(specimen("residual", flat.clone(), move |x| x + through(&mlp, x, same)?));
    all.push(specimen("mean", normal(&[4, 100])?, |x| x.mean(1)));
    let config = Conv1dConfig { padding: 1, ..Conv1dConfig::default() };
    let (c1, c2) = (conv1d(2, 4, 3, config, vb.pp("c1"))?, conv1d(4, 4, 3, config, vb.pp("c2"))?);
    all.push(specimen("conv1d", normal(&[3, 2, 7])?, move |x| {
        c2.forward(&c1.forward(x)?)?.mean(2)
    }));
    let tokens = vb.get_with_hints((5, 8), "positions", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    let head = linear(8, 3, vb.pp("head"))?;
    all.push(specimen("positions", normal(&[3, 5, 8])?, move |x| {
        head.forward(&x.broadcast_add(&tokens)?.mean(1)?)
    }));
    Ok(all)
}

/// Ids through an embedding and an average.
pub(crate) fn bag_of_tokens(seed: Seed) -> Result<Specimen> {
    let (_vars, vb) = seed.var_builder(DType::F32, CPU);
    let (table, head) = (embedding(12, 8, vb.pp("table"))?, linear(8, 3, vb.pp("head"))?);
    let ids = seed.tokens("ids", 12, (4, 6), CPU)?;
    Ok(specimen("bag of tokens", ids, move |x| head.forward(&table.forward(x)?.mean(1)?)))
}
