//! The same elements in another shape, order, number or dtype.

use candle_core::{DType, IndexOp, Result, StreamTensor, StreamingBinOp, Tensor};
use candle_nn::ops;

use crate::audit::case::{Table, signed};

type Along = fn(&Tensor, usize) -> Result<Tensor>;

pub(super) fn fill(table: &mut Table) {
    table.group("shape");
    views(table);
    along(table);
    copies(table);
    joins(table);
    unfold(table);
}

fn views(table: &mut Table) {
    table.case("reshape", "", [signed([2, 3])], |x| x[0].reshape((3, 2)));
    table.case("squeeze", "", [signed([2, 1, 3])], |x| x[0].squeeze(1));
    table.case("unsqueeze", "", [signed([2, 3])], |x| x[0].unsqueeze(1));
    table.case("flatten_all", "", [signed([2, 3])], |x| x[0].flatten_all());
    table.case("flatten", "0, 1", [signed([2, 3, 2])], |x| x[0].flatten(0, 1));
    table.case("flatten_from", "1", [signed([2, 3, 2])], |x| x[0].flatten_from(1));
    table.case("flatten_to", "1", [signed([2, 3, 2])], |x| x[0].flatten_to(1));
    table.case("transpose", "0, 1", [signed([2, 3, 2])], |x| x[0].transpose(0, 1));
    table.case("t", "", [signed([2, 3])], |x| x[0].t());
    table.case("permute", "2, 0, 1", [signed([2, 3, 2])], |x| x[0].permute((2, 0, 1)));
    table.case("permute", "1, 2, 0", [signed([2, 3, 4])], |x| x[0].permute((1, 2, 0)));
    table.case("get", "", [signed([2, 3])], |x| x[0].get(1));
    table.case("i", "(.., 1)", [signed([2, 3])], |x| x[0].i((.., 1)));
    table.case("i", "(1.., ..2)", [signed([3, 3])], |x| x[0].i((1.., ..2)));
    table.case("broadcast_as", "(2,3) to (4,2,3)", [signed([2, 3])], |x| {
        x[0].broadcast_as((4, 2, 3))
    });
    table.case("broadcast_as", "(2,1) to (2,3)", [signed([2, 1])], |x| x[0].broadcast_as((2, 3)));
    table.case("broadcast_as", "(1,3) to (2,2,3)", [signed([1, 3])], |x| {
        x[0].broadcast_as((2, 2, 3))
    });
    table.case("broadcast_as", "() to (2,3)", [signed([])], |x| x[0].broadcast_as((2, 3)));
    table.case("broadcast_left", "", [signed([2, 3])], |x| x[0].broadcast_left(2));
    table.case("expand", "", [signed([2, 1])], |x| x[0].expand((2, 3)));
    table.case("chunk", "5 in 2", [signed([2, 5])], |x| {
        let parts = x[0].chunk(2, 1)?;
        Tensor::cat(&[&parts[1], &parts[0]], 1)
    });
}

fn along(table: &mut Table) {
    let all: [(&str, Along); 5] = [
        ("roll", |x, dim| x.roll(1, dim)),
        ("flip", |x, dim| x.flip(&[dim])),
        ("pad_with_zeros", |x, dim| x.pad_with_zeros(dim, 1, 2)),
        ("pad_with_same", |x, dim| x.pad_with_same(dim, 1, 2)),
        ("get_on_dim", |x, dim| x.get_on_dim(dim, 1)),
    ];
    for (name, f) in all {
        for dim in 0..3 {
            let setting = format!("dim {dim}");
            table.case(name, setting, [signed([2, 3, 2])], move |x| f(&x[0], dim));
        }
    }
    for dim in 0..3 {
        for start in 0..2 {
            let setting = format!("dim {dim}, from {start}");
            table.case("narrow", setting, [signed([2, 3, 2])], move |x| x[0].narrow(dim, start, 1));
        }
    }
}

