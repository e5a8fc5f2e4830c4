//! What a loss is tested with: predictions and targets made for its contract.

use candle_core::{DType, Tensor};

use crate::{
    Contract, Failure, Result, Seed,
    measure::{
        losses::{Kind, Point, log_softmax, softmax},
        values::to_f64_vec,
        vectors::length,
    },
};

/// A prediction and its target.
#[derive(Clone)]
pub(super) struct Probe {
    pub(super) aim: Aim,
    pub(super) prediction: Tensor,
    pub(super) target: Tensor,
    /// The same in numbers, as the tensors' dtype rounds them.
    pub(super) point: Point,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Random,
    /// Between 0.1 and 0.9: for losses that take a logarithm where none belongs.
    Positive,
    Perfect,
    /// What knows nothing.
    Uniform,
    Wrong,
}

impl Aim {
    pub(super) fn name(self) -> &'static str {
        match self {
            Aim::Random => "random",
            Aim::Positive => "between 0.1 and 0.9",
            Aim::Perfect => "perfect",
            Aim::Uniform => "uniform",
            Aim::Wrong => "wrong",
        }
    }
}

/// How sure the perfect and the wrong prediction of logits are.
pub(super) const SURE: f64 = 100.0;

/// Makes probes for one contract.
pub(super) struct Probes<'c> {
    pub(super) contract: &'c Contract,
    pub(super) kind: Kind,
    /// The dims of a row's prediction, and of its target.
    pub(super) shape: Vec<usize>,
    pub(super) target_shape: Vec<usize>,
    pub(super) rows: usize,
    seed: Seed,
}

impl<'c> Probes<'c> {
    /// `None` for a contract without a formula.
    pub(super) fn new(contract: &'c Contract, seed: Seed) -> Option<Self> {
        let kind = contract.kind()?.clone();
        let given = || contract.target_shape.clone();
        let (shape, target_shape) = if kind.is_of_classes() {
            let labels = given().unwrap_or_default();
            let scores: Vec<usize> = labels.iter().copied().chain([contract.classes]).collect();
            let target = if contract.soft { scores.clone() } else { labels };
            (contract.shape.clone().unwrap_or(scores), target)
        } else {
            let usual = match (&kind, contract.labels) {
                (Kind::Contrastive(_), _) => 16,
                (_, Some(classes)) => classes,
                _ => 3,
            };
            let fallback = if contract.labels.is_none() { given() } else { None };
            let shape = contract.shape.clone().or(fallback).unwrap_or_else(|| vec![usual]);
            let own = if contract.labels.is_some() { Vec::new() } else { shape.clone() };
            let target = given().unwrap_or(own);
            (shape, target)
        };
        let wide = shape.iter().product::<usize>().max(1);
        // Enough to see every row by itself, and few where each holds thousands of values.
        let rows = contract.rows.unwrap_or((4096 / wide).clamp(4, 12));
        Some(Self { contract, kind, shape, target_shape, rows, seed })
    }

