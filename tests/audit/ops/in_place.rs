//! Writes into a tensor that is already part of a graph.

use candle_core::{Result, Tensor, scalar::Scalar};

use crate::audit::case::{Table, ids, signed};

type Fill = fn(&Tensor) -> Result<()>;

pub(super) fn fill(table: &mut Table) {
    table.group("in place");
    let fills: [(&str, Fill); 3] = [
        ("zero_set", Tensor::zero_set),
        ("one_set", Tensor::one_set),
        ("const_set", |x| x.const_set(Scalar::from(2.0))),
    ];
    for (name, set) in fills {
        table.case(name, "", [signed([2, 3])], move |x| {
            let y = (&x[0] * 1.5)?;
            set(&y)?;
            Ok(y)
        });
    }
    table.case("slice_set", "into a result", [signed([3, 4]), signed([3, 2])], |x| {
        let y = (&x[0] * 1.5)?;
        y.slice_set(&x[1], 1, 1)?;
        Ok(y)
    });
    table.case("slice_set", "into zeros", [signed([3, 2])], |x| {
        let y = Tensor::zeros((3, 4), x[0].dtype(), x[0].device())?;
        y.slice_set(&x[0], 1, 1)?;
        Ok(y)
    });
    let apart = &[0, 2, 2, 1, 1, 0];
    table.case("scatter_set", "", [signed([3, 3]), signed([3, 2])], |x| {
        let y = (&x[0] * 1.5)?;
        y.scatter_set(&ids([3, 2], apart)?, &x[1], 1)?;
        Ok(y)
    });
    table.case("scatter_add_set", "", [signed([3, 3]), signed([3, 2])], |x| {
        let y = (&x[0] * 1.5)?;
        y.scatter_add_set(&ids([3, 2], apart)?, &x[1], 1)?;
        Ok(y)
    });
}
