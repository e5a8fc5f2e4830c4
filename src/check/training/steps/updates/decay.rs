//! What shrinks the variables: decay in the optimizer, and penalties in the loss.
//!
//! A variable is made so large that nothing but what grows with it still counts, while a later weight is zero, so that the
//! loss does not see it: what the step then takes off every entry, in proportion, is decay.

use super::{
    begins,
    driver::{Driver, Gradients, pooled},
    sizes::plain_rate,
    still::names,
    walk::Walk,
};
use crate::{
    Cause, Finding, Result,
    measure::{
        graph::created,
        vectors::{dot, length, root_mean_square},
    },
    verdict::{count, number},
};

/// So many variables are made large, half of them vectors.
const TRIED: usize = 12;

/// Times the largest change of one value in a usual step. What momentum remembers is below ten of those.
const LARGE: f64 = 1e8;

/// Entries shrink by one share where their shares differ by no more than this part of it.
const ONE_SHARE: f64 = 0.05;

/// What is taken off by one step: below this it is the rounding of f32.
const LEAST: f64 = 3e-6;

/// More than this in one step is a projection: weights clipped or normalised.
const PROJECTION: f64 = 0.3;

/// The largest decay of published recipes takes 0.2 % off a weight in one step (Muon: a rate of 0.02, a decay of 0.1).
/// Twice that halves the weights every 170 steps.
const LARGEST: f64 = 4e-3;

/// A penalty whose gradient is so many times that of the rest of the loss dominates it.
const DOMINATES: f64 = 10.0;

/// candle's and PyTorch's AdamW decay all they are given by 0.01 times the rate unless told otherwise: 0.01 % a step at
/// 1e-2, a high rate for Adam. Up to twice that, decay on a vector is a default that nobody chose, and does little.
const DEFAULT: f64 = 2e-4;

/// The same default at any rate: an entry moves by one rate in AdamW's first step, and decays by this share of it. At the
/// rates of toy tests, 0.05 or 0.1, that is more than [`DEFAULT`], and still no one's choice.
const DEFAULT_OF_RATE: f64 = 0.01;

pub(super) struct Shrinking<'d> {
    /// The vectors that may decay, where the caller says which.
    pub(super) declared: Option<&'d [String]>,
}

/// One variable's decay in the optimizer.
struct Decay {
    at: usize,
    share: f64,
}

impl Shrinking<'_> {
    pub(super) fn judge(
        &self,
        driver: &mut Driver<'_>,
        walk: &Walk,
        gradients: Option<&Gradients>,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let penalties = match gradients {
            Some(_) => penalties(driver)?,
            None => Vec::new(),
        };
        if let Some(gradients) = gradients {
            found.extend(wrong_sign(driver, &penalties));
            found.extend(dominating(driver, &penalties, gradients));
        }
        let (decays, tried) = decays(driver, walk, gradients)?;
        if tried == 0 {
            left_out.push("decay: no variable could be made large".to_owned());
        }
        found.extend(self.unwanted(driver, walk, &decays));
        if let Some(most) = decays.iter().map(|d| d.share).reduce(f64::max).filter(|d| *d > LARGEST)
        {
            let evidence = format!(
                "one step takes {} % off a variable by itself, whatever its gradient: half of it is gone after {}",
                number(100.0 * most),
                count((0.5f64.ln() / (1.0 - most).ln()).ceil() as usize, "step"),
            );
            let at = decays.iter().filter(|d| d.share > LARGEST).map(|d| d.at);
            let at = names(driver, at.collect::<Vec<_>>());
            found.push(Finding::confirmed(Cause::DecayUnintended, evidence).at(at));
        }
        if let Some(gradients) = gradients {
            found.extend(twice(driver, walk, gradients, &decays, &penalties));
        }
        Ok(found)
    }

    /// Vectors, gains and biases, that shrink with the weights.
    fn unwanted(&self, driver: &Driver<'_>, walk: &Walk, decays: &[Decay]) -> Option<Finding> {
        let rate = driver.trained().map(|(at, _)| first_step(walk, at)).fold(0.0, f64::max);
        let default = DEFAULT.max((1.0 + ONE_SHARE) * DEFAULT_OF_RATE * rate);
        let is_vector = |d: &&Decay| !driver.watched[d.at].is_weight();
        let vectors: Vec<&Decay> = decays
            .iter()
            .filter(is_vector)
            .filter(|d| match self.declared {
                Some(declared) => !begins(declared, &driver.watched[d.at].name),
                None => d.share > default,
            })
            .filter(|d| driver.watched[d.at].start.len() > 1)
            .collect();
        let first = vectors.iter().find(|d| is_of_optimizer(driver, decays, d))?;
        let evidence = format!(
            "made large, {} and weights shrink by one share, {} % a step, whatever their gradients: decay reaches gains and biases",
            count(vectors.len(), "vector"),
            number(100.0 * first.share),
        );
        let names = names(driver, vectors.iter().map(|d| d.at).collect::<Vec<_>>());
        Some(Finding::confirmed(Cause::DecayUnintended, evidence).at(names).advice_is(
            "make two optimizers, or two groups: matrices with decay, everything of rank 1 without; `decayed = [..]` declares what may",
        ))
    }
}

