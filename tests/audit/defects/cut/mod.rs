//! No gradient, and no error.

pub(super) mod programs;

use super::Defect;
use crate::audit::verdict::Verdict::Cut;

pub(super) const DEFECTS: &[Defect] = &[
    Defect {
        id: "layer-norm",
        title: "`LayerNorm::forward` and `ops::layer_norm`",
        harm: Cut,
        what: "The fused kernel has no backward pass, and a result without history is no error: nothing before it \
               trains, nor its own weights. `LayerNorm::new_no_bias`, an input that is not contiguous, and \
               `ops::layer_norm_slow` take another path, which is right.",
        upstream: &[3011, 3752],
        program: programs::layer_norm::main,
        prints: &["false false"],
        prints_unchecked: None,
        right: "`true true`",
    },
    Defect {
        id: "rms-norm",
        title: "`RmsNorm::forward` and `ops::rms_norm`",
        harm: Cut,
        what: "As above. `RmsNorm::forward_diff` is right.",
        upstream: &[2168],
        program: programs::rms_norm::main,
        prints: &["false false"],
        prints_unchecked: None,
        right: "`true true`",
    },
    Defect {
        id: "softmax-last-dim",
        title: "`ops::softmax_last_dim`",
        harm: Cut,
        what: "As above. `ops::softmax` is right.",
        upstream: &[3569],
        program: programs::softmax_last_dim::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`",
    },
    Defect {
        id: "rope",
        title: "`rotary_emb::rope`, `rope_i` and `rope_thd`",
        harm: Cut,
        what: "As above. `rope_slow` and `rope_i_slow` are right.",
        upstream: &[3568, 3612],
        program: programs::rope::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`",
    },
    Defect {
        id: "attention-kernels",
        title: "The attention kernels of the CPU",
        harm: Cut,
        what: "`flash_attn` and `flash_attn_varlen_cpu` compute on slices; `flash_attn_varlen_unfused` loses queries \
               and keys in `softmax_last_dim`.",
        upstream: &[],
        program: programs::attention_kernels::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`",
    },
    Defect {
        id: "written-into",
        title: "What is written into another tensor",
        harm: Cut,
        what: "`slice_set`, `scatter_set` and `scatter_add_set` write values and no history, and with them \
               `KvCache`, `RotatingKvCache` and `ScatteredKvCache`. `slice_scatter`, `slice_assign` and `cat` are right.",
        upstream: &[],
        program: programs::written_into::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`, or an error",
    },
    Defect {
        id: "detached-caches",
        title: "`ConcatKvCache` and `InterleavedKvCache`",
        harm: Cut,
        what: "They detach what they are given, on purpose: caches are for inference. A model that trains through one \
               learns nothing there, and is not told.",
        upstream: &[],
        program: programs::detached_caches::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`, or an error",
    },
    Defect {
        id: "quantized-matmul",
        title: "`QMatMul`",
        harm: Cut,
        what: "A product with quantised weights has no gradient for its input either: an adapter before it does not \
               train.",
        upstream: &[],
        program: programs::quantized_matmul::main,
        prints: &["false"],
        prints_unchecked: None,
        right: "`true`, or an error",
    },
];
