//! Which marker sample a delivered row is.

use candle_core::Tensor;

use super::epoch::{Epoch, Sample};
use crate::{
    Failure, Result, check::function::guarded, synthetic::markers::codes, verdict::number,
};

/// A closure of the user's that reads the number of a sample from one row.
pub(super) type Reader<'a> = dyn FnMut(&Tensor) -> candle_core::Result<usize> + 'a;

/// The number of every sample of every epoch.
pub(super) type Ids = Vec<Vec<usize>>;

/// How the input's numbers became what they are: the mean or the median of a row is `scale * code + offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    scale: f64,
    offset: f64,
}

impl Fit {
    /// The greatest difference between two over all samples, in units of the whole range of samples.
    pub(super) fn apart(&self, other: &Self, samples: usize) -> f64 {
        let at = |code: f64| (self.scale - other.scale) * code + self.offset - other.offset;
        let range = (samples as f64 - 1.0) * self.scale.abs();
        at(0.0).abs().max(at(samples as f64 - 1.0).abs()) / range
    }
}

pub(super) fn of_closure(
    what: &str,
    epochs: &[Epoch],
    samples: usize,
    reader: &mut Reader<'_>,
    row: fn(&Sample) -> &Tensor,
) -> Result<Ids> {
    let read = |sample: &Sample, reader: &mut Reader<'_>| {
        let id = guarded(what, || {
            reader(row(sample)).map_err(|error| Failure::from_candle(what, error))
        })?;
        if id < samples {
            return Ok(id);
        }
        Err(Failure::not_run(format!("{what} read the number {id}; allowed: 0..{samples}")))
    };
    epochs.iter().map(|epoch| epoch.samples.iter().map(|s| read(s, reader)).collect()).collect()
}

/// The number that a row says: its one value, or the place of its only one.
fn said(row: &[f64], samples: usize) -> Option<usize> {
    let first = *row.first()?;
    if row.iter().all(|value| *value == first) {
        let whole = first.fract() == 0.0 && (0.0..samples as f64).contains(&first);
        return whole.then_some(first as usize);
    }
    let ones = row.iter().filter(|value| **value == 1.0).count();
    let zeros = row.iter().filter(|value| **value == 0.0).count();
    let one_hot = row.len() == samples && ones == 1 && zeros == samples - 1;
    if one_hot { row.iter().position(|value| *value == 1.0) } else { None }
}

/// The numbers that the targets say.
pub(super) fn of_targets(epochs: &[Epoch], samples: usize) -> Result<Ids> {
    each(epochs, |sample| said(&sample.target, samples)).map_err(|(place, sample)| {
        let shown: Vec<String> = sample.target.iter().take(4).map(|v| number(*v)).collect();
        let more = if sample.target.len() > 4 { ", .." } else { "" };
        Failure::not_run("the number of a sample cannot be read from its target")
            .fact("target", format!("{} ({place})", shown.join(", ") + more))
            .fact("allowed", format!("a whole number in 0..{samples}, or a one-hot row"))
            .help("feed the pipeline with `synthetic::markers`, whose targets are 0, 1, 2, ..; where it changes them, say how to read them back: `read_target = |y| ..`")
    })
}

/// The numbers of targets that are pictures, which no normalisation has touched.
pub(super) fn of_pictures(epochs: &[Epoch], samples: usize) -> Result<Ids> {
    let by_code = inverse(samples);
    let read = |target: &[f64]| {
        let code = median(target) * samples as f64 - 0.5;
        ((code - code.round()).abs() < 0.4)
            .then(|| by_code.get(code.round() as usize).copied())
            .flatten()
            .filter(|_| code > -0.5)
    };
    each(epochs, |sample| read(&sample.target)).map_err(|(place, _)| {
        Failure::not_run("the number of a sample cannot be read from its picture")
            .fact("target", place)
            .help("feed the pipeline with `synthetic::marker_pictures`; a mask that is scaled needs `read_target = |y| ..`")
    })
}