/// Whether a matrix shrinks by the same share. Under plain descent on squared errors an output's bias does by itself, where
/// it is no later weight that is zero; a matrix does not, and two variables do not alike.
fn is_of_optimizer(driver: &Driver<'_>, decays: &[Decay], decay: &Decay) -> bool {
    let alike = |other: &&Decay| (other.share / decay.share - 1.0).abs() < ONE_SHARE;
    let alike: Vec<&Decay> = decays.iter().filter(alike).collect();
    alike.len() >= 2 && alike.iter().any(|other| driver.watched[other.at].is_weight())
}

/// The size of the change of one value in the first step.
fn first_step(walk: &Walk, at: usize) -> f64 {
    root_mean_square(&walk.first.by[at])
}

/// An average of another variable begins at that, and moves by a part of the other's step: it is not one that trains.
const SLOW: f64 = 0.05;

/// The variable built last that mixes others: with zeros in it, the loss does not depend on what came before.
fn last_weight(driver: &Driver<'_>, walk: &Walk, fastest: f64) -> Option<usize> {
    let trains = |at: usize| first_step(walk, at) >= SLOW * fastest;
    let weights = driver.trained().filter(|(at, w)| w.is_weight() && trains(*at));
    weights.max_by_key(|(_, w)| created(w.var.as_tensor().id())).map(|(at, _)| at)
}

fn decays(
    driver: &mut Driver<'_>,
    walk: &Walk,
    gradients: Option<&Gradients>,
) -> Result<(Vec<Decay>, usize)> {
    let fastest = driver.trained().map(|(at, _)| first_step(walk, at)).fold(0.0, f64::max);
    let Some(last) = last_weight(driver, walk, fastest) else { return Ok((Vec::new(), 0)) };
    let before_last = created(driver.watched[last].var.as_tensor().id());
    let candidates = |vectors: bool| -> Vec<usize> {
        let all: Vec<usize> = (driver.trained())
            .filter(|(at, w)| {
                w.is_fine()
                    && walk.moved[*at]
                    && walk.farthest[*at] > 0.0
                    // What gets no gradient is moved by other means than the optimizer: an average of the weights.
                    && gradients.is_none_or(|g| g.by[*at].is_some())
                    && created(w.var.as_tensor().id()) < before_last
                    && w.is_weight() != vectors
            })
            .map(|(at, _)| at)
            .collect();
        // Spread over the whole model.
        let take = (TRIED / 2).min(all.len());
        (0..take).map(|i| all[i * all.len() / take]).collect()
    };
    let candidates: Vec<usize> = candidates(true).into_iter().chain(candidates(false)).collect();
    let silent = (last, vec![0.0; driver.watched[last].start.len()]);
    let (mut decays, mut tried) = (Vec::new(), 0);
    for at in candidates {
        let size = LARGE * walk.farthest[at];
        // Far from one another and from zero, and of both signs.
        let large: Vec<f64> = (0..driver.watched[at].start.len())
            .map(|i| {
                size * (1.0 + 0.5 * ((i * 7 % 11) as f64 / 11.0))
                    * if i % 2 == 0 { 1.0 } else { -1.0 }
            })
            .collect();
        let Ok(update) = driver.update_at(&[(at, large.clone()), silent.clone()]) else { break };
        if update.by.iter().flatten().any(|v| !v.is_finite()) {
            break;
        }
        tried += 1;
        let Some(share) = one_share(&update.by[at], &large) else { continue };
        let decay = Decay { at, share: -share };
        if (LEAST..=PROJECTION).contains(&decay.share)
            && !is_average(driver, walk, &decay, &silent, fastest)?
        {
            decays.push(decay);
        }
    }
    Ok((decays, tried))
}

/// Whether what draws the variable is another variable, not zero: a running average of the weights, a target network.
///
/// From zero it goes to where it was; one that was zero moves by its share of the fastest step, and no faster.
fn is_average(
    driver: &mut Driver<'_>,
    walk: &Walk,
    decay: &Decay,
    silent: &(usize, Vec<f64>),
    fastest: f64,
) -> Result<bool> {
    let start = driver.watched[decay.at].start.clone();
    if start.iter().all(|v| *v == 0.0) {
        return Ok(first_step(walk, decay.at) <= 2.0 * decay.share * fastest);
    }
    let update = driver.update_at(&[(decay.at, vec![0.0; start.len()]), silent.clone()])?;
    let back = &update.by[decay.at];
    Ok(dot(back, &start) > 0.9 * length(back) * length(&start))
}

/// The share of the values that the change is, where it is one for all entries.
fn one_share(change: &[f64], values: &[f64]) -> Option<f64> {
    let shares = || change.iter().zip(values).map(|(c, v)| c / v);
    let mean = shares().sum::<f64>() / values.len().max(1) as f64;
    shares().all(|share| (share - mean).abs() <= ONE_SHARE * mean.abs()).then_some(mean)
}

/// A penalty on the squares of a variable, as the loss has it: its gradient is so many times the variable.
struct Penalty {
    at: usize,
    strength: f64,
}

