//! What the faint texture of marker samples tells: augmentations that move the input and not the target, and those that
//! are drawn twice; and features that are the target itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    epoch::{Epoch, Sample},
    ids::Ids,
    judged::Told,
};
use crate::{
    Cause, Failure, Finding, Result,
    measure::vectors::{dot, length},
    verdict::{count, listed, number},
};

/// A picture without its brightness and contrast; `None` where it is level.
fn texture(values: &[f64]) -> Option<Vec<f64>> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let apart: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let norm = length(&apart);
    // Below the rounding of f32 there is nothing but rounding.
    let rounding = 2e-7 * values.iter().fold(0.0, |most: f64, v| most.max(v.abs())) * n.sqrt();
    (norm > 4.0 * rounding).then(|| apart.into_iter().map(|v| v / norm).collect())
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
            let together = dot(&a, &b);
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
    let alike = |a: &[f64], b: &[f64]| a.len() == b.len() && dot(a, b) > 0.995;
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
    // Pairs of batches of which no two share one: their chances multiply.
    let (mut chance, mut used, mut first) = (1.0, vec![false; batches.len()], None);
    for (i, (epoch, batch, kinds)) in batches.iter().enumerate() {
        let alike = (0..i).filter(|j| !used[*j]).find(|j| {
            let (other_epoch, other, others) = &batches[*j];
            let shared = kinds.len().min(others.len());
            // An augmentation that belongs to the sample comes with it: other samples, or nothing is told.
            let samples = holds(*epoch, *batch)[..shared] != holds(*other_epoch, *other)[..shared];
            samples && kinds[..shared] == others[..shared]
        });
        let Some(j) = alike else { continue };
        (used[i], used[j]) = (true, true);
        let shared = kinds.len().min(batches[j].2.len());
        // As many pairs of batches could have been alike.
        chance *= by_chance.powi(shared as i32) * total * total / 2.0;
        first.get_or_insert((j, i, shared));
    }
    let (j, i, shared) = first.filter(|_| chance < 1e-6)?;
    let ways: BTreeSet<&usize> = batches[i].2[..shared].iter().collect();
    let evidence = format!(
        "the {shared} rows of epoch {}, batch {} and of epoch {}, batch {} were changed alike, row by row, in {} different ways",
        batches[j].0,
        batches[j].1,
        batches[i].0,
        batches[i].1,
        ways.len(),
    );
    Some((
        "batches of different samples were augmented with the same random draws".to_owned(),
        Finding::confirmed(Cause::AugmentationRepeated, evidence),
    ))
}

/// Features of the input that are a function of the target, or that point at one target each.
pub(super) fn leaked(epochs: &[Epoch], targets: &Ids, samples: usize) -> Vec<usize> {
    let rows: Vec<(&[f64], usize)> = (epochs.iter().zip(targets))
        .flat_map(|(epoch, ids)| epoch.samples.iter().zip(ids))
        .map(|(sample, id)| (sample.input.as_slice(), *id))
        .collect();
    let Some(width) = rows.first().map(|(input, _)| input.len()) else { return Vec::new() };
    if width < 2 || rows.iter().any(|(input, _)| input.len() != width) {
        return Vec::new();
    }
    // One value for each sample; augmented features have several, and are no function of the target.
    let mut by_id: BTreeMap<usize, &[f64]> = BTreeMap::new();
    rows.iter().for_each(|(input, id)| {
        by_id.entry(*id).or_insert(input);
    });
    let is_number = |feature: usize| {
        let one =
            rows.iter().all(|(x, id)| by_id.get(id).is_some_and(|o| o[feature] == x[feature]));
        let values: Vec<f64> = by_id.values().map(|input| input[feature]).collect();
        one && is_monotone(&values, width)
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
    // A column for each sample, beside others: a one-hot target.
    if pointing.len() + 1 >= samples && pointing.len() < width { pointing } else { Vec::new() }
}

/// Whether values rise, or fall, all the way, where a random order would do so with a chance below 1e-6 for all of `tries`:
/// 2 in as many orders as the values have, equal ones not told apart.
///
/// The markers' own numbers are in an order without a pattern, so only the target makes a feature of this kind.
fn is_monotone(values: &[f64], tries: usize) -> bool {
    let rises = values.windows(2).all(|pair| pair[0] <= pair[1]);
    let falls = values.windows(2).all(|pair| pair[0] >= pair[1]);
    if !rises && !falls {
        return false;
    }
    let ln_factorial = |n: usize| (2..=n).map(|i| (i as f64).ln()).sum::<f64>();
    let equal = values.chunk_by(|a, b| a == b).map(|run| ln_factorial(run.len())).sum::<f64>();
    let ln_orders = ln_factorial(values.len()) - equal;
    2f64.ln() - ln_orders + (tries as f64).ln() < 1e-6f64.ln()
}

pub(super) fn leak(features: &[usize]) -> Told {
    let names: Vec<String> = features.iter().map(usize::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let headline = match features {
        [only] => format!("feature {only} of the input is the target"),
        more => format!("{} of the input are the target", count(more.len(), "feature")),
    };
    let evidence = match features {
        [_] => "it rises or falls with the target's number in every row, which no marker's own number does".to_owned(),
        _ => format!("features {} tell the target by themselves", listed(&names)),
    };
    (headline, Finding::confirmed(Cause::LabelLeaked, evidence).at(format!("feature {}", names[0])))
}
