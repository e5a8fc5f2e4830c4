//! Laws that a model obeys, and other implementations it agrees with: groups A, B and J.

use std::rc::Rc;

use candle_core::{CpuStorage, CustomOp1, DType, IndexOp, Layout, Module, Shape, Tensor};
use candle_nn::{
    Conv2dConfig, GRUConfig, RNN, conv2d, embedding, gru, linear, loss, rnn::GRUState,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{HIDDEN, mask, scores, softmax};
use crate::corpus::{
    data::{self, CPU, ROWS, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm},
    property::{
        Beside,
        Property::{Dependence, Equivalent, Equivariant, Invariant, LayoutInvariant, Sensitive},
    },
};

const GROUP: &str = "properties";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "A6",
        group: GROUP,
        bug: "pixels with channels last are reshaped to channels first",
        cause: Cause::NotEquivariant,
        assertion: Property(Equivariant),
        buggy: |seed| preprocessed(seed, true),
        clean: |seed| preprocessed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "A12",
        group: GROUP,
        bug: "ids go through bf16 on their way to the embedding: 257 is 256",
        cause: Cause::PrecisionLoss,
        assertion: Property(Sensitive),
        buggy: |seed| ids_as_floats(seed, DType::BF16),
        clean: |seed| ids_as_floats(seed, DType::F32),
        missed_today: None,
    },
    Entry {
        id: "B2c",
        group: GROUP,
        bug: "an operation of one's own reads the storage as if every tensor lay in it row by row",
        cause: Cause::LayoutDependent,
        assertion: Property(LayoutInvariant),
        buggy: |seed| own_operation(seed, true),
        clean: |seed| own_operation(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B2d",
        group: GROUP,
        bug: "a linear layer over a transposed view, which candle's product of matrices reads wrongly",
        cause: Cause::LayoutDependent,
        assertion: Property(LayoutInvariant),
        buggy: |seed| mixer(seed, true),
        clean: |seed| mixer(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B11",
        group: GROUP,
        bug: "a set is pooled over its features, of which there are as many as members",
        cause: Cause::NotInvariant,
        assertion: Property(Invariant),
        buggy: |seed| set(seed, 2),
        clean: |seed| set(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "B11b",
        group: GROUP,
        bug: "`mean(1)` for the mean over height and width: the place of a pattern counts",
        cause: Cause::NotInvariant,
        assertion: Property(Invariant),
        buggy: |seed| pooled_image(seed, true),
        clean: |seed| pooled_image(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B11c",
        group: GROUP,
        bug: "a node's neighbours are looked up along the features, not along the nodes",
        cause: Cause::InputIgnored,
        assertion: Property(Dependence),
        buggy: |seed| graph(seed, true),
        clean: |seed| graph(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J6",
        group: GROUP,
        bug: "the fast path of attention divides by the width of a head, not by its root",
        cause: Cause::ValuesDiffer,
        assertion: Property(Equivalent),
        buggy: |seed| streamed(seed, true),
        clean: |seed| streamed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J17",
        group: GROUP,
        bug: "`repeat` for `repeat_interleave` of the keys that heads share",
        cause: Cause::ValuesDiffer,
        assertion: Property(Equivalent),
        buggy: |seed| shared_keys(seed, true),
        clean: |seed| shared_keys(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J21",
        group: GROUP,
        bug: "the states of the direction from the end are not flipped back",
        cause: Cause::NotEquivariant,
        assertion: Property(Equivariant),
        buggy: |seed| both_directions(seed, true),
        clean: |seed| both_directions(seed, false),
        missed_today: None,
    },
];

type Made = candle_core::Result<Tensor>;

/// Pixels of `[batch, height, width, channels]`, as image readers give them; a mirrored image is prepared mirrored.
fn preprocessed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let prepare = move |pixels: &Tensor| {
        let (rows, height, width, channels) = pixels.dims4()?;
        let x = match buggy {
            true => pixels.reshape((rows, channels, height, width))?,
            false => pixels.permute((0, 3, 1, 2))?.contiguous()?,
        };
        x.to_dtype(DType::F32)? / 255.0
    };
    let config = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
    let conv = conv2d(3, 12, 2, config, vb.pp("conv"))?;
    let head = Mlp::new(&[48, 24, 4], Tensor::relu, vb.pp("head"))?;
    let pixels = seed.uniform("x", 0.0..256.0, (ROWS, 4, 4, 3), DType::F32, CPU)?;
    let pixels = pixels.to_dtype(DType::U8)?;
    let forward =
        move |x: &Tensor| head.forward(&conv.forward(&prepare(x)?)?.gelu()?.flatten_from(1)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, (pixels.clone(), data::labels(4)?)).part(pixels, prepare);
    Ok(subject.beside(Beside::Changes(
        Box::new(|pixels| pixels.flip(&[2])),
        Box::new(|image| image.flip(&[3])),
    )))
}

/// Items of a catalogue, and those behind them: no two items are one.
fn ids_as_floats(seed: Seed, dtype: DType) -> Result<Subject> {
    const ITEMS: usize = 600;
    let (_, vb) = weights(seed, DType::F32);
    let items = embedding(ITEMS, 6, vb.pp("items"))?;
    let model = Mlp::new(&[6, 12, 2], Tensor::tanh, vb.pp("model"))?;
    let ids = seed.tokens("x", ITEMS - 1, 17, CPU)?;
    let subject = Subject::inference(ids, move |ids: &Tensor| {
        // Beside other features, which are floats.
        let ids = ids.to_dtype(dtype)?;
        model.forward(&items.forward(&ids.to_dtype(DType::U32)?)?)
    });
    Ok(subject.beside(Beside::Change(Box::new(|ids| ids.broadcast_add(&Tensor::new(1u32, CPU)?)))))
}

/// `x * |x|`, as someone new to candle writes it, and with an eye on the layout.
struct SignedSquare {
    buggy: bool,
}

impl CustomOp1 for SignedSquare {
    fn name(&self) -> &'static str {
        "signed-square"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = storage.as_slice::<f32>()?;
        let square = |x: &f32| x * x.abs();
        let squares: Vec<f32> = match layout.contiguous_offsets() {
            _ if self.buggy => values[layout.start_offset()..]
                .iter()
                .take(layout.shape().elem_count())
                .map(square)
                .collect(),
            Some((start, end)) => values[start..end].iter().map(square).collect(),
            None => candle_core::bail!("signed-square needs a contiguous tensor"),
        };
        Ok((CpuStorage::F32(squares), layout.shape().clone()))
    }
}

fn own_operation(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let head = linear(5, 3, vb.pp("head"))?;
    let x = seed.normal("x", (7, 5), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = if buggy { x.clone() } else { x.contiguous()? };
        head.forward(&x.apply_op1_no_bwd(&SignedSquare { buggy })?)
    }))
}

/// Mixes positions, then features. `[batch, time, width]`.
fn mixer(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let (time, width) = (5, 6);
    let (over_time, over_width) = (
        linear(time, time, vb.pp("time"))?,
        Mlp::new(&[width, 12, width], Tensor::gelu, vb.pp("width"))?,
    );
    let norm = Norm::new(width, vb.pp("norm"))?;
    let x = seed.normal("x", (4, time, width), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let turned = x.transpose(1, 2)?;
        let turned = if buggy { turned } else { turned.contiguous()? };
        let mixed = over_time.forward(&turned)?.transpose(1, 2)?.gelu()?;
        let x = (x + mixed)?;
        &x + over_width.forward(&norm.forward(&x)?)?
    }))
}

