//! The models are what the other tests take them for.

use candle_core::{DType, Result, Tensor};
use candling::{Batch, Learner, Seed, check::GradientVerdict};

use super::{
    Kind, READ_FROM,
    build::TOKENS,
    gradients::{Flows, one_row},
    models,
    slope::slopes,
    tokens,
};

const SEED: Seed = Seed::new(1);
/// What f32 rounding leaves of two ways to compute the same, with room.
const ROUNDING: f32 = 1e-5;

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().and_then(|t| t.to_vec1()).expect("an output in f32")
}

/// The largest difference, as a part of the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0, |size: f32, value| size.max(value.abs()));
    let difference = a.iter().zip(&b).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    difference / size
}

fn forward(learner: &Learner<'_>, input: &[Tensor]) -> candling::Result<Tensor> {
    match input {
        [only] => learner.forward(only),
        [first, second] => learner.forward(&[first.clone(), second.clone()]),
        _ => unreachable!("no model takes {} tensors", input.len()),
    }
}

fn row(batch: &Batch, row: usize) -> Result<Vec<Tensor>> {
    batch.input().iter().map(|t| t.narrow(0, row, 1)?.contiguous()).collect()
}

#[test]
fn every_model_is_a_pure_function() -> candling::Result<()> {
    let bits = |loss: &Tensor| values(loss).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for model in models() {
        let (learner, batch) = model.learner(SEED)?;
        let first = learner.loss(&batch)?;
        // Another input between the two: nothing of it may stay.
        forward(&learner, &row(&batch, 1)?)?;
        assert_eq!(bits(&first), bits(&learner.loss(&batch)?), "{}", model.name);
        let loss = first.to_scalar::<f32>()?;
        assert!(loss.is_finite() && loss > 0.0, "{}: {loss}", model.name);
    }
    Ok(())
}

#[test]
fn a_row_alone_is_the_row_among_others() -> candling::Result<()> {
    for model in models() {
        let (learner, batch) = model.learner(SEED)?;
        let together = forward(&learner, batch.input())?;
        for i in 0..2 {
            let alone = forward(&learner, &row(&batch, i)?)?;
            let distance = distance(&alone, &together.narrow(0, i, 1)?);
            assert!(distance < ROUNDING, "{}, row {i}: {distance:e}", model.name);
        }
    }
    Ok(())
}

/// A key's bias adds one number to all scores of a query, and a softmax does not see it. Where rotary embeddings turn
/// the keys, it does.
#[test]
fn every_variable_moves_the_loss_but_the_biases_of_plain_keys() -> candling::Result<()> {
    // 152 variables, at a quarter of a second each.
    for model in models().iter().filter(|model| model.name != "convnext") {
        let (learner, batch) = model.learner(SEED)?;
        let before = learner.loss(&batch)?;
        for (name, var) in learner.variables() {
            let value = var.copy()?;
            let noise = SEED.normal(name, var.dims(), DType::F32, var.device())?;
            var.set(&(&value + (noise * 0.1)?)?)?;
            let change = distance(&before, &learner.loss(&batch)?);
            var.set(&value)?;
            let unseen = matches!(model.name, "bert" | "distilbert" | "vit")
                && (name.ends_with("key.bias") || name.ends_with("k_lin.bias"));
            assert_eq!(change < ROUNDING, unseen, "{}, {name}: {change:e}", model.name);
        }
    }
    Ok(())
}

#[test]
fn no_position_sees_a_later_one() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for model in models() {
        let Some(positions) = model.positions else { continue };
        assert!(model.kind.is_causal() && model.kind.takes_ids());
        let mut positions = positions(SEED)?;
        let whole = positions(&ids)?;
        for n in 1..TOKENS {
            let part = positions(&ids.narrow(1, 0, n)?)?;
            let distance = distance(&part, &whole.narrow(1, 0, n)?);
            assert!(distance < ROUNDING, "{}, {n} tokens: {distance:e}", model.name);
        }
    }
    Ok(())
}

