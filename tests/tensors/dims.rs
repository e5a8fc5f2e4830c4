use candling::{
    FailureKind, Result,
    check::{Dim, Dims},
    prelude::*,
};

use super::{failure, text};

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Ok(Tensor::zeros(dims, DType::F32, &Device::Cpu)?)
}

const BATCH: Dim = Dim::Named("batch");
const TIME: Dim = Dim::Named("time");

#[test]
fn names_are_bound_and_reported() -> Result<()> {
    let (x, mask) = (zeros(&[8, 16, 64])?, zeros(&[8, 16])?);
    let dims = assert_dims!(x => [batch, time, 64], mask => [batch, time]);
    assert_eq!((dims["batch"], dims["time"]), (8, 16));
    assert_eq!(dims.get("width"), None);
    let deep = zeros(&[1, 2, 3, 4])?;
    let dims = assert_dims!(deep => [first, .., last], deep => [.., 4], deep => [_, 2, ..]);
    assert_eq!((dims["first"], dims["last"]), (1, 4));
    assert_dims!(deep => [a, .., b, c, d], deep => [a, b, c, d]);
    assert_dims!(zeros(&[3, 3])? => [n, n], zeros(&[])? => []);
    Ok(())
}

#[test]
fn a_clash_is_marked_in_the_dimensions_of_every_tensor() -> Result<()> {
    let (x, mask, y) = (zeros(&[8, 16, 32])?, zeros(&[8, 12])?, zeros(&[8])?);
    let result = Dims::new().check(&[
        ("x", &x, &[BATCH, TIME, Dim::Exact(64)]),
        ("&mask", &mask, &[BATCH, TIME]),
        ("y", &y, &[BATCH]),
    ]);
    insta::assert_snapshot!(text(result), @"
    assertion `dims` failed
    dimension 2 of x is 32, expected 64

      x     [batch=8, time=16, 32]
                               ^^ expected 64
      mask  [batch=8, time=12]
                      ^^^^^^^ time is 16 in x
      y     [batch=8]

      confirmed  shape-mismatch   dimension 2 of x is 32, expected 64
      confirmed  shape-mismatch   `time` is 16 in x and 12 in mask
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    Ok(())
}

#[test]
fn another_number_of_dimensions_is_shown_with_the_pattern() -> Result<()> {
    let (x, mask) = (zeros(&[8, 16, 32])?, zeros(&[8, 1, 1, 16])?);
    let result =
        Dims::new().check(&[("x", &x, &[BATCH, TIME, Dim::Any]), ("mask", &mask, &[BATCH, TIME])]);
    insta::assert_snapshot!(text(result), @"
    assertion `dims` failed
    mask has 4 dimensions, its pattern [batch, time] takes 2

      x     [batch=8, time=16, 32]
      mask  [8, 1, 1, 16]  does not fit [batch, time]

      confirmed  shape-mismatch   mask has 4 dimensions, its pattern [batch, time] takes 2
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    let result = Dims::new().check(&[("x", &x, &[BATCH, TIME, Dim::Any, Dim::Any, Dim::Rest])]);
    insta::assert_snapshot!(text(result), @"
    assertion `dims` failed
    x has 3 dimensions, its pattern [batch, time, _, _, ..] takes at least 4

      x  [8, 16, 32]  does not fit [batch, time, _, _, ..]

      confirmed  shape-mismatch   x has 3 dimensions, its pattern [batch, time, _, _, ..] takes at least 4
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    let result = Dims::new().check(&[("x", &x, &[BATCH, BATCH, Dim::Any])]);
    insta::assert_snapshot!(text(result), @"
    assertion `dims` failed
    `batch` is 8 and 16 in x

      x  [batch=8, batch=16, 32]
                   ^^^^^^^^ batch is 8

      confirmed  shape-mismatch   `batch` is 8 and 16 in x
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    Ok(())
}

#[test]
fn patterns_that_cannot_fail_or_be_used_say_so() -> Result<()> {
    let x = zeros(&[8])?;
    let free = failure(Dims::new().check(&[("x", &x, &[Dim::Rest])]));
    assert_eq!(free.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(crate::support::text(&free), @"
    assertion `dims` proves nothing here
    no dimension is named or fixed: every shape fits

      help       name the dimensions that must agree, or write their sizes
    ");
    let twice = failure(Dims::new().check(&[("x", &x, &[Dim::Rest, Dim::Any, Dim::Rest])]));
    assert_eq!(twice.kind(), FailureKind::NotRun);
    insta::assert_snapshot!(crate::support::text(&twice), @"
    assertion `dims` did not run
    `pattern` is [.., _, ..] for x; allowed: at most one `..` for a tensor
    ");
    Ok(())
}

#[test]
#[should_panic(expected = "no dimension is named `width`; there are: batch, time")]
fn an_unknown_name_lists_the_known_ones() {
    let x = zeros(&[8, 16]).expect("a tensor");
    let dims = assert_dims!(x => [batch, time]);
    let _ = dims["width"];
}

#[test]
#[should_panic(expected = "before attention")]
fn the_macro_panics_with_its_context() {
    let x = zeros(&[8, 16]).expect("a tensor");
    assert_dims!(x => [n, n], "before {}", "attention");
}
