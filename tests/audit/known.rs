//! Today's verdicts, all but the correct ones. A new candle release changes this list, and nothing else should.

use super::{
    case::Case,
    defects::OVERFLOW_CHECKS,
    verdict::{
        Condition::{
            self, Layout, Leaf, NonLeaf, ReusedAfter, ReusedBefore, Rows, Strided, TransposedAfter,
        },
        Verdict::{self, Correct, Cut, Errors, Panics, Wrong},
    },
};

/// What one defect makes of some cases.
pub(crate) struct Known {
    /// The id of the defect.
    pub(crate) defect: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) conditions: &'static [Condition],
    pub(crate) cases: &'static [&'static str],
    /// The verdict of a build without overflow checks, where it is another.
    pub(crate) unchecked: Option<Verdict>,
}

impl Known {
    /// The verdict in this build.
    pub(crate) fn here(&self) -> Verdict {
        match self.unchecked {
            Some(verdict) if !OVERFLOW_CHECKS => verdict,
            _ => self.verdict,
        }
    }
}

/// What is known of a case under a condition, if it is not correct.
pub(crate) fn known(case: &Case, condition: Condition) -> Option<&'static Known> {
    let name = case.name();
    KNOWN
        .iter()
        .find(|known| known.conditions.contains(&condition) && known.cases.contains(&name.as_str()))
}

impl Case {
    /// Today's verdict, where the condition applies.
    pub(crate) fn expected(&self, condition: Condition) -> Verdict {
        known(self, condition).map_or(Correct, Known::here)
    }
}

const fn known_as(
    verdict: Verdict,
    defect: &'static str,
    conditions: &'static [Condition],
    cases: &'static [&'static str],
) -> Known {
    Known { defect, verdict, conditions, cases, unchecked: None }
}

/// Every gradient condition but the strided operand.
const UNSTRIDED: &[Condition] = &[Leaf, NonLeaf, ReusedBefore, ReusedAfter, TransposedAfter];