/// In another order, a set is the same set. As many members as features.
fn set(seed: Seed, pooled: usize) -> Result<Subject> {
    const SIZE: usize = 12;
    let (vars, vb) = weights(seed, DType::F32);
    let each = linear(3, SIZE, vb.pp("each"))?;
    let head = Mlp::new(&[SIZE, 24, 1], Tensor::gelu, vb.pp("head"))?;
    let x = seed.normal("x", (ROWS, SIZE, 3), DType::F32, CPU)?;
    let y = seed.normal("y", (ROWS, 1), DType::F32, CPU)?;
    let forward = move |x: &Tensor| head.forward(&each.forward(x)?.relu()?.mean(pooled)?);
    let learner = Learner::new(&vars, forward, loss::mse);
    let order: Vec<u32> = (0..SIZE as u32).map(|i| (i * 5 + 3) % SIZE as u32).collect();
    let order = Tensor::new(order, CPU)?;
    let change = move |x: &Tensor| x.index_select(&order, 1);
    Ok(Subject::new(learner, (x, y)).beside(Beside::Change(Box::new(change))))
}

/// Patches through the same layers: an image moved by a patch, and round the edge, has the same patches. As many channels
/// as patches.
fn pooled_image(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let config = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
    let (first, second) = (
        conv2d(1, 9, 2, config, vb.pp("first"))?,
        conv2d(9, 9, 1, Conv2dConfig::default(), vb.pp("second"))?,
    );
    let head = linear(9, 4, vb.pp("head"))?;
    let x = seed.normal("x", (3, 1, 6, 6), DType::F64, CPU)?;
    let subject = Subject::inference(x, move |x: &Tensor| {
        let x = second.forward(&first.forward(x)?.relu()?)?.relu()?;
        head.forward(&if buggy { x.mean(1)?.flatten_from(1)? } else { x.mean((2, 3))? })
    });
    Ok(subject.beside(Beside::Change(Box::new(|x| x.roll(2, 3)))))
}

