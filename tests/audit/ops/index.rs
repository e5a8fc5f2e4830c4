//! Elements picked or placed by indices.

use candle_core::{DType, IndexOp};

use crate::audit::case::{Table, constant, ids, signed, spread};

pub(super) fn fill(table: &mut Table) {
    table.group("index");
    pick(table);
    place(table);
    sort(table);
}

fn pick(table: &mut Table) {
    for (dim, shape) in [(0, [2, 3]), (1, [3, 2])] {
        let setting = format!("dim {dim}");
        table.case("gather", &setting, [signed([3, 3])], move |x| {
            x[0].gather(&ids(shape, &[0, 2, 2, 1, 1, 1])?, dim)
        });
        table.case("index_select", &setting, [signed([3, 3])], move |x| {
            x[0].index_select(&ids([3], &[2, 0, 2])?, dim)
        });
    }
    table.case("index_select", "strided ids", [signed([3, 3])], |x| {
        x[0].index_select(&ids([2, 2], &[2, 0, 2, 1])?.i((.., 0))?, 1)
    });
    table.case("i", "by a tensor", [signed([3, 3])], |x| x[0].i(&ids([3], &[2, 0, 2])?));
    table.case("embedding", "", [signed([4, 3])], |x| x[0].embedding(&ids([3], &[2, 0, 2])?));
    table.case("where_cond", "by a mask", [signed([2, 3]), signed([2, 3])], |x| {
        ids([2, 3], &[1, 0, 1, 0, 0, 1])?.where_cond(&x[0], &x[1])
    });
}

fn place(table: &mut Table) {
    // No two land on one element: there, the order of writing would decide.
    let apart = &[0, 2, 2, 1, 1, 0];
    let pair = || [signed([3, 3]), signed([3, 2])];
    table.case("scatter", "dim 1", pair(), |x| x[0].scatter(&ids([3, 2], apart)?, &x[1], 1));
    let row = [signed([3, 3]), constant(signed([1, 3]))];
    table.case("scatter", "dim 0, constant source", row, |x| {
        x[0].scatter(&ids([1, 3], &[0, 2, 1])?, &x[1], 0)
    });
    let whole = || [signed([3, 3]), signed([3, 3])];
    let all = &[0, 1, 2, 1, 2, 0, 2, 0, 1];
    table.case("scatter", "all of dim 1", whole(), |x| x[0].scatter(&ids([3, 3], all)?, &x[1], 1));

    let tied = &[0, 2, 2, 1, 1, 1];
    table.case("scatter_add", "dim 1, smaller source", pair(), |x| {
        x[0].scatter_add(&ids([3, 2], tied)?, &x[1], 1)
    });
    let rows = [signed([3, 3]), constant(signed([2, 3]))];
    table.case("scatter_add", "dim 0, smaller constant source", rows, |x| {
        x[0].scatter_add(&ids([2, 3], tied)?, &x[1], 0)
    });
    table.case("scatter_add", "same shapes", whole(), |x| {
        x[0].scatter_add(&ids([3, 3], &[0, 0, 1, 2, 2, 2, 1, 1, 1])?, &x[1], 1)
    });

    table.case("index_add", "dim 0", [signed([3, 3]), signed([2, 3])], |x| {
        x[0].index_add(&ids([2], &[2, 0])?, &x[1], 0)
    });
    table.case("index_add", "dim 1, twice the same", pair(), |x| {
        x[0].index_add(&ids([2], &[2, 2])?, &x[1], 1)
    });
    table.case("slice_scatter0", "", [signed([4, 3]), signed([2, 3])], |x| {
        x[0].slice_scatter0(&x[1], 1)
    });
    table.case("slice_scatter", "dim 1", [signed([3, 4]), signed([3, 2])], |x| {
        x[0].slice_scatter(&x[1], 1, 1)
    });
    table.case("slice_assign", "", [signed([3, 4]), signed([2, 2])], |x| {
        x[0].slice_assign(&[1..3, 1..3], &x[1])
    });
}

fn sort(table: &mut Table) {
    for (setting, ascending) in [("ascending", true), ("descending", false)] {
        table.case("sort_last_dim", setting, [spread([2, 3])], move |x| {
            Ok(x[0].sort_last_dim(ascending)?.0)
        });
        table.case("arg_sort_last_dim", setting, [spread([2, 3])], move |x| {
            x[0].arg_sort_last_dim(ascending)?.to_dtype(DType::F64)
        });
    }
}
