mod epoch;
mod evaluation;
mod ids;
mod judged;
mod texture;

use std::{fmt, panic::Location};

use candle_core::Tensor;

use crate::{Cause, Failure, Finding, Result, check::call, verdict::count};
use epoch::{Epoch, Source, deliver};
use ids::{Fit, Ids, Reader};
use judged::Told;

/// A data pipeline delivers every sample once an epoch, with its own target, in an order that changes.
///
/// The pipeline is a closure that is given an epoch's number and returns its batches, `(input, target)` each. It is run
/// over marker samples instead of the data, so that every row says which it is: [`synthetic::markers`](crate::synthetic::markers)
/// makes them. Whatever shuffles, cuts, loads and augments stays as it is:
///
/// ```
/// use candling::{check::Pipeline, prelude::*, synthetic};
///
/// # struct Loader;
/// # impl Loader {
/// #     fn epoch(&self, x: &Tensor, y: &Tensor, epoch: usize) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
/// #         let key = Seed::new(7).uniform(&format!("{epoch}"), 0.0..1.0, x.dim(0)?, DType::F32, &Device::Cpu)?;
/// #         let order = key.arg_sort_last_dim(true)?;
/// #         let x = ((x.index_select(&order, 0)? - 0.5)? / 0.5)?;
/// #         let y = y.index_select(&order, 0)?;
/// #         (0..x.dim(0)?).step_by(6).map(|i| {
/// #             let n = 6.min(x.dim(0)? - i);
/// #             Ok((x.narrow(0, i, n)?, y.narrow(0, i, n)?))
/// #         }).collect()
/// #     }
/// # }
/// # let loader = Loader;
/// let (x, y) = synthetic::markers(20, (1, 8, 8))?;
/// let report = Pipeline::new().check(|epoch| Ok(loader.epoch(&x, &y, epoch)?), 20)?;
/// assert_eq!(report.batches, [6, 6, 6, 2]);
///
/// // The last batch is thrown away.
/// let cut = |epoch| Ok(loader.epoch(&x, &y, epoch)?.into_iter().take(3).collect());
/// let failure = Pipeline::new().check(cut, 20).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::SamplesMissing));
/// # candling::Result::Ok(())
/// ```
///
/// # How a row is read
///
/// The target of sample `i` is `i`, or a one-hot row with its one at `i`. The input is read by its mean, or its median,
/// through whatever affine function the pipeline scales it with; flips, crops, erased patches and some noise do no harm. An
/// input whose values are all `i`, or a one-hot row, is read, too. Where the pipeline does more to them, say how to read a row:
/// [`read_input`](Pipeline::read_input), [`read_target`](Pipeline::read_target).
///
/// # Failures
///
/// - an input with another sample's target, or a batch with more inputs than targets: [`Cause::PairsBroken`]; with
///   [`aligned`](Pipeline::aligned), also a target picture that was flipped, cropped or turned otherwise than its input;
/// - a sample that an epoch leaves out or delivers twice, a batch that comes twice, an empty batch, no batch:
///   [`Cause::SamplesMissing`]; a last short batch may be dropped where [`drop_last`](Pipeline::drop_last) says so, and a
///   weighted sampler may repeat and leave out where [`repeats`](Pipeline::repeats) does;
/// - one order in every epoch, or batches of the same samples in every epoch: [`Cause::OrderNotShuffled`]. Judged from 16
///   samples on, where chance would need an age for it, and unless [`shuffled`](Pipeline::shuffled) is false;
/// - a feature of the input that is the target: [`Cause::LabelLeaked`];
/// - two batches of different samples that were augmented with the same draws, row by row: [`Cause::AugmentationRepeated`];
/// - with [`evaluation`](Pipeline::evaluation), an evaluation that delivers other inputs at every call, or that prepares a
///   sample otherwise than the training: [`Cause::PreprocessingDiffers`]; one that gives an input another target at every
///   call: [`Cause::NotReproducible`];
/// - values that are not finite: [`Cause::NotFinite`];
/// - fewer than 8 samples, numbers that cannot be read, a closure that returns an error or panics: the check does not run.
#[must_use = "options do nothing until `check` is called"]
pub struct Pipeline<'a> {
    shuffled: bool,
    drop_last: bool,
    repeats: bool,
    aligned: bool,
    epochs: usize,
    evaluation: Option<Box<Source<'a>>>,
    read_input: Option<Box<Reader<'a>>>,
    read_target: Option<Box<Reader<'a>>>,
    allowed: Vec<Cause>,
}

