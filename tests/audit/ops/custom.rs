//! Ops of the user's own.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::audit::case::{Table, signed};

/// Twice its operand, with a backward pass as candle lets one write it.
struct Twice {
    backward: Backward,
}

#[derive(Clone, Copy)]
enum Backward {
    Right,
    /// The trait allows it: "no gradient".
    GivesNone,
}

fn twice(storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    let (CpuStorage::F64(values), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
        bail!("for contiguous f64")
    };
    let doubled = values[from..to].iter().map(|x| 2.0 * x).collect();
    Ok((CpuStorage::F64(doubled), layout.shape().clone()))
}

impl CustomOp1 for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        twice(storage, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        match self.backward {
            Backward::Right => Ok(Some((grad * 2.0)?)),
            Backward::GivesNone => Ok(None),
        }
    }
}

pub(super) fn fill(table: &mut Table) {
    table.group("custom");
    table.case("CustomOp1", "bwd", [signed([3])], |x| {
        x[0].contiguous()?.apply_op1(Twice { backward: Backward::Right })
    });
    table
        .case("CustomOp1", "bwd gives none", [signed([3])], |x| {
            x[0].contiguous()?.apply_op1(Twice { backward: Backward::GivesNone })
        })
        .blocks_gradient();
}
