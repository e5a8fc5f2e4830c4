//! Pooling and upsampling.

use crate::audit::case::{Table, exactly, signed, spread};

pub(super) fn fill(table: &mut Table) {
    table.group("pool and upsample");
    pool(table);
    upsample(table);
}

fn pool(table: &mut Table) {
    for (h, w, k) in [(4, 4, 2), (5, 5, 2), (4, 6, 2), (6, 6, 3), (7, 6, 3), (5, 5, 1)] {
        let setting = format!("{k} on {h}x{w}");
        let image = || [spread([2, 2, h, w])];
        table.case("avg_pool2d", &setting, image(), move |x| x[0].avg_pool2d(k)).batched(&[0]);
        table.case("max_pool2d", &setting, image(), move |x| x[0].max_pool2d(k)).batched(&[0]);
    }
    let image = || [spread([2, 2, 4, 6])];
    table.case("avg_pool2d", "(2,3) on 4x6", image(), |x| x[0].avg_pool2d((2, 3))).batched(&[0]);
    table.case("max_pool2d", "(2,3) on 4x6", image(), |x| x[0].max_pool2d((2, 3))).batched(&[0]);
    let tied = exactly([1, 1, 2, 2], &[1.0; 4]);
    table.case("max_pool2d", "2 on 2x2, all tied", [tied], |x| x[0].max_pool2d(2));
    for (k, s) in [(3, 2), (2, 1), (1, 2)] {
        let setting = format!("{k}, {s} on 5x5");
        let image = || [spread([2, 2, 5, 5])];
        table
            .case("avg_pool2d_with_stride", &setting, image(), move |x| {
                x[0].avg_pool2d_with_stride(k, s)
            })
            .batched(&[0]);
        table
            .case("max_pool2d_with_stride", &setting, image(), move |x| {
                x[0].max_pool2d_with_stride(k, s)
            })
            .batched(&[0]);
    }
}

fn upsample(table: &mut Table) {
    for size in [4, 8, 6, 2] {
        let setting = format!("4 to {size}");
        table
            .case("upsample_nearest1d", setting, [signed([2, 2, 4])], move |x| {
                x[0].upsample_nearest1d(size)
            })
            .batched(&[0]);
    }
    table
        .case("interpolate1d", "4 to 8", [signed([2, 2, 4])], |x| x[0].interpolate1d(8))
        .batched(&[0]);
    for (h, w) in [(4, 4), (6, 6), (4, 6), (3, 3), (1, 1)] {
        let setting = format!("2x2 to {h}x{w}");
        table
            .case("upsample_nearest2d", setting, [signed([2, 2, 2, 2])], move |x| {
                x[0].upsample_nearest2d(h, w)
            })
            .batched(&[0]);
    }
    table
        .case("interpolate2d", "2x2 to 4x4", [signed([2, 2, 2, 2])], |x| x[0].interpolate2d(4, 4))
        .batched(&[0]);
    table
        .case("upsample_bilinear2d", "2x2 to 4x4", [signed([2, 2, 2, 2])], |x| {
            x[0].upsample_bilinear2d(4, 4, false)
        })
        .batched(&[0]);
    table
        .case("upsample_bilinear2d_with_scale", "by 2", [signed([2, 2, 2, 2])], |x| {
            x[0].upsample_bilinear2d_with_scale(2.0, 2.0, false)
        })
        .batched(&[0]);
}
