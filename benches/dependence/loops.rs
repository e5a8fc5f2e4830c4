//! What the checks replace, as one would write it by hand: a backward pass for every row, or for every position.

use candling::{
    Result,
    candle_core::{Module, Tensor, Var},
};

/// Whether the graph of one forward pass serves all backward passes, or each has its own.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Graph {
    Kept,
    Anew,
}

/// For every so many rows of the output a backward pass: no other row of the input may have a gradient.
pub(crate) fn every_row(f: &dyn Module, x: &Tensor, graph: Graph, step: usize) -> Result<()> {
    let x = Var::from_tensor(x)?;
    let rows = x.dim(0)?;
    let mut output = f.forward(&x)?;
    for row in (0..rows).step_by(step) {
        if graph == Graph::Anew && row > 0 {
            output = f.forward(&x)?;
        }
        let grads = output.get(row)?.sqr()?.sum_all()?.backward()?;
        let gradient = grads.get(&x).expect("a gradient");
        untouched(gradient, 0, 0, row)?;
        untouched(gradient, 0, row + 1, rows - row - 1)?;
    }
    Ok(())
}

/// For every position of the output a backward pass: no later position of the input may have a gradient.
pub(crate) fn every_position(f: &dyn Module, x: &Tensor, graph: Graph) -> Result<()> {
    let x = Var::from_tensor(x)?;
    let len = x.dim(1)?;
    let mut output = f.forward(&x)?;
    for t in 0..len {
        if graph == Graph::Anew && t > 0 {
            output = f.forward(&x)?;
        }
        let grads = output.narrow(1, t, 1)?.sqr()?.sum_all()?.backward()?;
        untouched(grads.get(&x).expect("a gradient"), 1, t + 1, len - t - 1)?;
    }
    Ok(())
}

fn untouched(gradient: &Tensor, dim: usize, start: usize, len: usize) -> Result<()> {
    if len > 0 {
        let sum = gradient.narrow(dim, start, len)?.abs()?.sum_all()?;
        assert_eq!(sum.to_scalar::<f32>()?, 0.0);
    }
    Ok(())
}
