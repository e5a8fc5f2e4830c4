//! Layers whose forward pass is built from the ops above.

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{BatchNorm, Embedding, GRUConfig, GroupNorm, LSTMConfig, RNN, VarBuilder};

use crate::audit::case::{Operand, Table, constant, ids, positive, signed};

pub(super) fn fill(table: &mut Table) {
    table.group("layers");
    table.case("Embedding", "", [signed([5, 3])], |x| {
        Embedding::new(x[0].clone(), 3).forward(&ids([2, 2], &[1, 4, 1, 0])?)
    });
    let affine = [signed([2, 4, 3]), positive([4]), signed([4])];
    table
        .case("GroupNorm", "2 of 4", affine, |x| {
            GroupNorm::new(x[1].clone(), x[2].clone(), 4, 2, 1e-5)?.forward(&x[0])
        })
        .batched(&[0]);
    batch_norm(table);
    recurrent(table);
}

fn batch_norm(table: &mut Table) {
    let operands = || {
        let stats = [constant(signed([2])), constant(positive([2]))];
        let [mean, var] = stats;
        [signed([3, 2, 2]), mean, var, positive([2]), signed([2])]
    };
    let norm = |x: &[Tensor]| {
        // Copies: training writes into the running statistics.
        let (mean, var) = (x[1].copy()?, x[2].copy()?);
        BatchNorm::new(2, mean, var, x[3].clone(), x[4].clone(), 1e-5)
    };
    table.case("BatchNorm", "train", operands(), move |x| norm(x)?.forward_train(&x[0]));
    table
        .case("BatchNorm", "eval", operands(), move |x| norm(x)?.forward_t(&x[0], false))
        .batched(&[0]);
}

/// A layer's weights by the names it asks for.
fn weights(x: &[Tensor]) -> VarBuilder<'static> {
    let names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"];
    let named = names.iter().zip(x).map(|(name, x)| ((*name).to_owned(), x.clone()));
    VarBuilder::from_tensors(named.collect(), x[0].dtype(), x[0].device())
}

fn recurrent(table: &mut Table) {
    // Three inputs, two hidden units; `gates` blocks of weights.
    let operands = |x: Operand, gates: usize| {
        let rows = 2 * gates;
        [x, signed([rows, 3]), signed([rows, 2]), signed([rows]), signed([rows])]
    };
    let lstm = |x: &[Tensor]| candle_nn::lstm(3, 2, LSTMConfig::default(), weights(&x[1..]));
    let gru = |x: &[Tensor]| candle_nn::gru(3, 2, GRUConfig::default(), weights(&x[1..]));
    table
        .case("LSTM", "step twice", operands(signed([2, 3]), 4), move |x| {
            let lstm = lstm(x)?;
            let state = lstm.step(&x[0], &lstm.zero_state(x[0].dim(0)?)?)?;
            Ok(lstm.step(&x[0], &state)?.h)
        })
        .batched(&[0]);
    table
        .case("LSTM", "sequence", operands(signed([2, 3, 3]), 4), move |x| {
            sequence(&lstm(x)?, &x[0])
        })
        .batched(&[0]);
    table
        .case("GRU", "sequence", operands(signed([2, 3, 3]), 3), move |x| sequence(&gru(x)?, &x[0]))
        .batched(&[0]);
}

fn sequence<R: RNN>(layer: &R, x: &Tensor) -> Result<Tensor> {
    layer.states_to_tensor(&layer.seq(x)?)
}
