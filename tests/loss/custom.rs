//! Losses of the user's own: by formula, by examples, by laws.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{loss, ops};
use candling::{
    Cause, Contract, Failure, FailureKind, Seed, assert_loss_contract,
    check::LossContract,
    contract::{self, Law},
};

const CPU: &Device = &Device::Cpu;

fn failure(loss: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>, contract: &Contract) -> Failure {
    LossContract::new().check(loss, contract).unwrap_err()
}

fn focal(gamma: f64) -> impl Fn(&Tensor, &Tensor) -> Result<Tensor> {
    move |logits, y| {
        let log_p = ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?;
        ((1.0 - log_p.exp()?)?.powf(gamma)? * log_p)?.mean_all()?.neg()
    }
}

fn focal_by_hand(gamma: f64) -> Contract {
    contract::custom("focal loss").labels(4).per_row(move |logits, label| {
        let p = logits[label[0] as usize].exp() / logits.iter().map(|z| z.exp()).sum::<f64>();
        -(1.0 - p).powf(gamma) * p.ln()
    })
}

#[test]
fn a_formula_for_one_row_is_enough() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        assert_loss_contract!(focal(2.0), focal_by_hand(2.0).dtype(dtype));
    }
    let wrong = failure(loss::cross_entropy, &focal_by_hand(2.0));
    assert_eq!(wrong.cause(), Some(Cause::ValuesDiffer));
    let summed =
        failure(|x: &Tensor, y: &Tensor| focal(2.0)(x, y)? * x.dim(0)? as f64, &focal_by_hand(2.0));
    assert_eq!(summed.cause(), Some(Cause::LossReduction));
    let negated = failure(|x: &Tensor, y: &Tensor| focal(2.0)(x, y)?.neg(), &focal_by_hand(2.0));
    assert_eq!(negated.cause(), Some(Cause::LossSign));
    let detached =
        failure(|x: &Tensor, y: &Tensor| focal(2.0)(&x.detach(), y), &focal_by_hand(2.0));
    assert_eq!(detached.cause(), Some(Cause::LossDetached));
}

/// Of the whole batch: no mean of rows.
fn dice(p: &Tensor, y: &Tensor) -> Result<Tensor> {
    let overlap = (((p * y)?.sum_all()? * 2.0)? + 1.0)?;
    1.0 - (overlap / ((p.sum_all()? + y.sum_all()?)? + 1.0)?)?
}

fn dice_by_hand() -> Contract {
    contract::custom("Dice loss").shape([4, 4]).predictions(0.0..1.0).targets(0.0..1.0).of_batch(
        |p, y| {
            let overlap: f64 = p.iter().zip(y).map(|(p, y)| p * y).sum();
            let sum = p.iter().sum::<f64>() + y.iter().sum::<f64>();
            1.0 - (2.0 * overlap + 1.0) / (sum + 1.0)
        },
    )
}

#[test]
fn a_formula_for_the_batch_needs_no_reduction() {
    assert_loss_contract!(dice, dice_by_hand());
    let no_smooth = |p: &Tensor, y: &Tensor| {
        1.0 - (((p * y)?.sum_all()? * 2.0)? / (p.sum_all()? + y.sum_all()?)?)?
    };
    assert_eq!(failure(no_smooth, &dice_by_hand()).cause(), Some(Cause::ValuesDiffer));
    let upside_down = |p: &Tensor, y: &Tensor| dice(p, y)?.neg();
    assert_eq!(failure(upside_down, &dice_by_hand()).cause(), Some(Cause::LossSign));
}

/// A margin loss, known by three examples.
fn margin_by_examples() -> Contract {
    let target = Tensor::new(&[1f32, -1.0, 1.0, -1.0], CPU).unwrap();
    let right = (&target * 2.0).unwrap();
    let zero = target.zeros_like().unwrap();
    let wrong = target.neg().unwrap();
    contract::custom("hinge loss")
        .perfect(&right, &target, 0.0)
        .baseline(&zero, &target, 1.0)
        .known(&(&target * 0.25).unwrap(), &target, 0.75)
        .wrong(&wrong, &target)
        .without(Law::EveryRowCounts)
        .law(Law::NonNegative)
}

