//! `assert_dependence!`: exactly the pairs of a mask.

use candle_core::{DType, Result, Tensor};
use candling::{Cause, Failure, FailureKind, Seed, assert_dependence, check::Dependence};

use super::models::{Attention, CPU, Mask, planted, sequence};
use crate::support::text;

fn fails(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor, mask: &Tensor) -> Failure {
    let failure = Dependence::new().check(f, x, mask).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn lower(len: usize) -> Tensor {
    Tensor::tril2(len, DType::F32, CPU).unwrap()
}

/// All see the first so many, and what comes before.
fn prefix(len: usize, prefix: usize) -> Tensor {
    let of = |at: usize| u8::from(at % len < prefix || at % len <= at / len);
    Tensor::from_vec((0..len * len).map(of).collect::<Vec<_>>(), (len, len), CPU).unwrap()
}

#[test]
fn clean_models_have_the_mask_they_were_built_with() {
    for seed in 0..30 {
        let x = sequence(seed, 1 + seed as usize % 4, 7);
        let causal = Attention::new(Seed::new(seed), 1, Mask::Above(f32::NEG_INFINITY), DType::F32);
        let dependence = Dependence::new().seed(Seed::new(seed));
        dependence.check(|x: &Tensor| causal.forward(x), &x, &lower(7)).unwrap();
        let encoder = Attention::new(Seed::new(seed), 1, Mask::None, DType::F32);
        let all = Tensor::ones((7, 7), DType::U8, CPU).unwrap();
        dependence.check(|x: &Tensor| encoder.forward(x), &x, &all).unwrap();
        let scored = |x: &Tensor| {
            let mask = prefix(7, 3).to_dtype(DType::F32)?;
            mask.broadcast_left(x.dim(0)?)?.contiguous()?.matmul(x)
        };
        dependence.check(scored, &x, &prefix(7, 3)).unwrap();
        let relu = |x: &Tensor| x.cumsum(1)?.relu();
        dependence.check(relu, &x, &lower(7)).unwrap();
    }
}

#[test]
fn the_report_counts_pairs() {
    let report =
        assert_dependence!(|x: &Tensor| x.cumsum(1), sequence(1, 2, 5), lower(5), "context");
    assert_eq!((report.outputs, report.inputs), (5, 5));
    assert_eq!((report.dependent, report.independent), (15, 10));
}

#[test]
fn a_pair_that_must_not_depend() {
    let x = sequence(1, 2, 6);
    let future = |x: &Tensor| planted(&x.cumsum(1)?, x, 4, 1, 1e-3);
    insta::assert_snapshot!(text(&fails(future, &x, &lower(6))), @"
    assertion `dependence` failed
    output position 1 depends on input position 4, which the mask excludes

      seen  outputs down, inputs across; # depends, X depends and must not, - does not and must
            0 #.....
            1 ##..X.
            2 ###...
            3 ####..
            4 #####.
            5 ######

      confirmed  future-leak   output 1, input 4: other values there move it by 0.00336; 1 pair must not depend
                               and does
      help       check the mask: its diagonal, its orientation, and whether it is added before the softmax; see
                 docs/causes.md#future-leak
    ");
    let own = Tensor::eye(6, DType::U8, CPU).unwrap();
    let failure = fails(|x| planted(x, x, 0, 3, 1.0), &x, &own);
    assert_eq!(failure.cause(), Some(Cause::NotInvariant));
    Dependence::new()
        .allow(Cause::NotInvariant)
        .check(|x: &Tensor| planted(x, x, 0, 3, 1.0), &x, &own)
        .unwrap();
}

#[test]
fn a_pair_that_must_depend() {
    let x = sequence(1, 2, 6);
    let windowed = |x: &Tensor| x.add(&x.pad_with_zeros(1, 1, 0)?.narrow(1, 0, 6)?);
    insta::assert_snapshot!(text(&fails(windowed, &x, &lower(6))), @"
    assertion `dependence` failed
    output position 2 does not depend on input position 0, which the mask includes

      seen  outputs down, inputs across; # depends, X depends and must not, - does not and must
            0 #.....
            1 ##....
            2 -##...
            3 --##..
            4 ---##.
            5 ----##

      confirmed  input-ignored   output 2, input 0: 10 pairs must depend and do not: output positions 2 to 5,
                                 input positions 0 to 3
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    let dropped = |x: &Tensor| {
        let keep = Tensor::new(&[1f32, 1.0, 0.0, 1.0, 0.0, 0.0], CPU)?.reshape((1, 6, 1))?;
        x.broadcast_mul(&keep)?.cumsum(1)
    };
    insta::assert_snapshot!(text(&fails(dropped, &x, &lower(6))), @"
    assertion `dependence` failed
    output position 2 does not depend on input position 2, which the mask includes

      seen  outputs down, inputs across; # depends, X depends and must not, - does not and must
            0 #.....
            1 ##....
            2 ##-...
            3 ##-#..
            4 ##-#-.
            5 ##-#--

      confirmed  input-ignored   output 2, input 2: input positions 2, 4, 5 move no output at all
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
}

#[test]
fn rows_as_positions() {
    let x = Seed::new(1).normal("x", (4, 3), DType::F32, CPU).unwrap();
    let own = Tensor::eye(4, DType::U8, CPU).unwrap();
    let rows = Dependence::new().dim(0);
    rows.check(|x: &Tensor| x.sqr(), &x, &own).unwrap();
    let failure =
        rows.check(|x: &Tensor| x.broadcast_sub(&x.mean_keepdim(0)?), &x, &own).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `dependence` failed
    output row 0 depends on input row 1, which the mask excludes

      seen  outputs down, inputs across; # depends, X depends and must not, - does not and must
            0 #XXX
            1 X#XX
            2 XX#X
            3 XXX#

      confirmed  batch-mixed   output 0, input 1: other values there move it by 0.338; 12 pairs must not depend
                               and do
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
    ");
    // Pairs of a contrastive loss.
    let pairs =
        |x: &Tensor| x.reshape((2, 2, 3))?.sum_keepdim(1)?.broadcast_as((2, 2, 3))?.reshape((4, 3));
    let mask =
        Tensor::new(&[[1u8, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], CPU).unwrap();
    rows.check(pairs, &x, &mask).unwrap();
}

#[test]
fn mixed_rows_are_told_from_positions() {
    let x = sequence(1, 3, 4);
    let centred = |x: &Tensor| x.cumsum(1)?.broadcast_sub(&x.mean_keepdim(0)?.cumsum(1)?);
    let failure = fails(centred, &x, &lower(4));
    assert_eq!(failure.cause(), Some(Cause::BatchMixed), "{failure}");
    insta::assert_snapshot!(text(&failure), @"
    assertion `dependence` failed
    outputs change with other rows of the batch; in a row by itself they depend on what they must

      confirmed  batch-mixed   output row 1: it moves when row 0 of the input alone changes
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
    ");
}

#[test]
fn features_to_outputs() {
    // Two heads of three features each.
    let x = Seed::new(1).normal("x", (5, 6), DType::F32, CPU).unwrap();
    let heads = |x: &Tensor| x.reshape((5, 2, 3))?.sum(2);
    let mask = Tensor::new(&[[1f32, 1., 1., 0., 0., 0.], [0., 0., 0., 1., 1., 1.]], CPU).unwrap();
    Dependence::new().check(heads, &x, &mask).unwrap();
    let wrong = |x: &Tensor| x.reshape((5, 3, 2))?.sum(1);
    let failure = fails(wrong, &x, &mask);
    let causes: Vec<Cause> = failure.findings().iter().map(|f| f.cause()).collect();
    assert_eq!(causes, [Cause::NotInvariant, Cause::InputIgnored]);
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        Dependence::new().check(heads, &x.to_dtype(dtype).unwrap(), &mask).unwrap();
    }
    let strided = x.t().unwrap().contiguous().unwrap().t().unwrap();
    Dependence::new().check(heads, &strided, &mask).unwrap();
}

#[test]
#[should_panic(expected = "assertion `dependence` failed: diagonal")]
fn the_macro_panics_with_its_context() {
    let eye = Tensor::eye(4, DType::U8, CPU).unwrap();
    assert_dependence!(|x| x.cumsum(1), &sequence(1, 2, 4), &eye, seed = Seed::new(3), "diagonal");
}
