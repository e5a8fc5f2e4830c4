mod bending;

use std::panic::Location;

use candle_core::Tensor;

use self::bending::Bending;
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function, steady},
    },
    inputs::judged,
    measure::affine::Line,
    verdict::{all, count, number},
};

/// The function is not an affine map: `f(a x + (1 - a) y)` is not always `a f(x) + (1 - a) f(y)`.
///
/// Layers without an activation between them collapse into one, however many there are: such a network trains, and can do
/// no more than linear or logistic regression.
///
/// # How
///
/// `y` lies 1, 8 and 64 standard deviations of the input from `x` in a random direction, and as many absolute units, since
/// a network of ReLUs is a straight line between neighbours and one of tanhs about zero; and within the range of the input,
/// for functions that are not defined elsewhere. `a` is 1/4, 1/2, 2 and -1: between the two, beyond either. One combination
/// that is not straight by more than rounding is enough to pass. A function that bends in all its outputs is called about a
/// dozen times, one that is straight about seventy times.
///
/// Outputs that are masked at every point, by minus infinity or a number such as -1e9, are left out.
///
/// All members of floats are combined together. Integers stay as they are, and so does a member of two values beside others
/// (a mask), or one with infinite values.
///
/// # How straight is straight
///
/// A deviation counts as rounding up to 8 times what moving each of the three points by one unit in its last place does,
/// and up to 8 roundings of the largest output times the square root of the number of values in a row of the input (in half
/// precision 4 times, and 4 roundings). Linear networks in f32 are straight to about 1e-6 of their output's spread, and networks
/// with an activation are off by 0.1 and more; one whose branches are small, by as little as they are. To fail, a function
/// must have been straight on combinations on which a deviation of 1/20 of its spread would have been seen.
///
/// [`at_least`](Nonlinear::at_least) asks for more than rounding: 1e-3 of the spread is what a network has that uses its
/// activations.
///
/// # Failures
///
/// - [`Cause::NetworkLinear`]: straight everywhere, or by less than asked;
/// - `Vacuous`: an output that does not depend on the input ([`Cause::OutputConstant`]), or that moves by less than its
///   rounding shows; an empty input or output;
/// - `NotRun`: an input without floats (ids have no combinations), an output of integers, a function that differs from call
///   to call or returns NaN for `x`.
///
/// A network whose branches start at zero (gates, LayerScale, last layers initialised to zero, LoRA) *is* an affine map
/// until it has been trained, unless a normalisation or a softmax comes after: give the gates a value first, with
/// [`set_with`](crate::set_with), or allow the cause. Linear probes and single layers are linear on purpose.
///
/// ```
/// use candling::{check::Nonlinear, prelude::*};
///
/// let (_vars, vb) = Seed::new(7).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
///
/// let report = Nonlinear::new().check(|x: &Tensor| l2.forward(&l1.forward(x)?.relu()?), &x)?;
/// assert!(report.deviation > 0.1);
///
/// let failure = Nonlinear::new().check(|x: &Tensor| l2.forward(&l1.forward(x)?), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NetworkLinear));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* that depth without nonlinearity is one layer is in every textbook (I. Goodfellow et al., *Deep Learning*,
/// 6.1); the probe is the definition of an affine map; M. Blum, M. Luby and R. Rubinfeld, *Self-testing/correcting with
/// applications to numerical problems* (1993), prove what such random combinations show.
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Nonlinear {
    at_least: f64,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`Nonlinear`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NonlinearReport {
    /// The largest deviation from a straight line, as a share of the output's spread over the points of its combination.
    pub deviation: f64,
    /// What rounding explains there, as a share of the same spread.
    pub rounding: f64,
    /// The combinations that were compared.
    pub combinations: usize,
    /// The combinations left out because an output there was not finite, or an error.
    pub left_out: usize,
    /// The output features (indices of its last dimension) that were straight throughout, and moved.
    pub straight_features: Vec<usize>,
}

impl Default for Nonlinear {
    fn default() -> Self {
        Self { at_least: 0.0, seed: Seed::new(0), allowed: Vec::new() }
    }
}

impl Nonlinear {
    /// Any deviation beyond rounding passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The deviation that is asked for, as a share of the output's spread, beyond rounding. Default: 0.
    pub fn at_least(mut self, share: f64) -> Self {
        self.at_least = share;
        self
    }

    /// Which points are drawn. Default: `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here (a linear probe).
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Looks for a combination of inputs on which `f` is not straight.
    ///
    /// # Errors
    ///
    /// See [`Nonlinear`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<NonlinearReport> {
        call::run("nonlinear", Location::caller(), || {
            let mut f = function::erased("the function", f);
            judged(x, &mut |x| self.judge(&mut f, x))
        })
    }

    fn judge(&self, f: &mut Function<'_>, x: &[Tensor]) -> Result<NonlinearReport> {
        if !(0.0..1.0).contains(&self.at_least) {
            return Err(Failure::bad_argument("at_least", self.at_least, "a share in [0, 1)"));
        }
        function::input(x)?;
        let line = Line::new(x)?;
        if !line.is_one() {
            return Err(without_combinations(x));
        }
        let at_x = steady(f, &line.start())?;
        if !at_x.dtype().is_float() {
            return Err(Failure::not_run(format!(
                "the function returned a tensor of dtype {}; allowed: a float dtype",
                at_x.dtype().as_str(),
            ))
            .help("return the logits, in place of their argmax"));
        }
        let found = bending::measure(f, &line, &at_x, x, self.seed, self.at_least)?;
        let report = NonlinearReport {
            deviation: found.largest.share,
            rounding: found.largest.rounding,
            combinations: found.combinations,
            left_out: found.left_out,
            straight_features: found.straight_features.clone(),
        };
        if found.is_bent && found.largest.share >= self.at_least {
            return Ok(report);
        }
        if !found.is_bent && !found.is_judged {
            return Err(untold(&found, &at_x));
        }
        if self.allowed.contains(&Cause::NetworkLinear) {
            return Ok(report);
        }
        Err(self.straight(&found))
    }

    fn straight(&self, found: &Bending) -> Failure {
        let headline = match found.is_bent {
            false => "the function is an affine map: it is straight on every combination of inputs"
                .to_owned(),
            true => format!(
                "the function is hardly more than an affine map: off a straight line by {} of its spread, {} asked for",
                number(found.largest.share),
                number(self.at_least),
            ),
        };
        let evidence = format!(
            "`f(a x + (1 - a) y)` is `a f(x) + (1 - a) f(y)` to {} of the output's spread, where rounding makes up to {}",
            number(found.largest.share),
            number(found.largest.rounding),
        );
        Failure::violated(headline)
            .fact(
                "tried",
                format!(
                    "{}, up to {} apart, where the input spreads by {}",
                    count(found.combinations, "combination"),
                    number(found.furthest),
                    number(found.input_scale),
                ),
            )
            .fact("worst", found.largest.told())
            .finding(Finding::confirmed(Cause::NetworkLinear, evidence).advice_is(
                "put an activation between the linear layers; a network whose branches start at zero (gates, LayerScale, a last layer of zeros) is affine until they have moved: set them with `set_with` first",
            ))
    }
}

