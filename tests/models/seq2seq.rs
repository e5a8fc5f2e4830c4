//! An encoder alone that its family shares with a pair, and pairs of an encoder and a decoder.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, loss};
use candle_transformers::models::{t5, whisper};
use candling::{Batch, Learner, Seed};
use serde_json::{from_value, json};

use super::{
    Kind, Model, Step,
    build::{
        CPU, ROWS, TOKENS, VOCABULARY, Weights, build, config, cross_entropy_everywhere, tokens,
        tokens_and_class,
    },
};

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "t5 encoder",
        kind: Kind::Encoder,
        build: t5_encoder,
        step: None,
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts: &["softmax_last_dim"],
    },
    Model {
        name: "t5",
        kind: Kind::EncoderDecoder,
        build: t5_pair,
        step: Some(t5_step),
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts: &["softmax_last_dim"],
    },
    Model {
        name: "whisper",
        kind: Kind::EncoderDecoder,
        build: whisper,
        step: None,
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts: &["LayerNorm::forward", "softmax_last_dim"],
    },
];

fn t5_config() -> t5::Config {
    t5::Config {
        vocab_size: VOCABULARY,
        d_model: 16,
        d_kv: 8,
        d_ff: 32,
        num_layers: 2,
        num_heads: 2,
        ..t5::Config::default()
    }
}

/// The encoder's outputs, averaged over the positions, under a linear head.
fn t5_encoder(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    const CLASSES: usize = 3;
    let (vars, (mut model, head)) = build(seed, dtype, Weights::Unhinted, |vb| {
        let head = candle_nn::linear(16, CLASSES, vb.pp("head"))?;
        Ok((t5::T5EncoderModel::load(vb, &t5_config())?, head))
    })?;
    let forward = move |ids: &Tensor| {
        model.clear_kv_cache();
        head.forward(&model.forward(ids)?.mean(1)?)
    };
    Ok((Learner::new(&vars, forward, loss::cross_entropy), tokens_and_class(seed, CLASSES)?))
}

fn t5_pair(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, mut model) = t5_model(seed, dtype)?;
    let forward = move |[source, target]: &[Tensor; 2]| {
        model.clear_kv_cache();
        model.forward(source, target)
    };
    let inputs = [tokens(seed, "source")?, tokens(seed, "target")?];
    let next = seed.tokens("next", VOCABULARY, ROWS, CPU)?;
    Ok((Learner::new(&vars, forward, loss::cross_entropy), (inputs, next).into()))
}

/// Steps of the decoder; the source is the learner's.
fn t5_step(seed: Seed) -> candling::Result<Step> {
    let (_, mut model) = t5_model(seed, DType::F32)?;
    let source = tokens(seed, "source")?;
    let mut encoded = None;
    Ok(Box::new(move |ids, offset| {
        if offset == 0 {
            model.clear_kv_cache();
            encoded = None;
        }
        let encoded = match &mut encoded {
            Some(encoded) => encoded,
            none => none.insert(model.encode(&source)?),
        };
        model.decode(ids, encoded)
    }))
}

fn t5_model(
    seed: Seed,
    dtype: DType,
) -> candling::Result<(candle_nn::VarMap, t5::T5ForConditionalGeneration)> {
    build(seed, dtype, Weights::Unhinted, |vb| {
        t5::T5ForConditionalGeneration::load(vb, &t5_config())
    })
}

/// A spectrogram and the tokens so far to the logits of each next token.
fn whisper(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    const BANDS: usize = 8;
    const FRAMES: usize = 16;
    let (vars, mut model) = build(seed, dtype, Weights::Unhinted, |vb| {
        let config: whisper::Config = config(from_value(json!({
            "num_mel_bins": BANDS,
            "max_source_positions": FRAMES / 2,
            "d_model": 16,
            "encoder_attention_heads": 2,
            "encoder_layers": 2,
            "vocab_size": VOCABULARY,
            "max_target_positions": TOKENS + 2,
            "decoder_attention_heads": 2,
            "decoder_layers": 2,
        })))?;
        whisper::model::Whisper::load(&vb, config)
    })?;
    let forward = move |[mel, ids]: &[Tensor; 2]| -> Result<Tensor> {
        let encoded = model.encoder.forward(mel, true)?;
        let decoded = model.decoder.forward(ids, &encoded, true)?;
        model.decoder.final_linear(&decoded)
    };
    let mel = seed.normal("mel", (ROWS, BANDS, FRAMES), dtype, CPU)?;
    let inputs = [mel, tokens(seed, "ids")?];
    let batch = (inputs, tokens(seed, "next")?).into();
    Ok((Learner::new(&vars, forward, cross_entropy_everywhere), batch))
}
