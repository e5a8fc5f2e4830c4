//! Convolutions and their transposes.

use candle_core::Module;
use candle_nn::{
    BatchNorm, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig,
};

use crate::audit::case::{Table, constant, positive, signed};

/// padding, stride, dilation, groups
const SETTINGS: [(usize, usize, usize, usize); 10] = [
    (0, 1, 1, 1),
    (1, 1, 1, 1),
    (0, 2, 1, 1),
    (1, 2, 1, 1),
    (0, 1, 2, 1),
    (1, 2, 2, 1),
    (0, 1, 1, 2),
    (1, 2, 1, 2),
    (2, 3, 1, 1),
    (1, 3, 1, 1),
];

/// padding, output padding, stride, dilation
const TRANSPOSED: [(usize, usize, usize, usize); 8] = [
    (0, 0, 1, 1),
    (1, 0, 1, 1),
    (0, 0, 2, 1),
    (1, 1, 2, 1),
    (0, 1, 2, 1),
    (0, 0, 1, 2),
    (1, 1, 2, 2),
    (1, 0, 2, 1),
];

pub(super) fn fill(table: &mut Table) {
    table.group("convolution");
    one_dimension(table);
    two_dimensions(table);
    transposed(table);
    layers(table);
    edges(table);
}

fn one_dimension(table: &mut Table) {
    for (p, s, d, g) in SETTINGS {
        // Alone in its batch, or with one output channel, the defects of the layout do not show.
        for (b, out) in [(1, 2), (2, 1), (2, 2)] {
            for (k, l) in [(3, 8), (1, 4)] {
                if out % g != 0 {
                    continue;
                }
                let setting = format!("batch {b}, out {out}, k{k} p{p} s{s} d{d} g{g}");
                let pair = [signed([b, 2, l]), signed([out, 2 / g, k])];
                table
                    .case("conv1d", setting, pair, move |x| x[0].conv1d(&x[1], p, s, d, g))
                    .batched(&[0]);
            }
        }
    }
}

fn two_dimensions(table: &mut Table) {
    for (p, s, d, g) in SETTINGS {
        for (kh, kw, h, w) in [(3, 3, 6, 6), (3, 3, 6, 7), (2, 3, 6, 5), (1, 1, 4, 4)] {
            let setting = format!("k{kh}x{kw} on {h}x{w} p{p} s{s} d{d} g{g}");
            let pair = [signed([2, 2, h, w]), signed([2, 2 / g, kh, kw])];
            table
                .case("conv2d", setting, pair, move |x| x[0].conv2d(&x[1], p, s, d, g))
                .batched(&[0]);
        }
    }
    let pair = [signed([1, 2, 4, 4]), signed([2, 2, 3, 3])];
    table.case("conv2d", "one kernel twice", pair, |x| {
        x[0].conv2d(&x[1], 1, 1, 1, 1)?.conv2d(&x[1], 1, 1, 1, 1)
    });
}

fn transposed(table: &mut Table) {
    for (p, op, s, d) in TRANSPOSED {
        let how = format!("p{p} op{op} s{s} d{d}");
        for b in [1, 2] {
            let pair = [signed([b, 2, 4]), signed([2, 3, 3])];
            table
                .case("conv_transpose1d", format!("batch {b}, k3 {how}"), pair, move |x| {
                    x[0].conv_transpose1d(&x[1], p, op, s, d, 1)
                })
                .batched(&[0]);
        }
        for (kh, kw) in [(3, 3), (2, 3)] {
            let pair = [signed([2, 2, 4, 3]), signed([2, 3, kh, kw])];
            table
                .case("conv_transpose2d", format!("k{kh}x{kw} {how}"), pair, move |x| {
                    x[0].conv_transpose2d(&x[1], p, op, s, d)
                })
                .batched(&[0]);
        }
    }
    let pair = [signed([2, 4, 4]), signed([4, 1, 3])];
    table
        .case("conv_transpose1d", "batch 2, k3, groups 2", pair, |x| {
            x[0].conv_transpose1d(&x[1], 0, 0, 1, 1, 2)
        })
        .batched(&[0]);
}

fn layers(table: &mut Table) {
    table
        .case("Conv1d", "groups 2", [signed([2, 4, 5]), signed([4, 2, 3]), signed([4])], |x| {
            let config = Conv1dConfig { groups: 2, padding: 1, ..Default::default() };
            Conv1d::new(x[1].clone(), Some(x[2].clone()), config).forward(&x[0])
        })
        .batched(&[0]);
    let depthwise = [signed([2, 3, 4, 4]), signed([3, 1, 3, 3]), signed([3])];
    table
        .case("Conv2d", "depthwise", depthwise, |x| {
            let config = Conv2dConfig { groups: 3, padding: 1, ..Default::default() };
            Conv2d::new(x[1].clone(), Some(x[2].clone()), config).forward(&x[0])
        })
        .batched(&[0]);
    let with_norm = [
        signed([2, 2, 4, 4]),
        signed([3, 2, 3, 3]),
        constant(signed([3])),
        constant(positive([3])),
        positive([3]),
        signed([3]),
    ];
    table
        .case("Conv2d::absorb_bn", "", with_norm, |x| {
            let norm =
                BatchNorm::new(3, x[2].clone(), x[3].clone(), x[4].clone(), x[5].clone(), 1e-5)?;
            Conv2d::new(x[1].clone(), None, Conv2dConfig::default())
                .absorb_bn(&norm)?
                .forward(&x[0])
        })
        .batched(&[0]);
    let triple = [signed([2, 3, 4]), signed([3, 2, 2]), signed([2])];
    table
        .case("ConvTranspose1d", "stride 2", triple, |x| {
            let config = ConvTranspose1dConfig { stride: 2, ..Default::default() };
            ConvTranspose1d::new(x[1].clone(), Some(x[2].clone()), config).forward(&x[0])
        })
        .batched(&[0]);
    let triple = [signed([2, 3, 3, 3]), signed([3, 2, 2, 2]), signed([2])];
    table
        .case("ConvTranspose2d", "stride 2", triple, |x| {
            let config = ConvTranspose2dConfig { stride: 2, ..Default::default() };
            ConvTranspose2d::new(x[1].clone(), Some(x[2].clone()), config).forward(&x[0])
        })
        .batched(&[0]);
}

/// More padding than the kernel reaches.
fn edges(table: &mut Table) {
    table.case("conv1d", "1 element, k1 p1 s3", [signed([1, 1, 1]), signed([1, 1, 1])], |x| {
        x[0].conv1d(&x[1], 1, 3, 1, 1)
    });
    let pair = [signed([1, 1, 1, 1]), signed([1, 1, 1, 1])];
    table.case("conv2d", "1x1, k1 p1 s3", pair, |x| x[0].conv2d(&x[1], 1, 3, 1, 1));
    let pair = [signed([1, 1, 2, 2]), signed([1, 1, 1, 1])];
    table.case("conv2d", "2x2, k1 p1 s1", pair, |x| x[0].conv2d(&x[1], 1, 1, 1, 1));
    table.case(
        "conv_transpose1d",
        "1 element, k3 p1",
        [signed([1, 1, 1]), signed([1, 1, 3])],
        |x| x[0].conv_transpose1d(&x[1], 1, 0, 1, 1, 1),
    );
    let pair = [signed([1, 1, 1, 1]), signed([1, 1, 3, 3])];
    table
        .case("conv_transpose2d", "1x1, k3 p1", pair, |x| x[0].conv_transpose2d(&x[1], 1, 0, 1, 1));
}
