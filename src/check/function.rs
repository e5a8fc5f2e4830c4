//! A function under test and its input: what every check of one asks before its own question.

use std::panic::{self, AssertUnwindSafe};

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Input, Result, Seed,
    measure::{
        perturb::alternative,
        values::{is_readable, same_bits, to_f64_vec},
    },
    verdict::{count, listed},
};

/// A closure of the user's, given the members of its input.
pub(crate) type Function<'f> = dyn FnMut(&[Tensor]) -> Result<Tensor> + 'f;

/// The closure without its input's type, so that all further code is compiled once. `what` names it in errors: `the
/// function`.
///
/// What it returns is cut from the graph: an output that is kept must not keep its graph alive.
pub(crate) fn erased<'f, I: Input>(
    what: &'static str,
    f: impl FnMut(&I) -> candle_core::Result<Tensor> + 'f,
) -> impl FnMut(&[Tensor]) -> Result<Tensor> + 'f {
    let mut f = with_graph(what, f);
    move |members| Ok(f(members)?.detach())
}

/// As [`erased`], with the graph of what it returns: for a backward pass.
pub(crate) fn with_graph<'f, I: Input>(
    what: &'static str,
    mut f: impl FnMut(&I) -> candle_core::Result<Tensor> + 'f,
) -> impl FnMut(&[Tensor]) -> Result<Tensor> + 'f {
    move |members| {
        let input = I::from_members(members)
            .ok_or_else(|| Failure::not_run("the input lost one of its tensors"))?;
        guarded(what, || f(&input).map_err(|e| Failure::from_candle(what, e)))
    }
}

/// A panic under a call is an error of the call: probes have sizes and values that the caller's own input has not, and
/// candle panics on some of them (`chunk` into no parts, integers that overflow).
pub(crate) fn guarded<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "without a message".to_owned(),
        };
        Err(Failure::not_run(format!("{what} panicked")).fact("panic", message))
    })
}

/// Every member of the input has rows, as many as the others, values that can be read, and no NaN.
pub(crate) fn input(x: &[Tensor]) -> Result<()> {
    some(x)?;
    for (i, tensor) in x.iter().enumerate() {
        if tensor.rank() == 0 {
            let was = format!("{} of rank 0, a scalar", member(x, i));
            return Err(Failure::bad_argument("x", was, "the batch as the first dimension"));
        }
        not_empty(x, i)?;
        if tensor.dims()[0] != x[0].dims()[0] {
            let was = format!("{:?} beside {:?}", x[0].dims(), tensor.dims());
            return Err(Failure::bad_argument("x", was, "one number of rows for all"));
        }
        without_nan(x, i)?;
    }
    Ok(())
}

/// As [`input`], for a check that needs no batch: of any rank, and any number of rows.
pub(crate) fn values(x: &[Tensor]) -> Result<()> {
    some(x)?;
    (0..x.len()).try_for_each(|i| not_empty(x, i).and_then(|()| without_nan(x, i)))
}

fn member(x: &[Tensor], i: usize) -> String {
    if x.len() == 1 { "the input".to_owned() } else { format!("input {i}") }
}

fn some(x: &[Tensor]) -> Result<()> {
    match x.is_empty() {
        true => Err(Failure::bad_argument("x", "an input without tensors", "at least one tensor")),
        false => Ok(()),
    }
}

fn not_empty(x: &[Tensor], i: usize) -> Result<()> {
    match x[i].elem_count() {
        0 => Err(Failure::vacuous(format!(
            "{} of dims {:?} is empty: there is nothing to change in it",
            member(x, i),
            x[i].dims(),
        ))),
        _ => Ok(()),
    }
}

fn without_nan(x: &[Tensor], i: usize) -> Result<()> {
    if !is_readable(x[i].dtype()) {
        let was = format!("{} of dtype {}", member(x, i), x[i].dtype().as_str());
        return Err(Failure::bad_argument("x", was, "a dtype whose values candle can read"));
    }
    if has_nan(&x[i])? {
        let evidence = "NaN before the function is called";
        return Err(Failure::bad_argument("x", format!("{} with NaN", member(x, i)), "no NaN")
            .finding(Finding::confirmed(Cause::NotFinite, evidence).at(member(x, i))));
    }
    Ok(())
}

/// What the function makes of `x`, if it makes the same of it twice, bit for bit: a proof by differences needs that.
///
/// NaN is refused, since it hides what it stands for. Infinities are values as others are (a masked logit).
pub(crate) fn steady(f: &mut Function<'_>, x: &[Tensor]) -> Result<Tensor> {
    let first = f(x)?;
    let second = f(x)?;
    readable(&first)?;
    if !same_bits(&first, &second)? {
        return Err(unsteady(f, x, &first, &second)?);
    }
    telling(&first)?;
    Ok(second)
}

