//! Losses that keep their contract, in every dtype and over many seeds.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{loss, ops};
use candling::{
    Contract, Seed, assert_loss_contract,
    check::{LossContract, LossContractReport},
    contract,
};

use super::losses::*;

type Boxed = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor>>;

/// Own implementations, declared variants, harmless forms.
fn all() -> Vec<(&'static str, Boxed, Contract)> {
    fn pair(
        name: &'static str,
        loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + 'static,
        contract: Contract,
    ) -> (&'static str, Boxed, Contract) {
        (name, Box::new(loss), contract)
    }
    let squares = |p: &Tensor, y: &Tensor| (p - y)?.sqr();
    let weights = [0.5, 1.0, 3.0];
    vec![
        pair("candle's cross-entropy", loss::cross_entropy, contract::cross_entropy(10)),
        pair("two classes", loss::cross_entropy, contract::cross_entropy(2)),
        pair("many classes", loss::cross_entropy, contract::cross_entropy(3000)),
        pair("one row", loss::cross_entropy, contract::cross_entropy(4).rows(1)),
        pair(
            "log_softmax before it is harmless",
            |x, y| loss::cross_entropy(&ops::log_softmax(x, 1)?, y),
            contract::cross_entropy(7),
        ),
        pair("candle's nll", loss::nll, contract::nll(6)),
        pair("an nll that normalises", loss::cross_entropy, contract::nll(6)),
        pair(
            "an epsilon in the logarithm",
            |x, y| {
                let p = (ops::softmax(x, 1)? + 1e-7)?.log()?;
                loss::nll(&p, y)
            },
            contract::cross_entropy(5),
        ),
        pair(
            "one-hot rows by comparison",
            |x, y| {
                let hot = one_hot(y, 5, x.dtype())?;
                (hot * ops::log_softmax(x, 1)?)?.sum_all()?.neg()? / x.dim(0)? as f64
            },
            contract::cross_entropy(5),
        ),
        pair(
            "labels of i64",
            loss::cross_entropy,
            contract::cross_entropy(5).target_dtype(DType::I64),
        ),
        pair("a declared sum", |x, y| by_label(x, y)?.sum_all(), contract::cross_entropy(4).sum()),
        pair(
            "smoothing over all",
            smoothed(0.9 + 0.1 / 5.0, 0.1 / 5.0, 5),
            contract::cross_entropy(5).label_smoothing(0.1),
        ),
        pair(
            "smoothing over the others",
            smoothed(0.8, 0.2 / 4.0, 5),
            contract::cross_entropy(5).label_smoothing(0.2),
        ),
        pair("masked tokens", masked, contract::cross_entropy(5).target_shape([6]).ignore_index(0)),
        pair("masked labels", masked, contract::cross_entropy(5).ignore_index(0)),
        pair(
            "ignore_index of -100",
            |x, y| {
                let real = y.ne(-100i64)?;
                let labels = y.maximum(0i64)?;
                let real = real.to_dtype(x.dtype())?;
                (by_label(x, &labels)? * &real)?.sum_all()? / real.sum_all()?
            },
            contract::cross_entropy(4).ignore_index(-100),
        ),
        pair(
            "shifted inside",
            |x, y| {
                let time = x.dim(1)? - 1;
                by_label(&x.narrow(1, 0, time)?, &y.narrow(1, 1, time)?)?.mean_all()
            },
            contract::cross_entropy(9).target_shape([5]).next_token(),
        ),
        pair(
            "summed over tokens, averaged over rows",
            |x, y| by_label(x, y)?.sum_all()? / x.dim(0)? as f64,
            contract::cross_entropy(5).target_shape([4]),
        ),
        pair(
            "class weights",
            move |x, y| weighted(x, y, &weights),
            contract::cross_entropy(3).class_weights(weights),
        ),
        pair(
            "soft targets",
            |x, y| (y * ops::log_softmax(x, 1)?)?.sum(1)?.mean_all()?.neg(),
            contract::cross_entropy(4).soft_targets(),
        ),
        pair("KL divergence", kl, contract::kl(5)),
        pair("KL summed", |p, q| (q * (q.log()? - p)?)?.sum_all(), contract::kl(5).sum()),
        pair("stable BCE", stable_bce, contract::bce_with_logits()),
        pair(
            "stable BCE by columns",
            |x, y| stable_bce(&x.squeeze(1)?, y),
            contract::bce_with_logits().shape([1]).target_shape([]),
        ),
        pair(
            "BCE with a positive weight",
            |x, y| {
                let softplus = |x: &Tensor| x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
                let ones = ((y * softplus(&x.neg()?)?)? * 3.0)?;
                (ones + ((1.0 - y)? * softplus(x)?)?)?.mean_all()
            },
            contract::bce_with_logits().positive_weight(3.0),
        ),
        pair(
            "BCE of clamped probabilities",
            |p, y| {
                let p = p.clamp(1e-3, 1.0 - 1e-3)?;
                let ones = (y * p.log()?)?;
                (ones + ((1.0 - y)? * (1.0 - p)?.log()?)?)?.mean_all()?.neg()
            },
            contract::bce(),
        ),
        pair("candle's mse", loss::mse, contract::mse()),
        pair("half of it", move |p, y| squares(p, y)?.mean_all()? * 0.5, contract::mse()),
        pair(
            "summed over features",
            move |p, y| squares(p, y)?.sum(1)?.mean_all(),
            contract::mse(),
        ),
        pair("summed over all", move |p, y| squares(p, y)?.sum_all(), contract::mse().sum()),
        pair("images", loss::mse, contract::mse().shape([1, 4, 4])),
        pair(
            "a column against a row, squeezed",
            |p, y| p.squeeze(1)?.broadcast_sub(y)?.sqr()?.mean_all(),
            contract::mse().shape([1]).target_shape([]),
        ),
        pair("absolute", |p, y| (p - y)?.abs()?.mean_all(), contract::mae()),
        pair("candle's huber", |p, y| loss::huber(p, y, 0.7), contract::huber(0.7)),
        pair("huber of 1", |p, y| loss::huber(p, y, 1.0), contract::huber(1.0)),
        pair(
            "smooth L1, declared",
            |p, y| loss::huber(p, y, 0.5)? / 0.5,
            contract::huber(0.5).scale(2.0),
        ),
        pair("InfoNCE", |a, b| info_nce(a, b, 0.1), contract::contrastive(0.1)),
        pair(
            "InfoNCE without normalising",
            |a, b| {
                let scores = (a.matmul(&b.t()?)? / 0.2)?;
                loss::cross_entropy(&scores, &Tensor::arange(0u32, a.dim(0)? as u32, a.device())?)
            },
            contract::contrastive(0.2),
        ),
        pair(
            "CLIP",
            |a, b| (info_nce(a, b, 0.07)? + info_nce(b, a, 0.07)?)? / 2.0,
            contract::contrastive(0.07).both_ways(),
        ),
        pair("NT-Xent", |a, b| nt_xent(a, b, 0.5, true), contract::nt_xent(0.5)),
    ]
}

