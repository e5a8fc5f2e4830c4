//! Many elements in, one out.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops;

use crate::audit::case::{Table, exactly, ids, signed, spread};

type Along = fn(&Tensor, usize) -> Result<Tensor>;
type Over = fn(&Tensor, &[usize]) -> Result<Tensor>;
type Whole = fn(&Tensor) -> Result<Tensor>;

pub(super) fn fill(table: &mut Table) {
    table.group("reduce");
    over(table);
    along(table);
    whole(table);
    ties(table);
    table.case("dot", "", [signed([3]), signed([3])], |x| x[0].dot(&x[1]));
    table.case("norm", "at 0", [exactly([2], &[0.0, 0.0])], |x| x[0].norm());
}

fn over(table: &mut Table) {
    let all: [(&str, Over); 5] = [
        ("sum", |x, dims| x.sum(dims)),
        ("sum_keepdim", |x, dims| x.sum_keepdim(dims)),
        ("mean", |x, dims| x.mean(dims)),
        ("mean_keepdim", |x, dims| x.mean_keepdim(dims)),
        ("log_sum_exp", |x, dims| x.log_sum_exp(dims)),
    ];
    for (name, f) in all {
        for dims in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2]] {
            let setting = format!("{dims:?}");
            table.case(name, setting, [signed([2, 3, 2])], move |x| f(&x[0], dims));
        }
    }
    table.case("log_sum_exp", "tied", [exactly([4], &[1.0, 2.0, 2.0, 0.5])], |x| {
        x[0].log_sum_exp(0)
    });
}

fn along(table: &mut Table) {
    let all: [(&str, Along); 12] = [
        ("max", |x, dim| x.max(dim)),
        ("max_keepdim", |x, dim| x.max_keepdim(dim)),
        ("min", |x, dim| x.min(dim)),
        ("min_keepdim", |x, dim| x.min_keepdim(dim)),
        ("argmax", |x, dim| x.argmax(dim)?.to_dtype(DType::F64)),
        ("argmin", |x, dim| x.argmin(dim)?.to_dtype(DType::F64)),
        ("var", |x, dim| x.var(dim)),
        ("var_keepdim", |x, dim| x.var_keepdim(dim)),
        ("cumsum", |x, dim| x.cumsum(dim)),
        ("ops::softmax", |x, dim| ops::softmax(x, dim)),
        ("ops::log_softmax", |x, dim| ops::log_softmax(x, dim)),
        ("l2 normalised", |x, dim| x.broadcast_div(&x.sqr()?.sum_keepdim(dim)?.sqrt()?)),
    ];
    for (name, f) in all {
        for dim in 0..3 {
            let setting = format!("dim {dim}");
            table.case(name, setting, [spread([2, 3, 2])], move |x| f(&x[0], dim));
        }
    }
    // A mask that an attention layer would use.
    table.case("ops::softmax", "masked with -inf", [signed([2, 3])], |x| {
        let mask = ids([2, 3], &[1, 0, 1, 0, 0, 1])?;
        let masked = Tensor::full(f64::NEG_INFINITY, (2, 3), x[0].device())?;
        ops::softmax(&mask.where_cond(&x[0], &masked)?, D::Minus1)
    });
}

fn whole(table: &mut Table) {
    let all: [(&str, Whole); 5] = [
        ("sum_all", Tensor::sum_all),
        ("mean_all", Tensor::mean_all),
        ("max_all", Tensor::max_all),
        ("min_all", Tensor::min_all),
        ("norm", Tensor::norm),
    ];
    for (name, f) in all {
        table.case(name, "", [spread([2, 3])], move |x| f(&x[0]));
    }
}

fn ties(table: &mut Table) {
    let values = &[3.0, 3.0, 0.0, 0.0, 2.0, 2.0, 1.0, 1.0];
    let all: [(&str, Whole); 4] = [
        ("max", |x| x.max(1)),
        ("min", |x| x.min(1)),
        ("max_all", Tensor::max_all),
        ("min_all", Tensor::min_all),
    ];
    for (name, f) in all {
        table.case(name, "tied", [exactly([2, 4], values)], move |x| f(&x[0]));
    }
    // Both of a tied pair reach the sort unchanged, in some order.
    table.case("sort_last_dim", "tied", [exactly([2, 4], values)], |x| {
        Ok(x[0].sort_last_dim(true)?.0)
    });
}
