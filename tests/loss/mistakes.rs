//! The known mistakes, each named by its cause.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{loss, ops};
use candling::{
    Cause::{self, *},
    Contract, Failure, Seed,
    check::LossContract,
    contract,
};

use super::losses::*;

type Boxed = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor>>;

struct Mistake {
    name: &'static str,
    loss: Boxed,
    contract: Contract,
    cause: Cause,
    /// Part of the evidence.
    told: &'static str,
}

fn mistake(
    name: &'static str,
    cause: Cause,
    told: &'static str,
    contract: Contract,
    loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + 'static,
) -> Mistake {
    Mistake { name, loss: Box::new(loss), contract, cause, told }
}

fn naive_bce(p: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ones = (y * p.log()?)?;
    (ones + ((1.0 - y)? * (1.0 - p)?.log()?)?)?.mean_all()?.neg()
}

fn of_labels() -> Vec<Mistake> {
    use contract::cross_entropy as ce;
    let weights = [0.5, 1.0, 4.0];
    vec![
        mistake("softmax before", LossOnProbabilities, "1.4612", ce(10), |x, y| {
            loss::cross_entropy(&ops::softmax(x, 1)?, y)
        }),
        mistake("softmax before, two classes", LossOnProbabilities, "0.3133", ce(2), |x, y| {
            loss::cross_entropy(&ops::softmax(x, 1)?, y)
        }),
        mistake("nll of probabilities", LossOnProbabilities, "-1, not 0", ce(10), |x, y| {
            loss::nll(&ops::softmax(x, 1)?, y)
        }),
        mistake("nll of logits", LossOnLogits, "-100, not 0", ce(10), loss::nll),
        mistake("logarithm of logits", LossOnLogits, "", ce(4), |x, y| loss::nll(&x.log()?, y)),
        mistake("negated", LossSign, "minus the cross-entropy", ce(4), |x, y| {
            loss::cross_entropy(x, y)?.neg()
        }),
        mistake("summed", LossReduction, "summed over the batch", ce(4), |x, y| {
            by_label(x, y)?.sum_all()
        }),
        mistake(
            "a sum that is a mean",
            LossReduction,
            "averaged",
            ce(4).sum(),
            loss::cross_entropy,
        ),
        mistake("divided by the classes", LossReduction, "classes, too", ce(4), |x, y| {
            (one_hot(y, 4, x.dtype())? * ops::log_softmax(x, 1)?)?.mean_all()?.neg()
        }),
        mistake("the first row alone", LossIgnoresRows, "first row", ce(4), |x, y| {
            loss::cross_entropy(&x.narrow(0, 0, 1)?, &y.narrow(0, 0, 1)?)
        }),
        mistake("a batch of 16 rows", LossIgnoresRows, "", ce(4).rows(20), |x, y| {
            let n = x.dim(0)?.min(16);
            loss::cross_entropy(&x.narrow(0, 0, n)?, &y.narrow(0, 0, n)?)
        }),
        mistake("the last row left out", LossIgnoresRows, "but the last", ce(4), |x, y| {
            let n = x.dim(0)? - 1;
            loss::cross_entropy(&x.narrow(0, 0, n)?, &y.narrow(0, 0, n)?)
        }),
        mistake("its own opinion", LossIgnoresTarget, "own largest", ce(4), |x, _| {
            loss::cross_entropy(x, &x.argmax(1)?)
        }),
        mistake("softmax over the rows", BatchMixed, "over the rows", ce(4), |x, y| {
            loss::nll(&ops::log_softmax(x, 0)?, y)
        }),
        mistake("the expected index", NotInvariant, "class 3", ce(5), |x, y| {
            let index = Tensor::arange(0u32, 5, x.device())?.to_dtype(x.dtype())?;
            let mean = ops::softmax(x, 1)?.broadcast_mul(&index)?.sum(1)?;
            loss::mse(&mean, &y.to_dtype(x.dtype())?)
        }),
        mistake("the index itself", NotInvariant, "class 3", ce(5), |x, y| {
            loss::mse(&x.squeeze(1)?, &y.to_dtype(x.dtype())?)
        }),
        mistake("detached", LossDetached, "backward pass returns no", ce(4), |x, y| {
            loss::cross_entropy(&x.detach(), y)
        }),
        mistake("the accuracy", LossDetached, "", ce(4), |x, y| {
            1.0 - x.argmax(1)?.eq(y)?.to_dtype(x.dtype())?.mean_all()?
        }),
        mistake("softmax, then log", LossUnstable, "50", ce(4), |x, y| {
            loss::nll(&ops::softmax(x, 1)?.log()?, y)
        }),
        mistake("log-sum-exp by hand", LossUnstable, "89", ce(4), |x, y| {
            loss::nll(&x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)?, y)
        }),
        mistake("an undeclared padding label", LossIgnoresRows, "labels of 0", ce(4), masked),
        mistake("an offset", ValuesDiffer, "plus 0.25 in every", ce(4), |x, y| {
            loss::cross_entropy(x, y)? + 0.25
        }),
        mistake("base 2", ValuesDiffer, "1.44 times", ce(4), |x, y| {
            loss::cross_entropy(x, y)? / std::f64::consts::LN_2
        }),
        mistake("smoothed, undeclared", ValuesDiffer, "smoothing of 0.2", ce(5), |x, y| {
            smoothed(0.84, 0.04, 5)(x, y)
        }),
        mistake(
            "not smoothed",
            ValuesDiffer,
            "without its label smoothing",
            ce(5).label_smoothing(0.1),
            loss::cross_entropy,
        ),
        mistake(
            "smoothing mixed up",
            LossReduction,
            "not to 1",
            ce(4).label_smoothing(0.1),
            smoothed(0.9, 0.1 / 4.0, 4),
        ),
        mistake(
            "smoothing of 1",
            LossIgnoresTarget,
            "as right as any other",
            ce(4).label_smoothing(0.1),
            smoothed(0.25, 0.25, 4),
        ),
        mistake(
            "padding counted",
            PaddingLeak,
            "ignored label counted",
            ce(5).target_shape([6]).ignore_index(0),
            |x, y| by_label(x, y)?.mean_all(),
        ),
        mistake(
            "divided by all",
            LossReduction,
            "all labels",
            ce(5).target_shape([6]).ignore_index(0),
            |x, y| {
                let losses = by_label(x, y)?;
                let real = y.flatten_all()?.ne(0u32)?.to_dtype(losses.dtype())?;
                (losses * &real)?.mean_all()
            },
        ),
        mistake(
            "a mean of means",
            LossReduction,
            "short rows",
            ce(5).target_shape([6]).ignore_index(0),
            |x, y| {
                let losses = by_label(x, y)?.reshape(y.shape())?;
                let real = y.ne(0u32)?.to_dtype(losses.dtype())?;
                ((losses * &real)?.sum(1)? / (real.sum(1)? + 1e-9)?)?.mean_all()
            },
        ),
        mistake(
            "an ignored label that is an error",
            LabelOutOfRange,
            "-100",
            ce(5).ignore_index(-100),
            loss::cross_entropy,
        ),
        mistake(
            "not shifted",
            PairsBroken,
            "without the shift",
            ce(9).target_shape([5]).next_token(),
            |x, y| by_label(x, y)?.mean_all(),
        ),
        mistake(
            "shifted the wrong way",
            PairsBroken,
            "wrong way",
            ce(9).target_shape([5]).next_token(),
            |x, y| by_label(&x.narrow(1, 1, 4)?, &y.narrow(1, 0, 4)?)?.mean_all(),
        ),
        mistake(
            "weights divided by the rows",
            LossReduction,
            "sum of their weights",
            ce(3).class_weights(weights),
            move |x, y| {
                let of_rows = Tensor::new(&weights, x.device())?.to_dtype(x.dtype())?;
                (by_label(x, y)? * of_rows.index_select(y, 0)?)?.mean_all()
            },
        ),
        mistake(
            "no weights",
            ValuesDiffer,
            "without the class weights",
            ce(3).class_weights(weights),
            loss::cross_entropy,
        ),
        mistake("KL by elements", LossReduction, "classes, too", contract::kl(5), |p, q| {
            (q * (q.log()? - p)?)?.mean_all()
        }),
        mistake("KL swapped", ValuesDiffer, "each other's place", contract::kl(5), |p, q| {
            (p.exp()? * (p - q.log()?)?)?.sum(1)?.mean_all()
        }),
        mistake("KL of probabilities", LossOnProbabilities, "", contract::kl(5), |p, q| {
            kl(&ops::softmax(p, D::Minus1)?, q)
        }),
        mistake("a fixed batch", BatchSizeFixed, "15 are an error", ce(4), |x, y| {
            loss::cross_entropy(&x.reshape((12, 4))?, y)
        }),
    ]
}