/// Nodes of a ring, each with its features: a node knows of itself, of the one before it and of the one behind.
fn graph(seed: Seed, buggy: bool) -> Result<Subject> {
    const NODES: usize = 6;
    let (_, vb) = weights(seed, DType::F32);
    let own = linear(4, 4, vb.pp("own"))?;
    let neighbours = linear(4, 4, vb.pp("neighbours"))?;
    let x = seed.normal("x", (2, NODES, 4), DType::F32, CPU)?;
    let along = if buggy { 2 } else { 1 };
    let subject = Subject::inference(x, move |x: &Tensor| {
        let sum = (x.roll(1, along)? + x.roll(-1, along)?)?;
        (own.forward(x)? + neighbours.forward(&sum.contiguous()?)?)?.tanh()
    });
    let near = |a: usize, b: usize| [0, 1, NODES - 1].contains(&(a.abs_diff(b)));
    Ok(subject.beside(Beside::Allowed(mask((NODES, NODES), DType::F32, 1.0, near)?)))
}

/// Key after key with a running maximum and a running sum, against all at once.
fn streamed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let project = linear(8, 24, vb.pp("project"))?;
    let x = seed.normal("x", (3, 6, 8), DType::F32, CPU)?;
    let parts = move |x: &Tensor| -> candle_core::Result<Vec<Tensor>> {
        let joint = project.forward(x)?;
        (0..3).map(|i| joint.narrow(2, 8 * i, 8)?.contiguous()).collect()
    };
    let fast_parts = parts.clone();
    let fast = move |x: &Tensor| -> Made {
        let parts = fast_parts(x)?;
        let scale = if buggy { 1.0 / 8.0 } else { 1.0 / 8f64.sqrt() };
        let mut weight = Tensor::zeros((x.dim(0)?, x.dim(1)?, 1), DType::F32, CPU)?;
        let mut most = (&weight - 1e30)?;
        let mut sum = parts[2].zeros_like()?;
        for t in 0..x.dim(1)? {
            let [key, value] = [1, 2].map(|part: usize| parts[part].narrow(1, t, 1));
            let score = (parts[0].broadcast_mul(&key?)?.sum_keepdim(2)? * scale)?;
            let larger = most.maximum(&score)?;
            let (old, new) = ((most - &larger)?.exp()?, (score - &larger)?.exp()?);
            weight = ((weight * &old)? + &new)?;
            sum = (sum.broadcast_mul(&old)? + new.broadcast_mul(&value?)?)?;
            most = larger;
        }
        sum.broadcast_div(&weight)
    };
    let subject = Subject::inference(x, fast);
    Ok(subject.beside(Beside::Other(Box::new(move |x| {
        let parts = parts(x)?;
        softmax(&scores(&parts[0], &parts[1])?)?.matmul(&parts[2])
    }))))
}

