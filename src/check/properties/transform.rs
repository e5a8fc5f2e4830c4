//! What is done to an input, and to the output that should follow.

use std::fmt;

use candle_core::{Result, Tensor};

use crate::{Failure, Input, check::function, measure::values::same_bits};

type OfInput<'t> = dyn FnMut(&[Tensor]) -> Result<Vec<Tensor>> + 't;
type OfOutput<'t> = dyn FnMut(&Tensor) -> Result<Tensor> + 't;

/// A transformation of an input under a name that failures can use.
///
/// A plain closure is one, too, without a name; the macros take the code of the closure as its name. Several are given to
/// a check as an array or a `Vec` of `Transform`.
///
/// ```
/// use candling::{check::{Equivariant, Transform}, prelude::*};
///
/// let x = Seed::new(1).normal("x", (3, 4), DType::F32, &Device::Cpu)?;
/// let report = Equivariant::new().check(Tensor::tanh, &x, [
///     Transform::new("flip", |x: &Tensor| x.flip(&[1])),
///     Transform::new("double", |x: &Tensor| x.repeat((1, 2))).output(|y| y.repeat((1, 2))),
/// ])?;
/// assert_eq!(report.transformations, 2);
/// # candling::Result::Ok(())
/// ```
pub struct Transform<'t> {
    name: Option<String>,
    /// What it is called without a name.
    noun: &'static str,
    of_input: Box<OfInput<'t>>,
    of_output: Option<Box<OfOutput<'t>>>,
}

impl fmt::Debug for Transform<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform")
            .field("name", &self.name)
            .field("of_output", &self.has_output())
            .finish_non_exhaustive()
    }
}

/// Code longer than this is cut where it names a transformation.
const NAME_LENGTH: usize = 60;

impl<'t> Transform<'t> {
    /// A named transformation of the input.
    pub fn new<I: Input>(
        name: impl Into<String>,
        transform: impl FnMut(&I) -> Result<I> + 't,
    ) -> Self {
        Self { name: Some(name.into()), ..Self::unnamed(transform) }
    }

    /// What happens to the output when this happens to the input. Without it [`Equivariant`](super::Equivariant) applies
    /// the transformation itself, which takes a function of one tensor.
    #[must_use]
    pub fn output(mut self, transform: impl FnMut(&Tensor) -> Result<Tensor> + 't) -> Self {
        self.of_output = Some(Box::new(transform));
        self
    }

    pub(crate) fn of_code<I: Input>(
        code: &str,
        transform: impl FnMut(&I) -> Result<I> + 't,
    ) -> Self {
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = match code.char_indices().nth(NAME_LENGTH) {
            Some((end, _)) => format!("{}...", &code[..end]),
            None => code,
        };
        Self::new(shown, transform)
    }

    fn unnamed<I: Input>(mut transform: impl FnMut(&I) -> Result<I> + 't) -> Self {
        let of_input = move |members: &[Tensor]| match I::from_members(members) {
            Some(input) => Ok(transform(&input)?.members().to_vec()),
            None => candle_core::bail!("it takes another number of tensors than {}", members.len()),
        };
        Self {
            name: None,
            noun: "the transformation",
            of_input: Box::new(of_input),
            of_output: None,
        }
    }

    /// `` `flip` `` or `the transformation`.
    pub(super) fn called(&self) -> String {
        match &self.name {
            Some(name) => format!("`{name}`"),
            None => self.noun.to_owned(),
        }
    }

    pub(super) fn has_output(&self) -> bool {
        self.of_output.is_some()
    }