fn copies(table: &mut Table) {
    table.case("repeat", "(2,2)", [signed([2, 3])], |x| x[0].repeat((2, 2)));
    table.case("repeat", "(2,1,2)", [signed([2, 3])], |x| x[0].repeat((2, 1, 2)));
    table.case("contiguous", "", [signed([2, 3])], |x| x[0].t()?.contiguous());
    table.case("force_contiguous", "", [signed([2, 3])], |x| x[0].force_contiguous());
    table.case("copy", "", [signed([2, 3])], |x| x[0].copy());
    table.case("to_device", "", [signed([2, 3])], |x| x[0].to_device(x[0].device()));
    table
        .case("to_dtype", "f64 to f32 to f64", [signed([2, 3])], |x| {
            x[0].to_dtype(DType::F32)?.to_dtype(DType::F64)
        })
        .single_precision();
    table.case("to_dtype", "f64 to u32 to f64", [signed([2, 3])], |x| {
        x[0].to_dtype(DType::U32)?.to_dtype(DType::F64)
    });
    table.case("ops::pixel_shuffle", "", [signed([1, 4, 2, 2])], |x| ops::pixel_shuffle(&x[0], 2));
    table.case("ops::pixel_unshuffle", "", [signed([1, 1, 4, 4])], |x| {
        ops::pixel_unshuffle(&x[0], 2)
    });
    table.case("ops::replication_pad2d", "1", [signed([1, 1, 3, 3])], |x| {
        ops::replication_pad2d(&x[0], 1)
    });
    table.case("tril2 mask", "", [signed([3, 3])], |x| {
        &x[0] * Tensor::tril2(3, x[0].dtype(), x[0].device())?
    });
}

fn joins(table: &mut Table) {
    for dim in 0..3 {
        let setting = format!("dim {dim}");
        let pair = [signed([2, 3]), signed([2, 3])];
        table.case("stack", &setting, pair, move |x| Tensor::stack(&[&x[0], &x[1]], dim));
        let pair = [signed([2, 3, 2]), signed([2, 3, 2])];
        table.case("cat", &setting, pair, move |x| Tensor::cat(&[&x[0], &x[1]], dim));
        let setting = format!("x, x, dim {dim}");
        table.case("cat", setting, [signed([2, 3, 2])], move |x| Tensor::cat(&[&x[0], &x[0]], dim));
    }
    for (setting, xy_indexing) in [("xy", true), ("ij", false)] {
        table.case("meshgrid", setting, [signed([2]), signed([3])], move |x| {
            let grids = Tensor::meshgrid(&[&x[0], &x[1]], xy_indexing)?;
            (&grids[0] * &grids[1])? + &grids[1]
        });
    }
    let taken = |stream: &StreamTensor| {
        stream.as_option().cloned().ok_or_else(|| candle_core::Error::Msg("no output".to_owned()))
    };
    table.case("StreamTensor::cat2", "", [signed([1, 2, 3])], move |x| {
        let half = StreamTensor::from_tensor(x[0].clone());
        taken(&half.cat2(&half, 1)?)
    });
    table.case("StreamingBinOp", "mul", [signed([1, 2, 3]), signed([1, 2, 3])], move |x| {
        let (lhs, rhs) = (x[0].clone().into(), x[1].clone().into());
        taken(
            &StreamingBinOp::new(candle_core::streaming::BinOp::Mul, candle_core::D::Minus1)
                .step(&lhs, &rhs)?,
        )
    });
}

fn unfold(table: &mut Table) {
    for dim in 0..3 {
        // `contiguous`, because the view shares memory between its elements.
        let overlapping = format!("dim {dim}, size 2, step 1");
        table.case("unfold", overlapping, [signed([2, 4, 3])], move |x| {
            x[0].unfold(dim, 2, 1)?.contiguous()
        });
        let apart = format!("dim {dim}, size 2, step 2");
        table.case("unfold", apart, [signed([4, 4, 4])], move |x| {
            x[0].unfold(dim, 2, 2)?.contiguous()
        });
        let gaps = format!("dim {dim}, size 1, step 2");
        table.case("unfold", gaps, [signed([3, 3, 3])], move |x| {
            x[0].unfold(dim, 1, 2)?.contiguous()
        });
    }
}
