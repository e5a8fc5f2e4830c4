//! Every tensor of an objective, compared along enough directions.

use candle_core::DType;

use super::{
    Agreement, Comparison, Direction, Entry, FAR, Fineness, Objective, Slopes, Slot, bisect,
};
use crate::{Result, Seed};

/// What was found of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) agreement: Agreement,
    /// Along the direction that decided.
    pub(crate) comparison: Comparison,
    /// The gradient's error as a share of what it was compared with.
    pub(crate) error: f64,
    /// By what the gradient is the slope throughout, where it is the slope times a factor.
    pub(crate) factor: Option<f64>,
    /// The entry with the largest error, where the gradient is wrong.
    pub(crate) entry: Option<Entry>,
    /// Whether a backward pass gave it a gradient at all.
    pub(crate) arrived: bool,
}

/// Directions with one factor, to so many digits of what it is off by: then it is the factor of all entries.
const SAME_FACTOR: f64 = 1e-3;

/// Points nearby that are looked at where the first one leaves a question open.
const OTHER_POINTS: u64 = 2;

/// The same in f32 for a gradient that differs at all of them: one convolution in 13,000 did at three points by chance.
const MORE_POINTS: u64 = 6;

/// Compares the gradient of every tensor with the slopes, and counts the evaluations that took.
///
/// A tensor whose comparison is hidden by kinks is compared again at points nearby. In f32 so is one that differs, and it
/// is wrong only where it differs at all of them: a step long enough to be seen there crosses many kinks.
pub(crate) fn verify(
    objective: &mut dyn Objective,
    fineness: Fineness,
) -> Result<(Vec<Compared>, usize)> {
    let is_coarse = objective.dtype() != DType::F64;
    let (mut compared, mut evaluations) = at_point(objective, fineness, None, 0)?;
    for seed in 1..=MORE_POINTS {
        let open = |slot: &Compared| match slot.agreement {
            // A gradient that is not finite at the given point is wrong there, whatever it is elsewhere.
            _ if !slot.comparison.analytic.is_finite() => false,
            Agreement::Agrees | Agreement::Staircase => false,
            Agreement::Differs => is_coarse,
            Agreement::Kink | Agreement::Unclear => seed <= OTHER_POINTS,
        };
        let names: Vec<String> =
            compared.iter().filter(|slot| open(slot)).map(|slot| slot.name.clone()).collect();
        if names.is_empty() {
            break;
        }
        // A function need not be defined there.
        if objective.go_elsewhere(Seed::new(seed)).is_err() {
            break;
        }
        let (again, more) = at_point(objective, fineness, Some(&names), seed)?;
        evaluations += more;
        for later in again {
            let Some(first) = compared.iter_mut().find(|slot| slot.name == later.name) else {
                continue;
            };
            // What a kink hid at the first point, another one shows; where the first has two right answers, so be it.
            let replaces = match (first.agreement, later.agreement) {
                (_, Agreement::Agrees) => true,
                (Agreement::Unclear, Agreement::Differs) => !is_coarse,
                (Agreement::Unclear, _) => true,
                (Agreement::Kink, Agreement::Differs) => !is_coarse,
                (Agreement::Differs, Agreement::Differs) => false,
                (Agreement::Differs, _) => true,
                _ => false,
            };
            if replaces {
                *first = later;
            }
        }
    }
    evaluations += past_jumps(objective, fineness, &mut compared)?;
    Ok((compared, evaluations))
}

/// What differs at every point is no wrong gradient where the function jumps on the way to a step of the tensor's own size;
/// where it does so for another tensor, it is looked further: how far the next jump is from a tensor says nothing of it.
fn past_jumps(
    objective: &mut dyn Objective,
    fineness: Fineness,
    compared: &mut [Compared],
) -> Result<usize> {
    let differs = |slot: &Compared| {
        slot.agreement == Agreement::Differs && slot.comparison.analytic.is_finite()
    };
    if !compared.iter().any(differs) {
        return Ok(0);
    }
    let mut slopes = Slopes::new(objective, fineness)?;
    for (n, reach) in FAR.into_iter().enumerate() {
        for wrong in compared.iter_mut().filter(|slot| differs(slot)) {
            let Some(at) = slopes.slots().iter().position(|slot| slot.name == wrong.name) else {
                continue;
            };
            let slot = slopes.slots()[at].clone();
            let seed = Seed::new(n as u64);
            for direction in [Direction::uphill(&slot, seed)?, Direction::random(&slot, seed)?] {
                // So far away a function need not be defined.
                if slopes.has_a_jump(at, &direction, reach).unwrap_or(false) {
                    wrong.agreement = Agreement::Staircase;
                    wrong.entry = None;
                    break;
                }
            }
        }
        if !compared.iter().any(|slot| slot.agreement == Agreement::Staircase) {
            break;
        }
    }
    Ok(slopes.evaluations)
}

