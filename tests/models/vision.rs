//! Images to classes.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, loss};
use candle_transformers::models::{convnext, vit};
use candling::{Batch, Learner, Seed};

use super::{
    Kind, Model,
    build::{CPU, ROWS, Weights, build},
};

const CLASSES: usize = 5;

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "vit",
        kind: Kind::Vision,
        build: vit,
        step: None,
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts: &["LayerNorm::forward", "softmax_last_dim"],
    },
    Model {
        name: "convnext",
        kind: Kind::Vision,
        build: convnext,
        step: None,
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts: &["LayerNorm::forward"],
    },
];

fn images(seed: Seed, side: usize, dtype: DType) -> Result<Batch> {
    let images = seed.normal("images", (ROWS, 3, side, side), dtype, CPU)?;
    Ok((images, seed.tokens("class", CLASSES, ROWS, CPU)?).into())
}

fn vit(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    const SIDE: usize = 8;
    // The class token and the position embeddings.
    let (vars, model) = build(seed, dtype, Weights::Unhinted, |vb| {
        let config = vit::Config {
            hidden_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 32,
            hidden_act: candle_nn::Activation::Gelu,
            layer_norm_eps: 1e-5,
            image_size: SIDE,
            patch_size: 4,
            num_channels: 3,
            qkv_bias: true,
        };
        vit::Model::new(&config, CLASSES, vb)
    })?;
    let forward = move |x: &Tensor| model.forward(x);
    Ok((Learner::new(&vars, forward, loss::cross_entropy), images(seed, SIDE, dtype)?))
}

/// The smallest preset: the fields of the configuration are private, and it is read from no file.
///
/// An empty builder gives the model both what its first version has (layer scales) and what its second has (response
/// normalisation), since it looks for either by asking.
fn convnext(seed: Seed, dtype: DType) -> candling::Result<(Learner<'static>, Batch)> {
    let (vars, model) = build(seed, dtype, Weights::Unhinted, |vb| {
        convnext::convnext(&convnext::Config::atto(), CLASSES, vb)
    })?;
    let forward = move |x: &Tensor| model.forward(x);
    Ok((Learner::new(&vars, forward, loss::cross_entropy), images(seed, 32, dtype)?))
}