fn check(loss: &Boxed, contract: &Contract, seed: u64) -> candling::Result<LossContractReport> {
    LossContract::new().seed(Seed::new(seed)).check(loss, contract)
}

#[test]
fn losses_that_keep_their_contract_pass() {
    let mut wrong = Vec::new();
    for (name, loss, contract) in all() {
        for seed in 0..2 {
            if let Err(failure) = check(&loss, &contract, seed) {
                wrong.push(format!("{name}, seed {seed}: {}", failure.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_dtype_of_predictions_passes() {
    let mut wrong = Vec::new();
    for (name, loss, contract) in all() {
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            // Masks of 1e9, 0.999 and sums of thousands are nothing for half precision.
            let fine = [
                "an epsilon in the logarithm",
                "NT-Xent",
                "many classes",
                "BCE of clamped probabilities",
            ];
            if dtype != DType::F64 && fine.contains(&name) {
                continue;
            }
            for seed in 0..1 {
                if let Err(failure) = check(&loss, &contract.clone().dtype(dtype), seed) {
                    wrong.push(format!("{name}, {dtype:?}, seed {seed}: {}", failure.text()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn the_report_has_the_known_numbers() -> candling::Result<()> {
    let report = assert_loss_contract!(loss::cross_entropy, contract::cross_entropy(10));
    assert_eq!(report.perfect, Some(0.0));
    assert!((report.uniform.unwrap() - 10f64.ln()).abs() < 1e-6);
    assert_eq!(report.wrong, Some(200.0));
    assert_eq!(report.reduction, Some("averaged over the batch"));
    assert_eq!(report.takes_labels_outside, Some(false));
    assert!(report.max_absolute_difference < 1e-5);
    assert_eq!(report.probes, 9);

    let halves = |p: &Tensor, y: &Tensor| (p - y)?.sqr()?.sum(1)?.mean_all()? * 0.5;
    let report = LossContract::new().check(halves, &contract::mse())?;
    assert_eq!(report.scale, 0.5);
    assert_eq!(report.reduction, Some("summed over each row, averaged over the rows"));

    let by_comparison = |x: &Tensor, y: &Tensor| {
        (one_hot(y, 4, x.dtype())? * ops::log_softmax(x, 1)?)?.sum(1)?.mean_all()?.neg()
    };
    let report = LossContract::new().check(by_comparison, &contract::cross_entropy(4))?;
    assert_eq!(report.takes_labels_outside, Some(true));
    Ok(())
}

#[test]
fn closures_of_all_kinds_are_taken() -> candling::Result<()> {
    let mut calls = 0;
    let mut counted = |p: &Tensor, y: &Tensor| {
        calls += 1;
        loss::mse(p, y)
    };
    assert_loss_contract!(&mut counted, &contract::mse());
    assert_loss_contract!(counted, contract::mse().device(&Device::Cpu), seed = Seed::new(3));
    assert!(calls > 20);
    let delta = 0.5;
    assert_loss_contract!(|p, y| loss::huber(p, y, delta), contract::huber(delta), "delta {delta}");
    Ok(())
}
