//! Outputs that once misled: masked logits, zeros, classes, flat functions.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Init, linear, ops};
use candling::{
    Cause, FailureKind, Seed, assert_deterministic, assert_equivalent, assert_equivariant,
    assert_invariant, assert_layout_invariant, assert_nonlinear, assert_sensitive,
    check::{BatchIndependent, Equivalent, Invariant, LayoutInvariant, Nonlinear},
};

const CPU: &Device = &Device::Cpu;

/// Logits of which most are masked by a number, written over them.
fn masked(seed: Seed, by: f32, straight: bool) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let (_vars, vb) = seed.var_builder(DType::F32, CPU);
    let (l1, l2) = (linear(8, 16, vb.pp("a"))?, linear(16, 6, vb.pp("b"))?);
    let keep = Tensor::new(&[1u8, 1, 0, 0, 0, 0], CPU)?;
    Ok(move |x: &Tensor| {
        let h = l1.forward(x)?;
        let y = l2.forward(&if straight { h } else { h.relu()? })?;
        keep.broadcast_as(y.shape())?.where_cond(&y, &Tensor::full(by, y.shape(), CPU)?)
    })
}

const MASKS: [f32; 4] = [-1e4, -1e9, f32::MIN, f32::NEG_INFINITY];

#[test]
fn masked_logits_are_no_alarm() -> Result<()> {
    for seed in (0..30).map(Seed::new) {
        let x = seed.normal("x", (4, 8), DType::F32, CPU)?;
        for by in MASKS {
            let f = masked(seed, by, false)?;
            let label = format!("{seed:?} {by:e}");
            assert_nonlinear!(&f, &x, "{label}");
            assert_layout_invariant!(&f, &x, "{label}");
            assert_deterministic!(&f, &x, "{label}");
            assert_sensitive!(&f, &x, |x| x * 2.0, every_row = true, "{label}");
            assert_equivariant!(&f, &x, |x| x.roll(1, 0), "{label}");
            let rows = |x: &Tensor| {
                let rows: Vec<_> = (0..4).map(|i| f(&x.narrow(0, i, 1)?)).collect::<Result<_>>()?;
                Tensor::cat(&rows, 0)
            };
            assert_equivalent!(rows, &f, &x, "{label}");
        }
    }
    Ok(())
}

#[test]
fn nothing_hides_behind_a_mask() -> Result<()> {
    for seed in (0..5).map(Seed::new) {
        let x = seed.normal("x", (4, 8), DType::F32, CPU)?;
        for by in MASKS {
            let f = masked(seed, by, false)?;
            let label = format!("{seed:?} {by:e}");
            let off = |x: &Tensor| f(x)? * 1.01;
            let unmasked = |x: &Tensor| off(x)?.narrow(1, 0, 2);
            let on_views = |x: &Tensor| match x.is_contiguous() && x.layout().start_offset() == 0 {
                true => f(x),
                false => Tensor::cat(&[unmasked(x)?, f(x)?.narrow(1, 2, 4)?], 1),
            };
            let failure = LayoutInvariant::new().check(on_views, &x).expect_err(&label);
            assert_eq!(failure.cause(), Some(Cause::LayoutDependent), "{label} {failure}");
            let by_rows = |x: &Tensor| match x.dim(0)? {
                4 => f(x),
                _ => Tensor::cat(&[unmasked(x)?, f(x)?.narrow(1, 2, 4)?], 1),
            };
            let failure = BatchIndependent::new().check(by_rows, &x).expect_err(&label);
            assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed), "{label} {failure}");
            let other = |x: &Tensor| Tensor::cat(&[unmasked(x)?, f(x)?.narrow(1, 2, 4)?], 1);
            Equivalent::new().check(other, &f, &x).expect_err(&label);
            let failure = Nonlinear::new().check(masked(seed, by, true)?, &x).expect_err(&label);
            assert_eq!(failure.cause(), Some(Cause::NetworkLinear), "{label} {failure}");
        }
    }
    Ok(())
}

#[test]
fn ids_under_a_relu_or_a_sharp_softmax_are_no_alarm() -> candling::Result<()> {
    for seed in (0..30).map(Seed::new) {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            if dtype.size_in_bytes() == 2 && seed.value() % 3 > 0 {
                continue;
            }
            let (_vars, vb) = seed.var_builder(dtype, CPU);
            let init = Init::Randn { mean: 0.0, stdev: 1.0 };
            let table = vb.get_with_hints((30, 24), "table", init)?;
            let (l1, l2) = (linear(24, 64, vb.pp("a"))?, linear(64, 8, vb.pp("b"))?);
            let logits = |ids: &Tensor| {
                let words = table.index_select(&ids.flatten_all()?, 0)?.reshape((2, 50, 24))?;
                l2.forward(&l1.forward(&words.mean(1)?)?.tanh()?)
            };
            let ids = seed.tokens("ids", 30, (2, 50), CPU)?;
            let order = |x: &Tensor| x.flip(&[1]);
            let violated = |result: candling::Result<_>| match result {
                Err(failure) if failure.kind() == FailureKind::Violated => Err(failure),
                _ => Ok(()),
            };
            violated(Invariant::new().check(|x: &Tensor| logits(x)?.relu(), &ids, order))?;
            // Of half precision such a softmax leaves nothing.
            if dtype.size_in_bytes() > 2 {
                let sharp = |x: &Tensor| ops::softmax(&(logits(x)? * 60.0)?, 1);
                violated(Invariant::new().check(sharp, &ids, order))?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_class_of_a_single_row_is_tried_on_many_inputs() -> candling::Result<()> {
    let mut vacuous = 0;
    for seed in (0..30).map(Seed::new) {
        let x = seed.normal("x", (1, 5, 2), DType::F32, CPU)?;
        let class = |x: &Tensor| x.sum(1)?.argmax(1);
        assert_layout_invariant!(class, &x);
        vacuous +=
            usize::from(Invariant::new().check(class, &x, |x: &Tensor| x.flip(&[1])).is_err());
    }
    assert_eq!(vacuous, 0);
    let fixed = |x: &Tensor| (x.sum(1)?.zeros_like()? + 1.0)?.argmax(1);
    let x = Seed::new(1).normal("x", (1, 5, 2), DType::F32, CPU)?;
    let failure = Equivalent::new().check(fixed, fixed, &x).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    assert!(failure.text().contains("16 other inputs of the same kind"), "{failure}");
    assert!(failure.text().contains("in place of their argmax"), "{failure}");
    Ok(())
}

/// What a rounded input leaves as it is, is not computed in that format.
#[test]
fn a_decision_is_not_judged_as_half_precision() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (6, 4), DType::F32, CPU)?;
    let codes = |x: &Tensor, step: f64| (x.ge(0.0)?.to_dtype(DType::F32)? * step)? + 1.0;
    let failure =
        Equivalent::new().check(|x: &Tensor| codes(x, 0.52), |x: &Tensor| codes(x, 0.5), &x);
    assert_eq!(failure.unwrap_err().cause(), Some(Cause::ValuesDiffer));
    assert_invariant!(|x| codes(&x.sum(1)?, 0.5), &x, |x| x.flip(&[1]));
    Ok(())
}