/// Four heads share two keys and values, against a loop over the heads.
fn shared_keys(seed: Seed, buggy: bool) -> Result<Subject> {
    const HEADS: usize = 4;
    const SHARED: usize = 2;
    const WIDTH: usize = 3;
    let (_, vb) = weights(seed, DType::F32);
    let layer = |name: &str, heads: usize| linear(6, heads * WIDTH, vb.pp(name));
    let layers = Rc::new([layer("query", HEADS)?, layer("key", SHARED)?, layer("value", SHARED)?]);
    let x = seed.normal("x", (2, 5, 6), DType::F32, CPU)?;
    let project = move |x: &Tensor, i: usize| -> Made {
        let y = layers[i].forward(x)?;
        let heads = y.dim(2)? / WIDTH;
        y.reshape((x.dim(0)?, x.dim(1)?, heads, WIDTH))?.transpose(1, 2)?.contiguous()
    };
    let later = |time| mask((time, time), DType::F32, HIDDEN, |query, key| key > query);
    let at_once = project.clone();
    let subject = Subject::inference(x, move |x: &Tensor| {
        let spread = |x: Tensor| match buggy {
            true => x.repeat((1, HEADS / SHARED, 1, 1)),
            false => x.unsqueeze(2)?.repeat((1, 1, HEADS / SHARED, 1, 1))?.flatten(1, 2),
        };
        let (key, value) = (spread(at_once(x, 1)?)?, spread(at_once(x, 2)?)?);
        let scores = scores(&at_once(x, 0)?, &key)?.broadcast_add(&later(x.dim(1)?)?)?;
        softmax(&scores)?.matmul(&value)
    });
    Ok(subject.beside(Beside::Other(Box::new(move |x| {
        let (query, key, value) = (project(x, 0)?, project(x, 1)?, project(x, 2)?);
        let head = |head: usize| -> Made {
            let shared = head / (HEADS / SHARED);
            let one = |x: &Tensor, i: usize| x.i((.., i))?.contiguous();
            let scores = scores(&one(&query, head)?, &one(&key, shared)?)?;
            softmax(&scores.broadcast_add(&later(x.dim(1)?)?)?)?.matmul(&one(&value, shared)?)
        };
        let heads = (0..HEADS).map(head).collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::stack(&heads, 1)
    }))))
}

/// One cell for both directions: of a sequence from its end, the outputs are from the end too, the halves swapped.
fn both_directions(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let cell = gru(4, 5, GRUConfig::default(), vb.pp("gru"))?;
    let x = seed.normal("x", (3, 6, 4), DType::F32, CPU)?;
    let subject = Subject::inference(x, move |x: &Tensor| {
        let run = |x: &Tensor| -> Made {
            let states: Vec<GRUState> = cell.seq(x)?;
            Tensor::stack(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
        };
        let back = run(&x.flip(&[1])?.contiguous()?)?;
        Tensor::cat(&[run(x)?, if buggy { back } else { back.flip(&[1])? }], 2)
    });
    let swapped = |y: &Tensor| {
        let y = y.flip(&[1])?;
        Tensor::cat(&[y.narrow(2, 5, 5)?, y.narrow(2, 0, 5)?], 2)
    };
    Ok(subject.beside(Beside::Changes(Box::new(|x| x.flip(&[1])), Box::new(swapped))))
}
