//! No false alarm: clean models, over many seeds.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{LayerNorm, VarBuilder, linear, ops, rnn::LSTMConfig};
use candling::{
    Seed, assert_equivalent, assert_equivariant, assert_invariant, assert_sensitive,
    check::Direction,
};

const CPU: &Device = &Device::Cpu;
const SEEDS: u64 = 30;
const FORMATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

/// Half precision, which candle multiplies slowly, for every third seed.
fn seeds() -> impl Iterator<Item = (Seed, DType)> {
    let pairs = (0..SEEDS).flat_map(|seed| FORMATS.map(|dtype| (seed, dtype)));
    pairs
        .filter(|(seed, dtype)| dtype.size_in_bytes() > 2 || seed % 3 == 0)
        .map(|(seed, dtype)| (Seed::new(seed), dtype))
}

/// The entries of a dimension in another order.
fn shuffled(seed: Seed, x: &Tensor, dim: usize) -> Result<Tensor> {
    let keys = seed.uniform("order", 0.0..1.0, x.dim(dim)?, DType::F32, CPU)?;
    x.contiguous()?.index_select(&keys.arg_sort_last_dim(true)?, dim)
}

#[test]
fn pools_do_not_notice_the_order() -> Result<()> {
    for (seed, dtype) in seeds() {
        for (n, h) in [(7, 3), (100, 16), (1000, 4)] {
            // A sum of more than 256 equal terms stands still in bf16; f64 has nothing to add.
            if n == 1000 && dtype != DType::F32 {
                continue;
            }
            let x = seed.normal("x", (2, n, h), dtype, CPU)?;
            let label = format!("{seed:?} {dtype:?} {n}");
            let shuffle = |x: &Tensor| shuffled(seed, x, 1);
            assert_invariant!(|x| x.sum(1), &x, shuffle, "sum, {label}");
            assert_invariant!(|x| x.mean(1), &x, shuffle, "mean, {label}");
            assert_invariant!(|x| x.max(1), &x, shuffle, "max, {label}");
            assert_invariant!(|x| x.exp()?.sum(1)?.log(), &x, shuffle, "log-sum-exp, {label}");
            if dtype == DType::F32 {
                assert_invariant!(|x| x.abs()?.sum(1), &x, shuffle, "positive sum, {label}");
                assert_invariant!(|x| x.sum_all(), &x, shuffle, "sum of all, {label}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_deep_set_and_attention_follow_the_order() -> Result<()> {
    for (seed, dtype) in seeds() {
        let (_vars, vb) = seed.var_builder(dtype, CPU);
        let (phi, psi, rho) = (
            linear(5, 24, vb.pp("phi"))?,
            linear(24, 24, vb.pp("psi"))?,
            linear(24, 4, vb.pp("rho"))?,
        );
        let x = seed.normal("x", (2, 30, 5), dtype, CPU)?;
        let shuffle = |x: &Tensor| shuffled(seed, x, 1);
        let set = |x: &Tensor| {
            let h = psi.forward(&phi.forward(x)?.relu()?)?.gelu()?;
            rho.forward(&h.mean(1)?)
        };
        assert_invariant!(set, &x, shuffle, "{seed:?} {dtype:?}");
        let attention = |x: &Tensor| {
            let h = phi.forward(x)?;
            let q = psi.forward(&h)?;
            let scores = (q.matmul(&h.t()?.contiguous()?)? * 0.125)?;
            rho.forward(&ops::softmax(&scores, D::Minus1)?.matmul(&h)?)
        };
        assert_equivariant!(attention, &x, shuffle, "{seed:?} {dtype:?}");
        assert_invariant!(|x| attention(x)?.mean(1), &x, shuffle, "{seed:?} {dtype:?}");
    }
    Ok(())
}

#[test]
fn bags_of_words_do_not_notice_the_order() -> Result<()> {
    for (seed, dtype) in seeds() {
        let (_vars, vb) = seed.var_builder(dtype, CPU);
        let table =
            vb.get_with_hints((30, 24), "table", candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 })?;
        let (hidden, head) = (linear(24, 64, vb.pp("hidden"))?, linear(64, 3, vb.pp("head"))?);
        let bag = |ids: &Tensor| {
            let words = table.index_select(&ids.flatten_all()?, 0)?.reshape((2, (), 24))?;
            head.forward(&hidden.forward(&words.mean(1)?)?.tanh()?)
        };
        let ids = seed.tokens("ids", 30, (2, 50), CPU)?;
        assert_invariant!(bag, &ids, |x| shuffled(seed, x, 1), "{seed:?} {dtype:?}");
    }
    Ok(())
}

#[test]
fn a_circular_convolution_follows_shifts() -> Result<()> {
    let circular = |x: &Tensor| {
        let n = x.dim(2)?;
        Tensor::cat(&[x.narrow(2, n - 1, 1)?, x.clone(), x.narrow(2, 0, 1)?], 2)
    };
    for seed in (0..SEEDS).map(Seed::new) {
        let w1 = seed.normal("w1", (8, 3, 3), DType::F32, CPU)?;
        let w2 = seed.normal("w2", (4, 8, 3), DType::F32, CPU)?;
        let net = |x: &Tensor| {
            let h = circular(x)?.conv1d(&w1, 0, 1, 1, 1)?.relu()?;
            circular(&h)?.conv1d(&w2, 0, 1, 1, 1)
        };
        let x = seed.normal("x", (2, 3, 16), DType::F32, CPU)?;
        assert_equivariant!(net, &x, [|x| x.roll(1, 2), |x| x.roll(-5, 2)], "{seed:?}");
        assert_equivariant!(
            |x| net(x)?.unsqueeze(2)?.avg_pool2d((1, 2))?.squeeze(2),
            &x,
            |x| x.roll(4, 2),
            |y| y.roll(2, 2),
            "{seed:?}"
        );
        assert_invariant!(|x| net(x)?.mean(2), &x, |x| x.roll(3, 2), "{seed:?}");
        let scaled = |x: &Tensor| x * 3.0;
        let linear = |x: &Tensor| circular(x)?.conv1d(&w1, 0, 1, 1, 1);
        assert_equivariant!(linear, &x, scaled, "{seed:?}");
    }
    Ok(())
}

#[test]
fn softmax_does_not_notice_a_shift() -> Result<()> {
    for (seed, dtype) in seeds() {
        let x = seed.normal("x", (4, 10), dtype, CPU)?;
        for by in [1.0, -7.3, 100.0] {
            // 100 leaves a half as the last place of bf16: the input itself is lost, which is said.
            if by == 100.0 && dtype == DType::BF16 {
                continue;
            }
            let shift = |x: &Tensor| x + by;
            let label = format!("{seed:?} {dtype:?} {by}");
            assert_invariant!(|x| ops::softmax(x, 1), &x, shift, "{label}");
            if dtype == DType::F32 {
                assert_invariant!(|x| ops::log_softmax(x, 1), &x, shift, "{label}");
                assert_equivariant!(|x| x.log_sum_exp(1), &x, shift, "{label}");
            }
        }
        let norm = LayerNorm::new_no_bias(Tensor::ones(10, dtype, CPU)?, 0.0);
        assert_invariant!(|x| norm.forward(x), &x, |x| x * 3.0, "{seed:?} {dtype:?}");
    }
    Ok(())
}

fn mlp(vb: &VarBuilder<'_>) -> Result<impl Fn(&Tensor) -> Result<Tensor> + use<>> {
    let (a, b) = (linear(32, 96, vb.pp("a"))?, linear(96, 8, vb.pp("b"))?);
    Ok(move |x: &Tensor| b.forward(&a.forward(x)?.silu()?))
}

#[test]
fn loops_and_batches_agree() -> Result<()> {
    for (seed, dtype) in seeds() {
        let (_vars, vb) = seed.var_builder(dtype, CPU);
        let net = mlp(&vb)?;
        for rows in [1, 9] {
            let x = seed.normal("x", (rows, 32), dtype, CPU)?;
            let looped = |x: &Tensor| {
                let outputs =
                    (0..rows).map(|i| net(&x.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&outputs, 0)
            };
            assert_equivalent!(looped, &net, &x, "{seed:?} {dtype:?} {rows}");
        }
    }
    Ok(())
}

#[test]
fn formats_agree() -> Result<()> {
    for seed in (0..SEEDS).map(Seed::new) {
        let net = |dtype: DType| {
            let (_vars, vb) = seed.var_builder(dtype, CPU);
            mlp(&vb)
        };
        let wide = net(DType::F32)?;
        let x = seed.normal("x", (6, 32), DType::F32, CPU)?;
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            let narrow = net(dtype)?;
            assert_equivalent!(|x| narrow(&x.to_dtype(dtype)?), &wide, &x, "{seed:?} {dtype:?}");
            let back = |x: &Tensor| narrow(&x.to_dtype(dtype)?)?.to_dtype(DType::F32);
            assert_equivalent!(back, &wide, &x, "{seed:?} {dtype:?} and back");
        }
    }
    Ok(())
}

#[test]
fn formulas_agree() -> Result<()> {
    for (seed, dtype) in seeds() {
        let x = seed.normal("x", (6, 32), dtype, CPU)?;
        let label = format!("{seed:?} {dtype:?}");
        let slow = |x: &Tensor| {
            let e = x.broadcast_sub(&x.max_keepdim(1)?)?.exp()?;
            e.broadcast_div(&e.sum_keepdim(1)?)
        };
        assert_equivalent!(ops::softmax_last_dim, slow, &x, "{label}");
        let gelu = |x: &Tensor| {
            let inner = ((x + (x.powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * (inner.tanh()? + 1.0)?)? * 0.5
        };
        assert_equivalent!(|x| x.gelu(), gelu, &x, "{label}");
        let unit = Tensor::ones(32, dtype, CPU)?;
        let zero = unit.zeros_like()?;
        // candle's fused norm takes no f64.
        if dtype == DType::F64 {
            continue;
        }
        assert_equivalent!(
            |x| ops::layer_norm(x, &unit, &zero, 1e-5),
            |x| ops::layer_norm_slow(x, &unit, &zero, 1e-5),
            &x,
            "{label}"
        );
    }
    Ok(())
}

#[test]
fn real_changes_are_noticed() -> Result<()> {
    for (seed, dtype) in seeds() {
        let (_vars, vb) = seed.var_builder(dtype, CPU);
        let net = mlp(&vb)?;
        let label = format!("{seed:?} {dtype:?}");
        let x = seed.normal("x", (6, 32), dtype, CPU)?;
        let one_feature =
            |x: &Tensor| Tensor::cat(&[(x.narrow(1, 0, 1)? + 2.0)?, x.narrow(1, 1, 31)?], 1);
        assert_sensitive!(&net, &x, one_feature, "{label}");
        assert_sensitive!(
            |x| x.tanh()?.sum(1),
            &x,
            one_feature,
            direction = Direction::Up,
            "{label}"
        );
        let lstm = candle_nn::lstm(32, 8, LSTMConfig::default(), vb.pp("lstm"))?;
        let last = |x: &Tensor| {
            use candle_nn::RNN;
            let states = lstm.seq(&x.unsqueeze(0)?)?;
            Ok(states[states.len() - 1].h().clone())
        };
        assert_sensitive!(last, &x, |x| shuffled(seed, x, 0), "{label}");
    }
    Ok(())
}