fn each(
    epochs: &[Epoch],
    read: impl Fn(&Sample) -> Option<usize>,
) -> std::result::Result<Ids, (String, &Sample)> {
    (epochs.iter().enumerate())
        .map(|(epoch, delivered)| {
            (delivered.samples.iter())
                .map(|sample| {
                    read(sample).ok_or_else(|| {
                        let Sample { batch, row, .. } = sample;
                        (format!("epoch {epoch}, batch {batch}, row {row}"), sample)
                    })
                })
                .collect()
        })
        .collect()
}

/// The numbers that the inputs say, where the pipeline scales them in whatever affine way, and that way.
///
/// `targets` only help to find the scale: a scale under which most rows agree with their targets is no accident, and
/// where there is none the grid of the inputs is looked at by itself.
pub(super) fn of_inputs(
    epochs: &[Epoch],
    targets: &Ids,
    samples: usize,
    without: &[usize],
) -> Result<(Ids, Option<Fit>)> {
    let codes = codes(samples);
    let by_code = inverse(samples);
    let rows: Vec<Vec<f64>> = (epochs.iter().flat_map(|epoch| &epoch.samples))
        .map(|sample| kept(&sample.input, without))
        .collect();
    let expected: Vec<f64> = targets.iter().flatten().map(|id| codes[*id] as f64).collect();
    // Inputs that are the numbers themselves, or one-hot rows of them, made without `synthetic::markers`.
    let plain: Option<Vec<usize>> = rows.iter().map(|row| said(row, samples)).collect();
    let is_plain = |ids: &Vec<usize>| {
        let right = ids.iter().zip(targets.iter().flatten()).filter(|(a, b)| a == b).count();
        mostly(right, ids.len())
    };
    if let Some(ids) = plain.filter(is_plain) {
        return Ok((cut(epochs, ids), None));
    }
    for statistic in [mean as fn(&[f64]) -> f64, median] {
        let values: Vec<f64> = rows.iter().map(|row| statistic(row)).collect();
        let Some((scale, offset)) = scale_of(&values, &expected, samples) else { continue };
        let read = |value: f64| by_code[((value - offset) / scale).round() as usize];
        let ids = values.iter().map(|value| read(*value)).collect();
        return Ok((cut(epochs, ids), Some(Fit { scale, offset })));
    }
    let first: Vec<String> = rows[0].iter().take(4).map(|v| number(*v)).collect();
    Err(Failure::not_run("the number of a sample cannot be read from its input")
        .fact("input", format!("{}, .. (epoch 0, batch 0, row 0)", first.join(", ")))
        .fact("looked for", "the numbers of `synthetic::markers`, scaled by one affine function")
        .help("feed the pipeline with `synthetic::markers`, and with few of them (16 to 32) where noise is added; where it scales each sample or each batch by itself, say how to read the number back: `read_input = |x| ..`"))
}

/// Without the features that are the target itself.
pub(super) fn kept(input: &[f64], without: &[usize]) -> Vec<f64> {
    let kept = input.iter().enumerate().filter(|(i, _)| !without.contains(i));
    kept.map(|(_, value)| *value).collect()
}

fn cut(epochs: &[Epoch], ids: Vec<usize>) -> Ids {
    let mut ids = ids.into_iter();
    epochs.iter().map(|epoch| ids.by_ref().take(epoch.samples.len()).collect()).collect()
}

