//! Step by step with a cache, against all at once: group J.

use std::{cell::RefCell, rc::Rc};

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv1dConfig, LSTMConfig, RNN, conv1d, lstm, rnn::LSTMState, rotary_emb};
use candling::{Cause, Result, Seed};

use super::models::{Decoder, HIDDEN, Heads, mask, places, sinusoids, softmax};
use crate::corpus::{
    data::{CPU, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::Residual,
    property::{Beside, Property::CacheConsistent},
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "J13",
        group: GROUP,
        bug: "each step of a cached decoder is at position 0",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| decoder(seed, Cached { position: |_, _| 0, ..RIGHT }),
        clean: |seed| decoder(seed, RIGHT),
        missed_today: None,
    },
    Entry {
        id: "J13b",
        group: GROUP,
        bug: "the rotary offset counts calls, not tokens: right as long as each call has one",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| rotary(seed, true),
        clean: |seed| rotary(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J13c",
        group: GROUP,
        bug: "a recurrent layer's step starts from zeros each time",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J13d",
        group: GROUP,
        bug: "a causal convolution's cache is one position short",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| convolution(seed, 1),
        clean: |seed| convolution(seed, 2),
        missed_today: None,
    },
    Entry {
        id: "J14",
        group: GROUP,
        bug: "the cache is not reset between prompts",
        cause: Cause::StateKept,
        assertion: Property(CacheConsistent),
        buggy: |seed| decoder(seed, Cached { resets: false, ..RIGHT }),
        clean: |seed| decoder(seed, RIGHT),
        missed_today: None,
    },
    Entry {
        id: "J14b",
        group: GROUP,
        bug: "the reset forgets the second layer's state",
        cause: Cause::StateKept,
        assertion: Property(CacheConsistent),
        buggy: |seed| two_layers(seed, 1),
        clean: |seed| two_layers(seed, 2),
        missed_today: None,
    },
    Entry {
        id: "J16",
        group: GROUP,
        bug: "the mask of a chunk lacks the offset: its tokens see the first keys, and not their own",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| decoder(seed, Cached { hides: |query, key, _| key > query, ..RIGHT }),
        clean: |seed| decoder(seed, RIGHT),
        missed_today: None,
    },
    Entry {
        id: "J16b",
        group: GROUP,
        bug: "a step has no mask, which is right for one token only",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| decoder(seed, Cached { hides: |_, _, _| false, ..RIGHT }),
        clean: |seed| decoder(seed, RIGHT),
        missed_today: None,
    },
    Entry {
        id: "J16c",
        group: GROUP,
        bug: "a sliding cache keeps one position fewer than the window of the full pass",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| sliding(seed, 3),
        clean: |seed| sliding(seed, 4),
        missed_today: None,
    },
    Entry {
        id: "J29",
        group: GROUP,
        bug: "a step's positions start again at 0 where the table of an earlier, shorter model ended",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| decoder(seed, Cached { position: |offset, t| (offset + t) % 8, ..RIGHT }),
        clean: |seed| decoder(seed, RIGHT),
        missed_today: None,
    },
];

/// What a step with a cache does.
#[derive(Clone, Copy)]
struct Cached {
    /// The position of a chunk's token, from the offset and its place in the chunk.
    position: fn(usize, usize) -> usize,
    /// Whether a token of the chunk sees a key, given the offset.
    hides: fn(usize, usize, usize) -> bool,
    resets: bool,
}

const RIGHT: Cached = Cached {
    position: |offset, t| offset + t,
    hides: |query, key, offset| key > offset + query,
    resets: true,
};

/// Keys and values of the tokens so far.
type Memory = RefCell<Option<(Tensor, Tensor)>>;

/// The cache with the new keys and values behind the old.
fn appended(memory: &Memory, key: Tensor, value: Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let both = match &*memory.borrow() {
        Some((keys, values)) => {
            (Tensor::cat(&[keys, &key], 2)?, Tensor::cat(&[values, &value], 2)?)
        }
        None => (key, value),
    };
    *memory.borrow_mut() = Some(both.clone());
    Ok(both)
}

fn decoder(seed: Seed, cached: Cached) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Rc::new(Decoder::new(vb)?);
    let ids = seed.tokens("x", VOCAB, (2, 11), CPU)?;
    let (stepped, memory) = (model.clone(), Memory::default());
    let step = move |ids: &Tensor, offset: usize| {
        if offset == 0 && cached.resets {
            memory.take();
        }
        let positions = (0..ids.dim(1)?).map(|t| (cached.position)(offset, t) as u32);
        let x = stepped.embed(ids, &Tensor::new(positions.collect::<Vec<_>>(), CPU)?)?;
        stepped.block(&x, |attention, x| {
            let [query, key, value] = attention.project(x, x)?;
            let (key, value) = (attention.split(&key)?, attention.split(&value)?);
            let (keys, values) = appended(&memory, key, value)?;
            attention.attend(&[attention.split(&query)?, keys, values], |scores| {
                let hides = |query: usize, key: usize| (cached.hides)(query, key, offset);
                let (_, _, queries, keys) = scores.dims4()?;
                softmax(&scores.broadcast_add(&mask(
                    (queries, keys),
                    DType::F32,
                    HIDDEN,
                    hides,
                )?)?)
            })
        })
    };
    let full = Subject::inference(ids, move |ids: &Tensor| {
        model.forward(ids, |scores| {
            let time = scores.dim(3)?;
            let later = mask((time, time), DType::F32, HIDDEN, |query, key| key > query)?;
            softmax(&scores.broadcast_add(&later)?)
        })
    });
    Ok(full.beside(Beside::Step(Box::new(step))))
}