    /// The same probes for another contract.
    pub(super) fn of<'o>(&self, contract: &'o Contract) -> Option<Probes<'o>> {
        Probes::new(contract, self.seed)
    }

    /// The same probes for other dims of a row.
    pub(super) fn shaped(&self, shape: &[usize], target_shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            target_shape: target_shape.to_vec(),
            kind: self.kind.clone(),
            ..*self
        }
    }

    /// How many labels a row has.
    pub(super) fn positions(&self) -> usize {
        match self.kind.is_of_classes() {
            true => self.shape.iter().product::<usize>() / self.contract.classes.max(1),
            false => 1,
        }
    }

    fn width(&self) -> usize {
        match self.kind.is_of_classes() {
            true => self.contract.classes,
            false => self.shape.iter().product::<usize>().max(1),
        }
    }

    /// Every number of the draw called `label`.
    fn draws(&self, label: &str, aim: Aim, rows: usize, range: (f64, f64), n: usize) -> Vec<f64> {
        let label = format!("{label} {} {rows}", aim.name());
        let units = self.seed.units(&label, n).into_iter();
        units.map(|unit| range.0 + (range.1 - range.0) * unit).collect()
    }

    /// `None` where the kind of loss has no such prediction.
    pub(super) fn make(&self, aim: Aim, rows: usize) -> Result<Option<Probe>> {
        let (positions, width) = (self.positions(), self.width());
        let target = self.target(aim, rows);
        let n = rows * positions * width;
        let prediction = match aim {
            Aim::Random => Some(self.random(rows, n)),
            Aim::Positive => match self.kind {
                Kind::Squared
                | Kind::Absolute
                | Kind::Huber(_)
                | Kind::CrossEntropy
                | Kind::BinaryCrossEntropyWithLogits => {
                    Some(self.draws("prediction", aim, rows, (0.1, 0.9), n))
                }
                _ => None,
            },
            Aim::Perfect => self.perfect(&target, rows),
            Aim::Uniform => self.uniform(&target, n),
            Aim::Wrong => self.wrong(&target, rows),
        };
        let Some(prediction) = prediction else { return Ok(None) };
        let dims = |shape: &[usize]| [&[rows], shape].concat();
        let Contract { dtype, device, .. } = self.contract;
        let tensor = |values: Vec<f64>, shape: &[usize], dtype: DType| {
            Tensor::from_vec(values, dims(shape), device)?.to_dtype(dtype)
        };
        let prediction = tensor(prediction, &self.shape, *dtype)?;
        let target = tensor(target, &self.target_shape, self.target_dtype())?;
        let point = Point {
            prediction: to_f64_vec(&prediction)?,
            target: to_f64_vec(&target)?,
            rows,
            positions,
            width,
            soft: self.contract.soft,
        };
        Ok(Some(Probe { aim, prediction, target, point }))
    }

    pub(super) fn probe(&self, aim: Aim, rows: usize) -> Result<Probe> {
        let probe = self.make(aim, rows)?;
        probe.ok_or_else(|| Failure::not_run(format!("no {} prediction is known", aim.name())))
    }

    /// The targets of a probe with every ignored label replaced by the first that counts.
    pub(super) fn with_labels_that_count(&self, probe: &Probe) -> Result<Tensor> {
        let (ignored, usual) = (self.ignored(), self.classes()[0]);
        let label = |label: &f64| if Some(*label) == ignored { usual } else { *label };
        let labels: Vec<f64> = probe.point.target.iter().map(label).collect();
        let labels = Tensor::from_vec(labels, probe.target.shape(), &self.contract.device)?;
        Ok(labels.to_dtype(self.target_dtype())?)
    }

    pub(super) fn are_labels(&self) -> bool {
        (self.kind.is_of_classes() && !self.contract.soft) || self.contract.labels.is_some()
    }

    pub(super) fn target_dtype(&self) -> DType {
        let usual = match (self.are_labels(), self.ignored()) {
            (true, Some(ignored)) if ignored < 0.0 => DType::I64,
            (true, _) => DType::U32,
            (false, _) => self.contract.dtype,
        };
        self.contract.target_dtype.unwrap_or(usual)
    }

    pub(super) fn ignored(&self) -> Option<f64> {
        self.contract.reference.as_ref().and_then(|reference| reference.ignored)
    }

    /// The labels that count.
    fn classes(&self) -> Vec<f64> {
        let all = self.contract.labels.unwrap_or(self.contract.classes);
        let all = (0..all).map(|class| class as f64);
        all.filter(|class| Some(*class) != self.ignored()).collect()
    }

    fn target(&self, aim: Aim, rows: usize) -> Vec<f64> {
        let n = rows * self.target_shape.iter().product::<usize>().max(1);
        // Perfect, uniform and wrong predictions are of the same targets.
        let aim = if matches!(aim, Aim::Random | Aim::Positive) { aim } else { Aim::Perfect };
        let draws = |range| self.draws("target", aim, rows, range, n);
        if self.are_labels() {
            return self.labels(n, &draws((0.0, 1.0)));
        }
        match self.kind {
            _ if self.contract.soft => {
                let rows = draws((-1.5, 1.5));
                rows.chunks_exact(self.contract.classes).flat_map(softmax).collect()
            }
            // Both answers come up in every batch.
            Kind::BinaryCrossEntropy | Kind::BinaryCrossEntropyWithLogits => {
                let bits = draws((0.0, 1.0)).into_iter().enumerate();
                bits.map(|(i, unit)| match i {
                    0 | 1 => i as f64,
                    _ => f64::from(unit < 0.5),
                })
                .collect()
            }
            Kind::Huber(delta) => draws((-1.5 * delta, 1.5 * delta)),
            Kind::Contrastive(_) => self.unit_rows(draws((-1.0, 1.0))),
            _ => draws(self.contract.targets),
        }
    }

    /// Every class in turn, in an order of the draw; some labels are the ignored one.
    fn labels(&self, n: usize, draws: &[f64]) -> Vec<f64> {
        let classes = self.classes();
        let start = (draws.first().copied().unwrap_or(0.0) * classes.len() as f64) as usize;
        let mut labels: Vec<f64> = (0..n).map(|i| classes[(start + i) % classes.len()]).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| draws[*a].total_cmp(&draws[*b]));
        labels = order.into_iter().map(|at| labels[at]).collect();
        if let Some(ignored) = self.ignored() {
            // The first counts and the last does not; a third of the others do not.
            for i in 1..n {
                let again = draws[i] * 7.0;
                if i + 1 == n || again.fract() < 1.0 / 3.0 {
                    labels[i] = ignored;
                }
            }
        }
        labels
    }

    fn unit_rows(&self, values: Vec<f64>) -> Vec<f64> {
        let unit = |row: &[f64]| {
            let size = length(row);
            row.iter().map(|v| v / size).collect::<Vec<_>>()
        };
        values.chunks_exact(self.width()).flat_map(unit).collect()
    }

    fn random(&self, rows: usize, n: usize) -> Vec<f64> {
        let draws = |range| self.draws("prediction", Aim::Random, rows, range, n);
        match self.kind {
            Kind::CrossEntropy => draws((-2.5, 2.5)),
            Kind::NegativeLogLikelihood | Kind::KullbackLeibler | Kind::KullbackLeiblerSwapped => {
                let rows = draws((-2.5, 2.5));
                rows.chunks_exact(self.width()).flat_map(log_softmax).collect()
            }
            Kind::BinaryCrossEntropy => draws((0.05, 0.95)),
            Kind::BinaryCrossEntropyWithLogits => draws((-3.0, 3.0)),
            Kind::Huber(delta) => draws((-1.5 * delta, 1.5 * delta)),
            Kind::Contrastive(_) => self.unit_rows(draws((-1.0, 1.0))),
            _ => draws(self.contract.predictions),
        }
    }

    /// The distribution that each label asks for, as scores.
    fn best(&self, target: &[f64], rows: usize, moved: usize) -> Vec<f64> {
        let (classes, positions) = (self.contract.classes, self.positions());
        let reference = self.contract.reference.as_ref();
        let shift = reference.map_or(0, |reference| reference.shift);
        let (low, high) = match self.kind {
            Kind::CrossEntropy => (-SURE, SURE),
            _ => (-SURE, 0.0),
        };
        let smoothed = reference.filter(|r| r.other > 0.0 && moved == 0);
        let (low, high) = smoothed.map_or((low, high), |r| (r.other.ln(), r.own.ln()));
        let mut scores = vec![low; rows * positions * classes];
        for label in 0..rows * positions {
            let at = (label % positions) as i64 + shift;
            let wanted = if (0..positions as i64).contains(&at) {
                target[label - label % positions + at as usize]
            } else {
                0.0
            };
            let class = wanted.max(0.0) as usize + moved;
            scores[label * classes + class % classes] = high;
        }
        scores
    }

    fn perfect(&self, target: &[f64], rows: usize) -> Option<Vec<f64>> {
        let sure = if self.contract.dtype == DType::F16 { 30.0 } else { SURE };
        Some(match self.kind {
            ref kind if kind.is_of_classes() && !self.contract.soft => self.best(target, rows, 0),
            ref kind if kind.is_of_classes() => target.iter().map(|share| share.ln()).collect(),
            Kind::BinaryCrossEntropyWithLogits => {
                target.iter().map(|t| (2.0 * t - 1.0) * sure).collect()
            }
            Kind::Rows(_) | Kind::Batch(_) => return None,
            _ => target.to_vec(),
        })
    }

    fn uniform(&self, target: &[f64], n: usize) -> Option<Vec<f64>> {
        let value = match self.kind {
            Kind::CrossEntropy | Kind::BinaryCrossEntropyWithLogits => 0.0,
            Kind::BinaryCrossEntropy => 0.5,
            ref kind if kind.is_of_classes() => -(self.contract.classes as f64).ln(),
            Kind::Squared | Kind::Absolute | Kind::Huber(_) => {
                target.iter().sum::<f64>() / target.len() as f64
            }
            _ => return None,
        };
        Some(vec![value; n])
    }

    fn wrong(&self, target: &[f64], rows: usize) -> Option<Vec<f64>> {
        let classes = self.contract.classes;
        Some(match self.kind {
            ref kind if kind.is_of_classes() && !self.contract.soft => self.best(target, rows, 1),
            ref kind if kind.is_of_classes() => {
                let turned = target.chunks_exact(classes).flat_map(|row| {
                    let least = row.iter().copied().fold(f64::INFINITY, f64::min);
                    let most = row.iter().copied().fold(0.0, f64::max);
                    row.iter().map(move |share| (most + least - share).max(1e-3).ln())
                });
                turned.collect::<Vec<f64>>().chunks_exact(classes).flat_map(log_softmax).collect()
            }
            Kind::BinaryCrossEntropy => target.iter().map(|t| 1.0 - t).collect(),
            Kind::BinaryCrossEntropyWithLogits => {
                self.perfect(target, rows)?.iter().map(|logit| -logit).collect()
            }
            Kind::Squared | Kind::Absolute => target.iter().map(|t| t + 3.0).collect(),
            Kind::Huber(delta) => target.iter().map(|t| t + 3.0 * delta).collect(),
            // Each row points to the next one's partner.
            Kind::Contrastive(_) => {
                let (first, rest) = target.split_at(self.width());
                rest.iter().chain(first).copied().collect()
            }
            _ => return None,
        })
    }
}