fn inverse(samples: usize) -> Vec<usize> {
    let mut by_code = vec![0; samples];
    codes(samples).into_iter().enumerate().for_each(|(id, code)| by_code[code] = id);
    by_code
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Blank borders and erased patches do not move it.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// More than chance, or one order for another, makes agree.
fn mostly(agreeing: usize, n: usize) -> bool {
    agreeing * 10 >= n * 6
}

/// A row is read right where it lies within this share of a step from its number.
const NEAR: f64 = 0.45;

const GOLDEN: f64 = 0.618_033_988_749_895;

/// From so many samples at most lines are drawn, to eight others each.
const MOST: usize = 128;

/// The scale and the offset under which every value is on the grid of codes `0..samples`.
fn scale_of(values: &[f64], said: &[f64], samples: usize) -> Option<(f64, f64)> {
    let on_grid = |(scale, offset): (f64, f64)| {
        values.iter().all(|value| {
            let code = (value - offset) / scale;
            (code - code.round()).abs() < NEAR && (-0.5..samples as f64 - 0.5).contains(&code)
        })
    };
    let agree = |(scale, offset): (f64, f64)| {
        let near =
            |(value, code): &(&f64, &f64)| ((**value - offset) / scale - **code).abs() < NEAR;
        values.iter().zip(said).filter(near).count()
    };
    // All pairs as they should be: the usual case.
    if let Some(fit) = line(values.iter().copied().zip(said.iter().copied()))
        && agree(fit) == values.len()
    {
        return Some(fit);
    }
    // Most are: the line through any two right pairs shows it. Not the line of a few pairs by chance: 8 samples and more.
    // A pair holds two right rows with a chance of at least a third, so a thousand pairs miss the line of many samples
    // once in 10^180 times. Each costs a pass over all samples.
    let n = values.len();
    let hops = (1..n).step_by((n / 8).max(1));
    // Spread by the golden ratio, which follows no pattern that rows may have.
    let spread = move |k: usize| ((k as f64 * GOLDEN).fract() * n as f64) as usize;
    let starts = move || (0..n.min(MOST)).map(move |k| if n <= MOST { k } else { spread(k) });
    let through = hops.flat_map(|hop| starts().map(move |i| (i, (i + hop) % n)));
    let candidates =
        through.filter_map(|(i, j)| line([(values[i], said[i]), (values[j], said[j])].into_iter()));
    let best = candidates.map(|fit| (agree(fit), fit)).max_by_key(|(agree, _)| *agree);
    if let Some((agreeing, fit)) = best
        && mostly(agreeing, n)
    {
        let right = values
            .iter()
            .zip(said)
            .filter(|(value, code)| ((**value - fit.1) / fit.0 - **code).abs() < NEAR);
        let refined = line(right.map(|(value, code)| (*value, *code))).unwrap_or(fit);
        if on_grid(refined) {
            return Some(refined);
        }
    }
    // No pair is to be trusted: the grid of the inputs alone. Unscaled first, then from the least to the greatest value.
    let unscaled = (1.0 / samples as f64, 0.5 / samples as f64);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let stretched = ((high - low) / (samples as f64 - 1.0), low);
    let narrow = |(scale, offset): (f64, f64)| {
        // Values of any kind are within 0.45 of a whole number nine times out of ten: be strict where nothing else speaks.
        let tight = |value: &f64| {
            let code = (value - offset) / scale;
            (code - code.round()).abs() < 0.3
        };
        scale.abs() > f64::MIN_POSITIVE && values.iter().all(tight) && on_grid((scale, offset))
    };
    [unscaled, stretched].into_iter().find(|fit| narrow(*fit))
}

/// The least squares line `value = scale * code + offset`; `None` where it is level.
fn line(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Option<(f64, f64)> {
    let n = pairs.clone().count() as f64;
    let (values, codes) =
        pairs.clone().fold((0.0, 0.0), |(v, c), (value, code)| (v + value, c + code));
    let (value, code) = (values / n, codes / n);
    let (product, square) = pairs.fold((0.0, 0.0), |(p, s), (v, c)| {
        (p + (v - value) * (c - code), s + (c - code) * (c - code))
    });
    let scale = product / square;
    (scale.is_finite() && scale.abs() > 1e-9 * value.abs().max(f64::MIN_POSITIVE))
        .then_some((scale, value - scale * code))
}