/// Over vectors, with rotary positions.
fn rotary(seed: Seed, counts_calls: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let attention = Rc::new(Heads::new(8, 2, vb.pp("attention"))?);
    let x = seed.normal("x", (3, 7, 8), DType::F32, CPU)?;
    let run = |attention: &Heads, x: &Tensor, from: usize, memory: Option<&Memory>| {
        let time = x.dim(1)?;
        let angles = sinusoids(from + time, 4, DType::F32)?.narrow(0, from, time)?;
        let angles = angles.reshape((time, 2, 2))?;
        let table = |i| angles.narrow(2, i, 1)?.squeeze(2)?.contiguous();
        let (sin, cos) = (table(0)?, table(1)?);
        let turn = |x: &Tensor| rotary_emb::rope(x, &cos, &sin);
        let [query, key, value] = attention.project(x, x)?;
        let (query, key) = (turn(&attention.split(&query)?)?, turn(&attention.split(&key)?)?);
        let (keys, values) = match memory {
            Some(memory) => appended(memory, key, attention.split(&value)?)?,
            None => (key, attention.split(&value)?),
        };
        let before = keys.dim(2)? - time;
        let later = mask((time, before + time), DType::F32, HIDDEN, |q, k| k > before + q)?;
        x + attention
            .attend(&[query, keys, values], |scores| softmax(&scores.broadcast_add(&later)?))?
    };
    let (stepped, memory, calls) = (attention.clone(), Memory::default(), RefCell::new(0));
    let step = move |x: &Tensor, offset: usize| {
        if offset == 0 {
            memory.take();
            calls.replace(0);
        }
        let call = calls.replace_with(|call| *call + 1);
        run(&stepped, x, if counts_calls { call } else { offset }, Some(&memory))
    };
    let full = Subject::inference(x, move |x: &Tensor| run(&attention, x, 0, None));
    Ok(full.beside(Beside::Step(Box::new(step))))
}

fn recurrent(seed: Seed, forgets: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let cell = Rc::new(lstm(4, 6, LSTMConfig::default(), vb.pp("lstm"))?);
    let x = seed.normal("x", (2, 8, 4), DType::F64, CPU)?;
    let outputs = |states: &[LSTMState]| {
        let outputs: Vec<&Tensor> = states.iter().map(LSTMState::h).collect();
        Tensor::stack(&outputs, 1)
    };
    let (stepped, kept) = (cell.clone(), RefCell::new(None));
    let step = move |x: &Tensor, offset: usize| {
        let state = match kept.take() {
            Some(state) if offset > 0 && !forgets => state,
            _ => stepped.zero_state(x.dim(0)?)?,
        };
        let states = stepped.seq_init(x, &state)?;
        kept.replace(states.last().cloned());
        outputs(&states)
    };
    let full = Subject::inference(x, move |x: &Tensor| outputs(&cell.seq(x)?));
    Ok(full.beside(Beside::Step(Box::new(step))))
}