#[test]
fn the_models_are_at_least_fourteen_of_every_kind() {
    let of = |kind| models().iter().filter(|model| model.kind == kind).count();
    let all = [Kind::Decoder, Kind::Encoder, Kind::EncoderDecoder, Kind::Vision];
    assert!(all.into_iter().all(|kind| of(kind) >= 2) && models().len() >= 14);
}

/// The counts in `docs/findings.md`; with one row, fewer tensors are strided, and more of candle's norms take their
/// fused way.
#[test]
fn candle_cuts_most_gradients() -> candling::Result<()> {
    let mut lines = Vec::new();
    // 150 variables cut, each moved to tell it from an unused one, at a quarter of a second.
    for model in models().iter().filter(|model| model.name != "convnext") {
        let (learner, batch) = model.learner(SEED)?;
        let counts = |batch: &Batch| -> candling::Result<String> {
            let flows = Flows::of(&learner, batch)?;
            let [cut, zero, unused, arrived] = [
                GradientVerdict::Cut,
                GradientVerdict::Zero,
                GradientVerdict::Unused,
                GradientVerdict::Flows,
            ]
            .map(|verdict| flows.count(verdict));
            let named = match flows.named.as_slice() {
                [] => "nothing".to_owned(),
                named => named.join(" "),
            };
            Ok(format!("{cut:2} cut {zero} zero {unused} unused {arrived:2} flow, said: {named}"))
        };
        let all = learner.variables().len();
        lines.push(format!("{}, {all} variables, has {}", model.name, model.cuts.join(" ")));
        lines.push(format!("  two rows: {}", counts(&batch)?));
        lines.push(format!("  one row:  {}", counts(&one_row(&batch)?)?));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    llama, 21 variables, has RmsNorm::forward rope softmax_last_dim
      two rows: 20 cut 0 zero 0 unused  1 flow, said: RmsNorm
      one row:  20 cut 0 zero 0 unused  1 flow, said: RmsNorm
    mistral, 21 variables, has RmsNorm::forward rope softmax_last_dim
      two rows:  8 cut 0 zero 0 unused 12 flow, said: rope softmax_last_dim
      one row:  20 cut 0 zero 0 unused  1 flow, said: RmsNorm
    phi, 33 variables, has LayerNorm::forward rope softmax_last_dim
      two rows: 31 cut 0 zero 0 unused  2 flow, said: LayerNorm
      one row:  31 cut 0 zero 0 unused  2 flow, said: LayerNorm
    phi3, 15 variables, has RmsNorm::forward rope softmax_last_dim
      two rows:  4 cut 0 zero 0 unused  8 flow, said: ? rope softmax_last_dim
      one row:  14 cut 0 zero 0 unused  1 flow, said: RmsNorm
    qwen2, 26 variables, has RmsNorm::forward rope softmax_last_dim
      two rows: 25 cut 0 zero 0 unused  1 flow, said: RmsNorm
      one row:  25 cut 0 zero 0 unused  1 flow, said: RmsNorm
    qwen3, 25 variables, has RmsNorm::forward rope ConcatKvCache::append flash_attn
      two rows: 24 cut 0 zero 0 unused  1 flow, said: RmsNorm
      one row:  24 cut 0 zero 0 unused  1 flow, said: RmsNorm
    gemma, 20 variables, has rope softmax_last_dim
      two rows:  4 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
      one row:   4 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
    gemma2, 24 variables, has rope softmax_last_dim
      two rows:  4 cut 0 zero 0 unused 20 flow, said: rope softmax_last_dim
      one row:   4 cut 0 zero 0 unused 20 flow, said: rope softmax_last_dim
    gemma3, 28 variables, has rope KvCache::append RotatingKvCache::append softmax_last_dim
      two rows: 12 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
      one row:  12 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
    stable_lm, 26 variables, has LayerNorm::forward softmax_last_dim
      two rows: 12 cut 0 zero 0 unused 13 flow, said: rope softmax_last_dim
      one row:  25 cut 0 zero 0 unused  1 flow, said: LayerNorm
    starcoder2, 35 variables, has LayerNorm::forward softmax_last_dim
      two rows: 16 cut 0 zero 0 unused 19 flow, said: rope softmax_last_dim
      one row:  34 cut 0 zero 0 unused  1 flow, said: LayerNorm
    mamba, 22 variables, has RmsNorm::forward
      two rows: 21 cut 0 zero 0 unused  1 flow, said: RmsNorm
      one row:  21 cut 0 zero 0 unused  1 flow, said: RmsNorm
    bert, 43 variables, has LayerNorm::forward
      two rows: 39 cut 0 zero 0 unused  2 flow, said: LayerNorm
      one row:  39 cut 0 zero 0 unused  2 flow, said: LayerNorm
    distilbert, 41 variables, has LayerNorm::forward
      two rows: 37 cut 0 zero 0 unused  2 flow, said: LayerNorm
      one row:  37 cut 0 zero 0 unused  2 flow, said: LayerNorm
    modernbert, 18 variables, has rope
      two rows:  0 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
      one row:   0 cut 0 zero 0 unused 17 flow, said: rope softmax_last_dim
    t5 encoder, 21 variables, has softmax_last_dim
      two rows:  5 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
      one row:   5 cut 0 zero 0 unused 16 flow, said: rope softmax_last_dim
    t5, 47 variables, has softmax_last_dim
      two rows: 16 cut 0 zero 0 unused 31 flow, said: rope softmax_last_dim
      one row:  16 cut 0 zero 0 unused 31 flow, said: rope softmax_last_dim
    whisper, 88 variables, has LayerNorm::forward softmax_last_dim
      two rows: 87 cut 0 zero 0 unused  1 flow, said: LayerNorm
      one row:  87 cut 0 zero 0 unused  1 flow, said: LayerNorm
    vit, 40 variables, has LayerNorm::forward softmax_last_dim
      two rows: 14 cut 2 zero 0 unused 22 flow, said: rope softmax_last_dim
      one row:  36 cut 0 zero 0 unused  2 flow, said: LayerNorm
    ");
    Ok(())
}

/// Rotary embeddings cut queries and keys, but values come from the same matrix: it has a gradient, and a wrong one.
#[test]
fn a_gradient_that_arrives_may_be_wrong() -> candling::Result<()> {
    let all = models();
    let model = all.iter().find(|model| model.name == "modernbert").expect("it is in the table");
    let (learner, batch) = model.learner(SEED)?;
    let slopes = slopes(&learner, &batch)?;
    assert_eq!(slopes.len(), learner.variables().len());
    let gradients = learner.loss(&batch)?.backward()?;
    for (_, qkv) in learner.variables().iter().filter(|(name, _)| name.ends_with("Wqkv.weight")) {
        let thirds = gradients.get(qkv).expect("it has one").abs()?.chunk(3, 0)?;
        let arrived = thirds.iter().map(|third| third.max_all()?.to_scalar::<f32>());
        let arrived = arrived.collect::<Result<Vec<_>>>()?;
        assert!(arrived[0] == 0.0 && arrived[1] == 0.0 && arrived[2] > 0.0, "{arrived:?}");
    }
    let wrong: Vec<&str> =
        slopes.iter().filter(|(_, right)| !right).map(|(name, _)| name.as_str()).collect();
    insta::assert_snapshot!(wrong.join("\n"), @"
    model.embeddings.norm.weight
    model.embeddings.tok_embeddings.weight
    model.layers.0.attn.Wo.weight
    model.layers.0.attn.Wqkv.weight
    model.layers.0.attn_norm.weight
    model.layers.0.mlp.Wi.weight
    model.layers.0.mlp.Wo.weight
    model.layers.0.mlp_norm.weight
    model.layers.1.attn.Wqkv.weight
    model.layers.1.attn_norm.weight
    ");
    Ok(())
}

/// The lists of operations were read in one version's sources: another version has to be read again.
#[test]
fn the_sources_were_read_in_the_version_in_use() {
    let package = format!("name = \"candle-transformers\"\nversion = \"{READ_FROM}\"");
    assert!(include_str!("../../Cargo.lock").contains(&package));
}
