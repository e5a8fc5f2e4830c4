//! Decoders: token ids to the logits of the next token.

use candle_core::{DType, IndexOp, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma, gemma2, gemma3, llama, mamba, mistral, phi, phi3, qwen2, qwen3, stable_lm, starcoder2,
};
use candling::Seed;
use serde_json::{Value, from_value, json};

use super::{
    Kind, Model, Padded, Positions, Rows,
    build::{CPU, VOCABULARY, Weights, build, config},
    decoder::{self, Decoder, NARROW, WIDE},
};

const fn decoder<D: Decoder>(name: &'static str, cuts: &'static [&'static str]) -> Model {
    Model {
        name,
        kind: Kind::Decoder,
        build: decoder::learner::<D>,
        step: Some(decoder::step::<D, WIDE>),
        narrow_step: None,
        positions: None,
        padded: None,
        rows: None,
        cuts,
    }
}

/// With an attention window.
const fn windowed<D: Decoder>(name: &'static str, cuts: &'static [&'static str]) -> Model {
    Model { narrow_step: Some(decoder::step::<D, NARROW>), ..decoder::<D>(name, cuts) }
}

pub(super) const MODELS: &[Model] = &[
    decoder::<Llama>("llama", &["RmsNorm::forward", "rope", "softmax_last_dim"]),
    windowed::<mistral::Model>("mistral", &["RmsNorm::forward", "rope", "softmax_last_dim"]),
    decoder::<phi::Model>("phi", &["LayerNorm::forward", "rope", "softmax_last_dim"]),
    decoder::<phi3::Model>("phi3", &["RmsNorm::forward", "rope", "softmax_last_dim"]),
    Model {
        positions: Some(qwen2_positions),
        padded: Some(qwen2_padded),
        ..windowed::<qwen2::ModelForCausalLM>(
            "qwen2",
            &["RmsNorm::forward", "rope", "softmax_last_dim"],
        )
    },
    Model {
        positions: Some(qwen3_positions),
        ..decoder::<qwen3::ModelForCausalLM>(
            "qwen3",
            &["RmsNorm::forward", "rope", "ConcatKvCache::append", "flash_attn"],
        )
    },
    decoder::<gemma::Model>("gemma", &["rope", "softmax_last_dim"]),
    windowed::<gemma2::Model>("gemma2", &["rope", "softmax_last_dim"]),
    windowed::<gemma3::Model>(
        "gemma3",
        &["rope", "KvCache::append", "RotatingKvCache::append", "softmax_last_dim"],
    ),
    decoder::<StableLm>("stable_lm", &["LayerNorm::forward", "softmax_last_dim"]),
    windowed::<starcoder2::Model>("starcoder2", &["LayerNorm::forward", "softmax_last_dim"]),
    Model {
        positions: Some(mamba_positions),
        rows: Some(mamba_rows),
        ..decoder::<Mamba>("mamba", &["RmsNorm::forward"])
    },
];

/// Each model reads of it what it knows.
fn settings(window: usize) -> Value {
    json!({
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
        "layer_norm_eps": 1e-5,
        "norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
        "rope_local_base_freq": 10000.0,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": false,
        "attention_bias": false,
        "use_bias": true,
        "use_cache": true,
        "qk_layernorm": false,
        "sliding_window": window,
        "sliding_window_pattern": 2,
        "max_window_layers": 2,
        "use_sliding_window": false,
        "query_pre_attn_scalar": 8,
    })
}

fn settings_with<const N: usize>(window: usize, changes: [(&str, Value); N]) -> Value {
    let mut settings = settings(window);
    for (name, value) in changes {
        settings[name] = value;
    }
    settings
}

/// Models whose `forward` takes the ids and the offset, and whose cache can be cleared.
macro_rules! decoder {
    ($model:ty, |$vb:ident, $window:ident| $load:expr) => {
        impl Decoder for $model {
            fn load($vb: VarBuilder<'static>, $window: usize) -> Result<Self> {
                $load
            }

            fn logits(&mut self, ids: &Tensor, offset: usize) -> Result<Tensor> {
                self.forward(ids, offset)
            }

            fn reset(&mut self) -> Result<()> {
                self.clear_kv_cache();
                Ok(())
            }
        }
    };
}

decoder!(mistral::Model, |vb, window| {
    mistral::Model::new(&config(from_value(settings(window)))?, vb)
});
decoder!(phi3::Model, |vb, window| {
    phi3::Model::new(
        &config(from_value(settings_with(window, [("partial_rotary_factor", json!(null))])))?,
        vb,
    )
});
decoder!(qwen2::ModelForCausalLM, |vb, window| {
    let changes = [("use_sliding_window", json!(true))];
    qwen2::ModelForCausalLM::new(&config(from_value(settings_with(window, changes)))?, vb)
});
decoder!(qwen3::ModelForCausalLM, |vb, window| {
    qwen3::ModelForCausalLM::new(&config(from_value(settings(window)))?, vb)
});
// The norms of the Gemma family scale by one plus their weight: the zeros candle makes are what is meant.
decoder!(gemma::Model, |vb, window| {
    gemma::Model::new(
        false,
        &config(from_value(settings_with(window, [("hidden_act", json!("gelu"))])))?,
        vb,
    )
});
decoder!(gemma2::Model, |vb, window| {
    gemma2::Model::new(false, &config(from_value(gelu(window)))?, vb)
});
decoder!(gemma3::Model, |vb, window| {
    gemma3::Model::new(false, &config(from_value(gelu(window)))?, vb)
});
decoder!(starcoder2::Model, |vb, window| {
    starcoder2::Model::new(
        &config(from_value(settings_with(window, [("hidden_act", json!("gelu"))])))?,
        vb,
    )
});

fn gelu(window: usize) -> Value {
    settings_with(window, [("hidden_activation", json!("gelu_pytorch_tanh"))])
}

struct Llama {
    model: llama::Llama,
    config: llama::Config,
    dtype: DType,
    cache: llama::Cache,
}

impl Llama {
    fn cache(config: &llama::Config, dtype: DType) -> Result<llama::Cache> {
        llama::Cache::new(true, dtype, config, CPU)
    }
}

impl Decoder for Llama {
    fn load(vb: VarBuilder<'static>, window: usize) -> Result<Self> {
        let config = config::<llama::LlamaConfig>(from_value(settings(window)))?.into_config(false);
        let (dtype, cache) = (vb.dtype(), Self::cache(&config, vb.dtype())?);
        Ok(Self { model: llama::Llama::load(vb, &config)?, config, dtype, cache })
    }

    fn logits(&mut self, ids: &Tensor, offset: usize) -> Result<Tensor> {
        self.model.forward(ids, offset, &mut self.cache)
    }

    fn reset(&mut self) -> Result<()> {
        self.cache = Self::cache(&self.config, self.dtype)?;
        Ok(())
    }
}

impl Decoder for phi::Model {
    fn load(vb: VarBuilder<'static>, window: usize) -> Result<Self> {
        let changes = [("hidden_act", json!("gelu")), ("num_key_value_heads", json!(2))];
        phi::Model::new(&config(from_value(settings_with(window, changes)))?, vb)
    }

    /// The model takes the offset from its cache.
    fn logits(&mut self, ids: &Tensor, _: usize) -> Result<Tensor> {
        self.forward(ids)
    }

    fn reset(&mut self) -> Result<()> {
        self.clear_kv_cache();
        Ok(())
    }
}

/// Its cache cannot be cleared: the model is made anew, on the same variables.
struct StableLm {
    model: stable_lm::Model,
    config: stable_lm::Config,
    vb: VarBuilder<'static>,
}

impl Decoder for StableLm {
    fn load(vb: VarBuilder<'static>, window: usize) -> Result<Self> {
        let config =
            config(from_value(settings_with(window, [("num_key_value_heads", json!(2))])))?;
        Ok(Self { model: stable_lm::Model::new(&config, vb.clone())?, config, vb })
    }

    fn logits(&mut self, ids: &Tensor, offset: usize) -> Result<Tensor> {
        self.model.forward(ids, offset)
    }

    fn reset(&mut self) -> Result<()> {
        self.model = stable_lm::Model::new(&self.config, self.vb.clone())?;
        Ok(())
    }
}

/// One token at a time, with a state instead of a cache, and one row at a time: with more the model fails (it broadcasts
/// `[rows, 16]` to `[rows, 32, 16]`), and with 32 it would not fail, but take rows for channels.
struct Mamba {
    model: mamba::Model,
    config: mamba::Config,
    dtype: DType,
    states: Vec<mamba::State>,
}

impl Mamba {
    /// The logits after every token: `[batch, time, vocabulary]`.
    fn each(&mut self, ids: &Tensor) -> Result<Tensor> {
        let (rows, tokens) = ids.dims2()?;
        while self.states.len() < rows {
            self.states.push(mamba::State::new(1, &self.config, self.dtype, CPU)?);
        }
        let rows = self.states.iter_mut().enumerate().map(|(row, state)| {
            let each = (0..tokens)
                .map(|t| self.model.forward(&ids.i((row, t..t + 1))?, state))
                .collect::<Result<Vec<_>>>()?;
            Tensor::stack(&each, 1)
        });
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }
}

impl Decoder for Mamba {
    // `A_log`, `D` and the convolution.
    const WEIGHTS: Weights = Weights::Unhinted;

    fn load(vb: VarBuilder<'static>, _: usize) -> Result<Self> {
        let (config, dtype) = (mamba_config()?, vb.dtype());
        Ok(Self { model: mamba::Model::new(&config, vb)?, config, dtype, states: Vec::new() })
    }

    fn logits(&mut self, ids: &Tensor, _: usize) -> Result<Tensor> {
        let each = self.each(ids)?;
        each.narrow(1, each.dim(1)? - 1, 1)
    }

    fn reset(&mut self) -> Result<()> {
        self.states.clear();
        Ok(())
    }
}

fn qwen2_positions(seed: Seed) -> candling::Result<Positions> {
    decoder::positions(seed, |vb, ids| {
        qwen2::Model::new(&config(from_value(settings(WIDE)))?, vb)?.forward(ids, 0, None)
    })
}

fn qwen3_positions(seed: Seed) -> candling::Result<Positions> {
    decoder::positions(seed, |vb, ids| {
        qwen3::Model::new(&config(from_value(settings(WIDE)))?, vb)?.forward(ids, 0)
    })
}

fn mamba_positions(seed: Seed) -> candling::Result<Positions> {
    let (_, mut model) = build(seed, DType::F32, Mamba::WEIGHTS, |vb| Mamba::load(vb, WIDE))?;
    Ok(Box::new(move |ids| {
        model.reset()?;
        model.each(ids)
    }))
}

fn mamba_config() -> Result<mamba::Config> {
    config(from_value(json!({
        "d_model": 16,
        "n_layer": 2,
        "vocab_size": VOCABULARY,
        "pad_vocab_size_multiple": 4,
    })))
}

/// One token of each row, all rows in one call: `[batch]` to `[batch, vocabulary]`.
fn mamba_rows(seed: Seed) -> candling::Result<Rows> {
    let (_, (model, config)) = build(seed, DType::F32, Mamba::WEIGHTS, |vb| {
        let config = mamba_config()?;
        Ok((mamba::Model::new(&config, vb)?, config))
    })?;
    Ok(Box::new(move |ids| {
        model.forward(ids, &mut mamba::State::new(ids.dim(0)?, &config, DType::F32, CPU)?)
    }))
}

/// The masked pass of Qwen2's base model, which no cache takes part in.
fn qwen2_padded(seed: Seed) -> candling::Result<Padded> {
    let (_, vb) = build(seed, DType::F32, Weights::Hinted, Ok)?;
    let mut model = qwen2::Model::new(&config(from_value(settings(WIDE)))?, vb)?;
    Ok(Box::new(move |ids, mask| {
        model.clear_kv_cache();
        model.forward(ids, 0, Some(mask))
    }))
}
