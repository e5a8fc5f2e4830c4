//! Attention kernels and the caches beside them.

use candle_core::Tensor;
use candle_nn::{
    attention::{AttnMask, flash_attn, flash_attn_varlen_cpu, flash_attn_varlen_unfused},
    kv_cache::{
        ConcatKvCache, InterleavedKvCache, KvCache, RotatingKvCache, ScatteredCacheBuilder,
    },
    ops,
};

use crate::audit::case::{Operand, Table, ids, signed};

pub(super) fn fill(table: &mut Table) {
    table.group("attention");
    kernels(table);
    caches(table);
}

fn qkv<const N: usize>(shape: [usize; N]) -> [Operand; 3] {
    [signed(shape), signed(shape), signed(shape)]
}

fn kernels(table: &mut Table) {
    table.case("ops::sdpa", "", qkv([1, 2, 3, 4]), |x| {
        ops::sdpa(&x[0], &x[1], &x[2], None, false, 0.5, 1.0)
    });
    table.case("softmax(q k^T) v", "", qkv([2, 3, 4]), |x| {
        let scores = (x[0].matmul(&x[1].t()?)? * 0.5)?;
        ops::softmax(&scores, 2)?.matmul(&x[2])
    });
    for batch in [1, 2] {
        for (name, mask) in [("no mask", AttnMask::None), ("causal", AttnMask::causal())] {
            let setting = format!("batch {batch}, {name}");
            table
                .case("attention::flash_attn", setting, qkv([batch, 3, 2, 4]), move |x| {
                    flash_attn::<f32>(&x[0], &x[1], &x[2], 0.5, mask.clone(), None, None)
                })
                .f32()
                .batched(&[0, 1, 2]);
        }
    }
    table
        .case("attention::flash_attn", "batch 1, a mask", qkv([1, 3, 2, 4]), |x| {
            let mask = AttnMask::Mask(Tensor::zeros((3, 3), x[0].dtype(), x[0].device())?);
            flash_attn::<f32>(&x[0], &x[1], &x[2], 0.5, mask, None, None)
        })
        .f32();
    table
        .case("attention::flash_attn_varlen_cpu", "", qkv([3, 2, 4]), |x| {
            let length = ids([1], &[3])?;
            flash_attn_varlen_cpu(
                &x[0], &x[1], &x[2], None, &length, &length, 3, 3, 0.5, false, None, None,
            )
        })
        .f32();
    table.case("attention::flash_attn_varlen_unfused", "", qkv([3, 2, 4]), |x| {
        let length = ids([1], &[3])?;
        flash_attn_varlen_unfused(
            &x[0], &x[1], &x[2], None, &length, &length, 3, 3, 0.5, false, None, None,
        )
    });
}

fn caches(table: &mut Table) {
    let pair = || [signed([1, 2, 3, 4]), signed([1, 2, 3, 4])];
    table.case("kv_cache::KvCache", "append", pair(), |x| {
        let (k, v) = KvCache::new(2, 8).append(&x[0], &x[1])?;
        (k * 2.0)? + v
    });
    table.case("kv_cache::ConcatKvCache", "append", pair(), |x| {
        let (k, v) = ConcatKvCache::new(2).append(&x[0], &x[1])?;
        (k * 2.0)? + v
    });
    table.case("kv_cache::RotatingKvCache", "append", pair(), |x| {
        let (k, v) = RotatingKvCache::new(2, 8).append(&x[0], &x[1])?;
        (k * 2.0)? + v
    });
    table.case("kv_cache::InterleavedKvCache", "append", pair(), |x| {
        InterleavedKvCache::new(4).append(&x[0], &x[1])
    });
    table.case("kv_cache::ScatteredKvCache", "append", pair(), |x| {
        let mut builder = ScatteredCacheBuilder::new(1, 8, x[0].dtype(), x[0].device())?;
        let mut cache = builder.make_cache(2, 4)?;
        let places = builder.indices_and_mask(3, &[true])?;
        let (k, v) = cache.append(&x[0], &x[1], &places)?;
        (k * 2.0)? + v
    });
}