fn without_combinations(x: &[Tensor]) -> Failure {
    let integers = x.iter().all(|t| !t.dtype().is_float());
    let was = match integers {
        true => "integers, which have no combinations",
        false => "floats with infinite values alone, which have no finite combinations",
    };
    Failure::bad_argument("x", was, "at least one tensor of finite floats")
        .help("token ids are looked up in an embedding: test the part after it, on what it returns")
}

/// Nothing was seen, and nothing could have been.
fn untold(found: &Bending, at_x: &Tensor) -> Failure {
    if found.combinations == 0 {
        return Failure::not_run(format!(
            "the function returned NaN, infinite values or an error on {} of inputs",
            all(found.left_out, "combination"),
        ));
    }
    if found.spread == 0.0 {
        let evidence = format!(
            "{} no bit in {}",
            match at_x.elem_count() {
                1 => "the only output value changes".to_owned(),
                n => format!("{n} output values change"),
            },
            count(found.combinations, "combination"),
        );
        return Failure::vacuous(
            "the output is the same for every input: it is neither straight nor bent",
        )
        .finding(Finding::confirmed(Cause::OutputConstant, evidence));
    }
    Failure::vacuous(format!(
        "the output moves by {} where its rounding makes {}: no deviation from a straight line could show",
        number(found.spread),
        number(found.rounding),
    ))
    .help("test it in f32 or f64, or without the large constant in its output")
}
