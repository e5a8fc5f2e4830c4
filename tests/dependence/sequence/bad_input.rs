//! What cannot be checked says so.

use candling::{
    FailureKind, Seed,
    candle_core::bail,
    check::{CacheConsistent, PaddingInvariant, PositionSensitive},
    prelude::*,
};

use super::small::CPU;
use crate::support::text;

fn kind_and_text<T: std::fmt::Debug>(result: candling::Result<T>) -> (FailureKind, String) {
    let failure = result.expect_err("it cannot be checked");
    (failure.kind(), text(&failure).split_whitespace().collect::<Vec<_>>().join(" "))
}

fn normal(dims: &[usize]) -> candling::Result<Tensor> {
    Ok(Seed::new(1).normal("x", dims, DType::F32, CPU)?)
}

macro_rules! says {
    ($result:expr, $kind:ident, $words:expr) => {
        let (kind, text) = kind_and_text($result);
        assert!(kind == FailureKind::$kind && text.contains($words), "{kind:?}: {text}");
    };
}

#[test]
fn caches() -> candling::Result<()> {
    let sums = |x: &Tensor| x.cumsum(1);
    let keeps = |dims: &[usize]| -> candling::Result<_> {
        let x = normal(dims)?;
        Ok(CacheConsistent::new().check(sums, |x: &Tensor, _| x.cumsum(1), &x))
    };
    says!(keeps(&[])?, NotRun, "`tokens` is of dims []");
    says!(keeps(&[3])?, NotRun, "allowed: ids of dims [batch, time]");
    says!(keeps(&[2, 0, 3])?, Vacuous, "is empty");
    says!(keeps(&[2, 1, 3])?, Vacuous, "one token a row");
    let x = normal(&[2, 5, 3])?;
    let nan = (&x * f64::NAN)?;
    says!(CacheConsistent::new().check(sums, |x, _| x.cumsum(1), &nan), NotRun, "with NaN");
    let ids = Tensor::zeros((2, 5), DType::U32, CPU)?;
    let float = |x: &Tensor| x.to_dtype(DType::F32)?.cumsum(1);
    says!(CacheConsistent::new().check(float, |x, _| float(x), &ids), Vacuous, "no other value");
    says!(
        CacheConsistent::new().check(|x| Ok(x.clone()), |x, _| Ok(x.clone()), &x),
        Vacuous,
        "a cache cannot matter"
    );
    says!(
        CacheConsistent::new().check(|x| x.sum_all(), |x, _| x.sum_all(), &x),
        NotRun,
        "returned dims []"
    );
    says!(
        CacheConsistent::new().check(
            |x| x.cumsum(1)?.flatten(1, 2)?.narrow(1, 0, x.dim(1)? * 3 - 1),
            |x, _| Ok(x.clone()),
            &x
        ),
        NotRun,
        "the full pass returned dims [2, 14] for 5 tokens and [2, 11] for 4"
    );
    says!(
        CacheConsistent::new().check(sums, |x, _| x.narrow(2, 0, 2), &x),
        NotRun,
        "the step returned dims [2, 1, 2]"
    );
    says!(
        CacheConsistent::new().check(sums, |_, _| bail!("no"), &x),
        NotRun,
        "the step returned an error"
    );
    says!(
        CacheConsistent::new().check(|_| bail!("no"), |x, _| x.cumsum(1), &x),
        NotRun,
        "the full pass returned an error"
    );
    says!(
        CacheConsistent::new().check(|x| x.cumsum(1)? * f64::NAN, |x, _| x.cumsum(1), &x),
        NotRun,
        "not-finite"
    );
    says!(
        CacheConsistent::new().check(|x| x.rand_like(0.0, 1.0), |x, _| x.cumsum(1), &x),
        NotRun,
        "two calls"
    );
    says!(
        CacheConsistent::new().tolerance(-1.0).check(sums, |x, _| x.cumsum(1), &x),
        NotRun,
        "`tolerance` is"
    );
    // A step with a draw of its own is not right, and not the same again.
    says!(
        CacheConsistent::new().check(sums, |x, _| x.rand_like(0.0, 1.0), &x),
        Violated,
        "dropout-in-eval"
    );
    Ok(())
}

