//! What the faint texture of marker samples tells: augmentations that move the input and not the target, and those that
//! are drawn twice; and features that are the target itself.

use super::{
    epoch::{Epoch, Sample},
    ids::Ids,
    judged::Told,
};
use crate::{
    Cause, Failure, Finding, Result,
    verdict::{count, listed, number},
};

/// A picture without its brightness and contrast; `None` where it is level.
fn texture(values: &[f64]) -> Option<Vec<f64>> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let apart: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let norm = apart.iter().map(|v| v * v).sum::<f64>().sqrt();
    // Below the rounding of f32 there is nothing but rounding.
    let rounding = 2e-7 * values.iter().fold(0.0, |most: f64, v| most.max(v.abs())) * n.sqrt();
    (norm > 4.0 * rounding).then(|| apart.into_iter().map(|v| v / norm).collect())
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Below this an input and its picture are not of one place. The texture is random: of 16 pixels moved, a correlation of 0.5
/// is two deviations; interpolation between pixels leaves more.
const TOGETHER: f64 = 0.5;

/// Inputs and targets that are pictures move together.
pub(super) fn aligned(epochs: &[Epoch]) -> Result<Option<Told>> {
    let mut apart = Vec::new();
    let mut total = 0;
    for (epoch, delivered) in epochs.iter().enumerate() {
        for sample in &delivered.samples {
            let Sample { input, target, batch, row, .. } = sample;
            if input.len() % target.len() != 0 {
                return Err(Failure::not_run(format!(
                    "an input of dims {:?} has a target of dims {:?}; allowed with `aligned`: targets of the input's height and width",
                    sample.x.dims(),
                    sample.y.dims(),
                )));
            }
            // A mask may have fewer channels.
            let channels = input.len() / target.len();
            let flat: Vec<f64> = (0..target.len())
                .map(|i| (0..channels).map(|c| input[c * target.len() + i]).sum())
                .collect();
            let (Some(a), Some(b)) = (texture(&flat), texture(target)) else {
                return Err(Failure::vacuous(
                    "the texture of the markers is gone: nothing shows how pictures were moved",
                )
                .help("use `synthetic::marker_pictures`, and a pipeline that keeps f32"));
            };
            total += 1;
            let together = correlation(&a, &b);
            if together < TOGETHER {
                apart.push((epoch, *batch, *row, together));
            }
        }
    }
    let Some((epoch, batch, row, together)) = apart.first() else { return Ok(None) };
    let headline = match apart.len() {
        n if n == total => format!("all {total} targets were moved otherwise than their inputs"),
        1 => format!("1 of {total} targets was moved otherwise than its input"),
        n => format!("{n} of {total} targets were moved otherwise than their inputs"),
    };
    let evidence = format!(
        "input and target are the same picture, and correlate by {} after the pipeline",
        number(*together)
    );
    let finding = Finding::confirmed(Cause::PairsBroken, evidence)
        .at(format!("epoch {epoch}, batch {batch}, row {row}"))
        .advice_is("draw the flip, the crop or the rotation once, and apply it to the input and to the target");
    Ok(Some((headline, finding)))
}

/// Rows whose augmentations are compared: enough for any test, and few enough for all pairs.
const ROWS: usize = 256;

