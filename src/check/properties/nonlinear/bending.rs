//! How far a function is from a straight line, beside what rounding makes of one.

use candle_core::{DType, Tensor};

use crate::{
    Result, Seed,
    check::function::Function,
    measure::{
        affine::{Distance, Line, bends},
        noise::{epsilon, nudged, size},
        perturb::alternative,
        values::{multi_index, to_f64_vec},
    },
    verdict::{number, told_apart},
};

/// How far apart the points are, in the input's own units and in absolute ones.
const FAR: [f64; 3] = [1.0, 8.0, 64.0];
/// Where on the line between the two: inside, and beyond either end.
const PARTS: [f64; 4] = [0.25, 0.5, 2.0, -1.0];
/// A network rounds at each of its operations; 64 roundings in a row reach 8 times one. Of 11 kinds of affine maps, over 30
/// seeds, the worst came to a third of what this makes.
const ROUNDINGS: f64 = 8.0;
/// In half precision a layer is added up in more digits and rounded once; 8 would be half of everything.
const ROUNDINGS_OF_HALF: f64 = 4.0;
/// A combination says something where a deviation of this share of the output's spread would be beyond rounding.
const VISIBLE: f64 = 0.05;

/// A mask of -1e4 in bf16 is off by half a percent, and so is one that logits are added to.
const MASK_MOVES: f64 = 0.01;

/// What all combinations came to.
pub(super) struct Bending {
    /// The largest deviation, of those beyond rounding if there are any.
    pub(super) largest: Largest,
    /// A deviation is beyond rounding.
    pub(super) is_bent: bool,
    /// A deviation of some size would have been seen.
    pub(super) is_judged: bool,
    pub(super) combinations: usize,
    pub(super) left_out: usize,
    pub(super) straight_features: Vec<usize>,
    /// The largest distance between two points, and the input's own scale.
    pub(super) furthest: f64,
    pub(super) input_scale: f64,
    /// The largest change of an output value, and its rounding there.
    pub(super) spread: f64,
    pub(super) rounding: f64,
}

/// One deviation.
#[derive(Clone, Debug, Default)]
pub(super) struct Largest {
    /// As shares of the spread.
    pub(super) share: f64,
    pub(super) rounding: f64,
    a: f64,
    index: Vec<usize>,
    combined: f64,
    straight: f64,
}

impl Largest {
    /// `output [0, 1] at a = 2: 1.25 from the combined input, 1.31 from the two outputs combined`.
    pub(super) fn told(&self) -> String {
        let (combined, straight) = told_apart(self.combined, self.straight);
        format!(
            "output {:?} at a = {}: {combined} from the combined input, {straight} from the two outputs combined",
            self.index,
            number(self.a),
        )
    }
}

/// Stops once every output feature that moves has bent, and one by `at_least`.
pub(super) fn measure(
    f: &mut Function<'_>,
    line: &Line,
    at_x: &Tensor,
    x: &[Tensor],
    seed: Seed,
    at_least: f64,
) -> Result<Bending> {
    let start = line.start();
    let values = to_f64_vec(at_x)?;
    let unmasked = size(&values);
    let features = at_x.dims().last().copied().unwrap_or(1);
    let terms = x.iter().map(|t| t.elem_count() / t.dims()[0]).max().unwrap_or(1);
    let (roundings, relative) = rounding(at_x.dtype(), x, terms);
    let noise_at_x = noise(f, &start, &values, seed)?.unwrap_or(0.0);

    let mut found = Bending {
        largest: Largest::default(),
        is_bent: false,
        is_judged: false,
        combinations: 0,
        left_out: 0,
        straight_features: Vec::new(),
        furthest: 0.0,
        input_scale: line.scale(),
        spread: 0.0,
        rounding: 0.0,
    };
    let (mut bent, mut moved) = (vec![false; features], vec![false; features]);
    for (i, (distance, y)) in points(line, x, seed)?.into_iter().enumerate() {
        let Some(at_y) = finite(f, &y, at_x, &values)? else {
            found.left_out += PARTS.len();
            continue;
        };
        let seed = seed.split(&format!("noise {i}"));
        let noise_at_y = noise(f, &y, &at_y, seed)?.unwrap_or(0.0);
        for a in PARTS {
            let z = line.combined(a, &y)?;
            let Some(at_z) = finite(f, &z, at_x, &values)? else {
                found.left_out += 1;
                continue;
            };
            found.combinations += 1;
            found.furthest = found.furthest.max(distance * (1.0 - a).abs().max(1.0));
            let noise_at_z = noise(f, &z, &at_z, seed)?.unwrap_or(0.0);
            let noise = noise_at_z + a.abs() * noise_at_x + (1.0 - a).abs() * noise_at_y;
            // What is masked everywhere moves nowhere.
            let is_mask = |at: usize| {
                let stays =
                    |other: f64| (other - values[at]).abs() <= MASK_MOVES * values[at].abs();
                !values[at].is_finite()
                    || (values[at].abs() > unmasked && stays(at_y[at]) && stays(at_z[at]))
            };
            let counted = |of: Vec<f64>| -> Vec<f64> {
                let all = of.into_iter().enumerate();
                all.map(|(at, value)| if is_mask(at) { 0.0 } else { value }).collect()
            };
            let [own, other, between] = [&values, &at_y, &at_z].map(|of| counted(of.clone()));
            let size = largest(&between)
                .max(a.abs() * largest(&own))
                .max((1.0 - a).abs() * largest(&other));
            let rounding = (roundings * noise).max(relative * size);
            // The spread over all three points: how much there is to bend.
            let apart = |p: &[f64], q: &[f64]| {
                p.iter().zip(q).map(|(p, q)| (p - q).abs()).collect::<Vec<_>>()
            };
            let (along, beyond) = (apart(&own, &other), apart(&own, &between));
            let spread = largest(&along).max(largest(&beyond));
            let bend = bends(&own, &other, &between, a);
            for (at, bend) in bend.iter().enumerate() {
                bent[at % features] |= bend.abs() > rounding;
                moved[at % features] |= along[at].max(beyond[at]) > rounding / VISIBLE;
            }
            if spread > found.spread {
                (found.spread, found.rounding) = (spread, rounding);
            }
            let is_judged = spread > 0.0 && rounding <= VISIBLE * spread;
            let worst = (0..bend.len())
                .fold(0, |worst, at| if bend[at].abs() > bend[worst].abs() { at } else { worst });
            let is_bent = bend[worst].abs() > rounding;
            let share = bend[worst].abs() / spread;
            found.is_judged |= is_judged;
            // A deviation beyond rounding counts before one that is not, and one that says something before one that does not.
            let first = (is_bent, is_judged) > (found.is_bent, found.largest.rounding > 0.0);
            if spread > 0.0
                && (is_judged || is_bent)
                && (first || (is_bent == found.is_bent && share > found.largest.share))
            {
                found.largest = Largest {
                    share,
                    rounding: rounding / spread,
                    a,
                    index: multi_index(worst, at_x.dims()),
                    combined: at_z[worst],
                    straight: at_z[worst] - bend[worst],
                };
            }
            found.is_bent |= is_bent;
        }
        let is_enough = found.is_bent && found.largest.share >= at_least;
        if is_enough && bent.iter().zip(&moved).all(|(bent, moved)| *bent || !moved) {
            break;
        }
    }
    found.straight_features = (0..features).filter(|at| moved[*at] && !bent[*at]).collect();
    Ok(found)
}

