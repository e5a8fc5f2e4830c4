use std::{cell::RefCell, fmt, panic::Location, rc::Rc};

use candle_core::backprop::GradStore;

use super::{
    Cut,
    accumulated::{self, Accumulate},
    judged::{found, not_vacuous, report, whole},
    split::{Split, joined},
    weighting::Weighting,
    why,
};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{arguments, call},
    measure::micro_batches::{Micro, targets_per_row},
};

/// The gradients of micro-batches add up to the gradient of the batch.
///
/// Gradient accumulation is meant to be the same training in less memory. It is that only where every micro-batch is
/// weighted as the loss asks for: a mean over rows by the share of rows, a mean over tokens by the share of tokens, a sum
/// not at all. And it is never that for a loss or a model in which the rows of a batch depend on each other.
///
/// # What must hold
///
/// The batch is cut into halves, into thirds, into one row and the rest, and into one row, the rest of a half, and a
/// half; or into [`parts`](Self::parts). Of each variable the gradients of the parts, weighted, must sum to the gradient
/// of the batch. The weights are shares of the rows, or 1 for a loss that sums, or shares of the targets that are no
/// padding, or whatever one count over the rows makes of them: which holds is measured, and stands in the report. A way to
/// cut that the learner refuses, such as a single row, is left out, and stands there, too, unless all are. A
/// [`weighting`](Self::weighting) that is named must hold itself, and so must the training loop's own code, where
/// [`accumulate`](Self::accumulate) has it.
///
/// The tolerance is measured on this model: how far each gradient moves when every variable moves by its last bit, and
/// when the rows of the batch come in another order. Variables in which that is 10 % of the gradient or more say nothing
/// and are left out. Models are evaluated in evaluation mode, unless [`training`](Self::training) asks for the other:
/// batch norm, for one, sees another batch by nature there.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with the variable, the split and the weights; `Vacuous` for a batch of one
/// row, a gradient that is zero or all rounding, and micro-batches that are all alike; `NotRun` for a learner from
/// [`Learner::from_loss`], whose data cannot be cut, a random forward pass, or a closure that returns an error.
///
/// *Source:* P. Goyal et al., *Accurate, Large Minibatch SGD* (2017), section 3; the mean of means over unequal numbers of
/// tokens is what Hugging Face Transformers and others had until October 2024.
///
/// # Examples
///
/// ```
/// use candling::{check::{AccumulationEquivalent, Weighting}, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(4, 3, vb)?;
/// let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 8, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| layer.forward(x), loss::cross_entropy);
///
/// let report = AccumulationEquivalent::new().check(&learner, (&x, &y))?;
/// assert_eq!(report.weighting.to_string(), "by rows");
///
/// // The last micro-batch is smaller, and every one is divided by their number.
/// let failure = AccumulationEquivalent::new()
///     .parts([3, 3, 2])
///     .weighting(Weighting::Equal)
///     .check(&learner, (&x, &y))
///     .unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::AccumulationDiffers));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct AccumulationEquivalent<'a> {
    parts: Option<Vec<usize>>,
    weighting: Option<Weighting>,
    accumulate: Option<Rc<RefCell<Accumulate<'a>>>>,
    training: bool,
    allowed: Vec<Cause>,
}

/// What a passed [`AccumulationEquivalent`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccumulationEquivalentReport {
    /// The weighting that holds: the one asked for, else the one that was found.
    pub weighting: Weighting,
    /// The numbers of rows into which the batch was cut, one list for each way.
    pub splits: Vec<Vec<usize>>,
    /// The ways to cut that were tried and that the learner refused: an error, or a gradient that is not finite. Empty where
    /// the caller named the [`parts`](AccumulationEquivalent::parts).
    pub refused: Vec<Vec<usize>>,
    /// The weight of each part, in the same order as the splits.
    pub weights: Vec<Vec<f64>>,
    /// The largest difference, as a share of the variable's gradient.
    pub difference: f64,
    /// The variables that were compared, sorted by name.
    pub compared: Vec<String>,
    /// The variables whose gradient is zero, or rounding to 10 % or more: nothing is said of them.
    pub left_out: Vec<String>,
    /// What was found and allowed.
    pub allowed: Vec<Finding>,
}