#[test]
fn padding() -> candling::Result<()> {
    let first = |x: &Tensor, mask: &Tensor| x.broadcast_mul(&mask.unsqueeze(2)?);
    let of = |dims: &[usize]| -> candling::Result<_> {
        Ok(PaddingInvariant::new().check(first, &normal(dims)?))
    };
    says!(of(&[])?, NotRun, "`x` is of dims []");
    says!(of(&[3])?, NotRun, "allowed: ids");
    says!(of(&[2, 0, 3])?, Vacuous, "is empty");
    of(&[1, 1, 3])??;
    of(&[1, 4, 3])??;
    let x = normal(&[2, 4, 3])?;
    let check = PaddingInvariant::new;
    says!(check().check(first, &(&x * f64::NAN)?), NotRun, "with NaN");
    says!(check().check(|_, _| bail!("no mask will do"), &x), NotRun, "tried as f32, u8, u32, i64");
    says!(check().mask_dtype(DType::U32).check(first, &x), NotRun, "tried as u32");
    says!(check().check(|x, _| x.zeros_like(), &x), Vacuous, "padding cannot matter");
    says!(check().check(|x, _| x.sum_all(), &x), NotRun, "returned dims []");
    says!(
        check().check(|x, m| first(x, m)?.transpose(1, 2), &x),
        NotRun,
        "dims [2, 3, 4] for 4 positions"
    );
    says!(check().check(|x, m| first(x, m)? * f64::NAN, &x), NotRun, "not-finite");
    says!(
        check().check(|x, m| if x.dim(1)? > 4 { bail!("too long") } else { first(x, m) }, &x),
        NotRun,
        "[2, 5, 3], padded from [2, 4, 3]"
    );
    says!(check().pad(f64::NAN).check(first, &x), NotRun, "`pad` is NaN");
    let ids = Seed::new(1).tokens("ids", 9, (2, 4), CPU)?;
    says!(
        check().pad(-1).check(|x, _| x.to_dtype(DType::F32), &ids),
        NotRun,
        "an id: a whole number"
    );
    says!(
        check().check(|x, _| x.to_dtype(DType::F32)?.rand_like(0.0, 1.0), &ids),
        NotRun,
        "two calls"
    );
    Ok(())
}

#[test]
fn order() -> candling::Result<()> {
    let check = PositionSensitive::new;
    let sums = |x: &Tensor| x.cumsum(1);
    let of = |dims: &[usize]| -> candling::Result<_> { Ok(check().check(sums, &normal(dims)?)) };
    says!(of(&[])?, NotRun, "rank 0");
    says!(of(&[3])?, NotRun, "`dim` is 1 for an input of dims [3]");
    says!(of(&[2, 0, 3])?, Vacuous, "is empty");
    says!(of(&[2, 1, 3])?, Vacuous, "one position");
    of(&[1, 2, 3])??;
    let x = normal(&[2, 4, 3])?;
    says!(check().dim(0).check(sums, &x), NotRun, "`dim` is 0");
    says!(check().check(sums, &(&x * f64::NAN)?), NotRun, "with NaN");
    says!(check().check(|x: &Tensor| x.zeros_like(), &x), Vacuous, "no order to notice");
    says!(check().check(|_: &Tensor| bail!("no"), &x), NotRun, "the function returned an error");
    says!(check().check(|x: &Tensor| x.rand_like(0.0, 1.0), &x), NotRun, "two calls");
    says!(check().check(|x: &Tensor| x.sum_all(), &x), NotRun, "returned dims []");
    let same = x.narrow(1, 0, 1)?.expand((2, 4, 3))?;
    says!(check().check(sums, &same), Vacuous, "holds the same at all positions");
    Ok(())
}