fn of_elements() -> Vec<Mistake> {
    use contract::{bce, bce_with_logits, huber, mae, mse};
    let softplus = |x: &Tensor| x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let column = || mse().shape([1]).target_shape([]);
    vec![
        mistake("a column against a row", LossBroadcast, "every target", mse(), |p, y| {
            p.broadcast_sub(y)?.sqr()?.mean_all()
        }),
        mistake("a declared column", LossBroadcast, "every target", column(), |p, y| {
            p.broadcast_sub(y)?.sqr()?.mean_all()
        }),
        mistake("summed", LossReduction, "summed over the batch", mse(), |p, y| {
            (p - y)?.sqr()?.sum_all()
        }),
        mistake("averaged over the wrong axis", LossReduction, "features", mse(), |p, y| {
            (p - y)?.sqr()?.mean(1)?.sum_all()
        }),
        mistake("a root", ValuesDiffer, "square root", mse(), |p, y| {
            (p - y)?.sqr()?.mean_all()?.sqrt()
        }),
        mistake("absolute", ValuesDiffer, "absolute error", mse(), |p, y| {
            (p - y)?.abs()?.mean_all()
        }),
        mistake("a plus", ValuesDiffer, "added to the target", mse(), |p, y| {
            (p + y)?.sqr()?.mean_all()
        }),
        mistake("a cross-entropy", LossOnLogits, "logarithm of the prediction", mse(), |p, y| {
            (y * p.log()?)?.mean_all()?.neg()
        }),
        mistake("no target", LossIgnoresTarget, "against 0", mse(), |p, _| p.sqr()?.mean_all()),
        mistake("a sigmoid", OutputBounded, "sigmoid", mse(), |p, y| {
            loss::mse(&ops::sigmoid(p)?, y)
        }),
        mistake("negated", LossSign, "minus", mae(), |p, y| (p - y)?.abs()?.mean_all()?.neg()),
        mistake("another delta", ValuesDiffer, "delta 1;", huber(0.5), |p, y| {
            loss::huber(p, y, 1.0)
        }),
        mistake("smooth L1", ValuesDiffer, "SmoothL1Loss", huber(0.5), |p, y| {
            loss::huber(p, y, 0.5)? / 0.5
        }),
        mistake("candle's own", LossUnstable, "of 17", bce_with_logits(), |x, y| {
            loss::binary_cross_entropy_with_logit(x, y)
        }),
        mistake(
            "sigmoid twice",
            LossOnProbabilities,
            "sigmoid(sigmoid",
            bce_with_logits(),
            |x, y| stable_bce(&ops::sigmoid(x)?, y),
        ),
        mistake("no sigmoid", LossOnLogits, "raw", bce_with_logits(), naive_bce),
        mistake("no epsilon", LossUnstable, "", bce_with_logits(), |x, y| {
            naive_bce(&ops::sigmoid(x)?, y)
        }),
        mistake("probabilities without an epsilon", LossUnstable, "", bce(), naive_bce),
        mistake("a sigmoid of probabilities", LossOnProbabilities, "", bce(), stable_bce),
        mistake(
            "the weight on the wrong term",
            ValuesDiffer,
            "on the targets of 0",
            bce_with_logits().positive_weight(3.0),
            move |x, y| {
                let ones = (y * softplus(&x.neg()?)?)?;
                (ones + (((1.0 - y)? * softplus(x)?)? * 3.0)?)?.mean_all()
            },
        ),
        mistake("half of it", ValuesDiffer, "of 1 alone", bce_with_logits(), move |x, y| {
            (y * softplus(&x.neg()?)?)?.mean_all()
        }),
        mistake("the first rows alone", LossIgnoresRows, "", mse().rows(10), |p, y| {
            let n = p.dim(0)?.min(8);
            loss::mse(&p.narrow(0, 0, n)?, &y.narrow(0, 0, n)?)
        }),
        mistake("a row cut from the graph", LossIgnoresRows, "row 0", mse(), |p, y| {
            let n = p.dim(0)?;
            let p = Tensor::cat(&[p.narrow(0, 0, 1)?.detach(), p.narrow(0, 1, n - 1)?], 0)?;
            loss::mse(&p, y)
        }),
        mistake("a factor cut from the graph", GradientWrong, "", mse(), |p, y| {
            ((p - y)? * (p.detach() - y)?)?.mean_all()
        }),
    ]
}