/// As [`steady`], with the batch as the output's first dimension, and at least `rank` dimensions.
pub(crate) fn steady_rows(f: &mut Function<'_>, x: &[Tensor], rank: usize) -> Result<Tensor> {
    let output = steady(f, x)?;
    with_rows(&output, x, rank)?;
    Ok(output)
}

/// As [`steady_rows`], of one call: for a proof that compares every row with itself in other calls anyway.
pub(crate) fn rows_once(f: &mut Function<'_>, x: &[Tensor], rank: usize) -> Result<Tensor> {
    let output = f(x)?;
    readable(&output)?;
    telling(&output)?;
    with_rows(&output, x, rank)?;
    Ok(output)
}

fn readable(output: &Tensor) -> Result<()> {
    match is_readable(output.dtype()) {
        true => Ok(()),
        false => Err(Failure::not_run(format!(
            "the function returned a tensor of dtype {}; allowed: a dtype whose values candle can read",
            output.dtype().as_str(),
        ))),
    }
}

/// Something is in the output, and no NaN.
fn telling(output: &Tensor) -> Result<()> {
    if output.elem_count() == 0 {
        return Err(Failure::vacuous(format!(
            "the function returned an empty tensor, of dims {:?}: nothing can be seen in it",
            output.dims(),
        )));
    }
    if has_nan(output)? {
        let bad = to_f64_vec(output)?.iter().filter(|v| v.is_nan()).count();
        let evidence = format!("{bad} of {} NaN", count(output.elem_count(), "output value"));
        return Err(Failure::not_run("the output holds NaN, which hides what it depends on")
            .finding(Finding::confirmed(Cause::NotFinite, evidence)));
    }
    Ok(())
}

fn with_rows(output: &Tensor, x: &[Tensor], rank: usize) -> Result<()> {
    let rows = x[0].dims()[0];
    if output.dims().first() == Some(&rows) && output.rank() >= rank {
        return Ok(());
    }
    let first = match rank {
        0 | 1 => format!("{rows} rows first, as the input"),
        _ => format!("{rank} dimensions or more, {rows} rows first, as the input"),
    };
    let help = match output.dims().iter().position(|dim| *dim == rows) {
        Some(dim) if dim > 0 => {
            format!(
                "where dimension {dim} holds the rows, let the closure `transpose(0, {dim})` them to the front"
            )
        }
        _ => {
            "let the closure return an output per row: drop a final `sum`, `mean_all` or `flatten`"
                .to_owned()
        }
    };
    Err(Failure::not_run(format!(
        "the function returned dims {:?} for an input of {}; allowed: {first}",
        output.dims(),
        dims_of(x),
    ))
    .help(help))
}

/// Two calls gave two results. State settles or moves on from the first call; randomness never agrees with itself.
pub(crate) fn unsteady(
    f: &mut Function<'_>,
    x: &[Tensor],
    first: &Tensor,
    second: &Tensor,
) -> Result<Failure> {
    let headline =
        "two calls on the same input give two results: what depends on what cannot be told";
    let failure = Failure::not_run(headline);
    if first.dims() != second.dims() {
        let evidence = format!("dims {:?}, then {:?}", first.dims(), second.dims());
        return Ok(failure.finding(Finding::confirmed(Cause::StateKept, evidence)));
    }
    let (third, fourth) = (f(x)?, f(x)?);
    if same_bits(second, &third)? && same_bits(&third, &fourth)? {
        let evidence = "the first call differs from the second, and from there on all are equal";
        return Ok(failure.finding(Finding::confirmed(Cause::StateKept, evidence)));
    }
    Ok(failure
        .finding(Finding::possible(
            Cause::DropoutInEval,
            "four calls, no two of them in a row equal: active dropout or another random draw would do that",
        ))
        .finding(Finding::possible(
            Cause::StateKept,
            "a cache or a running average that grows with every call would do it, too",
        ))
        .help("call the model in evaluation mode (`forward_t(x, false)`), and reset its cache in the closure; `assert_deterministic!` tells the two apart"))
}

/// Another value for every element of every member that has one; an error where no member has.
pub(crate) fn alternatives(x: &[Tensor], seed: Seed) -> Result<Vec<Option<Tensor>>> {
    let members = x.iter().enumerate();
    let others = members
        .map(|(i, tensor)| alternative(tensor, seed, &format!("input {i}")))
        .collect::<candle_core::Result<Vec<_>>>()?;
    match others.iter().any(Option::is_some) {
        true => Ok(others),
        false => Err(Failure::vacuous(
            "the input is all zeros of an integer dtype: no other value of it is known",
        )
        .help("give an input with at least two different ids, so that one can replace another")),
    }
}