/// Two batches that were augmented alike, row by row: in one epoch, or in two of an order of their own.
pub(super) fn repeated(epochs: &[Epoch], ids: &Ids) -> Option<Told> {
    // Each row's texture as the number of the first row that has it.
    let rows: Vec<(usize, &Sample, Vec<f64>)> = (epochs.iter().enumerate())
        .flat_map(|(epoch, delivered)| delivered.samples.iter().map(move |s| (epoch, s)))
        .take(ROWS)
        .map(|(epoch, sample)| Some((epoch, sample, texture(&sample.input)?)))
        .collect::<Option<_>>()?;
    let alike = |a: &[f64], b: &[f64]| a.len() == b.len() && correlation(a, b) > 0.995;
    let mut kinds: Vec<usize> = Vec::with_capacity(rows.len());
    for (i, (_, _, texture)) in rows.iter().enumerate() {
        let known = (0..i).find(|j| kinds[*j] == *j && alike(texture, &rows[*j].2));
        kinds.push(known.unwrap_or(i));
    }
    let mut batches: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    for ((epoch, sample, _), kind) in rows.iter().zip(&kinds) {
        match batches.last_mut() {
            Some((e, b, kinds)) if (*e, *b) == (*epoch, sample.batch) => kinds.push(*kind),
            _ => batches.push((*epoch, sample.batch, vec![*kind])),
        }
    }
    // The chance that two rows are alike by themselves: of those within a batch, where no worker's draws come again.
    let (mut pairs, mut equal) = (1.0, 1.0);
    for (.., kinds) in &batches {
        for (i, kind) in kinds.iter().enumerate() {
            pairs += i as f64;
            equal += kinds[..i].iter().filter(|other| *other == kind).count() as f64;
        }
    }
    let (by_chance, total): (f64, f64) = (equal / pairs, batches.len() as f64);
    let holds = |epoch: usize, batch: usize| epochs[epoch].batches(&ids[epoch])[batch];
    for (i, (epoch, batch, kinds)) in batches.iter().enumerate() {
        for (other_epoch, other, others) in &batches[..i] {
            let shared = kinds.len().min(others.len());
            let chance = by_chance.powi(shared as i32) * total * total / 2.0;
            // An augmentation that belongs to the sample comes with it: other samples, or nothing is told.
            let same_samples =
                holds(*epoch, *batch)[..shared] == holds(*other_epoch, *other)[..shared];
            if chance < 1e-6 && !same_samples && kinds[..shared] == others[..shared] {
                let differ =
                    kinds[..shared].iter().collect::<std::collections::BTreeSet<_>>().len();
                let evidence = format!(
                    "the {shared} rows of epoch {other_epoch}, batch {other} and of epoch {epoch}, batch {batch} were changed alike, row by row, in {} different ways",
                    differ
                );
                return Some((
                    "two batches of different samples were augmented with the same random draws"
                        .to_owned(),
                    Finding::confirmed(Cause::AugmentationRepeated, evidence),
                ));
            }
        }
    }
    None
}

/// Features of the input that are the number of the target, or that point at one target each.
pub(super) fn leaked(epochs: &[Epoch], targets: &Ids, samples: usize) -> Vec<usize> {
    let rows: Vec<(&[f64], usize)> = (epochs.iter().zip(targets))
        .flat_map(|(epoch, ids)| epoch.samples.iter().zip(ids))
        .map(|(sample, id)| (sample.input.as_slice(), *id))
        .collect();
    let Some(width) = rows.first().map(|(input, _)| input.len()) else { return Vec::new() };
    if width < 2 || rows.iter().any(|(input, _)| input.len() != width) {
        return Vec::new();
    }
    let is_number = |feature: usize| {
        let n = rows.len() as f64;
        let sums = rows.iter().fold((0.0, 0.0), |(v, i), (x, id)| (v + x[feature], i + *id as f64));
        let (mean, middle) = (sums.0 / n, sums.1 / n);
        let (mut product, mut squares) = (0.0, (0.0, 0.0));
        for (input, id) in &rows {
            let (value, id) = (input[feature] - mean, *id as f64 - middle);
            product += value * id;
            squares = (squares.0 + value * value, squares.1 + id * id);
        }
        // Not the markers' own numbers, which are far from every line of the targets'.
        product.abs() > 0.99999 * (squares.0 * squares.1).sqrt() && squares.0 > 0.0
    };
    let numbers: Vec<usize> = (0..width).filter(|feature| is_number(*feature)).collect();
    // Inputs that are the numbers themselves, made without `synthetic::markers`: no feature is another's.
    if !numbers.is_empty() && numbers.len() < width {
        return numbers;
    }
    let points = |feature: usize| {
        let (least, greatest) =
            rows.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (x, _)| {
                (low.min(x[feature]), high.max(x[feature]))
            });
        let two = rows.iter().all(|(x, _)| x[feature] == least || x[feature] == greatest);
        let mut up: Vec<usize> =
            rows.iter().filter(|(x, _)| x[feature] == greatest).map(|(_, id)| *id).collect();
        up.dedup();
        up.sort_unstable();
        up.dedup();
        two && least < greatest && up.len() == 1
    };
    let pointing: Vec<usize> = (0..width).filter(|feature| points(*feature)).collect();
    // A column for each sample: a one-hot target.
    if pointing.len() + 1 >= samples { pointing } else { Vec::new() }
}

pub(super) fn leak(features: &[usize]) -> Told {
    let names: Vec<String> = features.iter().map(usize::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let headline = match features {
        [only] => format!("feature {only} of the input is the target"),
        more => format!("{} of the input are the target", count(more.len(), "feature")),
    };
    let evidence = match features {
        [_] => "a line of the target's number, in every row, which no marker's input is".to_owned(),
        _ => format!("features {} tell the target by themselves", listed(&names)),
    };
    (headline, Finding::confirmed(Cause::LabelLeaked, evidence).at(format!("feature {}", names[0])))
}
