//! The costs of a batch, one by one.

use super::{Kind, Point, Reference, contrastive, rows::log_softmax};

/// What each label, element or row costs, times its weight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) costs: Vec<f64>,
    pub(crate) weights: Vec<f64>,
    pub(crate) rows: usize,
}

impl Terms {
    fn even(costs: Vec<f64>, rows: usize) -> Self {
        Self { weights: vec![1.0; costs.len()], costs, rows }
    }

    pub(crate) fn per_row(&self) -> usize {
        (self.costs.len() / self.rows.max(1)).max(1)
    }
}

pub(crate) fn terms(reference: &Reference, point: &Point) -> Terms {
    match &reference.kind {
        Kind::Contrastive(pairs) => {
            let costs = contrastive::costs(*pairs, point, reference.normalised);
            Terms::even(costs, point.rows)
        }
        Kind::Rows(cost) => {
            let (wide, deep) = (point.row_len().max(1), point.target.len() / point.rows.max(1));
            let rows = point.prediction.chunks_exact(wide);
            let costs = rows.zip(point.target.chunks(deep.max(1))).map(|(p, t)| cost(p, t));
            Terms::even(costs.collect(), point.rows)
        }
        Kind::Batch(cost) => Terms::even(vec![cost(&point.prediction, &point.target)], 1),
        kind if kind.is_of_classes() => of_classes(reference, point),
        _ => elementwise(reference, point),
    }
}

fn of_classes(reference: &Reference, point: &Point) -> Terms {
    let mut all = Terms { rows: point.rows, ..Terms::default() };
    let logs: Vec<Vec<f64>> = point
        .predictions()
        .map(|row| match reference.kind {
            Kind::CrossEntropy => log_softmax(row),
            _ if reference.normalised => log_softmax(row),
            _ => row.to_vec(),
        })
        .collect();
    for (label, logs_here) in logs.iter().enumerate() {
        let (row, at) = (label / point.positions, (label % point.positions) as i64);
        let target = at + reference.shift;
        if target < 0 || target >= point.positions as i64 {
            continue;
        }
        let target = row * point.positions + target as usize;
        let (cost, weight) = if point.soft {
            let shares = &point.target[target * point.width..(target + 1) * point.width];
            (of_distribution(reference, logs_here, shares), 1.0)
        } else if !point.counts(reference.ignored, target) {
            (0.0, 0.0)
        } else {
            of_label(reference, logs_here, point.target[target])
        };
        all.costs.push(cost);
        all.weights.push(weight);
    }
    all
}

fn weight(reference: &Reference, class: usize) -> f64 {
    reference.class_weights.as_ref().and_then(|w| w.get(class)).copied().unwrap_or(1.0)
}

fn of_label(reference: &Reference, logs: &[f64], label: f64) -> (f64, f64) {
    let cost = logs.iter().enumerate().map(|(class, log)| {
        let share = if class as f64 == label { reference.own } else { reference.other };
        // A share of nothing costs nothing, whatever its logarithm.
        if share == 0.0 { 0.0 } else { -share * weight(reference, class) * log }
    });
    (cost.sum(), weight(reference, label.max(0.0) as usize))
}

fn of_distribution(reference: &Reference, logs: &[f64], shares: &[f64]) -> f64 {
    let x_ln_x = |x: f64| if x > 0.0 { x * x.ln() } else { 0.0 };
    let each =
        logs.iter().zip(shares).enumerate().map(|(class, (log, share))| match reference.kind {
            Kind::KullbackLeibler => x_ln_x(*share) - share * log,
            Kind::KullbackLeiblerSwapped => log.exp() * (log - share.ln()),
            _ if *share == 0.0 => 0.0,
            _ => -share * weight(reference, class) * log,
        });
    each.sum()
}

fn elementwise(reference: &Reference, point: &Point) -> Terms {
    let cost = |p: f64, t: f64| match reference.kind {
        Kind::BinaryCrossEntropy => {
            let term = |weight: f64, share: f64, p: f64| {
                if weight * share == 0.0 { 0.0 } else { -weight * share * p.ln() }
            };
            term(reference.positive, t, p) + term(reference.negative, 1.0 - t, 1.0 - p)
        }
        Kind::BinaryCrossEntropyWithLogits => {
            // log(1 + exp(-p)) without overflow.
            let softplus = |v: f64| v.max(0.0) + (-v.abs()).exp().ln_1p();
            reference.positive * t * softplus(-p) + reference.negative * (1.0 - t) * softplus(p)
        }
        Kind::Absolute => (p - t).abs(),
        Kind::Huber(delta) => match (p - t).abs() {
            error if error <= delta => error * error / 2.0,
            error => delta * (error - delta / 2.0),
        },
        _ => (p - t) * (p - t),
    };
    if reference.crossed {
        let pairs = point.target.iter();
        let pairs = pairs.flat_map(|t| point.prediction.iter().map(move |p| (*p, *t)));
        return Terms::even(pairs.map(|(p, t)| cost(p, t)).collect(), point.rows);
    }
    let pairs = point.prediction.iter().zip(&point.target);
    Terms::even(pairs.map(|(p, t)| cost(*p, *t)).collect(), point.rows)
}