/// `dims [2, 3]`; `dims [2, 3] and [2, 5]`.
pub(crate) fn dims_of(x: &[Tensor]) -> String {
    let dims: Vec<String> = x.iter().map(|t| format!("{:?}", t.dims())).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    format!("dims {}", listed(&dims))
}

fn has_nan(tensor: &Tensor) -> Result<bool> {
    // A finite tensor is the rule, and seen at the speed of memory.
    Ok(!crate::measure::scan::is_finite(tensor)?
        && to_f64_vec(tensor)?.iter().any(|value| value.is_nan()))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const CPU: &Device = &Device::Cpu;

    fn text<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => "passed".to_owned(),
            Err(failure) => failure.text(),
        }
    }

    #[test]
    fn inputs_that_cannot_be_probed_say_why() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, CPU);
        assert!(text(input(&[])).contains("`x` is an input without tensors"));
        assert!(text(input(&[zeros(&[])?])).contains("of rank 0"));
        assert!(text(input(&[zeros(&[0, 3])?])).contains("dims [0, 3] is empty"));
        assert!(text(input(&[zeros(&[2])?, zeros(&[3])?])).contains("[2] beside [3]"));
        let nan = Tensor::new(&[f32::NAN], CPU)?;
        insta::assert_snapshot!(text(input(&[zeros(&[1])?, nan])), @"
        `x` is input 1 with NaN; allowed: no NaN

          confirmed  not-finite   input 1: NaN before the function is called
          help       start at the named origin: what comes after it is only carried along; see
                     docs/causes.md#not-finite
        ");
        input(&[Tensor::new(&[0.0, f32::NEG_INFINITY], CPU)?])
    }

    #[test]
    fn a_panic_under_a_call_is_an_error_of_the_call() -> Result<()> {
        let x = Tensor::new(&[1u32, 2], CPU)?;
        let mut f = erased("the function", |x: &Tensor| x.neg());
        let text = text(f(std::slice::from_ref(&x)));
        assert!(text.starts_with("the function panicked\n\n  panic"), "{text}");
        Ok(())
    }

    #[test]
    fn functions_that_change_their_mind_say_how() -> Result<()> {
        let x = [Tensor::new(&[1f32, 2.0], CPU)?];
        let mut calls = 0u32;
        let mut settles = |x: &[Tensor]| {
            calls += 1;
            Ok((&x[0] * f64::from(calls.min(2)))?)
        };
        insta::assert_snapshot!(text(steady(&mut settles, &x)), @"
        two calls on the same input give two results: what depends on what cannot be told

          confirmed  state-kept   the first call differs from the second, and from there on all are equal
          help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
        ");
        let mut grows = Vec::new();
        let mut cached = |x: &[Tensor]| {
            grows.push(x[0].clone());
            Ok(Tensor::cat(&grows, 0)?)
        };
        assert!(text(steady(&mut cached, &x)).contains("dims [2], then [4]"));
        let mut random = |x: &[Tensor]| Ok((&x[0] + x[0].rand_like(0.0, 1.0)?)?);
        insta::assert_snapshot!(text(steady(&mut random, &x)), @"
        two calls on the same input give two results: what depends on what cannot be told

          possible   dropout-in-eval   four calls, no two of them in a row equal: active dropout or another random
                                       draw would do that
          possible   state-kept        a cache or a running average that grows with every call would do it, too
          help       call the model in evaluation mode (`forward_t(x, false)`), and reset its cache in the closure;
                     `assert_deterministic!` tells the two apart
        ");
        let mut nan = |x: &[Tensor]| Ok((&x[0] * f64::NAN)?);
        assert!(text(steady(&mut nan, &x)).contains("2 of 2 output values NaN"));
        let matrix = [Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], CPU)?];
        let turned = text(steady_rows(&mut |x: &[Tensor]| Ok(x[0].t()?), &matrix, 1));
        assert!(turned.contains("where dimension 1 holds the rows"), "{turned}");
        let mut sum = |x: &[Tensor]| Ok(x[0].sum_all()?);
        insta::assert_snapshot!(text(steady_rows(&mut sum, &x, 1)), @"
        the function returned dims [] for an input of dims [2]; allowed: 2 rows first, as the input

          help       let the closure return an output per row: drop a final `sum`, `mean_all` or `flatten`
        ");
        Ok(())
    }
}