fn of_pairs() -> Vec<Mistake> {
    use contract::{contrastive, nt_xent as pool};
    vec![
        mistake(
            "no temperature",
            ValuesDiffer,
            "without the temperature",
            contrastive(0.1),
            |a, b| info_nce(a, b, 1.0),
        ),
        mistake("one way", ValuesDiffer, "one way", contrastive(0.1).both_ways(), |a, b| {
            info_nce(a, b, 0.1)
        }),
        mistake("own pairs", ValuesDiffer, "with itself", pool(0.5), |a, b| {
            nt_xent(a, b, 0.5, false)
        }),
        mistake("all pairs right", ValuesDiffer, "", contrastive(0.1), |a, b| {
            let scores = (a.matmul(&b.t()?)? / 0.1)?;
            loss::cross_entropy(&scores, &Tensor::zeros(a.dim(0)?, DType::U32, a.device())?)
        }),
    ]
}

fn check(loss: &Boxed, contract: &Contract, seed: u64) -> std::result::Result<(), Failure> {
    LossContract::new().seed(Seed::new(seed)).check(loss, contract).map(drop)
}

#[test]
fn every_mistake_has_its_cause() {
    let mut wrong = Vec::new();
    for m in of_labels().into_iter().chain(of_elements()).chain(of_pairs()) {
        for seed in 0..2 {
            let (name, cause) = (m.name, m.cause);
            match check(&m.loss, &m.contract, seed) {
                Ok(()) => wrong.push(format!("{name}, seed {seed}: passed")),
                Err(failure) => {
                    let evidence =
                        failure.findings().first().map_or("", |finding| finding.evidence());
                    if failure.cause() != Some(cause) || !evidence.contains(m.told) {
                        wrong.push(format!("{name}, seed {seed}, {cause}:\n{}", failure.text()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}
