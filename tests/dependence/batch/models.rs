//! The small networks these tests look at.

use candle_core::{D, DType, Module, ModuleT, Result, Tensor};
use candle_nn::{
    GRUConfig, LSTMConfig, RNN, VarBuilder, batch_norm, conv1d, conv2d, embedding, group_norm, gru,
    layer_norm, linear, lstm, ops, rms_norm,
};
use candling::Seed;

pub(super) use crate::{
    gradients::models::{builder, normal, scale_and_shift},
    support::text,
    training::models::device,
};

pub(super) type Network = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A network without a fault, and the input it takes.
pub(super) struct Clean {
    pub(super) name: &'static str,
    /// Dims of one row of floats, or the vocabulary and the length of one row of ids.
    pub(super) row: Row,
    pub(super) build: fn(VarBuilder<'static>) -> Result<Network>,
}

#[derive(Clone, Copy)]
pub(super) enum Row {
    Floats(&'static [usize]),
    Ids(usize, usize),
}

impl Clean {
    pub(super) fn input(&self, seed: u64, rows: usize, dtype: DType) -> Tensor {
        match self.row {
            Row::Floats(dims) => normal(seed, &[&[rows], dims].concat(), dtype),
            Row::Ids(vocabulary, len) => {
                Seed::new(seed).tokens("ids", vocabulary, (rows, len), &device()).unwrap()
            }
        }
    }
}

const fn clean(
    name: &'static str,
    row: Row,
    build: fn(VarBuilder<'static>) -> Result<Network>,
) -> Clean {
    Clean { name, row, build }
}

pub(super) const ZOO: &[Clean] = &[
    clean("mlp", Row::Floats(&[6]), |vb| {
        let (l1, l2) = (linear(6, 16, vb.pp("l1"))?, linear(16, 4, vb.pp("l2"))?);
        Ok(Box::new(move |x| l2.forward(&l1.forward(x)?.relu()?)))
    }),
    clean("scalar per row", Row::Floats(&[]), |_| Ok(Box::new(|x| x.tanh()? * 2.0))),
    clean("conv2d", Row::Floats(&[2, 8, 8]), |vb| {
        let conv = conv2d(2, 4, 3, Default::default(), vb.pp("conv"))?;
        let head = linear(36, 3, vb.pp("head"))?;
        Ok(Box::new(move |x| {
            head.forward(&conv.forward(x)?.gelu()?.avg_pool2d(2)?.flatten_from(1)?)
        }))
    }),
    clean("conv1d", Row::Floats(&[3, 9]), |vb| {
        let conv = conv1d(3, 4, 3, Default::default(), vb.pp("conv"))?;
        Ok(Box::new(move |x| conv.forward(x)?.tanh()?.mean(D::Minus1)))
    }),
    clean("max_pool2d", Row::Floats(&[1, 4, 4]), |_| Ok(Box::new(|x| x.max_pool2d(2)))),
    clean("fused layer norm", Row::Floats(&[6]), |vb| {
        let (l1, norm) = (linear(6, 8, vb.pp("l1"))?, layer_norm(8, 1e-5, vb.pp("norm"))?);
        Ok(Box::new(move |x| norm.forward(&l1.forward(x)?)))
    }),
    clean("fused rms norm, residual", Row::Floats(&[6]), |vb| {
        let (l1, norm) = (linear(6, 6, vb.pp("l1"))?, rms_norm(6, 1e-5, vb.pp("norm"))?);
        Ok(Box::new(move |x| x + l1.forward(&norm.forward(x)?)?))
    }),
    clean("slow layer norm", Row::Floats(&[6]), |vb| {
        let l1 = linear(6, 8, vb.pp("l1"))?;
        let (weight, bias) = scale_and_shift(8, vb.pp("norm"));
        Ok(Box::new(move |x| ops::layer_norm_slow(&l1.forward(x)?, &weight, &bias, 1e-5)))
    }),
    clean("group norm", Row::Floats(&[4, 5, 5]), |vb| {
        let norm = group_norm(2, 4, 1e-5, vb.pp("norm"))?;
        let conv = conv2d(4, 4, 3, Default::default(), vb.pp("conv"))?;
        Ok(Box::new(move |x| conv.forward(&norm.forward(x)?.silu()?)))
    }),
    clean("batch norm in evaluation", Row::Floats(&[4, 5, 5]), |vb| {
        let norm = batch_norm(4, 1e-5, vb.pp("norm"))?;
        Ok(Box::new(move |x| norm.forward_t(x, false)))
    }),
    clean("dropout in evaluation", Row::Floats(&[6]), |vb| {
        let (l1, dropout) = (linear(6, 8, vb.pp("l1"))?, candle_nn::Dropout::new(0.5));
        Ok(Box::new(move |x| dropout.forward_t(&l1.forward(x)?, false)))
    }),
    clean("attention", Row::Floats(&[5, 8]), |vb| attention(vb, false)),
    clean("attention, fused softmax", Row::Floats(&[5, 8]), |vb| attention(vb, true)),
    clean("decoder of ids", Row::Ids(20, 6), |vb| {
        let table = embedding(20, 8, vb.pp("embed"))?;
        let attention = attention(vb.pp("block"), false)?;
        let norm = layer_norm(8, 1e-5, vb.pp("norm"))?;
        Ok(Box::new(move |ids| {
            let x = table.forward(ids)?;
            // Tied weights.
            let h = norm.forward(&(&x + attention(&x)?)?)?;
            h.broadcast_matmul(&table.embeddings().t()?)
        }))
    }),
    clean("bag of ids", Row::Ids(20, 6), |vb| {
        let table = embedding(20, 8, vb.pp("embed"))?;
        Ok(Box::new(move |ids| table.forward(ids)?.sum(1)))
    }),
    clean("classes of ids", Row::Ids(20, 6), |vb| {
        let (table, head) = (embedding(20, 8, vb.pp("embed"))?, linear(8, 5, vb.pp("head"))?);
        Ok(Box::new(move |ids| head.forward(&table.forward(ids)?.mean(1)?)?.argmax(1)))
    }),
    clean("lstm", Row::Floats(&[4, 3]), |vb| {
        let lstm = lstm(3, 5, LSTMConfig::default(), vb.pp("lstm"))?;
        Ok(Box::new(move |x| {
            let states = lstm.seq(x)?;
            Ok(states.last().expect("four steps").h().clone())
        }))
    }),
    clean("gru", Row::Floats(&[4, 3]), |vb| {
        let gru = gru(3, 5, GRUConfig::default(), vb.pp("gru"))?;
        Ok(Box::new(move |x| {
            let steps = gru.seq(x)?;
            Tensor::stack(&steps.iter().map(|s| s.h().clone()).collect::<Vec<_>>(), 1)
        }))
    }),
    clean("recurrence over time first", Row::Floats(&[4, 3]), |_| {
        Ok(Box::new(|x| {
            let steps = x.transpose(0, 1)?.contiguous()?;
            let mut h = steps.get(0)?.zeros_like()?;
            let mut out = Vec::new();
            for t in 0..steps.dim(0)? {
                h = ((h * 0.5)? + steps.get(t)?)?.tanh()?;
                out.push(h.clone());
            }
            Tensor::stack(&out, 0)?.transpose(0, 1)
        }))
    }),
    clean("row by row", Row::Floats(&[3]), |_| {
        Ok(Box::new(|x| {
            let rows = (0..x.dim(0)?).map(|row| x.get(row)?.exp()?.sum_all());
            Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
        }))
    }),
];

fn attention(vb: VarBuilder<'_>, fused: bool) -> Result<Network> {
    let [q, k, v] = ["q", "k", "v"].map(|name| linear(8, 8, vb.pp(name)));
    let (q, k, v) = (q?, k?, v?);
    let heads = |x: &Tensor| -> Result<Tensor> {
        let (b, t, _) = x.dims3()?;
        x.reshape((b, t, 2, 4))?.transpose(1, 2)?.contiguous()
    };
    Ok(Box::new(move |x| {
        let (b, t, d) = x.dims3()?;
        let (q, k, v) = (heads(&q.forward(x)?)?, heads(&k.forward(x)?)?, heads(&v.forward(x)?)?);
        let scores = (q.matmul(&k.t()?)? * 0.5)?;
        let weights = match fused {
            true => ops::softmax_last_dim(&scores)?,
            false => ops::softmax(&scores, D::Minus1)?,
        };
        weights.matmul(&v)?.transpose(1, 2)?.reshape((b, t, d))
    }))
}
