//! The models are what the other tests take them for.

use candle_core::{DType, Result, Tensor};
use candling::{Batch, Learner, Seed, check::GradientVerdict};

use super::{
    Kind, Model, READ_FROM, Step,
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
        let (learner, batch) = (model.learner)(SEED)?;
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
        let (learner, batch) = (model.learner)(SEED)?;
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
        let (learner, batch) = (model.learner)(SEED)?;
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

/// The last output of passes over parts of a sequence, each seeing the parts before it through the cache.
fn in_parts(step: &mut Step, ids: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (mut offset, mut last) = (0, None);
    for length in lengths {
        last = Some(step(&ids.narrow(1, offset, *length)?, offset)?);
        offset += length;
    }
    Ok(last.expect("at least one part"))
}

const EACH_ALONE: &[usize] = &[1; TOKENS];

#[test]
fn a_cache_changes_no_output() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for Model { name, step, .. } in models() {
        let Some(step) = step else { continue };
        let mut step = step(SEED)?;
        let whole = in_parts(&mut step, &ids, &[TOKENS])?;
        for lengths in [EACH_ALONE, &[3, 1, 1, 1], &[3, 3]] {
            let parts = in_parts(&mut step, &ids, lengths);
            // Their masks know nothing of the tokens in the cache.
            if matches!(name, "phi" | "t5") && lengths == [3, 3] {
                assert!(parts.is_err(), "{name}, {lengths:?}");
                continue;
            }
            let distance = distance(&whole, &parts?);
            assert!(distance < ROUNDING, "{name}, {lengths:?}: {distance:e}");
        }
    }
    Ok(())
}

/// A defect of candle-transformers: a single token gets no mask, so with a cache it sees beyond the window.
#[test]
fn a_cache_sees_beyond_a_narrow_window() -> candling::Result<()> {
    let ids = tokens(SEED)?;
    for Model { name, narrow_step, .. } in models() {
        let Some(step) = narrow_step else { continue };
        let mut step = step(SEED)?;
        let whole = in_parts(&mut step, &ids, &[TOKENS])?;
        let distance = distance(&whole, &in_parts(&mut step, &ids, EACH_ALONE)?);
        assert!(distance > 0.01, "{name}: {distance:e}");
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
        let (learner, batch) = (model.learner)(SEED)?;
        let mut line = format!("{:11}{:2}:", model.name, learner.variables().len());
        for batch in [&batch, &one_row(&batch)?] {
            let flows = Flows::of(&learner, batch)?;
            let [cut, zero, unused, arrived] = [
                GradientVerdict::Cut,
                GradientVerdict::Zero,
                GradientVerdict::Unused,
                GradientVerdict::Flows,
            ]
            .map(|verdict| flows.count(verdict));
            line += &format!("  {cut:2} {zero} {unused} {arrived:2} {}", flows.named.join(" "));
        }
        lines.push(line);
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    llama      21:  20 0 0  1 ? RmsNorm  20 0 0  1 ? RmsNorm
    mistral    21:   8 0 0 13 RmsNorm rope softmax_last_dim  20 0 0  1 RmsNorm
    phi        33:  31 0 0  2 LayerNorm  31 0 0  2 LayerNorm
    phi3       15:   4 0 0 11 RmsNorm  14 0 0  1 RmsNorm
    qwen2      26:  25 0 0  1 RmsNorm  25 0 0  1 RmsNorm
    qwen3      25:  24 0 0  1 RmsNorm  24 0 0  1 RmsNorm
    gemma      20:   4 0 0 16 rope softmax_last_dim   4 0 0 16 rope softmax_last_dim
    gemma2     24:   4 0 0 20 rope softmax_last_dim   4 0 0 20 rope softmax_last_dim
    gemma3     28:  12 0 0 16 ? RmsNorm  12 0 0 16 ? RmsNorm
    stable_lm  26:  12 0 0 14 LayerNorm rope softmax_last_dim  25 0 0  1 LayerNorm
    starcoder2 35:  16 0 0 19 LayerNorm rope softmax_last_dim  34 0 0  1 LayerNorm
    mamba      22:  21 0 0  1 RmsNorm  21 0 0  1 RmsNorm
    bert       43:  41 0 0  2 LayerNorm  41 0 0  2 LayerNorm
    distilbert 41:  39 0 0  2 LayerNorm  39 0 0  2 LayerNorm
    modernbert 18:   0 0 0 18    0 0 0 18 
    t5 encoder 21:   5 0 0 16 ? rope softmax_last_dim   5 0 0 16 ? rope softmax_last_dim
    t5         47:  16 0 0 31 ? RmsNorm rope softmax_last_dim  16 0 0 31 ? RmsNorm rope softmax_last_dim
    whisper    88:  87 0 0  1 LayerNorm  87 0 0  1 LayerNorm
    vit        40:  16 2 0 22 ? LayerNorm rope softmax_last_dim  38 0 0  2 LayerNorm
    ");
    Ok(())
}

/// Rotary embeddings cut queries and keys, but values come from the same matrix: it has a gradient, and a wrong one.
#[test]
fn a_gradient_that_arrives_may_be_wrong() -> candling::Result<()> {
    let all = models();
    let model = all.iter().find(|model| model.name == "modernbert").expect("it is in the table");
    let (learner, batch) = (model.learner)(SEED)?;
    let slopes = slopes(&learner, &batch)?;
    assert_eq!(slopes.len(), learner.variables().len());
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
