//! What is said of outputs that see the future.

use candle_core::{D, DType, Result, Tensor};
use candling::{Cause, Failure, FailureKind, Seed, check::Causal};

use super::models::{Attention, CPU, Decoder, Mask, TimeConv, WIDTH, planted, sequence};
use crate::support::text;

fn fails(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    fails_as(&Causal::new(), f, x)
}

fn fails_as(causal: &Causal, f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = causal.check(f, x).expect_err("the leak was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn attention(mask: Mask, layers: usize) -> Attention {
    Attention::new(Seed::new(3), layers, mask, DType::F32)
}

#[test]
fn no_mask() {
    let model = attention(Mask::None, 2);
    insta::assert_snapshot!(text(&fails(|x| model.forward(x), &sequence(1, 2, 8))), @"
    assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   28 of 28 pairs of an output and a later input depend, up to 7 positions apart
      pattern  every output sees every later position, as it sees earlier ones: there is no mask, or something
               beside it mixes all positions
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #XXXXXXX
               1 ##XXXXXX
               2 ###XXXXX
               3 ####XXXX
               4 #####XXX
               5 ######XX
               6 #######X
               7 ########

      confirmed  future-leak   output 0, input 1: other values there move it by 0.805; other values where it may
                               look, by 5.21
      help       add minus infinity above the diagonal of the scores, before the softmax; where that is done, look
                 for a softmax, a norm, a mean or a reshape across the positions; see docs/causes.md#future-leak
    ");
}

#[test]
fn a_soft_mask() {
    let model = attention(Mask::Above(-10.0), 1);
    insta::assert_snapshot!(text(&fails(|x| model.forward(x), &sequence(1, 2, 6))), @"
    assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   15 of 15 pairs of an output and a later input depend, up to 5 positions apart
      pattern  outputs see later positions, 0.000522 times as much as earlier ones: a soft mask, such as -10 for
               minus infinity
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #XXXXX
               1 ##XXXX
               2 ###XXX
               3 ####XX
               4 #####X
               5 ######

      confirmed  future-leak   output 0, input 1: other values there move it by 0.0108; other values where it may
                               look, by 5.57
      help       mask with `f32::NEG_INFINITY` or -1e9, which come out of the softmax as exactly 0; see
                 docs/causes.md#future-leak
    ");
}

#[test]
fn an_inverted_mask() {
    let model = attention(Mask::Inverted, 2);
    insta::assert_snapshot!(text(&fails(|x| model.forward(x), &sequence(1, 2, 6))), @"
    assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   15 of 15 pairs of an output and a later input depend, up to 5 positions apart
      pattern  outputs see later positions and no earlier one: the mask is inverted
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #XXXXX
               1 .#XXXX
               2 ..#XXX
               3 ...#XX
               4 ....#X
               5 .....#

      confirmed  future-leak     output 0, input 1: other values there move it by 3.15; other values where it may
                                 look, by 2.34
      confirmed  input-ignored   other values at all earlier positions leave every output the same to the last bit
      help       keep the lower triangle (`tril2`) and mask the upper one, not the other way round; see
                 docs/causes.md#future-leak
      help       check that the mask does not hide the past, and that the input is longer than the steps in which
                 the model looks back; see docs/causes.md#input-ignored
    ");
}

#[test]
fn a_diagonal_off_by_one() {
    let model = attention(Mask::From(2), 1);
    insta::assert_snapshot!(text(&fails(|x| model.forward(x), &sequence(1, 2, 10))), @"
    assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   9 of 45 pairs of an output and a later input depend
      pattern  each output sees the next position and nothing beyond: off by one, in the mask or in a padding
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #X........
               1 ##X.......
               2 ###X......
               3 ####X.....
               4 #####X....
               5 ######X...
               6 #######X..
               7 ########X.
               8 #########X
               9 ##########

      confirmed  future-leak   output 0, input 1: other values there move it by 2.49; other values where it may
                               look, by 4.23
      help       the mask keeps the diagonal and what lies below it; a convolution of kernel k is padded by k - 1
                 on the left and by nothing on the right; see docs/causes.md#future-leak
    ");
    let conv = TimeConv::new(Seed::new(1), 3, (1, 1));
    let x = sequence(1, 2, 10).transpose(1, 2).unwrap();
    let failure = fails_as(&Causal::new().dim(2), |x| conv.forward(x), &x);
    assert!(
        failure.text().contains("each output sees the next position and nothing beyond"),
        "{failure}"
    );
    let model = attention(Mask::From(2), 2);
    let failure = fails(|x| model.forward(x), &sequence(1, 2, 10));
    assert!(failure.text().contains("each output sees 2 positions ahead"), "{failure}");
}

#[test]
fn heads_without_a_transpose() {
    for (heads, layers) in [(2, 1), (4, 1), (2, 2)] {
        let mut model = attention(Mask::Above(f32::NEG_INFINITY), layers);
        (model.heads, model.no_transpose) = (heads, true);
        let failure = fails(|x| model.forward(x), &sequence(1, 2, 12));
        assert_eq!(failure.cause(), Some(Cause::FutureLeak));
        if layers == 1 {
            assert!(failure.text().contains(&format!("(b, {heads}, t, d)")), "{failure}");
        }
    }
    let mut model = attention(Mask::Above(f32::NEG_INFINITY), 1);
    model.no_transpose = true;
    insta::assert_snapshot!(text(&fails(|x| model.forward(x), &sequence(1, 2, 8))), @"
    assertion `causal` failed
    output position 0 depends on input position 4, 4 positions later

      extent   10 of 28 pairs of an output and a later input depend, up to 4 positions apart
      pattern  what is seen is what heads split by `reshape((b, 2, t, d))` without a transpose see
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #...X...
               1 ##..X...
               2 ###.XX..
               3 ##.#XX..
               4 ###.#XX.
               5 ###.##X.
               6 #######X
               7 ########

      confirmed  future-leak   output 0, input 4: other values there move it by 1.88; other values where it may
                               look, by 6.15
      help       from (b, t, h * d) heads are `reshape((b, t, h, d))?.transpose(1, 2)?`; see
                 docs/causes.md#future-leak
    ");
}

#[test]
fn chunks_without_a_mask_within() {
    let model = attention(Mask::Chunks(4), 2);
    let failure = fails(|x| model.forward(x), &sequence(1, 2, 12));
    assert!(failure.text().contains("within blocks of 4"), "{failure}");
}

#[test]
fn one_pair_of_positions_of_128() {
    let model = attention(Mask::Above(f32::NEG_INFINITY), 1);
    for (from, to) in [(1, 0), (127, 126), (64, 63), (97, 5)] {
        let f = |x: &Tensor| planted(&model.forward(x)?, x, from, to, 1e-6);
        let failure = fails(f, &sequence(1, 4, 128));
        assert_eq!(failure.cause(), Some(Cause::FutureLeak));
        let place = format!("output {to}, input {from}");
        assert_eq!(failure.findings()[0].place(), Some(place.as_str()));
    }
    let f = |x: &Tensor| planted(&model.forward(x)?, x, 97, 90, 1e-6);
    insta::assert_snapshot!(text(&fails(f, &sequence(1, 4, 128))), @"
    assertion `causal` failed
    output position 90 depends on input position 97, 7 positions later

      extent  1 of 8128 pairs of an output and a later input depends
      seen    outputs down, inputs across; # depends, X depends and must not
              inputs 86 to 101
               86 #...............
               87 ##..............
               88 ###.............
               89 ####............
               90 #####......X....
               91 ######..........
               92 #######.........
               93 ########........
               94 #########.......
               95 ##########......
               96 ###########.....
               97 ############....
               98 #############...
               99 ##############..
              100 ###############.
              101 ################

      confirmed  future-leak   output 90, input 97: other values there move it by 3.65e-6; other values where it
                               may look, by 4.04
      help       check the mask: its diagonal, its orientation, and whether it is added before the softmax; see
                 docs/causes.md#future-leak
    ");
}

#[test]
fn one_position_beyond_what_is_measured_pair_by_pair() {
    let f = |x: &Tensor| planted(&x.cumsum(1)?, x, 297, 90, 1.0);
    let x = Seed::new(1).normal("x", (2, 300, 2), DType::F32, CPU).unwrap();
    insta::assert_snapshot!(text(&fails(f, &x)), @"
    assertion `causal` failed
    output position 90 depends on input position 297, 207 positions later

      confirmed  future-leak   output 90, input 297: other values there move it by 2.97; other values where it may
                               look, by 62.1
      help       check the mask: its diagonal, its orientation, and whether it is added before the softmax; see
                 docs/causes.md#future-leak
    ");
}

#[test]
fn a_position_that_all_outputs_see() {
    let f = |x: &Tensor| x.cumsum(1)?.broadcast_add(&x.narrow(1, 5, 1)?);
    let failure = fails(f, &sequence(1, 2, 8));
    assert!(
        failure.text().contains("position 5 is the only one that is seen too early"),
        "{failure}"
    );
    let mean = |x: &Tensor| x.cumsum(1)?.broadcast_sub(&x.mean_keepdim(1)?);
    let failure = fails(mean, &sequence(1, 2, 8));
    assert!(failure.text().contains("there is no mask"), "{failure}");
}

#[test]
fn decoders_of_ids_leak_too() {
    for mask in [Mask::None, Mask::From(2), Mask::Inverted, Mask::Above(-10.0)] {
        for seed in 0..10 {
            let model = Decoder::new(Seed::new(seed), 11, mask);
            let ids = Seed::new(seed).tokens("ids", 11, (2, 8), CPU).unwrap();
            let failure = fails(|ids| model.forward(ids), &ids);
            assert_eq!(failure.cause(), Some(Cause::FutureLeak), "{mask:?} {seed}");
        }
    }
}

#[test]
fn its_own_position_where_that_is_forbidden() {
    let strict = Causal::new().strict(true);
    insta::assert_snapshot!(text(&fails_as(&strict, |x| x.cumsum(1), &sequence(1, 2, 5))), @"
    assertion `causal` failed
    output position 0 depends on its own input position

      extent   5 of 15 pairs of an output and its own or a later input depend
      pattern  each output sees its own position and nothing later: the shift by one is missing
      seen     outputs down, inputs across; # depends, X depends and must not
               0 X....
               1 #X...
               2 ##X..
               3 ###X.
               4 ####X

      confirmed  future-leak   output 0, input 0: other values there move it by 3.18
      help       shift the input to the right by one, or mask the diagonal, too; see docs/causes.md#future-leak
    ");
}

#[test]
fn a_window_that_is_too_long() {
    let model = attention(Mask::Window(3), 2);
    let windowed = Causal::new().window(4);
    insta::assert_snapshot!(text(&fails_as(&windowed, |x| model.forward(x), &sequence(1, 2, 9))), @"
    assertion `causal` failed
    output position 4 depends on input position 0, 4 positions earlier

      extent  5 of 15 pairs of an output and an input before its window depend, up to 4 positions apart
      seen    outputs down, inputs across; # depends, X depends and must not
              0 #........
              1 ##.......
              2 ###......
              3 ####.....
              4 X####....
              5 .X####...
              6 ..X####..
              7 ...X####.
              8 ....X####

      confirmed  not-invariant   output 4, input 0: other values there move it by 0.722; other values where it may
                                 look, by 5.36
      help       check the mask's lower edge, and that nothing is carried on from before the window; n layers of
                 window k see n * (k - 1) + 1 positions; see docs/causes.md#not-invariant
    ");
    windowed
        .allow(Cause::NotInvariant)
        .check(|x: &Tensor| model.forward(x), &sequence(1, 2, 9))
        .unwrap();
}

#[test]
fn the_past_must_be_used() {
    let pointwise = |x: &Tensor| x.sqr();
    insta::assert_snapshot!(text(&fails(pointwise, &sequence(1, 2, 5))), @"
    assertion `causal` failed
    no output depends on an earlier position

      confirmed  input-ignored   other values at all earlier positions leave every output the same to the last bit
      help       check that the mask does not hide the past, and that the input is longer than the steps in which
                 the model looks back; see docs/causes.md#input-ignored
    ");
    Causal::new().allow(Cause::InputIgnored).check(pointwise, &sequence(1, 2, 5)).unwrap();
    Causal::new().window(1).check(pointwise, &sequence(1, 2, 5)).unwrap();
    let failure = Causal::new().check(|x: &Tensor| x.zeros_like(), &sequence(1, 2, 5)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `causal` proves nothing here
    the output does not depend on the input: other values at all 5 positions leave it the same to the last bit

      possible   input-ignored   every position was replaced, several times
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
}

#[test]
fn mixed_rows_are_no_future() {
    let mean = |x: &Tensor| x.cumsum(1)?.broadcast_sub(&x.mean_keepdim(0)?.cumsum(1)?);
    // Row by row causal, and each row the mean of all: a cut in one row reaches later positions only, in every row.
    let failure = Causal::new().check(mean, &sequence(1, 3, 6)).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `causal` failed
    outputs change with other rows of the batch; in a row by itself no output sees what it must not

      confirmed  batch-mixed   output row 0: it moves when row 1 of the input alone changes
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
    ");
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
    let softmax = |x: &Tensor| candle_nn::ops::softmax(&x.cumsum(1)?, 0);
    let failure = Causal::new().check(softmax, &sequence(1, 3, 6)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
    Causal::new().allow(Cause::BatchMixed).check(softmax, &sequence(1, 3, 6)).unwrap();
    // Both.
    let over_both = |x: &Tensor| {
        let mean = x.flatten(0, 1)?.mean_keepdim(0)?.unsqueeze(0)?;
        x.cumsum(1)?.broadcast_sub(&mean)
    };
    let failure = Causal::new().check(over_both, &sequence(1, 3, 6)).unwrap_err();
    let causes: Vec<Cause> = failure.findings().iter().map(candling::Finding::cause).collect();
    assert_eq!(causes, [Cause::FutureLeak, Cause::BatchMixed]);
}

#[test]
fn copies_of_a_row_are_no_batch() {
    // One row is not mixed with itself: what its copies do to each other is nobody's business.
    let centred = |x: &Tensor| x.cumsum(1)?.broadcast_sub(&x.mean_keepdim(0)?.cumsum(1)?);
    let with_own = |x: &Tensor| centred(x)? + x.cumsum(1)?;
    let report = Causal::new().check(with_own, &sequence(1, 1, 6)).unwrap();
    assert_eq!(report.rows, 1);
    let failure = Causal::new().check(with_own, &sequence(1, 2, 6)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
}

#[test]
fn of_several_inputs_the_one_that_leaks_is_named() {
    let x = [sequence(1, 2, 6), sequence(2, 2, 6)];
    let f = |[a, b]: &[Tensor; 2]| a.cumsum(1)?.broadcast_add(&b.max_keepdim(1)?);
    let failure = Causal::new().check(f, &x).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   15 of 15 pairs of an output and a later input depend, up to 5 positions apart
      pattern  every output sees every later position, as it sees earlier ones: there is no mask, or something
               beside it mixes all positions
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #XXXXX
               1 ##XXXX
               2 ###XXX
               3 ####XX
               4 #####X
               5 ######

      confirmed  future-leak   output 0, input 1: other values there move it by 1.3; other values where it may
                               look, by 3.16; it comes through tensor 1 of the input
      help       add minus infinity above the diagonal of the scores, before the softmax; where that is done, look
                 for a softmax, a norm, a mean or a reshape across the positions; a tensor of which the output may
                 see all, such as an encoder's memory, belongs into the closure; see docs/causes.md#future-leak
    ");
    let other = [sequence(1, 2, 6), sequence(2, 2, 7)];
    Causal::new().check(f, &other).unwrap();
    let ids = Tensor::new(&[[1u32, 2, 3], [3, 1, 2]], CPU).unwrap();
    let mask = Tensor::ones((2, 3), DType::F32, CPU).unwrap();
    let both = |[ids, mask]: &[Tensor; 2]| (ids.to_dtype(DType::F32)? * mask)?.cumsum(1);
    Causal::new().check(both, &[ids, mask]).unwrap();
}

#[test]
fn zeros_of_either_sign_are_zero() {
    // Later positions times 0 are 0 or -0.
    let f =
        |x: &Tensor| (x.cumsum(1)? * 0.0)?.add(&(x.flip(&[1])? * 0.0)?)?.add(&x.cumsum(1)?.relu()?);
    Causal::new().check(f, &sequence(1, 2, 8)).unwrap();
}

#[test]
fn other_dimensions() {
    let x = Seed::new(1).normal("x", (2, 3, 7), DType::F32, CPU).unwrap();
    let f = |x: &Tensor| x.cumsum(2)?.transpose(1, 2);
    let report = Causal::new().dim(2).output_dim(1).check(f, &x).unwrap();
    assert_eq!((report.positions, report.cuts, report.rows), (7, 6, 6));
    let back = |x: &Tensor| x.flip(&[2])?.cumsum(2)?.flip(&[2])?.transpose(1, 2);
    let failure = fails_as(&Causal::new().dim(2).output_dim(1), back, &x);
    assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    let x = Seed::new(1).normal("x", (2, 5), DType::F32, CPU).unwrap();
    Causal::new().check(|x: &Tensor| x.cumsum(D::Minus1), &x).unwrap();
    assert_eq!(WIDTH, 8);
}