impl Default for AccumulationEquivalent<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> AccumulationEquivalent<'a> {
    /// Several ways to cut, and whatever weighting the loss asks for.
    pub fn new() -> Self {
        Self {
            parts: None,
            weighting: None,
            accumulate: None,
            training: false,
            allowed: Vec::new(),
        }
    }

    /// The number of rows of each micro-batch; together the batch's. Default: several ways to cut it.
    pub fn parts(mut self, rows: impl IntoIterator<Item = usize>) -> Self {
        self.parts = Some(rows.into_iter().collect());
        self
    }

    /// What the training loop multiplies a micro-batch's loss by, which must then hold. Default: the one that the loss
    /// asks for is found.
    pub fn weighting(mut self, weighting: Weighting) -> Self {
        self.weighting = Some(weighting);
        self
    }

    /// The training loop's own accumulation: given the micro-batches, it returns what its optimizer step would be given.
    /// It is called twice on the first way to cut, to see that nothing is left from the step before. Default: none.
    ///
    /// ```
    /// use candling::{check::AccumulationEquivalent, prelude::*};
    ///
    /// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
    /// # let layer = candle_nn::linear(4, 3, vb)?;
    /// # let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
    /// # let y = Seed::new(1).tokens("y", 3, 8, &Device::Cpu)?;
    /// let learner = Learner::new(&vars, |x| layer.forward(x), loss::cross_entropy);
    /// AccumulationEquivalent::new()
    ///     .accumulate(|parts| {
    ///         let rows: usize = parts.iter().filter_map(|part| part.rows()).sum();
    ///         let mut total: Option<candle_core::backprop::GradStore> = None;
    ///         for part in parts {
    ///             let (x, y) = (&part.input()[0], part.target().unwrap());
    ///             let share = x.dim(0)? as f64 / rows as f64;
    ///             let grads = (loss::cross_entropy(&layer.forward(x)?, y)? * share)?.backward()?;
    ///             match &mut total {
    ///                 Some(total) => total.extend(grads)?,
    ///                 None => total = Some(grads),
    ///             }
    ///         }
    ///         Ok(total.unwrap())
    ///     })
    ///     .check(&learner, (&x, &y))?;
    /// # candling::Result::Ok(())
    /// ```
    pub fn accumulate(
        mut self,
        accumulate: impl FnMut(&[Batch]) -> candle_core::Result<GradStore> + 'a,
    ) -> Self {
        self.accumulate = Some(Rc::new(RefCell::new(accumulate)));
        self
    }

    /// Whether a learner with modes is evaluated in training mode. Default `false`.
    pub fn training(mut self, training: bool) -> Self {
        self.training = training;
        self
    }

    /// Does not fail for this cause: it is intended here. [`Cause::AccumulationDiffers`] allows every difference.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares the gradient of `batch`, `(&x, &y)`, with those of its parts. Every variable keeps its value.
    ///
    /// # Errors
    ///
    /// See [`AccumulationEquivalent`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<AccumulationEquivalentReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("accumulation_equivalent", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<AccumulationEquivalentReport> {
        let guard = self.validate(learner, batch)?;
        let rows = batch.rows().unwrap_or(1);
        let splits = self.splits(rows)?;
        let mut micro = Micro::new(learner, batch, self.training, guard.snapshot());
        let first = micro.evaluate(batch)?;
        arguments::evaluation(batch, &first)?;
        drop(first);
        let whole = whole(&micro)?;
        let (splits, refused) = self.cut(&mut micro, splits)?;
        let cut = Cut { of: whole.telling(), whole, splits };
        not_vacuous(&cut, rows)?;

        let found = found(&cut, batch)?;
        let mut allowed = Vec::new();
        let mut judge = |failure: Option<Failure>| -> Result<()> {
            let Some(failure) = failure else { return Ok(()) };
            let findings = failure.findings().to_vec();
            let all = self.allowed.contains(&Cause::AccumulationDiffers);
            if !all && !call::not_allowed(findings.clone(), &self.allowed).is_empty() {
                return Err(failure);
            }
            allowed.extend(findings);
            Ok(())
        };
        match (&self.weighting, &found) {
            (Some(asked), _) if cut.holds(asked)? => {}
            (Some(asked), Some(found)) => judge(Some(why::other_weighting(&cut, asked, found)?))?,
            (None, Some(_)) => {}
            (_, None) => judge(Some(why::none_holds(&mut micro, &cut, &self.allowed)?))?,
        }
        if let Some(accumulate) = &self.accumulate {
            let mut accumulate = accumulate.try_borrow_mut().map_err(|_| {
                Failure::not_run("the accumulation calls the assertion it belongs to")
            })?;
            judge(accumulated::judged(&mut *accumulate, &micro, &cut, found.as_ref())?)?;
        }
        let weighting = self.weighting.clone().or(found).unwrap_or(Weighting::OfTheLoss);
        let mut report = report(&cut, weighting, allowed)?;
        report.refused = refused;
        Ok(report)
    }

    /// A way to cut that the caller did not ask for may be refused: a batch norm of one's own takes no single row.
    fn cut(
        &self,
        micro: &mut Micro<'_, '_>,
        splits: Vec<Vec<usize>>,
    ) -> Result<(Vec<Split>, Vec<Vec<usize>>)> {
        let (mut cut, mut refused, mut first) = (Vec::new(), Vec::new(), None);
        for sizes in splits {
            match Split::of(micro, sizes.clone()) {
                Ok(split) => cut.push(split),
                Err(failure) if self.parts.is_some() => return Err(failure),
                Err(failure) => {
                    refused.push(sizes);
                    first.get_or_insert(failure);
                }
            }
        }
        match first {
            Some(failure) if cut.is_empty() => Err(failure),
            _ => Ok((cut, refused)),
        }
    }

    fn validate(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
    ) -> Result<crate::variables::RestoreOnDrop> {
        if learner.owns_data() {
            return Err(Failure::bad_argument(
                "learner",
                "one from `Learner::from_loss`, whose closure owns its data: they cannot be cut",
                "a learner with a forward and a loss closure",
            ));
        }
        arguments::learner(learner)?;
        arguments::batch(learner, batch)?;
        let (rows, target) = (batch.rows().unwrap_or(1), batch.target());
        let Some(target) = target else {
            return Err(Failure::bad_argument(
                "batch",
                "`()`",
                "an input and its targets, `(&x, &y)`",
            ));
        };
        if target.rank() > 0 && targets_per_row(batch).is_none() {
            return Err(Failure::bad_argument(
                "batch",
                format_args!("{rows} rows with targets of dims {:?}", target.dims()),
                "as many targets for each row",
            ));
        }
        if rows == 1 {
            return Err(Failure::vacuous("the batch has one row: there is nothing to cut")
                .help("give it at least 2 rows, better 8 or more"));
        }
        Ok(Snapshot::take(learner.variables())?.guard())
    }

    /// Into parts that share borders, so that a count over the rows has to be one and the same.
    fn splits(&self, rows: usize) -> Result<Vec<Vec<usize>>> {
        let Some(parts) = &self.parts else {
            let (half, third) = (rows / 2, rows / 3);
            let all = [
                vec![half, rows - half],
                vec![1, rows - 1],
                vec![third, third, rows - 2 * third],
                vec![1, half.saturating_sub(1), rows - half],
            ];
            let mut splits: Vec<Vec<usize>> = Vec::new();
            for split in all {
                if !split.contains(&0) && !splits.contains(&split) {
                    splits.push(split);
                }
            }
            return Ok(splits);
        };
        let sum: usize = parts.iter().sum();
        if parts.len() < 2 || parts.contains(&0) || sum != rows {
            return Err(Failure::bad_argument(
                "parts",
                format_args!("{parts:?}, {sum} rows together"),
                format_args!("2 parts or more of 1 row or more, {rows} rows together"),
            ));
        }
        Ok(vec![parts.clone()])
    }
}

impl fmt::Debug for AccumulationEquivalent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccumulationEquivalent")
            .field("parts", &self.parts.as_ref().map(|p| joined(p.iter().map(usize::to_string))))
            .field("weighting", &self.weighting)
            .field("accumulate", &self.accumulate.is_some())
            .field("training", &self.training)
            .field("allowed", &self.allowed)
            .finish()
    }
}