/// So many weights are zeroed in turn, to cut the rest of the loss off.
const ZEROED: usize = 6;

/// Entries of a gradient that is a multiple of the variable to this much.
const PROPORTIONAL: f64 = 1e-3;

fn penalties(driver: &mut Driver<'_>) -> Result<Vec<Penalty>> {
    let mut weights: Vec<usize> =
        driver.trained().filter(|(_, w)| w.is_weight()).map(|(at, _)| at).collect();
    weights.sort_by_key(|at| std::cmp::Reverse(created(driver.watched[*at].var.as_tensor().id())));
    let mut found: Vec<Penalty> = Vec::new();
    for zeroed in weights.into_iter().take(ZEROED) {
        driver.stand_at(&[(zeroed, vec![0.0; driver.watched[zeroed].start.len()])])?;
        let Ok(Some(gradients)) = driver.gradients() else { break };
        for (at, watched) in driver.trained() {
            let Some(gradient) = gradients.by[at].as_ref().filter(|_| at != zeroed) else {
                continue;
            };
            if watched.start.len() < 16 || found.iter().any(|p| p.at == at) {
                continue;
            }
            // Small entries are rounding of the sum.
            let largest = watched.start.iter().map(|v| v.abs()).fold(0.0, f64::max);
            let large = |(_, v): &(&f64, &f64)| v.abs() > 0.1 * largest;
            let pairs = || gradient.iter().zip(&watched.start).filter(large);
            let n = pairs().count();
            let mean = pairs().map(|(g, v)| g / v).sum::<f64>() / n.max(1) as f64;
            let one = pairs().all(|(g, v)| (g / v - mean).abs() <= PROPORTIONAL * mean.abs());
            if n >= 16 && mean != 0.0 && mean.is_finite() && one {
                found.push(Penalty { at, strength: mean });
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    driver.restore()?;
    Ok(found)
}

fn wrong_sign(driver: &Driver<'_>, penalties: &[Penalty]) -> Option<Finding> {
    let negative: Vec<&Penalty> = penalties.iter().filter(|p| p.strength < 0.0).collect();
    let first = negative.first()?;
    let evidence = format!(
        "where the rest of the loss does not see {}, its gradient is {} times the variable: larger values lower the loss",
        count(negative.len(), "variable"),
        number(first.strength),
    );
    Some(
        Finding::confirmed(Cause::RegularizationSign, evidence)
            .at(names(driver, negative.iter().map(|p| p.at).collect::<Vec<_>>())),
    )
}

fn dominating(
    driver: &Driver<'_>,
    penalties: &[Penalty],
    gradients: &Gradients,
) -> Option<Finding> {
    let positive: Vec<&Penalty> = penalties.iter().filter(|p| p.strength > 0.0).collect();
    let (mut of_penalty, mut rest) = (Vec::new(), Vec::new());
    for penalty in &positive {
        let values = &driver.watched[penalty.at].start;
        let Some(gradient) = &gradients.by[penalty.at] else { continue };
        of_penalty.push(values.iter().map(|v| v * penalty.strength).collect::<Vec<_>>());
        rest.push(
            gradient.iter().zip(values).map(|(g, v)| g - penalty.strength * v).collect::<Vec<_>>(),
        );
    }
    let (of_penalty, rest) = (pooled(&of_penalty), pooled(&rest));
    (of_penalty > DOMINATES * rest && !positive.is_empty()).then(|| {
        let evidence = format!(
            "the penalty's gradient has a norm of {}, the rest of the loss one of {}",
            number(of_penalty),
            number(rest),
        );
        Finding::confirmed(Cause::DecayUnintended, evidence)
            .at(names(driver, positive.iter().map(|p| p.at).collect::<Vec<_>>()))
            .advice_is("lower the strength of the penalty, by orders of magnitude")
    })
}

/// A penalty in the loss, and a decay in the optimizer beside it.
fn twice(
    driver: &Driver<'_>,
    walk: &Walk,
    gradients: &Gradients,
    decays: &[Decay],
    penalties: &[Penalty],
) -> Option<Finding> {
    let both = decays.iter().find_map(|decay| {
        let penalty = penalties.iter().find(|p| p.at == decay.at && p.strength > 0.0)?;
        // Plain descent on the penalty shrinks a large variable by rate times strength: that is once.
        let gradient = gradients.by[decay.at].as_ref()?;
        let once =
            plain_rate(&walk.first.by[decay.at], gradient).map_or(0.0, |r| r * penalty.strength);
        (decay.share > 1.2 * once + LEAST).then_some((decay, penalty))
    });
    let (decay, penalty) = both?;
    let evidence = format!(
        "the loss holds a penalty of {} times the squares, and the optimizer takes {} % off in each step beside it",
        number(penalty.strength / 2.0),
        number(100.0 * decay.share),
    );
    Some(
        Finding::confirmed(Cause::DecayUnintended, evidence)
            .at(driver.watched[decay.at].name.clone())
            .advice_is("keep one of the two: the optimizer's decay, or the penalty"),
    )
}
