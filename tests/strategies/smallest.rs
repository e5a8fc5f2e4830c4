//! Every assertion that takes a strategy tells the smallest case, and the line that makes it.

use candling::{
    Failure,
    check::{
        BatchIndependent, Causal, Deterministic, Equivalent, Equivariant, Invariant,
        LayoutInvariant, Nonlinear, PositionSensitive, Sensitive, UsesInput,
    },
    prelude::*,
    strategies::{self, Tensors},
};

fn drawn() -> Tensors {
    strategies::tensor([1..6, 2..7])
}

fn tells<T: std::fmt::Debug>(result: candling::Result<T>, cause: Cause, dims: &str) {
    let failure: Failure = result.unwrap_err();
    assert_eq!(failure.cause(), Some(cause), "{failure}");
    let line = format!("made by {dims}");
    let text = failure.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("made as small as possible"), "{failure}");
    assert!(text.contains(&line), "{line}: {failure}");
}

#[test]
fn the_smallest_case_is_told() {
    let small = "strategies::tensor([1, 2]).values(";
    let first = |x: &Tensor| x.narrow(1, 1, 1);
    let rest = |x: &Tensor| {
        let rest = x.narrow(1, 1, x.dim(1)? - 1)?;
        Tensor::cat(&[&(x.narrow(1, 0, 1)? + 1.0)?, &rest], 1)
    };
    let x = drawn();
    let mean = |x: &Tensor| x.mean(1);
    let third = |x: &Tensor| x.sum(1)? / 3.0;
    tells(Equivalent::new().check(mean, third, &x), Cause::ValuesDiffer, small);
    let flip = |x: &Tensor| x.flip(&[1]);
    let sums = |x: &Tensor| x.cumsum(1);
    tells(Invariant::new().check(sums, &x, flip), Cause::NotInvariant, small);
    tells(Equivariant::new().check(sums, &x, flip), Cause::NotEquivariant, small);
    tells(Sensitive::new().check(first, &x, rest), Cause::NotSensitive, small);
    let mut calls = 0;
    let counts = |x: &Tensor| {
        calls += 1;
        x + f64::from(calls)
    };
    tells(Deterministic::new().check(counts, &x), Cause::StateKept, "strategies::tensor([");
    let views = |x: &Tensor| if x.is_contiguous() { x.tanh() } else { x.sqr() };
    tells(LayoutInvariant::new().check(views, &x), Cause::LayoutDependent, small);
    tells(Nonlinear::new().check(mean, &x), Cause::NetworkLinear, small);
    tells(PositionSensitive::new().check(mean, &x), Cause::PositionIgnored, "strategies::tensor([");
    tells(UsesInput::new().check(first, &x), Cause::InputIgnored, small);
    tells(Causal::new().check(flip, &x), Cause::FutureLeak, small);
    let rows = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(0)?);
    tells(BatchIndependent::new().check(rows, &x), Cause::BatchMixed, "strategies::tensor([");
}