pub(crate) const KNOWN: &[Known] = &[
    known_as(
        Wrong,
        "linear-layout",
        &[Layout],
        &["matmul rhs broadcast", "Linear 3-D", "Linear 4-D"],
    ),
    known_as(
        Wrong,
        "conv1d-kernel-layout",
        &[Layout],
        &[
            "conv1d batch 1, out 2, k3 p0 s1 d1 g1",
            "conv1d batch 1, out 2, k1 p0 s1 d1 g1",
            "conv1d batch 2, out 1, k3 p0 s1 d1 g1",
            "conv1d batch 2, out 1, k1 p0 s1 d1 g1",
            "conv1d batch 2, out 2, k3 p0 s1 d1 g1",
            "conv1d batch 2, out 2, k1 p0 s1 d1 g1",
            "conv1d batch 1, out 2, k3 p1 s1 d1 g1",
            "conv1d batch 1, out 2, k1 p1 s1 d1 g1",
            "conv1d batch 2, out 1, k3 p1 s1 d1 g1",
            "conv1d batch 2, out 1, k1 p1 s1 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s1 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s1 d1 g1",
            "conv1d batch 1, out 2, k3 p0 s2 d1 g1",
            "conv1d batch 1, out 2, k1 p0 s2 d1 g1",
            "conv1d batch 2, out 1, k3 p0 s2 d1 g1",
            "conv1d batch 2, out 1, k1 p0 s2 d1 g1",
            "conv1d batch 2, out 2, k3 p0 s2 d1 g1",
            "conv1d batch 2, out 2, k1 p0 s2 d1 g1",
            "conv1d batch 1, out 2, k3 p1 s2 d1 g1",
            "conv1d batch 1, out 2, k1 p1 s2 d1 g1",
            "conv1d batch 2, out 1, k3 p1 s2 d1 g1",
            "conv1d batch 2, out 1, k1 p1 s2 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s2 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s2 d1 g1",
            "conv1d batch 1, out 2, k3 p0 s1 d2 g1",
            "conv1d batch 1, out 2, k1 p0 s1 d2 g1",
            "conv1d batch 2, out 1, k3 p0 s1 d2 g1",
            "conv1d batch 2, out 1, k1 p0 s1 d2 g1",
            "conv1d batch 2, out 2, k3 p0 s1 d2 g1",
            "conv1d batch 2, out 2, k1 p0 s1 d2 g1",
            "conv1d batch 1, out 2, k3 p1 s2 d2 g1",
            "conv1d batch 1, out 2, k1 p1 s2 d2 g1",
            "conv1d batch 2, out 1, k3 p1 s2 d2 g1",
            "conv1d batch 2, out 1, k1 p1 s2 d2 g1",
            "conv1d batch 2, out 2, k3 p1 s2 d2 g1",
            "conv1d batch 2, out 2, k1 p1 s2 d2 g1",
            "conv1d batch 1, out 2, k3 p0 s1 d1 g2",
            "conv1d batch 2, out 2, k3 p0 s1 d1 g2",
            "conv1d batch 1, out 2, k3 p1 s2 d1 g2",
            "conv1d batch 2, out 2, k3 p1 s2 d1 g2",
            "conv1d batch 1, out 2, k3 p2 s3 d1 g1",
            "conv1d batch 1, out 2, k1 p2 s3 d1 g1",
            "conv1d batch 2, out 1, k3 p2 s3 d1 g1",
            "conv1d batch 2, out 1, k1 p2 s3 d1 g1",
            "conv1d batch 2, out 2, k3 p2 s3 d1 g1",
            "conv1d batch 2, out 2, k1 p2 s3 d1 g1",
            "conv1d batch 1, out 2, k3 p1 s3 d1 g1",
            "conv1d batch 1, out 2, k1 p1 s3 d1 g1",
            "conv1d batch 2, out 1, k3 p1 s3 d1 g1",
            "conv1d batch 2, out 1, k1 p1 s3 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s3 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s3 d1 g1",
            "Conv1d groups 2",
        ],
    ),
    known_as(
        Wrong,
        "conv1d-gradient",
        &Condition::GRADIENTS,
        &[
            "conv1d batch 2, out 2, k3 p0 s1 d1 g1",
            "conv1d batch 2, out 2, k1 p0 s1 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s1 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s1 d1 g1",
            "conv1d batch 2, out 2, k3 p0 s2 d1 g1",
            "conv1d batch 2, out 2, k1 p0 s2 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s2 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s2 d1 g1",
            "conv1d batch 2, out 2, k3 p0 s1 d2 g1",
            "conv1d batch 2, out 2, k1 p0 s1 d2 g1",
            "conv1d batch 2, out 2, k3 p1 s2 d2 g1",
            "conv1d batch 2, out 2, k1 p1 s2 d2 g1",
            "conv1d batch 2, out 2, k3 p2 s3 d1 g1",
            "conv1d batch 2, out 2, k1 p2 s3 d1 g1",
            "conv1d batch 2, out 2, k3 p1 s3 d1 g1",
            "conv1d batch 2, out 2, k1 p1 s3 d1 g1",
            "Conv1d groups 2",
        ],
    ),
    known_as(
        Wrong,
        "conv-transpose1d-batch",
        &[Layout, Rows],
        &[
            "conv_transpose1d batch 2, k3 p0 op0 s1 d1",
            "conv_transpose1d batch 2, k3 p0 op0 s2 d1",
            "ConvTranspose1d stride 2",
        ],
    ),
    known_as(
        Wrong,
        "flash-attn-layout",
        &[Layout],
        &["attention::flash_attn batch 1, no mask", "attention::flash_attn batch 1, a mask"],
    ),
    known_as(
        Wrong,
        "max-pool-scale",
        &Condition::GRADIENTS,
        &[
            "max_pool2d 2 on 4x4",
            "max_pool2d 2 on 4x6",
            "max_pool2d 3 on 6x6",
            "max_pool2d (2,3) on 4x6",
            "max_pool2d 2 on 2x2, all tied",
        ],
    ),
    known_as(
        Wrong,
        "pool-remainder",
        &Condition::GRADIENTS,
        &[
            "avg_pool2d 2 on 5x5",
            "max_pool2d 2 on 5x5",
            "avg_pool2d 3 on 7x6",
            "max_pool2d 3 on 7x6",
        ],
    ),
    known_as(
        Wrong,
        "scatter-init",
        &Condition::GRADIENTS,
        &["scatter dim 1", "scatter dim 0, constant source", "scatter all of dim 1"],
    ),
    known_as(
        Errors,
        "scatter-add-init",
        &Condition::GRADIENTS,
        &["scatter_add dim 1, smaller source", "scatter_add dim 0, smaller constant source"],
    ),
    known_as(Wrong, "scatter-add-init", &Condition::GRADIENTS, &["scatter_add same shapes"]),
    known_as(
        Wrong,
        "upsample-overwrites",
        &[ReusedAfter],
        &[
            "upsample_nearest1d 4 to 4",
            "upsample_nearest1d 4 to 8",
            "interpolate1d 4 to 8",
            "upsample_nearest2d 2x2 to 4x4",
            "upsample_nearest2d 2x2 to 6x6",
            "interpolate2d 2x2 to 4x4",
        ],
    ),
    known_as(
        Wrong,
        "unfold-order",
        &Condition::GRADIENTS,
        &[
            "unfold dim 0, size 2, step 1",
            "unfold dim 0, size 2, step 2",
            "unfold dim 1, size 2, step 2",
        ],
    ),
    known_as(
        Wrong,
        "ties",
        &Condition::GRADIENTS,
        &["max tied", "min tied", "max_all tied", "min_all tied"],
    ),
    known_as(
        Wrong,
        "in-place",
        &Condition::GRADIENTS,
        &["zero_set", "one_set", "const_set", "slice_set into a result", "scatter_set"],
    ),
    known_as(
        Wrong,
        "bce-logits",
        &Condition::GRADIENTS,
        &[
            "loss::binary_cross_entropy_with_logit logit 40, target 1",
            "loss::binary_cross_entropy_with_logit logit -800, target 1",
        ],
    ),
    known_as(Wrong, "pow-negative", &Condition::GRADIENTS, &["pow base < 0, exponent 2"]),
    known_as(Wrong, "norm-at-zero", &Condition::GRADIENTS, &["powf 0 at 0", "norm at 0"]),
    known_as(Wrong, "mish-large", &Condition::GRADIENTS, &["ops::mish at ±800"]),
    known_as(Cut, "layer-norm", UNSTRIDED, &["ops::layer_norm f32", "LayerNorm::forward f32"]),
    known_as(Cut, "rms-norm", UNSTRIDED, &["ops::rms_norm f32", "RmsNorm::forward f32"]),
    known_as(Cut, "softmax-last-dim", UNSTRIDED, &["ops::softmax_last_dim"]),
    known_as(
        Cut,
        "rope",
        UNSTRIDED,
        &["rotary_emb::rope", "rotary_emb::rope_i", "rotary_emb::rope_thd"],
    ),
    known_as(
        Cut,
        "attention-kernels",
        &Condition::GRADIENTS,
        &[
            "attention::flash_attn batch 1, no mask",
            "attention::flash_attn batch 1, causal",
            "attention::flash_attn batch 2, no mask",
            "attention::flash_attn batch 2, causal",
            "attention::flash_attn batch 1, a mask",
            "attention::flash_attn_varlen_cpu",
            "attention::flash_attn_varlen_unfused",
        ],
    ),
    known_as(
        Cut,
        "written-into",
        UNSTRIDED,
        &["slice_set into zeros", "kv_cache::KvCache append", "kv_cache::ScatteredKvCache append"],
    ),
    known_as(
        Cut,
        "written-into",
        &Condition::GRADIENTS,
        &["scatter_add_set", "kv_cache::RotatingKvCache append"],
    ),
    known_as(
        Cut,
        "detached-caches",
        &Condition::GRADIENTS,
        &["kv_cache::ConcatKvCache append", "kv_cache::InterleavedKvCache append"],
    ),
    known_as(Cut, "quantized-matmul", UNSTRIDED, &["quantized::QMatMul Q8_0"]),
    Known {
        unchecked: Some(Correct),
        ..known_as(
            Panics,
            "conv-overflow",
            &Condition::GRADIENTS,
            &["conv1d 1 element, k1 p1 s3", "conv2d 1x1, k1 p1 s3"],
        )
    },
    Known {
        unchecked: Some(Errors),
        ..known_as(
            Panics,
            "conv-overflow",
            &Condition::GRADIENTS,
            &["conv_transpose1d 1 element, k3 p1"],
        )
    },
    known_as(Panics, "custom-op-none", &[NonLeaf], &["CustomOp1 bwd gives none"]),
    known_as(
        Errors,
        "conv-transpose1d-backward",
        &Condition::GRADIENTS,
        &[
            "conv_transpose1d batch 1, k3 p0 op0 s1 d1",
            "conv_transpose1d batch 2, k3 p0 op0 s1 d1",
            "conv_transpose1d batch 1, k3 p1 op0 s1 d1",
            "conv_transpose1d batch 2, k3 p1 op0 s1 d1",
            "conv_transpose1d batch 1, k3 p0 op0 s2 d1",
            "conv_transpose1d batch 2, k3 p0 op0 s2 d1",
            "conv_transpose1d batch 1, k3 p1 op1 s2 d1",
            "conv_transpose1d batch 2, k3 p1 op1 s2 d1",
            "conv_transpose1d batch 1, k3 p0 op1 s2 d1",
            "conv_transpose1d batch 2, k3 p0 op1 s2 d1",
            "conv_transpose1d batch 1, k3 p0 op0 s1 d2",
            "conv_transpose1d batch 2, k3 p0 op0 s1 d2",
            "conv_transpose1d batch 1, k3 p1 op1 s2 d2",
            "conv_transpose1d batch 2, k3 p1 op1 s2 d2",
            "conv_transpose1d batch 1, k3 p1 op0 s2 d1",
            "conv_transpose1d batch 2, k3 p1 op0 s2 d1",
            "conv_transpose1d batch 2, k3, groups 2",
            "ConvTranspose1d stride 2",
        ],
    ),
    known_as(
        Errors,
        "upsample-backward",
        &Condition::GRADIENTS,
        &[
            "upsample_nearest1d 4 to 6",
            "upsample_nearest1d 4 to 2",
            "upsample_nearest2d 2x2 to 4x6",
            "upsample_nearest2d 2x2 to 3x3",
            "upsample_nearest2d 2x2 to 1x1",
            "upsample_bilinear2d 2x2 to 4x4",
            "upsample_bilinear2d_with_scale by 2",
        ],
    ),
    known_as(
        Errors,
        "pool-stride",
        &Condition::GRADIENTS,
        &[
            "avg_pool2d_with_stride 3, 2 on 5x5",
            "max_pool2d_with_stride 3, 2 on 5x5",
            "avg_pool2d_with_stride 2, 1 on 5x5",
            "max_pool2d_with_stride 2, 1 on 5x5",
            "avg_pool2d_with_stride 1, 2 on 5x5",
            "max_pool2d_with_stride 1, 2 on 5x5",
        ],
    ),
    known_as(
        Errors,
        "conv2d-remainder",
        &Condition::GRADIENTS,
        &[
            "conv2d k3x3 on 6x7 p0 s2 d1 g1",
            "conv2d k3x3 on 6x7 p1 s2 d1 g1",
            "conv2d k3x3 on 6x7 p1 s2 d2 g1",
            "conv2d k2x3 on 6x5 p1 s2 d2 g1",
            "conv2d k3x3 on 6x7 p1 s2 d1 g2",
            "conv2d k3x3 on 6x7 p2 s3 d1 g1",
            "conv2d k2x3 on 6x5 p2 s3 d1 g1",
            "conv2d k3x3 on 6x7 p1 s3 d1 g1",
            "conv2d k2x3 on 6x5 p1 s3 d1 g1",
        ],
    ),
    known_as(
        Errors,
        "unfold-overlap",
        &Condition::GRADIENTS,
        &[
            "unfold dim 0, size 1, step 2",
            "unfold dim 1, size 2, step 1",
            "unfold dim 1, size 1, step 2",
            "unfold dim 2, size 2, step 1",
            "unfold dim 2, size 1, step 2",
        ],
    ),
    known_as(
        Errors,
        "contiguous-only",
        &[Strided, Layout],
        &[
            "sort_last_dim tied",
            "flip dim 0",
            "flip dim 1",
            "flip dim 2",
            "gather dim 0",
            "index_select dim 0",
            "gather dim 1",
            "index_select dim 1",
            "index_select strided ids",
            "i by a tensor",
            "embedding",
            "index_add dim 0",
            "index_add dim 1, twice the same",
            "sort_last_dim ascending",
            "arg_sort_last_dim ascending",
            "sort_last_dim descending",
            "arg_sort_last_dim descending",
            "slice_set into zeros",
            "ops::softmax_last_dim",
            "ops::rms_norm f32",
            "ops::layer_norm f32",
            "rotary_emb::rope",
            "rotary_emb::rope_i",
            "rotary_emb::rope_thd",
            "quantized::QMatMul Q8_0",
            "kv_cache::KvCache append",
            "kv_cache::ScatteredKvCache append",
            "loss::nll",
            "Embedding",
        ],
    ),
    known_as(
        Errors,
        "contiguous-only",
        &[Layout],
        &[
            "scatter dim 1",
            "scatter dim 0, constant source",
            "scatter all of dim 1",
            "scatter_add dim 1, smaller source",
            "scatter_add dim 0, smaller constant source",
            "scatter_add same shapes",
            "slice_set into a result",
            "scatter_set",
            "scatter_add_set",
            "RmsNorm::forward f32",
            "LayerNorm::forward f32",
        ],
    ),
    known_as(Errors, "matmul-striding", &[Strided, Layout], &["matmul 4-D"]),
    known_as(Errors, "matmul-striding", &[Strided], &["Linear 4-D"]),
    known_as(
        Errors,
        "no-f64",
        &Condition::GRADIENTS,
        &[
            "ops::selu f64",
            "ops::rms_norm f64",
            "ops::layer_norm f64",
            "RmsNorm::forward f64",
            "LayerNorm::forward f64",
        ],
    ),
    known_as(Errors, "sdpa-cpu", &Condition::GRADIENTS, &["ops::sdpa"]),
];
