//! Value and gradient where a model is sure of itself.

use candle_nn::loss;

use super::{
    Seen,
    closure::Loss,
    probes::{Aim, Probe, Probes, SURE},
    value::Values,
};
use crate::{
    Cause, Finding, Result,
    measure::{losses::Kind, values::same_bits},
    verdict::number,
};

/// Logits up to 100, in the steps at which losses are known to break: a sigmoid in f32 is 1 from 17 on, an exponential
/// infinite from 89.
const SIZES: [f64; 18] = [
    1.0, 3.0, 5.0, 10.0, 15.0, 16.0, 17.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 89.0,
    90.0, SURE,
];

pub(super) fn judge(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    values: &Values,
    detached: bool,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    for end in &values.ends {
        let Some(what) = broken(loss, &end.probe, detached)? else { continue };
        // A loss that is NaN already where nothing is extreme has another mistake, which is told by its values.
        if values.samples.iter().any(|m| !m.value.is_finite()) {
            return Ok(());
        }
        seen.push(told(loss, probes, end.probe.aim, what, detached)?);
        return Ok(());
    }
    Ok(())
}

/// What of one call is not finite.
fn broken(loss: &mut Loss<'_>, probe: &Probe, detached: bool) -> Result<Option<String>> {
    let (prediction, target) = (&probe.prediction, &probe.target);
    let value = loss.value(prediction, target)?;
    if !value.is_finite() {
        return Ok(Some(format!("the loss is {}", number(value))));
    }
    if detached {
        return Ok(None);
    }
    let gradient = loss.gradient(prediction, target)?.unwrap_or_default();
    let bad = gradient.iter().find(|slope| !slope.is_finite());
    Ok(bad.map(|slope| format!("the gradient is {}", number(*slope))))
}

fn told(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    aim: Aim,
    what: String,
    detached: bool,
) -> Result<Seen> {
    let adjective = aim.name();
    let of_logits = matches!(probes.kind, Kind::CrossEntropy | Kind::BinaryCrossEntropyWithLogits);
    if !of_logits {
        let place = match probes.kind {
            Kind::BinaryCrossEntropy => "at probabilities of 0 and 1".to_owned(),
            Kind::NegativeLogLikelihood => format!("at log-probabilities of -{}", number(SURE)),
            _ => format!("for a {adjective} prediction"),
        };
        let advice = match probes.kind {
            Kind::BinaryCrossEntropy => {
                "keep the logarithm's argument above 0, `p.clamp(1e-7, 1. - 1e-7)?`, or take the loss of logits"
            }
            _ => "mind what is divided by, and what a logarithm or a root is taken of",
        };
        let finding =
            Finding::confirmed(Cause::LossUnstable, format!("{what} for a {adjective} prediction"));
        return Ok(Seen::new(format!("{what} {place}"), finding.advice_is(advice)));
    }
    let mut from = SURE;
    let mut first = what;
    'sizes: for size in SIZES {
        for aim in [Aim::Wrong, Aim::Perfect] {
            let mut probe = probes.probe(aim, probes.rows)?;
            probe.prediction = (probe.prediction * (size / SURE))?;
            if let Some(what) = broken(loss, &probe, detached)? {
                (from, first) = (size, format!("{what} for {} ones", aim.name()));
                break 'sizes;
            }
        }
    }
    let mut evidence = format!("with logits of {} and -{}, {first}", number(from), number(from));
    let mut advice = None;
    if matches!(probes.kind, Kind::BinaryCrossEntropyWithLogits) {
        let probe = probes.probe(Aim::Random, probes.rows)?;
        let (prediction, target) = (&probe.prediction, &probe.target);
        let candles = loss::binary_cross_entropy_with_logit(prediction, target);
        if let Ok(candles) = candles
            && same_bits(&candles.detach(), &loss.raw(prediction, target)?)?
        {
            evidence = format!(
                "{evidence}; the loss is bit for bit that of candle's `loss::binary_cross_entropy_with_logit`, which \
                 takes the logarithm of 1 - sigmoid(x)"
            );
        }
        advice = Some("write it as `relu(x) - x*y + log(1 + exp(-|x|))`, which no logit overflows");
    }
    let finding = Finding::confirmed(Cause::LossUnstable, evidence);
    let finding = match advice {
        Some(advice) => finding.advice_is(advice),
        None => finding
            .advice_is("take `log_softmax`, which subtracts the maximum, for `softmax` and `log`"),
    };
    Ok(Seen::new(
        format!("the loss does not bear sure predictions: it breaks at logits of {}", number(from)),
        finding,
    ))
}
