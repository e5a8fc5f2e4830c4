//! The pipeline of the evaluation, beside that of the training, over the same samples.

use std::collections::BTreeMap;

use super::{
    epoch::{Epoch, Sample},
    ids::{Fit, Ids},
    judged::Told,
};
use crate::{Cause, Finding, verdict::number};

/// Two calls deliver the same bits for every sample.
///
/// By number where numbers can be read, else by place.
pub(super) fn steady(epochs: &[Epoch]) -> Option<Told> {
    let [first, second] = epochs else { return None };
    let same = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    let by_input = |epoch: &'_ Epoch| -> Vec<(Vec<u64>, Vec<u64>)> {
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut rows: Vec<_> =
            epoch.samples.iter().map(|s| (bits(&s.input), bits(&s.target))).collect();
        rows.sort_unstable();
        rows
    };
    // The same samples in another order are the same samples.
    let (a, b) = (by_input(first), by_input(second));
    if a == b {
        return None;
    }
    let place = |sample: &Sample| format!("batch {}, row {}", sample.batch, sample.row);
    let changed =
        first.samples.iter().zip(&second.samples).filter(|(a, b)| !same(&a.input, &b.input));
    let inputs = a.iter().map(|(x, _)| x).ne(b.iter().map(|(x, _)| x));
    if inputs {
        let n = changed.clone().count();
        let (sample, other) = changed.clone().next()?;
        let at = sample.input.iter().zip(&other.input).find(|(a, b)| a != b);
        let evidence = match at {
            Some((a, b)) => format!("{} in one call, {} in the next", number(*a), number(*b)),
            None => format!(
                "{} values in one call, {} in the next",
                sample.input.len(),
                other.input.len()
            ),
        };
        let headline = format!(
            "the evaluation delivers other inputs at every call: {n} of {} differ",
            first.samples.len()
        );
        let finding = Finding::confirmed(Cause::PreprocessingDiffers, evidence)
            .at(place(sample))
            .advice_is("augment in training only: the evaluation is to see every sample as it is");
        return Some((headline, finding));
    }
    let (sample, other) = first
        .samples
        .iter()
        .zip(&second.samples)
        .find(|(a, b)| same(&a.input, &b.input) && !same(&a.target, &b.target))
        .or_else(|| first.samples.iter().zip(&second.samples).next())?;
    let evidence = format!(
        "target {} in one call, {} in the next, of one input",
        number(sample.target[0]),
        number(other.target[0])
    );
    Some((
        "the evaluation gives one input another target at every call".to_owned(),
        Finding::confirmed(Cause::NotReproducible, evidence).at(place(sample)).advice_is(
            "number the classes in sorted order: the order of a `HashMap` is another at every start",
        ),
    ))
}

/// What a share of the range of all samples is worth telling, where augmentation blurs the training's scale.
const SHARE: f64 = 0.05;

/// Training and evaluation make the same input of one raw sample.
pub(super) fn agrees(
    train: (&[Epoch], &Ids, Option<Fit>),
    evaluation: (&[Epoch], &Ids, Option<Fit>),
    samples: usize,
) -> Option<Told> {
    let told = |evidence: String, place: String| {
        (
            "training and evaluation make different inputs of one raw sample".to_owned(),
            Finding::confirmed(Cause::PreprocessingDiffers, evidence).at(place),
        )
    };
    let rows = |(epochs, ids, _): (&[Epoch], &Ids, Option<Fit>)| -> BTreeMap<usize, Vec<Vec<f64>>> {
        let mut rows: BTreeMap<usize, Vec<Vec<f64>>> = BTreeMap::new();
        for (epoch, ids) in epochs.iter().zip(ids) {
            for (sample, id) in epoch.samples.iter().zip(ids) {
                rows.entry(*id).or_default().push(sample.input.clone());
            }
        }
        rows
    };
    let (trained, evaluated) = (rows(train), rows(evaluation));
    let augmented = trained.values().any(|seen| seen.iter().any(|row| *row != seen[0]));
    if !augmented {
        let scale =
            trained.values().flatten().flatten().fold(0.0, |most: f64, v| most.max(v.abs()));
        return trained.iter().find_map(|(id, seen)| {
            let other = evaluated.get(id)?.first()?;
            if other.len() != seen[0].len() {
                return Some(told(
                    format!("{} values in training, {} in evaluation", seen[0].len(), other.len()),
                    format!("sample {id}"),
                ));
            }
            // Half precision on one side is no other preprocessing; another constant is.
            let (a, b) = seen[0].iter().zip(other).find(|(a, b)| (*a - *b).abs() > 1e-2 * scale)?;
            let evidence = format!("{} in training, {} in evaluation", number(*a), number(*b));
            Some(told(evidence, format!("sample {id}")))
        });
    }
    let (fit, other) = (train.2?, evaluation.2?);
    if fit.apart(&other, samples) <= SHARE {
        return None;
    }
    // The sample of both whose difference is the plainest.
    let plainest = trained.iter().filter_map(|(id, seen)| {
        let (a, b) = (&seen[0], evaluated.get(id)?.first()?);
        let (a, b) =
            (a.iter().sum::<f64>() / a.len() as f64, b.iter().sum::<f64>() / b.len() as f64);
        Some((*id, a, b))
    });
    let (id, a, b) = plainest.max_by(|x, y| (x.1 - x.2).abs().total_cmp(&(y.1 - y.2).abs()))?;
    let evidence = format!(
        "a mean of {} in training, of {} in evaluation: {} times the spread of all samples apart",
        number(a),
        number(b),
        number(fit.apart(&other, samples))
    );
    Some(told(evidence, format!("sample {id}")))
}