fn at_point(
    objective: &mut dyn Objective,
    fineness: Fineness,
    names: Option<&[String]>,
    seed: u64,
) -> Result<(Vec<Compared>, usize)> {
    let mut slopes = Slopes::new(objective, fineness)?;
    let mut compared = Vec::new();
    for at in 0..slopes.slots().len() {
        let slot = &slopes.slots()[at];
        let wanted = names.is_none_or(|names| names.contains(&slot.name));
        if wanted && slot.value.elem_count() > 0 {
            compared.push(one(&mut slopes, at, Seed::new(seed))?);
        }
    }
    Ok((compared, slopes.evaluations))
}

/// One tensor, uphill and along random directions.
fn one(slopes: &mut Slopes<'_>, at: usize, seed: Seed) -> Result<Compared> {
    let slot = slopes.slots()[at].clone();
    if let Some(broken) = not_finite(&slot) {
        return Ok(broken);
    }
    let mut looks = Vec::new();
    let mut directions = vec![Direction::uphill(&slot, seed)?];
    for more in 0..slopes.fineness.directions {
        directions.push(Direction::random(&slot, seed.split(&more.to_string()))?);
    }
    for direction in directions {
        looks.push((slopes.compare(at, &direction)?, direction));
    }
    let worst = |(look, _): &&(Comparison, Direction)| match look.agreement {
        Agreement::Differs => 4,
        Agreement::Unclear => 3,
        Agreement::Staircase => 2,
        Agreement::Kink => 1,
        Agreement::Agrees => 0,
    };
    // Of equals the first: uphill, where nothing cancels.
    let (comparison, direction) =
        looks.iter().rev().max_by_key(worst).expect("uphill is always looked along");
    let agreement = match comparison.agreement {
        // Where none arrives, none lies between the two sides of a kink.
        Agreement::Kink if slot.gradient.is_none() => Agreement::Unclear,
        agreement => agreement,
    };
    let entry = match agreement {
        Agreement::Differs => bisect(slopes, at, direction, comparison.step)?,
        _ => None,
    };
    let error = |(look, direction): &(Comparison, Direction)| {
        let size = direction.size_of_gradient();
        let beyond = (look.numeric - look.analytic).abs() - slopes.rounding_at(look.step);
        if size > 0.0 && beyond > 0.0 { beyond / size } else { 0.0 }
    };
    Ok(Compared {
        name: slot.name,
        dims: slot.value.dims().to_vec(),
        agreement,
        comparison: *comparison,
        error: looks.iter().map(error).fold(0.0, f64::max),
        factor: factor(&looks),
        entry,
        arrived: slot.gradient.is_some(),
    })
}

/// What is said of a gradient with a NaN or an infinity in it: no slope is needed for that.
fn not_finite(slot: &Slot) -> Option<Compared> {
    let at = slot.gradient.as_ref()?.iter().position(|entry| !entry.is_finite())?;
    let analytic = slot.gradient.as_ref()?[at];
    let comparison = Comparison {
        agreement: Agreement::Differs,
        analytic,
        numeric: f64::NAN,
        allowed: 0.0,
        step: 0.0,
    };
    Some(Compared {
        name: slot.name.clone(),
        dims: slot.value.dims().to_vec(),
        agreement: Agreement::Differs,
        comparison,
        error: f64::INFINITY,
        factor: None,
        entry: Some(Entry { at, analytic, numeric: f64::NAN }),
        arrived: true,
    })
}

fn factor(looks: &[(Comparison, Direction)]) -> Option<f64> {
    let mut factors = looks
        .iter()
        .filter(|look| look.0.numeric.abs() > 100.0 * look.0.allowed)
        .map(|look| look.0.analytic / look.0.numeric);
    let first = factors.next()?;
    let same = |other: f64| (other - first).abs() <= SAME_FACTOR * (first - 1.0).abs();
    let rest: Vec<f64> = factors.collect();
    (!rest.is_empty() && rest.into_iter().all(same)).then_some(first)
}