/// Points apart from the input, each with its distance: first one within its range.
fn points(line: &Line, x: &[Tensor], seed: Seed) -> candle_core::Result<Vec<(f64, Vec<Tensor>)>> {
    let scale = line.scale();
    let mut points = Vec::new();
    let (start, mut within) = (line.start(), line.start());
    let moving = line.other(Distance::Own(1.0), seed)?;
    for (i, own) in x.iter().enumerate() {
        // A member that a line does not move stays here, too.
        let moves = to_f64_vec(&moving[i])? != to_f64_vec(&start[i])?;
        if let (true, Some(other)) = (moves, alternative(own, seed, &format!("input {i}"))?) {
            within[i] = other;
        }
    }
    points.push((scale, within));
    for units in FAR {
        let seed = seed.split(&format!("own {units}"));
        points.push((units * scale, line.other(Distance::Own(units), seed)?));
    }
    for by in FAR {
        // The same as above, where the input is of scale 1.
        if FAR.iter().any(|units| (0.5..2.0).contains(&(by / (units * scale)))) {
            continue;
        }
        let seed = seed.split(&format!("absolute {by}"));
        points.push((by, line.other(Distance::Absolute(by), seed)?));
    }
    Ok(points)
}

/// How often one unit in the last place counts, and rounding as a share of the largest output whatever the noise: by the
/// coarser of input and output.
fn rounding(output: DType, x: &[Tensor], terms: usize) -> (f64, f64) {
    let formats = x.iter().map(Tensor::dtype).chain([output]);
    let coarsest = formats.filter_map(epsilon).fold(0.0, f64::max);
    match coarsest > 1e-4 {
        true => (ROUNDINGS_OF_HALF, ROUNDINGS_OF_HALF * coarsest),
        false => (ROUNDINGS, ROUNDINGS * coarsest * (terms as f64).sqrt()),
    }
}

/// The outputs at a point, where there are some as at `x`, and infinite ones are what they are there: masked.
fn finite(
    f: &mut Function<'_>,
    point: &[Tensor],
    at_x: &Tensor,
    own: &[f64],
) -> Result<Option<Vec<f64>>> {
    let Ok(output) = f(point) else { return Ok(None) };
    if output.dims() != at_x.dims() {
        return Ok(None);
    }
    let values = to_f64_vec(&output)?;
    let as_at_x = |(here, there): (&f64, &f64)| match there.is_finite() {
        true => here.is_finite(),
        false => here == there,
    };
    Ok(values.iter().zip(own).all(as_at_x).then_some(values))
}

/// How much the outputs at a point change when it moves by one unit in its last place.
fn noise(f: &mut Function<'_>, point: &[Tensor], own: &[f64], seed: Seed) -> Result<Option<f64>> {
    let moved = point.iter().enumerate().map(|(i, t)| nudged(t, seed, &format!("input {i}")));
    let Ok(output) = f(&moved.collect::<candle_core::Result<Vec<_>>>()?) else { return Ok(None) };
    let (moved, unmasked) = (to_f64_vec(&output)?, size(own));
    let pairs = own.iter().zip(&moved).filter(|(own, _)| own.abs() <= unmasked);
    let change = pairs.map(|(own, moved)| (own - moved).abs()).fold(0.0, f64::max);
    Ok((moved.len() == own.len() && change.is_finite()).then_some(change))
}

fn largest(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).fold(0.0, f64::max)
}