/// A kernel of three needs the two positions before a chunk.
fn convolution(seed: Seed, keeps: usize) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let conv = Rc::new(conv1d(4, 4, 3, Conv1dConfig::default(), vb.pp("conv"))?);
    let block = Rc::new(Residual::new(4, vb.pp("block"))?);
    let x = seed.normal("x", (2, 9, 4), DType::F32, CPU)?;
    let run = |conv: &candle_nn::Conv1d, block: &Residual, x: &Tensor, before: &Tensor| {
        let x = Tensor::cat(&[before, x], 1)?.transpose(1, 2)?.contiguous()?;
        block.forward(&conv.forward(&x)?.silu()?.transpose(1, 2)?.contiguous()?)
    };
    let (stepped, kept) = ((conv.clone(), block.clone()), RefCell::new(None));
    let step = move |x: &Tensor, offset: usize| {
        let zeros = Tensor::zeros((x.dim(0)?, 2, 4), DType::F32, CPU)?;
        let before = kept.take().filter(|_| offset > 0).unwrap_or(zeros);
        let all = Tensor::cat(&[&before, x], 1)?;
        let last = all.narrow(1, all.dim(1)? - keeps, keeps)?;
        kept.replace(Some(last.pad_with_zeros(1, 2 - keeps, 0)?));
        run(&stepped.0, &stepped.1, x, &before)
    };
    let full = Subject::inference(x, move |x: &Tensor| {
        run(&conv, &block, x, &Tensor::zeros((x.dim(0)?, 2, 4), DType::F32, CPU)?)
    });
    Ok(full.beside(Beside::Step(Box::new(step))))
}

/// Attention to the last four positions; the cache drops what is further back.
fn sliding(seed: Seed, keeps: usize) -> Result<Subject> {
    const WINDOW: usize = 4;
    let (_, vb) = weights(seed, DType::F32);
    let model = Rc::new(Decoder::tied(vb)?);
    let ids = seed.tokens("x", VOCAB, (3, 10), CPU)?;
    let out_of_sight = |query: usize, key: usize| key > query || key + WINDOW <= query;
    let (stepped, memory) = (model.clone(), Memory::default());
    let step = move |ids: &Tensor, offset: usize| {
        if offset == 0 {
            memory.take();
        }
        let time = ids.dim(1)?;
        let x = stepped.embed(ids, &places(offset, time)?)?;
        stepped.block(&x, |attention, x| {
            let [query, key, value] = attention.project(x, x)?;
            let (keys, values) =
                appended(&memory, attention.split(&key)?, attention.split(&value)?)?;
            // A chunk's first token sees what is kept and itself.
            let all = keys.dim(2)?;
            let first = offset + time - all;
            let hides = |query: usize, key: usize| out_of_sight(offset + query, first + key);
            let hidden = mask((time, all), DType::F32, HIDDEN, hides)?;
            let kept = (keeps - 1).min(all);
            let tail = |x: &Tensor| x.narrow(2, all - kept, kept)?.contiguous();
            memory.replace(Some((tail(&keys)?, tail(&values)?)));
            attention.attend(&[attention.split(&query)?, keys, values], |scores| {
                softmax(&scores.broadcast_add(&hidden)?)
            })
        })
    };
    let full = Subject::inference(ids, move |ids: &Tensor| {
        model.forward(ids, |scores| {
            let time = scores.dim(3)?;
            softmax(&scores.broadcast_add(&mask(
                (time, time),
                DType::F32,
                HIDDEN,
                out_of_sight,
            )?)?)
        })
    });
    Ok(full.beside(Beside::Step(Box::new(step))))
}

/// Two recurrent layers with a residual between them.
fn two_layers(seed: Seed, resets: usize) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let layer = |i: usize| lstm(4, 4, LSTMConfig::default(), vb.pp(i));
    let layers = Rc::new([layer(0)?, layer(1)?]);
    let x = seed.normal("x", (3, 6, 4), DType::F32, CPU)?;
    let kept = RefCell::new([None, None]);
    let run = |layers: &[candle_nn::LSTM; 2], x: &Tensor, kept: &mut [Option<LSTMState>; 2]| {
        let mut x = x.clone();
        for (layer, kept) in layers.iter().zip(kept) {
            let state = match kept.take() {
                Some(state) => state,
                None => layer.zero_state(x.dim(0)?)?,
            };
            let states = layer.seq_init(&x, &state)?;
            *kept = states.last().cloned();
            let outputs: Vec<&Tensor> = states.iter().map(LSTMState::h).collect();
            x = (x + Tensor::stack(&outputs, 1)?)?;
        }
        Ok(x)
    };
    let stepped = layers.clone();
    let step = move |x: &Tensor, offset: usize| {
        let mut kept = kept.borrow_mut();
        if offset == 0 {
            kept[..resets].fill(None);
        }
        run(&stepped, x, &mut kept)
    };
    let full = Subject::inference(x, move |x: &Tensor| run(&layers, x, &mut [None, None]));
    Ok(full.beside(Beside::Step(Box::new(step))))
}
