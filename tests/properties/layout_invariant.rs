//! The same values, lying otherwise in memory.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Linear, Module, linear};
use candling::{
    Cause, Failure, FailureKind, Seed, assert_layout_invariant, check::LayoutInvariant,
};

use super::zoo::CPU;
use crate::support::text;

fn normal(dims: &[usize]) -> Tensor {
    Seed::new(1).normal("x", dims, DType::F32, CPU).expect("normal numbers")
}

fn layer(inputs: usize, outputs: usize, dtype: DType) -> (candle_nn::VarMap, Linear) {
    let (vars, vb) = Seed::new(2).var_builder(dtype, CPU);
    (vars, linear(inputs, outputs, vb).expect("a layer"))
}

fn failing(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    LayoutInvariant::new().check(f, x).expect_err("a function that minds the layout")
}

#[test]
fn candles_linear_is_wrong_on_a_transposed_batch() {
    let (_vars, linear) = layer(4, 3, DType::F32);
    let failure = failing(|x| linear.forward(x), &normal(&[2, 5, 4]));
    assert_eq!(
        (failure.kind(), failure.cause()),
        (FailureKind::Violated, Some(Cause::LayoutDependent))
    );
    insta::assert_snapshot!(text(&failure), @"
    assertion `layout_invariant` failed
    the result depends on how the input lies in memory: a transposed view of dimensions 1 and 2

      worst   [1, 2, 1]: -1.92 from the view, 1.95 from a contiguous copy of it
      differ  a transposed view of dimensions 1 and 2
      agree   a transposed view of dimensions 0 and 1, a transposed view of dimensions 0 and 2, a view of the last
              dimension outermost in memory, a view of the first dimension innermost in memory and 7 more

      confirmed  layout-dependent   a transposed view of dimensions 1 and 2: 15 of 30 output values differ, by up
                                    to 3.87, where rounding makes up to 4.79e-5; candle's own `Linear` is wrong on
                                    this view: with the identity as its weight it changes 20 of 40 values; the
                                    function's graph has such a product
      help       call `.contiguous()?` on what goes into the `Linear` or `matmul`; candle's product of a strided
                 batch is wrong; see docs/causes.md#layout-dependent
    ");
    // A matrix, or a batch of one, is right.
    assert_layout_invariant!(|x| linear.forward(x), &normal(&[5, 4]));
    assert_layout_invariant!(|x| linear.forward(x), &normal(&[1, 5, 4]));
    assert_layout_invariant!(|x| linear.forward(&x.contiguous()?), &normal(&[2, 5, 4]));
}

#[test]
fn every_format_and_four_dimensions_are_seen() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (_vars, linear) = layer(4, 3, dtype);
        for dims in [&[2, 5, 4][..], &[2, 3, 5, 4]] {
            let x = normal(dims).to_dtype(dtype).unwrap();
            let failure = failing(|x| linear.forward(x), &x);
            assert_eq!(failure.cause(), Some(Cause::LayoutDependent), "{dtype:?} {dims:?}");
            let right = |x: &Tensor| linear.forward(&x.contiguous()?);
            LayoutInvariant::new().check(right, &x).unwrap();
        }
    }
}

#[test]
fn a_linear_behind_a_cut_is_found_all_the_same() {
    let (_vars, linear) = layer(4, 8, DType::F32);
    let cut = |x: &Tensor| candle_nn::ops::softmax_last_dim(&linear.forward(x)?);
    let failure = failing(cut, &normal(&[3, 5, 4]));
    let evidence = failure.findings()[0].evidence();
    assert!(evidence.contains("candle's own `Linear` is wrong on this view"), "{evidence}");
}

#[test]
fn a_transposed_kernel_is_the_member_to_blame() {
    let (x, kernel) = (normal(&[2, 4, 7]), normal(&[2, 4, 3]));
    let conv = |[x, kernel]: &[Tensor; 2]| x.conv1d(kernel, 1, 1, 1, 1);
    let failure = LayoutInvariant::new().check(conv, &[x, kernel]).unwrap_err();
    // What it reads in place of the kernel is no one's.
    assert_eq!(failure.cause(), Some(Cause::LayoutDependent));
    assert!(failure.findings()[0].place().unwrap().ends_with(" as input 1"), "{failure}");
    assert!(failure.text().contains("agree   a narrowed view along dimension 0"), "{failure}");
}

/// Reads the storage from its start, as if every tensor owned the whole of it.
fn from_the_start(x: &Tensor) -> Result<Tensor> {
    let (storage, _) = x.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { candle_core::bail!("a CPU's") };
    let Some(values) = storage.as_slice::<f32>()?.get(..x.elem_count()) else {
        candle_core::bail!("a storage that is too short")
    };
    Tensor::from_vec(values.to_vec(), x.shape(), CPU)
}