/// What a passed [`Pipeline`] delivered.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineReport {
    /// How many epochs were run.
    pub epochs: usize,
    /// The rows of each batch of the first epoch.
    pub batches: Vec<usize>,
    /// How many samples the first epoch leaves out: 0, but with `drop_last` and `repeats`.
    pub left_out: usize,
    /// Whether the order was judged: it is not below 16 samples, nor where the pipeline does not shuffle.
    pub order_judged: bool,
}

/// Wrong pairs lie on a line in 2 of n! orders: with 8 samples once in 20,000 times, with fewer too often for a proof.
const SAMPLES: usize = 8;

/// One order comes up twice in 16! = 2e13 shuffles.
const SAMPLES_FOR_ORDER: usize = 16;

impl Default for Pipeline<'_> {
    fn default() -> Self {
        Self {
            shuffled: true,
            drop_last: false,
            repeats: false,
            aligned: false,
            epochs: 3,
            evaluation: None,
            read_input: None,
            read_target: None,
            allowed: Vec::new(),
        }
    }
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("shuffled", &self.shuffled)
            .field("drop_last", &self.drop_last)
            .field("repeats", &self.repeats)
            .field("aligned", &self.aligned)
            .field("epochs", &self.epochs)
            .field("evaluation", &self.evaluation.is_some())
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

impl<'a> Pipeline<'a> {
    /// A pipeline for training: it shuffles, and drops and repeats nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether every epoch has an order of its own. False for evaluation and for series in time. Default: true.
    pub fn shuffled(mut self, shuffled: bool) -> Self {
        self.shuffled = shuffled;
        self
    }

    /// Whether the last batch of an epoch is left out where it would be short. Default: false.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// Whether a sampler draws with replacement, or by weight: samples may then repeat and be left out. Default: false.
    pub fn repeats(mut self, repeats: bool) -> Self {
        self.repeats = repeats;
        self
    }

    /// Whether targets are pictures that have to move with their inputs, as masks do. Takes
    /// [`synthetic::marker_pictures`](crate::synthetic::marker_pictures). Default: false.
    pub fn aligned(mut self, aligned: bool) -> Self {
        self.aligned = aligned;
        self
    }

    /// How many epochs are run: 2 or more. Default: 3.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// The pipeline of the evaluation, over the same samples: it must deliver the same bits at every call, and what
    /// training makes of a sample. Default: none.
    pub fn evaluation(
        mut self,
        evaluation: impl FnMut(usize) -> Result<Vec<(Tensor, Tensor)>> + 'a,
    ) -> Self {
        self.evaluation = Some(Box::new(evaluation));
        self
    }

    /// Reads the number of a sample from its input as delivered, without the batch's dimension. Default: as above.
    pub fn read_input(
        mut self,
        read: impl FnMut(&Tensor) -> candle_core::Result<usize> + 'a,
    ) -> Self {
        self.read_input = Some(Box::new(read));
        self
    }

    /// Reads the number of a sample from its target as delivered, without the batch's dimension. Default: as above.
    pub fn read_target(
        mut self,
        read: impl FnMut(&Tensor) -> candle_core::Result<usize> + 'a,
    ) -> Self {
        self.read_target = Some(Box::new(read));
        self
    }