    /// The input transformed: values that can be used, and others than before.
    pub(super) fn apply(&mut self, x: &[Tensor]) -> crate::Result<Vec<Tensor>> {
        let called = self.called();
        let moved = (self.of_input)(x).map_err(|error| Failure::from_candle(&called, error))?;
        function::values(&moved).map_err(|failure| {
            let findings = failure.findings().to_vec();
            Failure::not_run(format!(
                "what {called} returned cannot be given to the function: {}",
                failure.headline()
            ))
            .with_findings(findings)
        })?;
        let mut same = moved.len() == x.len();
        for (before, after) in x.iter().zip(&moved) {
            same = same && same_bits(before, after)?;
        }
        match same {
            false => Ok(moved),
            true => Err(Failure::vacuous(format!(
                "{called} leaves the input as it is, bit for bit: there was nothing to notice"
            ))
            .fact("input", function::dims_of(x))
            .help(format!("give an input that {} changes, or another one", self.noun))),
        }
    }

    /// The output transformed as it should be when the input is.
    pub(super) fn apply_to_output(&mut self, y: &Tensor) -> crate::Result<Tensor> {
        let called = self.called();
        if let Some(of_output) = &mut self.of_output {
            let what = format!("the transformation of the output beside {called}");
            return of_output(y).map_err(|error| Failure::from_candle(&what, error));
        }
        let what = format!("{called}, applied to the output,");
        let moved = (self.of_input)(std::slice::from_ref(y)).map_err(|error| {
            Failure::from_candle(&what, error)
                .fact("output", format!("{:?}", y.dims()))
                .help("say what happens to the output, as a second transformation")
        })?;
        match <[Tensor; 1]>::try_from(moved) {
            Ok([moved]) => Ok(moved),
            Err(_) => Err(Failure::not_run(format!("{what} returned several tensors"))),
        }
    }
}

/// What may be given as transformation: a closure of the input; a pair of one of the input and one of the output; a
/// [`Transform`]; an array or a `Vec` of those.
pub trait Transforms<'t, I>: sealed::Sealed<'t, I> {}

mod sealed {
    use super::Transform;

    pub trait Sealed<'t, I> {
        fn list(self) -> Vec<Transform<'t>>;
    }
}

impl<'t, I: Input, F: FnMut(&I) -> Result<I> + 't> Transforms<'t, I> for F {}

impl<'t, I: Input, F: FnMut(&I) -> Result<I> + 't> sealed::Sealed<'t, I> for F {
    fn list(self) -> Vec<Transform<'t>> {
        vec![Transform::unnamed(self)]
    }
}

impl<'t, I, F, G> Transforms<'t, I> for (F, G)
where
    I: Input,
    F: FnMut(&I) -> Result<I> + 't,
    G: FnMut(&Tensor) -> Result<Tensor> + 't,
{
}

impl<'t, I, F, G> sealed::Sealed<'t, I> for (F, G)
where
    I: Input,
    F: FnMut(&I) -> Result<I> + 't,
    G: FnMut(&Tensor) -> Result<Tensor> + 't,
{
    fn list(self) -> Vec<Transform<'t>> {
        vec![Transform::unnamed(self.0).output(self.1)]
    }
}

impl<'t, I> Transforms<'t, I> for Transform<'t> {}

impl<'t, I> sealed::Sealed<'t, I> for Transform<'t> {
    fn list(self) -> Vec<Transform<'t>> {
        vec![self]
    }
}

impl<'t, I, const N: usize> Transforms<'t, I> for [Transform<'t>; N] {}

impl<'t, I, const N: usize> sealed::Sealed<'t, I> for [Transform<'t>; N] {
    fn list(self) -> Vec<Transform<'t>> {
        Vec::from(self)
    }
}

impl<'t, I> Transforms<'t, I> for Vec<Transform<'t>> {}

impl<'t, I> sealed::Sealed<'t, I> for Vec<Transform<'t>> {
    fn list(self) -> Vec<Transform<'t>> {
        self
    }
}

/// The transformations, of which there must be one at least.
pub(super) fn listed<'t, I>(
    transforms: impl Transforms<'t, I>,
    noun: &'static str,
) -> crate::Result<Vec<Transform<'t>>> {
    let mut transforms = transforms.list();
    transforms.iter_mut().for_each(|transform| transform.noun = noun);
    match transforms.is_empty() {
        true => Err(Failure::bad_argument(noun, "an empty list", "at least one")),
        false => Ok(transforms),
    }
}