#[test]
fn a_kernel_that_forgets_offset_and_strides() {
    insta::assert_snapshot!(text(&failing(from_the_start, &normal(&[4]))), @"
    assertion `layout_invariant` failed
    the result depends on how the input lies in memory: a view of every second value of a storage

      worst    [2]: 1.31 from the view, -0.131 from a contiguous copy of it
      differ   a narrowed view along dimension 0 of a larger storage, a view of every second value of a storage
      agree    none
      refused  a broadcast view along dimension 0

      confirmed  layout-dependent   a view of every second value of a storage: 3 of 4 output values differ, by up
                                    to 1.44, where rounding makes up to 4.98e-6
      help       call `.contiguous()?` on the input, before the first operation that minds; see
                 docs/causes.md#layout-dependent
    ");
    let failure = failing(|x| from_the_start(&x.contiguous()?)?.sum(1), &normal(&[3, 2]));
    assert!(failure.findings()[0].place().unwrap().contains("narrowed"), "{failure}");
    let strides = |x: &Tensor| if x.stride().contains(&0) { x * 2.0 } else { x * 1.0 };
    let failure = failing(strides, &normal(&[3, 2]));
    assert!(failure.findings()[0].place().unwrap().contains("broadcast"), "{failure}");
}

#[test]
fn the_input_as_it_was_given_is_a_layout_too() {
    let x = normal(&[3, 2, 4]).permute((2, 0, 1)).unwrap();
    let report = assert_layout_invariant!(|x| x.tanh()?.sum(D::Minus1), &x);
    assert_eq!(report.agreed[0], "the input as it was given");
}

#[test]
fn an_error_is_no_failure_unless_nothing_else_comes() {
    let demanding = |x: &Tensor| {
        if !x.is_contiguous() {
            candle_core::bail!("needs a contiguous tensor");
        }
        x.tanh()
    };
    let report = assert_layout_invariant!(demanding, &normal(&[3, 4]));
    assert_eq!(report.agreed, ["a narrowed view along dimension 0 of a larger storage"]);
    assert_eq!(report.refused.len(), 5, "{:?}", report.refused);
    let fussy = |x: &Tensor| {
        if !x.is_contiguous() || x.layout().start_offset() > 0 {
            candle_core::bail!("needs a contiguous tensor of its own");
        }
        x.tanh()
    };
    insta::assert_snapshot!(text(&failing(fussy, &normal(&[3, 4]))), @"
    assertion `layout_invariant` did not run
    the function returns an error for every layout but a contiguous one

      layout  a transposed view of dimensions 0 and 1
      error   needs a contiguous tensor of its own

      help       nothing silent can come of it; call `.contiguous()?` first where views should work
    ");
}

#[test]
fn dims_and_integers_are_compared_too() {
    let confused = |x: &Tensor| if x.is_contiguous() { x.sum(0) } else { x.sum(1) };
    insta::assert_snapshot!(text(&failing(confused, &normal(&[3, 4]))), @"
    assertion `layout_invariant` failed
    the result depends on how the input lies in memory: a transposed view of dimensions 0 and 1

      differ  a transposed view of dimensions 0 and 1, a narrowed view along dimension 1 of a larger storage, a
              view of every second value of a storage, a broadcast view along dimension 0 and 1 more
      agree   a narrowed view along dimension 0 of a larger storage

      confirmed  layout-dependent   a transposed view of dimensions 0 and 1: the output has dims [3], not [4]
      help       call `.contiguous()?` on the input, before the first operation that minds; see
                 docs/causes.md#layout-dependent
    ");
    assert_layout_invariant!(|x| x.argmax(1), &normal(&[9, 4]));
    let (_vars, linear) = layer(4, 3, DType::F32);
    let failure = failing(|x| linear.forward(x)?.argmax(2), &normal(&[6, 9, 4]));
    assert_eq!(failure.cause(), Some(Cause::LayoutDependent));
    let ids = Seed::new(1).tokens("ids", 7, (3, 5), CPU).unwrap();
    assert_layout_invariant!(|x| x.to_dtype(DType::F32)?.mean(1), &ids);
}

#[test]
fn infinite_outputs_and_inputs_are_values() {
    let masked = |x: &Tensor| x.ge(0.0)?.where_cond(x, &(x.ones_like()? * f64::NEG_INFINITY)?);
    assert_layout_invariant!(masked, &normal(&[3, 4]));
    let mask = Tensor::new(&[[0f32, f32::NEG_INFINITY], [0.0, 0.0]], CPU).unwrap();
    assert_layout_invariant!(
        |[x, mask]| candle_nn::ops::softmax(&(x + mask)?, 1),
        &[normal(&[2, 2]), mask]
    );
}

#[test]
fn it_can_be_allowed() {
    let (_vars, linear) = layer(4, 3, DType::F32);
    let allowed = LayoutInvariant::new().allow(Cause::LayoutDependent);
    let report = allowed.check(|x: &Tensor| linear.forward(x), &normal(&[2, 5, 4])).unwrap();
    assert!(report.differed.contains(&"a transposed view of dimensions 1 and 2".to_owned()));
}

#[test]
fn what_cannot_be_judged_says_why() {
    insta::assert_snapshot!(text(&failing(|x| x.zeros_like(), &normal(&[2, 3]))), @"
    assertion `layout_invariant` proves nothing here
    the output does not depend on the input, however that lies in memory

      confirmed  output-constant   all 6 output values have the same bits for inputs that differ everywhere
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
    let scalar = Tensor::new(1f32, CPU).unwrap();
    assert_eq!(failing(|x| x.tanh(), &scalar).kind(), FailureKind::NotRun);
    let empty = Tensor::zeros((0, 2), DType::F32, CPU).unwrap();
    assert_eq!(failing(|x| x.tanh(), &empty).kind(), FailureKind::Vacuous);
    assert_eq!(failing(|x| x.log(), &normal(&[2, 3])).cause(), Some(Cause::NotFinite));
    assert_eq!(failing(|x| x.reshape(7), &normal(&[2, 3])).kind(), FailureKind::NotRun);
    let random = |x: &Tensor| x + x.rand_like(0.0, 1.0)?;
    assert_eq!(failing(random, &normal(&[2, 3])).kind(), FailureKind::NotRun);
    assert_layout_invariant!(|x| x.tanh(), &normal(&[1]));
    assert_layout_invariant!(|x| x.sum_all(), &normal(&[1, 3]));
}