#[test]
fn examples_and_laws_stand_in_for_a_formula() {
    let hinge = |p: &Tensor, y: &Tensor| (1.0 - (p * y)?)?.relu()?.mean_all();
    let report = assert_loss_contract!(hinge, margin_by_examples());
    assert_eq!((report.perfect, report.uniform, report.wrong), (Some(0.0), Some(1.0), Some(2.0)));
    assert_eq!(report.reduction, None);

    let causes =
        |loss: fn(&Tensor, &Tensor) -> Result<Tensor>| failure(loss, &margin_by_examples()).cause();
    assert_eq!(causes(|p, y| (1.0 - (p * y)?)?.relu()?.sum_all()), Some(Cause::ValuesDiffer));
    assert_eq!(causes(|p, y| (1.0 - (p * y)?)?.mean_all()), Some(Cause::ValuesDiffer));
    assert_eq!(
        causes(|p, y| (1.0 - (p * y)?)?.relu()?.detach().mean_all()),
        Some(Cause::LossDetached)
    );
}

#[test]
fn laws_are_tested_of_examples_alone() {
    let seed = Seed::new(1);
    let p = seed.normal("p", (6, 3), DType::F32, CPU).unwrap();
    let y = seed.normal("y", (6, 3), DType::F32, CPU).unwrap();
    let contract = || contract::custom("some error").finite_at(&p, &y);
    let error = |p: &Tensor, y: &Tensor| (p - y)?.powf(4.0)?.mean_all();
    assert_loss_contract!(error, contract());
    assert_loss_contract!(|p, y| error(p, y)? * p.dim(0)? as f64, contract().sum());

    let sum = failure(|p: &Tensor, y: &Tensor| (p - y)?.powf(4.0)?.sum_all(), &contract());
    assert_eq!(sum.cause(), Some(Cause::LossReduction));
    let blind = failure(|p: &Tensor, _: &Tensor| p.sqr()?.mean_all(), &contract());
    assert_eq!(blind.cause(), Some(Cause::LossIgnoresTarget));
    let some = |p: &Tensor, y: &Tensor| loss::mse(&p.narrow(0, 0, 4)?, &y.narrow(0, 0, 4)?);
    assert_eq!(failure(some, &contract()).cause(), Some(Cause::LossIgnoresRows));
    let ordered = |p: &Tensor, y: &Tensor| {
        let weights =
            Tensor::arange(0f32, p.dim(0)? as f32, CPU)?.affine(1.0, 1.0)?.unsqueeze(1)?;
        (p - y)?.sqr()?.broadcast_mul(&weights)?.mean_all()
    };
    assert_eq!(failure(ordered, &contract()).cause(), Some(Cause::NotInvariant));
    let negative = failure(
        |p: &Tensor, y: &Tensor| (p - y)?.abs()?.mean_all()?.neg(),
        &contract().law(Law::NonNegative),
    );
    assert_eq!(negative.cause(), Some(Cause::OutOfRange));
    let shifted = failure(error, &contract().law(Law::ShiftInvariant));
    assert_eq!(shifted.cause(), Some(Cause::NotInvariant));
}

#[test]
fn an_extreme_example_must_be_borne() {
    // A mean and a log-variance for each row.
    let y = Tensor::new(&[[0.3f32], [-1.0]], CPU).unwrap();
    let extreme = Tensor::new(&[[0f32, -200.0], [0.5, 3.0]], CPU).unwrap();
    let contract = || {
        contract::custom("Gaussian likelihood")
            .shape([2])
            .target_shape([1])
            .per_row(|p, y| ((p[0] - y[0]).powi(2) * (-p[1]).exp() + p[1]) / 2.0)
            .finite_at(&extreme, &y)
    };
    let of = |clamped: bool| {
        move |p: &Tensor, y: &Tensor| {
            let (mean, log) = (p.narrow(1, 0, 1)?, p.narrow(1, 1, 1)?);
            let log = if clamped { log.clamp(-6f32, 6f32)? } else { log };
            let error = ((mean - y)?.sqr()? * log.neg()?.exp()?)?;
            (error + log)?.mean_all()? * 0.5
        }
    };
    assert_loss_contract!(of(true), contract());
    assert_eq!(failure(of(false), &contract()).cause(), Some(Cause::LossUnstable));
}

#[test]
fn a_contract_that_promises_nothing_is_vacuous() {
    let nothing = failure(loss::mse, &contract::custom("nothing"));
    assert_eq!(nothing.kind(), FailureKind::Vacuous);
    let constant = contract::custom("constant").per_row(|_, _| 1.0);
    let one = |p: &Tensor, _: &Tensor| ((p * 0.0)? + 1.0)?.mean_all();
    let failure = failure(one, &constant);
    assert!(failure.kind() != FailureKind::NotRun, "{failure}");
}