    /// A cause that is no failure here. May be called several times.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `pipeline` for some epochs over `samples` marker samples.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(
        self,
        mut pipeline: impl FnMut(usize) -> Result<Vec<(Tensor, Tensor)>>,
        samples: usize,
    ) -> Result<PipelineReport> {
        let location = Location::caller();
        call::signed("pipeline", location, self.judge(&mut pipeline, samples))
    }

    fn judge(mut self, pipeline: &mut Source<'_>, samples: usize) -> Result<PipelineReport> {
        if samples < SAMPLES {
            let allowed =
                format!("{SAMPLES} or more, and {SAMPLES_FOR_ORDER} or more for the order");
            return Err(Failure::bad_argument("samples", samples, allowed));
        }
        if self.epochs < 2 {
            return Err(Failure::bad_argument("epochs", self.epochs, "2 or more"));
        }
        let epochs = self.deliver_all("the pipeline", pipeline, self.epochs)?;
        let mut told: Vec<Told> = Vec::new();
        if self.aligned {
            told.extend(texture::aligned(&epochs)?);
        }
        let read = self.read("the pipeline", &epochs, samples)?;
        told.extend(read.leak.clone());
        told.extend(judged::pairs(&epochs, &read.inputs, &read.targets));
        if !self.repeats {
            told.extend(judged::missing(&epochs, &read.targets, samples, self.drop_last));
        }
        let order_judged = self.shuffled && samples >= SAMPLES_FOR_ORDER;
        // Only the side that is shuffled has an order to judge, where pairs are broken.
        if order_judged && read.inputs == read.targets {
            told.extend(judged::order(&epochs, &read.targets));
        }
        if self.shuffled {
            told.extend(texture::repeated(&epochs, &read.targets));
        }
        if let Some(mut evaluation) = self.evaluation.take() {
            told.extend(self.beside(&mut *evaluation, &epochs, &read, samples)?);
        }
        told.retain(|(_, finding)| !self.allowed.contains(&finding.cause()));
        if let Some((headline, _)) = told.first() {
            let failure = Failure::violated(headline.clone())
                .fact("samples", samples.to_string())
                .fact("epoch 0", delivered(&epochs[0]));
            let findings: Vec<Finding> = told.into_iter().map(|(_, finding)| finding).collect();
            return Err(failure.with_findings(findings));
        }
        let mut seen = vec![false; samples];
        read.targets[0].iter().for_each(|id| seen[*id] = true);
        Ok(PipelineReport {
            epochs: epochs.len(),
            batches: epochs[0].sizes.clone(),
            left_out: seen.iter().filter(|seen| !**seen).count(),
            order_judged,
        })
    }

    fn deliver_all(
        &self,
        what: &str,
        source: &mut Source<'_>,
        epochs: usize,
    ) -> Result<Vec<Epoch>> {
        (0..epochs).map(|epoch| deliver(what, source, epoch)).collect()
    }

    fn read(&mut self, what: &str, epochs: &[Epoch], samples: usize) -> Result<Read> {
        let targets = match &mut self.read_target {
            Some(reader) => {
                ids::of_closure("`read_target`", epochs, samples, &mut **reader, |s| &s.y)?
            }
            None if self.aligned => ids::of_pictures(epochs, samples)?,
            None => ids::of_targets(epochs, samples)?,
        };
        if let Some(reader) = &mut self.read_input {
            let inputs = ids::of_closure("`read_input`", epochs, samples, &mut **reader, |s| &s.x)?;
            return Ok(Read { targets, inputs, fit: None, leak: None });
        }
        let features = match self.aligned {
            true => Vec::new(),
            false => texture::leaked(epochs, &targets, samples),
        };
        // Only where the other features are the markers' own: who made markers of another kind put the number in on purpose.
        let read = ids::of_inputs(epochs, &targets, samples, &features);
        let (inputs, fit) = read.map_err(|failure| failure.fact("of", what))?;
        let leak = (!features.is_empty()).then(|| texture::leak(&features));
        Ok(Read { targets, inputs, fit, leak })
    }

    /// What the pipeline of the evaluation tells, and what both together do.
    fn beside(
        &mut self,
        evaluation: &mut Source<'_>,
        epochs: &[Epoch],
        trained: &Read,
        samples: usize,
    ) -> Result<Vec<Told>> {
        let evaluated = self.deliver_all("the evaluation", evaluation, 2)?;
        if let Some(told) = evaluation::steady(&evaluated) {
            return Ok(vec![told]);
        }
        let read = self.read("the evaluation", &evaluated, samples)?;
        let of_evaluation =
            |(headline, finding): Told| (format!("in the evaluation, {headline}"), finding);
        let mut told = Vec::new();
        told.extend(judged::pairs(&evaluated, &read.inputs, &read.targets).map(of_evaluation));
        // Nothing of an evaluation is dropped or repeated on purpose.
        let missing = judged::missing(&evaluated, &read.targets, samples, false);
        let missing =
            missing.map(|(headline, finding)| (headline, finding.advice_is(EVERY_SAMPLE)));
        told.extend(missing.map(of_evaluation));
        told.extend(evaluation::agrees(
            (epochs, &trained.targets, trained.fit),
            (&evaluated, &read.targets, read.fit),
            samples,
        ));
        Ok(told)
    }
}

const EVERY_SAMPLE: &str = "an evaluation counts every sample once: no early break, no sampling, and a last batch that is as short as it comes";

/// Which samples were delivered.
struct Read {
    targets: Ids,
    inputs: Ids,
    fit: Option<Fit>,
    leak: Option<Told>,
}

/// `4 batches of 6, 6, 6, 2 rows`.
fn delivered(epoch: &Epoch) -> String {
    const SHOWN: usize = 8;
    let sizes: Vec<String> = epoch.sizes.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if epoch.sizes.len() > SHOWN { ", .." } else { "" };
    format!("{} of {}{more} rows", count(epoch.sizes.len(), "batch"), sizes.join(", "))
}
