//! Which kind of un-normalised input it is.

use candle_core::Tensor;

use super::scheme::{Judge, Scheme};
use crate::{
    Cause, Finding, Result,
    measure::{
        moments::{Channel, LARGE, farthest, grid},
        values::multi_index,
    },
    verdict::{count, listed, number},
};

/// The channels that were complained of, each with its complaint.
pub(super) type Complaints = Vec<(usize, String)>;

/// What the values themselves say of how they came about.
pub(super) fn findings(
    x: &Tensor,
    judge: &Judge<'_>,
    channels: &[Channel],
    complaints: &Complaints,
) -> Result<Vec<Finding>> {
    let least = channels.iter().map(|c| c.least).fold(f64::INFINITY, f64::min);
    let greatest = channels.iter().map(|c| c.greatest).fold(f64::NEG_INFINITY, f64::max);
    let grid = grid(x)?;
    let bytes = Scheme::MinMax(0.0..=255.0) == *judge.scheme;
    // One-hot rows and counts are whole numbers, too: a byte has been seen where one is above 31.
    if grid.whole && least >= 0.0 && (32.0..=255.0).contains(&greatest) && !bytes {
        let evidence = format!(
            "every value is a whole number from {} to {}: raw bytes, never divided",
            number(least),
            number(greatest)
        );
        return Ok(vec![Finding::confirmed(Cause::InputNotScaled, evidence).advice_is(
            "convert and divide where the data is loaded: `(x.to_dtype(DType::F32)? / 255.)?`",
        )]);
    }
    let twice = grid.of_255_twice && least >= 0.0 && greatest <= 1.0 / 255.0 + 1e-9;
    if twice && greatest > 0.0 {
        let evidence = format!(
            "every value times 255 times 255 is a whole number, the greatest is {}: divided by 255 twice",
            number(greatest)
        );
        return Ok(vec![
            Finding::confirmed(Cause::InputNotScaled, evidence)
                .advice_is("divide once: the loader divides, and the caller does, too"),
        ]);
    }
    if let Some(finding) = sentinel(x, judge)? {
        return Ok(vec![finding]);
    }
    let told = complaints.iter().map(|(channel, _)| *channel).collect::<Vec<_>>();
    let standard = *judge.scheme == Scheme::Standard;
    if standard && grid.of_255 && !grid.whole && least >= 0.0 && greatest <= 1.0 {
        let evidence = "every value times 255 is a whole number from 0 to 255: bytes divided by 255, and no mean taken off";
        return Ok(vec![Finding::confirmed(Cause::InputNotScaled, evidence).advice_is(
            "subtract the mean and divide by the standard deviation, or say that this is meant: `scheme = 0.0..=1.0`",
        )]);
    }
    let evidence = match told.as_slice() {
        [channel] if channels.len() > 1 => {
            let others = channels.len() - 1;
            format!("{}; the other {} as they should be", complaints[0].1, are(others))
        }
        _ => complaints[0].1.clone(),
    };
    let mut finding = Finding::confirmed(Cause::InputNotScaled, evidence);
    if channels.len() > 1 {
        finding = finding.at(format!("channel {}", told[0]));
    }
    for (low, high) in [(0.0, 1.0), (-1.0, 1.0)] {
        if standard && !judge.fitted && least >= low && greatest <= high && greatest - least > 0.5 {
            finding = finding.advice_is(format!(
                "all values lie in [{low}, {high}]: if that is meant, say `scheme = {low:?}..={high:?}`; else subtract the mean and divide by the standard deviation"
            ));
            break;
        }
    }
    if judge.fitted {
        finding = finding.advice_is(
            "the figures are of another set, or of a set that this one was a part of: fit them on the training set, and on nothing else",
        );
    }
    Ok(vec![finding])
}

fn are(channels: usize) -> String {
    match channels {
        1 => "channel is".to_owned(),
        n => format!("{} are", count(n, "channel")),
    }
}

/// A number that stands for a missing value: whole, far away from all others.
///
/// It is asked for whatever the moments are: a few such rows make the errors of both so large that nothing is outside.
pub(super) fn sentinel(x: &Tensor, judge: &Judge<'_>) -> Result<Option<Finding>> {
    if *judge.scheme != Scheme::Standard {
        return Ok(None);
    }
    let Some(apart) = farthest(x)? else { return Ok(None) };
    let deviation = apart.variance.sqrt();
    // Data that was standardised lies within 20 deviations, whatever its tails; a mark of missing values is far outside.
    let far = (apart.value - apart.mean).abs() > 20.0 * deviation;
    if !far || !apart.varied || apart.value != apart.value.round() || apart.value.abs() < 9.0 {
        return Ok(None);
    }
    let others = Channel {
        elements: x.elem_count() - apart.times,
        least: apart.mean - deviation,
        greatest: apart.mean + deviation,
        mean: apart.mean,
        variance: apart.variance,
        mean_error: 0.0,
        variance_error: 0.0,
        large: [0; LARGE.len()],
    };
    let evidence = format!(
        "{} exactly {}; without {}, mean {} and standard deviation {}",
        match apart.times {
            1 => "1 value is".to_owned(),
            n => format!("{n} values are"),
        },
        number(apart.value),
        if apart.times == 1 { "it" } else { "them" },
        number(apart.mean),
        number(deviation)
    );
    // An experiment: without them all is well.
    let finding = match judge.complaint(&others) {
        None => Finding::confirmed(Cause::InputNotScaled, evidence),
        Some(_) => Finding::possible(Cause::InputNotScaled, evidence),
    };
    let place = format!("{:?}", multi_index(apart.first, x.dims()));
    Ok(Some(finding.at(place).advice_is(
        "a mark of missing values is data to the model: drop the rows, or fill them in before scaling",
    )))
}

/// A rare flag, standardised, is a small negative number in a batch without it: of probability p, -sqrt(p / (1 - p)), and
/// absent from all rows with a chance above 1e-6 where p is below 14 / rows.
pub(super) fn may_be_rare(value: f64, rows: usize) -> bool {
    value < 0.0 && value > -(14.0 / rows as f64).sqrt()
}

/// Channels that hold one value in every row.
pub(super) fn constant(channels: &[Channel], rows: usize, fitted: bool) -> Option<Finding> {
    let is_told = |channel: &Channel| {
        channel.least == channel.greatest && (fitted || !may_be_rare(channel.least, rows))
    };
    let told: Vec<usize> =
        (0..channels.len()).filter(|channel| is_told(&channels[*channel])).collect();
    let first = *told.first()?;
    let names: Vec<String> = told.iter().map(usize::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let evidence = match told.len() {
        1 => format!("{} in all {rows} rows", number(channels[first].mean)),
        n => format!("{} are constant over {rows} rows: {}", count(n, "channel"), listed(&names)),
    };
    Some(Finding::confirmed(Cause::InputConstant, evidence).at(format!("channel {first}")))
}
