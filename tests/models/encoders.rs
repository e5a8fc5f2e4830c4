//! Encoders: token ids to an output for every position.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarMap;
use candle_transformers::models::{bert, distilbert, modernbert};
use candling::{Batch, Learner, Seed};
use serde_json::{from_value, json};

use super::{
    Kind, Model, Padded,
    build::{CPU, VOCABULARY, Weights, build, config, cross_entropy_everywhere, tokens},
};

const fn encoder(
    name: &'static str,
    build: fn(Seed, DType) -> candling::Result<(Learner<'static>, Batch)>,
    padded: fn(Seed) -> candling::Result<Padded>,
    cuts: &'static [&'static str],
) -> Model {
    Model {
        name,
        kind: Kind::Encoder,
        build,
        step: None,
        narrow_step: None,
        positions: None,
        padded: Some(padded),
        rows: None,
        cuts,
    }
}

pub(super) const MODELS: &[Model] = &[
    encoder("bert", bert, bert_padded, &["LayerNorm::forward"]),
    encoder("distilbert", distilbert, distilbert_padded, &["LayerNorm::forward"]),
    encoder("modernbert", modernbert, modernbert_padded, &["rope"]),
];

/// A token at every position is to be told from the others: what these models are trained for, without the masking.
fn batch(seed: Seed) -> Result<Batch> {
    Ok((tokens(seed, "ids")?, tokens(seed, "targets")?).into())
}

fn bert(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, model) = bert_model(seed, dtype)?;
    let forward = move |ids: &Tensor| model.forward(ids, &ids.zeros_like()?, None);
    Ok((Learner::new(&vars, forward, cross_entropy_everywhere), batch(seed)?))
}

fn bert_model(seed: Seed, dtype: DType) -> candling::Result<(VarMap, bert::BertForMaskedLM)> {
    build(seed, dtype, Weights::Hinted, |vb| {
        let config: bert::Config = config(from_value(json!({
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "max_position_embeddings": 32,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 0,
        })))?;
        bert::BertForMaskedLM::load(vb, &config)
    })
}

fn distilbert(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, model) = distilbert_model(seed, dtype)?;
    let forward = move |ids: &Tensor| {
        // Ones where a position must not be seen.
        let tokens = ids.dim(1)?;
        model.forward(ids, &Tensor::zeros((tokens, tokens), DType::U8, CPU)?)
    };
    Ok((Learner::new(&vars, forward, cross_entropy_everywhere), batch(seed)?))
}

fn distilbert_model(
    seed: Seed,
    dtype: DType,
) -> candling::Result<(VarMap, distilbert::DistilBertForMaskedLM)> {
    build(seed, dtype, Weights::Hinted, |vb| {
        let config: distilbert::Config = config(from_value(json!({
            "vocab_size": VOCABULARY,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 32,
            "activation": "gelu",
            "max_position_embeddings": 32,
            "initializer_range": 0.02,
            "pad_token_id": 0,
        })))?;
        distilbert::DistilBertForMaskedLM::load(vb, &config)
    })
}

fn modernbert(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, model) = modernbert_model(seed, dtype)?;
    let forward = move |ids: &Tensor| model.forward(ids, &ids.ones_like()?);
    Ok((Learner::new(&vars, forward, cross_entropy_everywhere), batch(seed)?))
}

fn modernbert_model(
    seed: Seed,
    dtype: DType,
) -> candling::Result<(VarMap, modernbert::ModernBertForMaskedLM)> {
    build(seed, dtype, Weights::Hinted, |vb| {
        let config: modernbert::Config = config(from_value(json!({
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 0,
            "global_attn_every_n_layers": 2,
            "global_rope_theta": 10000.0,
            "local_attention": 4,
            "local_rope_theta": 10000.0,
        })))?;
        modernbert::ModernBertForMaskedLM::load(vb, &config)
    })
}

fn bert_padded(seed: Seed) -> candling::Result<Padded> {
    let (_, model) = bert_model(seed, DType::F32)?;
    Ok(Box::new(move |ids, mask| model.forward(ids, &ids.zeros_like()?, Some(mask))))
}

fn distilbert_padded(seed: Seed) -> candling::Result<Padded> {
    let (_, model) = distilbert_model(seed, DType::F32)?;
    Ok(Box::new(move |ids, mask| {
        let unseen = mask.eq(&mask.zeros_like()?)?.unsqueeze(1)?.unsqueeze(1)?;
        model.forward(ids, &unseen)
    }))
}

fn modernbert_padded(seed: Seed) -> candling::Result<Padded> {
    let (_, model) = modernbert_model(seed, DType::F32)?;
    Ok(Box::new(move |ids, mask| model.forward(ids, mask)))
}
