//! Another number than the right one, and no error.

pub(super) mod programs;

use super::Defect;
use crate::audit::verdict::Verdict::Wrong;

pub(super) const DEFECTS: &[Defect] = &[
    Defect {
        id: "linear-layout",
        title: "`Linear` and `matmul` on a transposed operand",
        harm: Wrong,
        what: "A forward pass. With a right-hand side of one matrix for all batches, the CPU kernel stacks the batches \
               of the left-hand side into one matrix whenever they lie one after the other in memory, and does not ask \
               whether their rows do. `Linear::forward` takes this path for any 3-D or 4-D input that is not \
               contiguous: `x.transpose(1, 2)?.apply(&linear)?`, as an MLP-Mixer has it, gives wrong numbers. \
               The gradients are \
               those of the right function. `broadcast_matmul` copies, and is right.",
        upstream: &[3758],
        program: programs::linear_layout::main,
        prints: &[
            "[[[0.0, 2.0], [1.0, 3.0]], [[2.0, 4.0], [3.0, 5.0]]]",
            "[[[0.0, 2.0], [1.0, 3.0]], [[4.0, 6.0], [5.0, 7.0]]]",
        ],
        prints_unchecked: None,
        right: "twice the second line: the layer is the identity",
    },
    Defect {
        id: "conv1d-kernel-layout",
        title: "`conv1d` with a kernel that is not contiguous",
        harm: Wrong,
        what: "A forward pass. The CPU kernel makes a contiguous copy of the weights and then multiplies with the \
               original. `conv2d` had the same and is fixed (#3736).",
        upstream: &[3836],
        program: programs::conv1d_kernel_layout::main,
        prints: &["[[[21.0], [43.0]]]", "[[[31.0], [42.0]]]"],
        prints_unchecked: None,
        right: "twice the second line",
    },
    Defect {
        id: "conv1d-gradient",
        title: "The gradients of `conv1d` with two or more rows and output channels",
        harm: Wrong,
        what: "The kernel's gradient is a `conv1d` whose kernel is the transposed gradient, which is not contiguous: \
               see [above](#conv1d-kernel-layout). The input's is a `conv_transpose1d`, which is wrong where it needs \
               no padding, no output padding and no dilation: see [below](#conv-transpose1d-batch). With one row, or one output \
               channel, both are right.",
        upstream: &[3836, 3758],
        program: programs::conv1d_gradient::main,
        prints: &[
            "[[[1.0], [10.0]], [[10.0], [100.0]]]",
            "[[[31.0], [42.0]], [[3100.0], [4200.0]]]",
        ],
        prints_unchecked: None,
        right: "`[[[1.0], [10.0]], [[100.0], [1000.0]]]` and `[[[301.0], [402.0]], [[3010.0], [4020.0]]]`",
    },
    Defect {
        id: "conv-transpose1d-batch",
        title: "`conv_transpose1d` on a batch",
        harm: Wrong,
        what: "A forward pass. Without padding, output padding and dilation it is a matrix product of just the kind \
               that [`matmul` gets wrong](#linear-layout).",
        upstream: &[3758],
        program: programs::conv_transpose1d_batch::main,
        prints: &["[[[0.0, 1.0], [2.0, 3.0]], [[2.0, 3.0], [4.0, 5.0]]]"],
        prints_unchecked: None,
        right: "`[[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]`: the kernel is the identity",
    },
    Defect {
        id: "flash-attn-layout",
        title: "`flash_attn` on a view whose last dimension is not contiguous",
        harm: Wrong,
        what: "A forward pass. The CPU kernel for one row, without a mask or with one given as a tensor, honours the \
               strides of the queries and the keys but for the last, which it takes for 1. The causal one and the one for batches \
               make a copy first.",
        upstream: &[],
        program: programs::flash_attn_layout::main,
        prints: &["[0.5, 0.5, 1.0, 0.0]"],
        prints_unchecked: None,
        right: "`[1.0, 0.0, 1.0, 0.0]`: both queries are the first key",
    },
    Defect {
        id: "max-pool-scale",
        title: "The gradient of `max_pool2d`",
        harm: Wrong,
        what: "Meant to share the gradient between tied maxima, the backward pass multiplies by the mean of the mask \
               over the window instead of dividing by its sum: every gradient is too small by the window's area, and \
               where all tie, each gets the whole.",
        upstream: &[],
        program: programs::max_pool_scale::main,
        prints: &["[0.0, 0.0, 0.0, 0.25]"],
        prints_unchecked: None,
        right: "`[0.0, 0.0, 0.0, 1.0]`",
    },
    Defect {
        id: "pool-remainder",
        title: "The gradients of `avg_pool2d` and `max_pool2d` on a size that the window does not divide",
        harm: Wrong,
        what: "The gradient is enlarged to the size of the operand, remainder included, instead of window by window: \
               it lands on other elements, and on those that no window covers.",
        upstream: &[],
        program: programs::pool_remainder::main,
        prints: &["[0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]"],
        prints_unchecked: None,
        right: "`[0.25, 0.25, 0.0, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]`",
    },
    Defect {
        id: "scatter-init",
        title: "The gradient of `scatter` to what is overwritten",
        harm: Wrong,
        what: "An element that was overwritten still gets the gradient. The formula is that of `scatter_add`, and the \
               other way round: the two are exchanged.",
        upstream: &[],
        program: programs::scatter_init::main,
        prints: &["[[1.0, 1.0, 1.0]]"],
        prints_unchecked: None,
        right: "`[[0.0, 1.0, 1.0]]`",
    },
    Defect {
        id: "scatter-add-init",
        title: "The gradient of `scatter_add` to what is added to",
        harm: Wrong,
        what: "An element that was added to gets no gradient: see [above](#scatter-init). With a source that is smaller \
               than the operand, the backward pass is an error.",
        upstream: &[],
        program: programs::scatter_add_init::main,
        prints: &["[[0.0, 0.0, 1.0]]"],
        prints_unchecked: None,
        right: "`[[1.0, 1.0, 1.0]]`",
    },
    Defect {
        id: "upsample-overwrites",
        title: "`upsample_nearest1d` and `2d` of a tensor with a second use",
        harm: Wrong,
        what: "The backward pass sets the operand's gradient instead of adding to it: what another use contributed \
               before is lost. Which comes first depends on the order of the sum, so a skip connection is right one \
               way and wrong the other.",
        upstream: &[3507],
        program: programs::upsample_overwrites::main,
        prints: &["[4.0]", "[14.0]"],
        prints_unchecked: None,
        right: "twice `[14.0]`",
    },
    Defect {
        id: "unfold-order",
        title: "The gradient of `unfold` along any but the last dimension",
        harm: Wrong,
        what: "It is recorded as a reshape: the gradient goes back in the order of the output's elements. Right along \
               the last dimension, wrong along the others, and an error where the windows overlap or leave gaps.",
        upstream: &[],
        program: programs::unfold_order::main,
        prints: &["[[1.0, 2.0], [3.0, 4.0]]"],
        prints_unchecked: None,
        right: "`[[1.0, 3.0], [2.0, 4.0]]`",
    },
    Defect {
        id: "ties",
        title: "`max` and `min` of tied elements",
        harm: Wrong,
        what: "Each of the tied elements gets the whole gradient, so that it grows with their number. No choice of a \
               subgradient gives that. `maximum` and `minimum` share it, as they should.",
        upstream: &[],
        program: programs::ties::main,
        prints: &["[1.0, 1.0, 0.0]"],
        prints_unchecked: None,
        right: "`[0.5, 0.5, 0.0]`, or 1 for one of the two",
    },
    Defect {
        id: "in-place",
        title: "Values overwritten in a graph",
        harm: Wrong,
        what: "`zero_set`, `one_set`, `const_set`, `slice_set` and `scatter_set` change the values of a tensor that is \
               already part of a graph; the backward pass does not know.",
        upstream: &[],
        program: programs::in_place::main,
        prints: &["[3.0, 3.0]"],
        prints_unchecked: None,
        right: "`[0.0, 0.0]`, or an error",
    },
    Defect {
        id: "set-before-backward",
        title: "`Var::set` between the forward and the backward pass",
        harm: Wrong,
        what: "The backward pass reads the values it finds, not those of the forward pass.",
        upstream: &[],
        program: programs::set_before_backward::main,
        prints: &["[20.0, 20.0]"],
        prints_unchecked: None,
        right: "`[2.0, 4.0]`, or an error",
    },
    Defect {
        id: "bce-logits",
        title: "`binary_cross_entropy_with_logit` away from zero",
        harm: Wrong,
        what: "A forward pass. It takes the logarithm of a rounded sigmoid: above a logit of about 17 in f32, \
               and 37 in f64, a prediction that is right is NaN, and one that is wrong infinite.",
        upstream: &[2561],
        program: programs::bce_logits::main,
        prints: &["NaN"],
        prints_unchecked: None,
        right: "`0.0000000020611537`",
    },
    Defect {
        id: "pow-negative",
        title: "`pow` of a negative base",
        harm: Wrong,
        what: "A forward pass: it is the exponential of a logarithm. `powf` and `sqr` are right.",
        upstream: &[],
        program: programs::pow_negative::main,
        prints: &["[NaN]"],
        prints_unchecked: None,
        right: "`[4.0]`",
    },
    Defect {
        id: "norm-at-zero",
        title: "The gradients of `norm` and of `powf(0.0)` at zero",
        harm: Wrong,
        what: "Zero divided by zero. A subgradient of the norm there is 0, and the slope of a constant is 0.",
        upstream: &[],
        program: programs::norm_at_zero::main,
        prints: &["[NaN, NaN]", "[NaN, NaN]"],
        prints_unchecked: None,
        right: "twice `[0.0, 0.0]`",
    },
    Defect {
        id: "mish-large",
        title: "The gradient of `mish` where its exponential overflows",
        harm: Wrong,
        what: "From 89 in f32, and 710 in f64. The forward pass is right.",
        upstream: &[],
        program: programs::mish_large::main,
        prints: &["[NaN]"],
        prints_unchecked: None,
        right: "`[1.0]`",
    },
];
