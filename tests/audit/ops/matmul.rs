//! Matrix products, and the layer made of one.

use candle_core::Module;
use candle_nn::Linear;

use crate::audit::case::{Operand, Table, signed};

pub(super) fn fill(table: &mut Table) {
    table.group("matmul");
    table
        .case("matmul", "2-D", [signed([2, 3]), signed([3, 2])], |x| x[0].matmul(&x[1]))
        .batched(&[0]);
    table
        .case("matmul", "3-D", [signed([2, 2, 3]), signed([2, 3, 2])], |x| x[0].matmul(&x[1]))
        .batched(&[0, 1]);
    table
        .case("matmul", "4-D", [signed([2, 2, 2, 3]), signed([2, 2, 3, 2])], |x| x[0].matmul(&x[1]))
        .batched(&[0, 1]);
    table
        .case("matmul", "rhs transposed", [signed([2, 2, 3]), signed([2, 2, 3])], |x| {
            x[0].matmul(&x[1].t()?)
        })
        .batched(&[0, 1]);
    table
        .case("matmul", "rhs broadcast", [signed([2, 2, 3]), signed([3, 2])], |x| {
            x[0].matmul(&x[1].broadcast_left(x[0].dim(0)?)?)
        })
        .batched(&[0]);
    table.case("matmul", "x, x transposed", [signed([2, 3])], |x| x[0].matmul(&x[0].t()?));
    table
        .case("broadcast_matmul", "(2,2,3), (3,2)", [signed([2, 2, 3]), signed([3, 2])], |x| {
            x[0].broadcast_matmul(&x[1])
        })
        .batched(&[0]);
    let pair = [signed([1, 2, 3]), signed([2, 3, 2])];
    table
        .case("broadcast_matmul", "(1,2,3), (2,3,2)", pair, |x| x[0].broadcast_matmul(&x[1]))
        .batched(&[1]);
    table.case("mv", "", [signed([2, 3]), signed([3])], |x| x[0].mv(&x[1])).batched(&[0]);
    linear(table, "2-D", signed([2, 3]));
    linear(table, "3-D", signed([2, 2, 3]));
    linear(table, "4-D", signed([2, 2, 2, 3]));
    table
        .case("Linear", "2-D, no bias", [signed([2, 3]), signed([4, 3])], |x| {
            Linear::new(x[1].clone(), None).forward(&x[0])
        })
        .batched(&[0]);
}

fn linear(table: &mut Table, setting: &str, x: Operand) {
    table
        .case("Linear", setting, [x, signed([4, 3]), signed([4])], |x| {
            Linear::new(x[1].clone(), Some(x[2].clone())).forward(&x[0])
        })
        .batched(&[0]);
}
