//! `assert_accumulation_equivalent!`: what adds up, what does not, and why.

use std::{cell::RefCell, rc::Rc};

use candle_core::{DType, Module, Tensor, backprop::GradStore};
use candle_nn::{BatchNorm, ModuleT, batch_norm, linear, loss, ops};
use candling::{
    Batch, Cause, FailureKind, Learner, Seed, assert_accumulation_equivalent,
    check::{AccumulationEquivalent, Weighting},
};

use crate::{
    support::text,
    training::models::{Mlp, bits, classes, device},
};

/// 8 sequences of 6 tokens of different lengths; token 0 and tag 0 are padding.
fn tagged(seed: u64) -> (Tensor, Tensor) {
    let ids: Vec<u32> = Seed::new(seed).tokens("x", 11, 48, &device()).unwrap().to_vec1().unwrap();
    let place = |(i, id): (usize, u32)| {
        if i % 6 < 2 + (i / 6) % 5 { (id + 1, 1 + id % 4) } else { (0, 0) }
    };
    let (ids, tags): (Vec<u32>, Vec<u32>) = ids.into_iter().enumerate().map(place).unzip();
    let of = |v: Vec<u32>| Tensor::from_vec(v, (8, 6), &device()).unwrap();
    (of(ids), of(tags))
}

struct Tagger {
    tokens: candle_nn::Embedding,
    head: candle_nn::Linear,
}

impl Tagger {
    fn learner(
        seed: u64,
        dtype: DType,
        loss: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'static,
    ) -> Learner<'static> {
        let (vars, vb) = Seed::new(seed).var_builder(dtype, &device());
        let model = Self {
            tokens: candle_nn::embedding(12, 8, vb.pp("tokens")).unwrap(),
            head: linear(8, 5, vb.pp("head")).unwrap(),
        };
        Learner::new(&vars, move |x| model.head.forward(&model.tokens.forward(x)?.tanh()?), loss)
    }
}

/// The losses of all tokens, and 1 for those that are no padding.
fn of_tokens(logits: &Tensor, tags: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let scores = ops::log_softmax(logits, 2)?;
    let losses = scores.gather(&tags.unsqueeze(2)?, 2)?.squeeze(2)?.neg()?;
    let real = tags.ne(0u32)?.to_dtype(losses.dtype())?;
    Ok(((losses * &real)?, real))
}

fn token_mean(logits: &Tensor, tags: &Tensor) -> candle_core::Result<Tensor> {
    let (losses, real) = of_tokens(logits, tags)?;
    losses.sum_all()? / real.sum_all()?
}

#[test]
fn means_add_up_by_rows_and_sums_as_they_are() {
    for dtype in [DType::F32, DType::F64] {
        for seed in 0..5 {
            let (x, y) = classes(seed, dtype);
            let (vars, m) = Mlp::seeded(seed, [6, 16, 4], dtype);
            let before = bits(&vars);
            let mean = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
            let report = assert_accumulation_equivalent!(mean, (&x, &y), "seed {seed}");
            assert_eq!(report.weighting.to_string(), "by rows");
            assert_eq!(report.splits[1], [1, 15]);
            assert_eq!(report.splits.len(), 4);
            assert!(report.difference < 1e-4, "{}", report.difference);
            assert!(report.left_out.is_empty());

            let summed = |o: &Tensor, y: &Tensor| {
                ops::log_softmax(o, 1)?.gather(&y.unsqueeze(1)?, 1)?.sum_all()?.neg()
            };
            let sum = Learner::new(&vars, |x| m.forward(x), summed);
            let report = assert_accumulation_equivalent!(&sum, (&x, &y));
            assert_eq!(report.weighting.to_string(), "as a sum");
            assert_eq!(bits(&vars), before);
        }
    }
}

#[test]
fn half_precision_has_the_tolerance_of_its_rounding() {
    for dtype in [DType::F16, DType::BF16] {
        for seed in 0..5 {
            let (x, y) = classes(seed, dtype);
            let (vars, m) = Mlp::seeded(seed, [6, 16, 4], dtype);
            let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
            match AccumulationEquivalent::new().check(&learner, (&x, &y)) {
                Ok(report) => assert_eq!(report.weighting.to_string(), "by rows"),
                Err(failure) => {
                    assert_eq!(failure.kind(), FailureKind::Vacuous, "{dtype:?} {seed} {failure}")
                }
            }
        }
    }
}

#[test]
fn a_mean_over_tokens_adds_up_by_tokens() {
    for seed in 0..5 {
        let (x, y) = tagged(seed);
        let learner = Tagger::learner(seed, DType::F32, token_mean);
        let report = assert_accumulation_equivalent!(learner, (&x, &y));
        assert_eq!(report.weighting.to_string(), "by the targets that are not 0", "{seed}");
        assert!((report.weights[1][0] - 2.0 / 29.0).abs() < 0.02);
        assert_accumulation_equivalent!(learner, (&x, &y), weighting = Weighting::Ignoring(0));
        let counted = Weighting::counted(|part| {
            part.target().unwrap().ne(0u32)?.to_dtype(DType::F64)?.sum_all()?.to_scalar()
        });
        assert_accumulation_equivalent!(learner, (&x, &y), weighting = counted);
        for wrong in [Weighting::Rows, Weighting::Equal] {
            let options = AccumulationEquivalent::new().weighting(wrong);
            let failure = options.check(&learner, (&x, &y)).unwrap_err();
            assert_eq!(failure.cause(), Some(Cause::AccumulationDiffers), "{failure}");
        }
    }
    let (x, y) = tagged(3);
    let learner = Tagger::learner(3, DType::F32, token_mean);
    let options = AccumulationEquivalent::new().parts([4, 4]).weighting(Weighting::Equal);
    let failure = options.check(&learner, (&x, &y)).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `accumulation_equivalent` failed
    micro-batches do not add up to the batch: weighted each the same, `head.bias` is 2.21 % off in parts of 4 and 4 rows

      weights due        0.483 and 0.517, by the targets that are not 0
      weights asked for  0.5 and 0.5, each the same
      rounding           allows 0.00033 %

      confirmed  accumulation-differs   by the targets that are not 0 they add up, each the same they do not
      help       sum over the tokens of each micro-batch, and divide by the number of tokens that count in the
                 whole batch
    ");
}

#[test]
fn a_weighted_mean_adds_up_by_what_it_counts() {
    for seed in 0..5 {
        let (x, y) = classes(seed, DType::F32);
        let (vars, m) = Mlp::seeded(seed, [6, 16, 4], DType::F32);
        let weights = Tensor::new(&[1f32, 4.0, 0.5, 2.0], &device()).unwrap();
        let weighted = |o: &Tensor, y: &Tensor| {
            let losses = ops::log_softmax(o, 1)?.gather(&y.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?;
            let weights = weights.index_select(y, 0)?;
            (losses * &weights)?.sum_all()? / weights.sum_all()?
        };
        let learner = Learner::new(&vars, |x| m.forward(x), weighted);
        let report = assert_accumulation_equivalent!(learner, (&x, &y));
        assert_eq!(report.weighting.to_string(), "by what the loss counts", "{seed}");
    }
}

#[test]
fn a_mean_of_means_is_no_mean() {
    for seed in 0..5 {
        let (x, y) = tagged(seed);
        let of_halves = |logits: &Tensor, tags: &Tensor| {
            let rows = logits.dim(0)?;
            let (first, half) = (rows / 2, rows - rows / 2);
            let last = token_mean(&logits.narrow(0, first, half)?, &tags.narrow(0, first, half)?)?;
            if first == 0 {
                return Ok(last);
            }
            let mean = token_mean(&logits.narrow(0, 0, first)?, &tags.narrow(0, 0, first)?)?;
            (mean + last)? * 0.5
        };
        let learner = Tagger::learner(seed, DType::F32, of_halves);
        let failure = AccumulationEquivalent::new().check(&learner, (&x, &y)).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::AccumulationDiffers), "{failure}");
        if seed == 3 {
            insta::assert_snapshot!(text(&failure), @"
            assertion `accumulation_equivalent` failed
            micro-batches do not add up to the batch: weighted by rows, `head.bias` is 20.4 % off in parts of 1, 3 and 4 rows

              as a sum  `tokens.weight` is 274 % off
              rounding  allows 0.000304 %
              parts     4 and 4; 1 and 7; 2, 2 and 4; 1, 3 and 4 rows

              confirmed  accumulation-differs   no row of the output depends on another row of the input, so it is the
                                                loss: what a row adds to it depends on the rows beside it
              possible   loss-reduction         a mean of means, a ratio of two sums, or a root of a mean would do that;
                                                so would a contrastive loss
              help       weight each micro-batch by its share of the samples or tokens; see
                         docs/causes.md#accumulation-differs
            ");
        }
    }
}

#[test]
fn a_sum_that_is_asked_for_as_a_mean_is_a_reduction() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let summed = |o: &Tensor, y: &Tensor| loss::cross_entropy(o, y)? * o.dim(0)? as f64;
    let learner = Learner::new(&vars, |x| m.forward(x), summed);
    let options = AccumulationEquivalent::new().weighting(Weighting::Rows);
    let failure = options.check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::LossReduction));
    insta::assert_snapshot!(text(&failure), @"
    assertion `accumulation_equivalent` failed
    micro-batches do not add up to the batch: weighted by rows, `l2.bias` is 65.8 % off in parts of 5, 5 and 6 rows

      weights due        1, 1 and 1, as a sum
      weights asked for  0.312, 0.312 and 0.375, by rows
      rounding           allows 0.00029 %

      confirmed  loss-reduction   as a sum they add up, by rows they do not
      help       the loss sums over its rows: add the gradients as they are, or divide the loss by the rows of the
                 whole batch
    ");

    // A penalty on the weights is a term of no row: a sum has it once a part.
    let penalised = |o: &Tensor, y: &Tensor| summed(o, y)? + m.l1.weight().sqr()?.sum_all()?;
    let learner = Learner::new(&vars, |x| m.forward(x), penalised);
    let failure = AccumulationEquivalent::new().check(&learner, (&x, &y)).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `accumulation_equivalent` failed
    micro-batches do not add up to the batch: weighted by rows, `l2.bias` is 65.8 % off in parts of 5, 5 and 6 rows

      as a sum  `l1.weight` is 160 % off
      rounding  allows 0.00029 %
      parts     8 and 8; 1 and 15; 5, 5 and 6; 1, 7 and 8 rows

      confirmed  accumulation-differs   as a sum they exceed the batch by one and the same gradient for each part
                                        more: a term that belongs to no row, such as a penalty on the weights,
                                        counts once in every micro-batch
      help       add the penalty once a step, or divide it by the number of micro-batches; see
                 docs/causes.md#accumulation-differs
    ");
    let penalised =
        |o: &Tensor, y: &Tensor| loss::cross_entropy(o, y)? + m.l1.weight().sqr()?.sum_all()?;
    let learner = Learner::new(&vars, |x| m.forward(x), penalised);
    assert_accumulation_equivalent!(learner, (&x, &y));
}

fn normed(seed: u64) -> (candle_nn::VarMap, candle_nn::Linear, BatchNorm, candle_nn::Linear) {
    let (vars, vb) = Seed::new(seed).var_builder(DType::F32, &device());
    let first = linear(6, 12, vb.pp("first")).unwrap();
    let norm = batch_norm(12, 1e-5, vb.pp("norm")).unwrap();
    (vars, first, norm, linear(12, 4, vb.pp("last")).unwrap())
}

#[test]
fn batch_norm_mixes_in_training_and_adds_up_in_evaluation() {
    for seed in 0..10 {
        let (x, y) = classes(seed, DType::F32);
        let (vars, first, norm, last) = normed(seed);
        let before = bits(&vars);
        let forward = |x: &Tensor, train: bool| {
            last.forward(&norm.forward_t(&first.forward(x)?, train)?.relu()?)
        };
        let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
        assert_accumulation_equivalent!(learner, (&x, &y), parts = [5, 11]);
        let training = AccumulationEquivalent::new().training(true).parts([5, 11]);
        let failure = training.clone().check(&learner, (&x, &y)).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::NormStatsOfBatch), "{failure}");
        assert!(failure.findings().iter().any(|f| f.cause() == Cause::BatchMixed));
        for allowed in [Cause::AccumulationDiffers, Cause::BatchMixed] {
            let options = training.clone().allow(allowed).allow(Cause::NormStatsOfBatch);
            let outcome = options.check(&learner, (&x, &y));
            assert!(!outcome.unwrap().allowed.is_empty());
        }
        assert_eq!(bits(&vars), before);
    }
}

#[test]
fn the_training_loops_own_code_is_judged() {
    let (x, y) = classes(2, DType::F32);
    let (vars, m) = Mlp::seeded(2, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let grads = |part: &Batch, weight: f64| -> candle_core::Result<GradStore> {
        let loss = loss::cross_entropy(&m.forward(&part.input()[0])?, part.target().unwrap())?;
        (loss * weight)?.backward()
    };
    let all = |parts: &[Batch], weight: &dyn Fn(&Batch) -> f64| -> candle_core::Result<GradStore> {
        let mut total = grads(&parts[0], weight(&parts[0]))?;
        for part in &parts[1..] {
            total.extend(grads(part, weight(part))?)?;
        }
        Ok(total)
    };
    let share = |part: &Batch| part.rows().unwrap() as f64 / 16.0;
    let options = || AccumulationEquivalent::new().parts([8, 4, 4]);
    options().accumulate(|parts| all(parts, &share)).check(&learner, (&x, &y)).unwrap();
    AccumulationEquivalent::new()
        .accumulate(|parts| all(parts, &share))
        .check(&learner, (&x, &y))
        .unwrap();

    let failed = |options: AccumulationEquivalent<'_>| {
        let failure = options.check(&learner, (&x, &y)).unwrap_err();
        (failure.cause(), text(&failure))
    };
    let (cause, text) = failed(options().accumulate(|parts| all(parts, &|_| 1.0 / 3.0)));
    assert_eq!(cause, Some(Cause::AccumulationDiffers));
    insta::assert_snapshot!(text, @"
    assertion `accumulation_equivalent` failed
    what the training loop accumulates is not the gradient of the batch: `l1.weight` is 34 % off in parts of 8, 4 and 4 rows

      weights added  0.333, 0.333 and 0.333
      weights due    0.5, 0.25 and 0.25, by rows
      rounding       allows 0.000368 %

      confirmed  accumulation-differs   every part counts the same, whatever it holds: a mean of means
      help       weight each micro-batch by its share of the samples or tokens; see
                 docs/causes.md#accumulation-differs
    ");
    let (_, text) = failed(
        AccumulationEquivalent::new().parts([8, 8]).accumulate(|parts| all(parts, &|_| 1.0)),
    );
    assert!(text.contains("every part counts 2 times what it should"), "{text}");
    let (_, text) = failed(options().accumulate(|parts| grads(&parts[2], 0.25)));
    assert!(text.contains("one part is all that is in it"), "{text}");

    // The sum outlives the step.
    let total: RefCell<Option<GradStore>> = RefCell::new(None);
    let never_cleared = |parts: &[Batch]| {
        let mut total = total.borrow_mut();
        let new = all(parts, &share)?;
        match total.as_mut() {
            Some(total) => total.extend(new)?,
            None => *total = Some(new),
        }
        let mut out = all(parts, &|_| 0.0)?;
        for (_, var) in learner.variables() {
            let grad = total.as_ref().unwrap().get(var.as_tensor()).unwrap().clone();
            out.insert(var.as_tensor(), grad);
        }
        Ok(out)
    };
    let (cause, text) = failed(options().accumulate(never_cleared));
    assert_eq!(cause, Some(Cause::GradientsStale));
    insta::assert_snapshot!(text, @"
    assertion `accumulation_equivalent` failed
    the second accumulation of the same parts of 8, 4 and 4 rows gives another gradient than the first: 100 % off

      confirmed  gradients-stale   the second is the first, and the gradient of the same parts once more: nothing
                                   was cleared in between
      help       compute the gradients anew for every step; see docs/causes.md#gradients-stale
    ");

    let refused =
        options().accumulate(|_| candle_core::bail!("no")).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotRun);
    let panicked = options().accumulate(|_| panic!("no")).check(&learner, (&x, &y)).unwrap_err();
    assert!(panicked.text().contains("the accumulation panicked"), "{panicked}");
}

#[test]
fn closures_of_the_training_loop_that_misbehave_are_told() {
    let (x, y) = classes(3, DType::F32);
    let (vars, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);

    // An accumulation that overflows is not finite, whatever the second call gives.
    let overflows = |parts: &[Batch]| {
        let (x, y) = (&parts[0].input()[0], parts[0].target().unwrap());
        (loss::cross_entropy(&m.forward(x)?, y)? * f64::INFINITY)?.backward()
    };
    let failure =
        AccumulationEquivalent::new().accumulate(overflows).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotFinite), "{failure}");

    // A count that panics is the count's fault.
    let counted = Weighting::counted(|_| panic!("no tokens"));
    let failure =
        AccumulationEquivalent::new().weighting(counted).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    assert_eq!(failure.headline(), "the count of the weighting panicked");

    // An accumulation that runs the check it belongs to.
    let (inner, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let learner = Learner::new(&inner, move |x: &Tensor| m.forward(x), loss::cross_entropy);
    let own: Rc<RefCell<Option<AccumulationEquivalent<'static>>>> = Rc::default();
    let recursive = {
        let (own, x, y) = (own.clone(), x.clone(), y.clone());
        move |_: &[Batch]| {
            let options = own.borrow().clone().unwrap();
            let inner = options.check(&learner, (&x, &y)).unwrap_err();
            Err(candle_core::Error::msg(inner.headline()))
        }
    };
    own.replace(Some(AccumulationEquivalent::new().accumulate(recursive)));
    let (vars, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let options = own.borrow().clone().unwrap();
    let failure = options.check(&learner, (&x, &y)).unwrap_err();
    assert!(failure.text().contains("calls the assertion it belongs to"), "{failure}");
    own.replace(None);
}

#[test]
fn contrastive_losses_do_not_add_up_and_may_be_allowed() {
    let (x, y) = classes(3, DType::F32);
    let (vars, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let contrastive = |o: &Tensor, _: &Tensor| {
        let rows = Tensor::arange(0u32, o.dim(0)? as u32, o.device())?;
        loss::cross_entropy(&o.matmul(&o.roll(1, 1)?.t()?)?, &rows)
    };
    let learner = Learner::new(&vars, |x| m.forward(x), contrastive);
    let failure = AccumulationEquivalent::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::AccumulationDiffers));
    assert!(failure.findings()[0].evidence().contains("it is the loss"), "{failure}");
    let report =
        assert_accumulation_equivalent!(learner, (&x, &y), allow = Cause::AccumulationDiffers);
    assert!(!report.allowed.is_empty());
}

#[test]
fn a_penalty_of_the_spread_over_rows_is_of_the_model() {
    // The mean over the batch in the forward pass.
    let (x, y) = classes(4, DType::F32);
    let (vars, m) = Mlp::seeded(4, [6, 16, 4], DType::F32);
    let centred = |x: &Tensor| m.forward(&x.broadcast_sub(&x.mean_keepdim(0)?)?);
    let learner = Learner::new(&vars, centred, loss::cross_entropy);
    let failure = AccumulationEquivalent::new().check(&learner, (&x, &y)).unwrap_err();
    assert!(
        failure.findings().iter().any(|f| f.cause() == Cause::BatchMixed && f.is_confirmed()),
        "{failure}"
    );
}

#[test]
fn views_ids_several_inputs_and_flat_targets_are_cut() {
    let (x, y) = classes(5, DType::F32);
    let (vars, m) = Mlp::seeded(5, [6, 16, 4], DType::F32);
    let columns = x.t().unwrap().contiguous().unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    assert_accumulation_equivalent!(learner, (columns.t().unwrap(), y.clone()));

    let two = |[a, b]: &[Tensor; 2]| m.forward(&(a + b)?);
    let learner = Learner::new(&vars, two, loss::cross_entropy);
    assert_accumulation_equivalent!(learner, (&[x.clone(), x.clone()], &y));

    let (ids, tags) = tagged(5);
    let (vars, vb) = Seed::new(5).var_builder(DType::F32, &device());
    let tokens = candle_nn::embedding(12, 8, vb.pp("tokens")).unwrap();
    let head = linear(8, 5, vb.pp("head")).unwrap();
    let flat = |x: &Tensor| head.forward(&tokens.forward(x)?.flatten_to(1)?);
    let learner = Learner::new(&vars, flat, loss::cross_entropy);
    let report = assert_accumulation_equivalent!(learner, (&ids, &tags.flatten_all().unwrap()));
    assert_eq!(report.weighting.to_string(), "by rows");
    assert_accumulation_equivalent!(
        learner,
        (ids.narrow(0, 0, 2).unwrap(), tags.narrow(0, 0, 2).unwrap().flatten_all().unwrap())
    );
}

#[test]
fn what_proves_nothing_says_so() {
    let (x, y) = classes(6, DType::F32);
    let (vars, m) = Mlp::seeded(6, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let vacuous = |learner: &Learner<'_>, batch: (Tensor, Tensor)| {
        let failure = AccumulationEquivalent::new().check(learner, &batch).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Vacuous, "{failure}");
        failure.headline().to_owned()
    };
    let one = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
    insta::assert_snapshot!(vacuous(&learner, one), @"the batch has one row: there is nothing to cut");
    let same = Tensor::zeros(8, DType::U32, &device()).unwrap();
    let equal = (x.index_select(&same, 0).unwrap(), y.index_select(&same, 0).unwrap());
    insta::assert_snapshot!(vacuous(&learner, equal), @"every micro-batch has the gradient of the whole batch of 8 rows: any weights would do");
    let zero = Learner::new(&vars, |x| m.forward(x), |o, _| (o.sum_all()? * 0.0)?.relu());
    insta::assert_snapshot!(vacuous(&zero, (x, y)), @"the gradient of the batch is exactly 0: its parts have nothing to add up to");
}

#[test]
fn what_cannot_be_used_says_so() {
    let (x, y) = classes(7, DType::F32);
    let (vars, m) = Mlp::seeded(7, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let not_run = |options: AccumulationEquivalent<'_>, learner: &Learner<'_>, batch: Batch| {
        let failure = options.check(learner, batch).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        failure.headline().to_owned()
    };
    let new = AccumulationEquivalent::new;
    let batch = || Batch::from((&x, &y));
    insta::assert_snapshot!(not_run(new().parts([8, 9]), &learner, batch()), @"`parts` is [8, 9], 17 rows together; allowed: 2 parts or more of 1 row or more, 16 rows together");
    insta::assert_snapshot!(not_run(new().parts([16]), &learner, batch()), @"`parts` is [16], 16 rows together; allowed: 2 parts or more of 1 row or more, 16 rows together");
    insta::assert_snapshot!(not_run(new().weighting(Weighting::OfTheLoss), &learner, batch()), @"`weighting` is `OfTheLoss`; allowed: one that a training loop can compute: `Rows`, `Sum`, `Equal`, `Ignoring(id)` or `counted(..)`");
    let nothing = Weighting::counted(|_| Ok(0.0));
    insta::assert_snapshot!(not_run(new().weighting(nothing), &learner, batch()), @"`weighting` is a count of 0 in the whole batch; allowed: a count that is finite, and not 0");
    let floats = y.to_dtype(DType::F32).unwrap();
    let mse = Learner::new(&vars, |x| m.forward(x)?.mean(1), loss::mse);
    insta::assert_snapshot!(not_run(new().weighting(Weighting::Ignoring(0)), &mse, (&x, &floats).into()), @"`weighting` is `Ignoring(0)` for targets of dtype f32; allowed: targets that are ids, or `Weighting::counted(..)`");
    let owning = Learner::from_loss(&vars, || m.forward(&x)?.sqr()?.mean_all());
    insta::assert_snapshot!(not_run(new(), &owning, ().into()), @"`learner` is one from `Learner::from_loss`, whose closure owns its data: they cannot be cut; allowed: a learner with a forward and a loss closure");
    let odd = y.narrow(0, 0, 9).unwrap();
    insta::assert_snapshot!(not_run(new(), &learner, (&x, &odd).into()), @"`batch` is 16 rows with targets of dims [9]; allowed: as many targets for each row");
    let fixed = |x: &Tensor| m.forward(&x.reshape((16, 6))?);
    let fixed = Learner::new(&vars, fixed, loss::cross_entropy);
    let failure = new().check(&fixed, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed), "{failure}");
    let random = |x: &Tensor| m.forward(&(x + x.randn_like(0.0, 1.0)?)?);
    let random = Learner::new(&vars, random, loss::cross_entropy);
    insta::assert_snapshot!(not_run(new(), &random, batch()), @"two passes over the same batch give two gradients: what the parts add up to cannot be told");
    let nan = Learner::new(&vars, |x| m.forward(x), |o, _| o.abs()?.neg()?.sqrt()?.mean_all());
    insta::assert_snapshot!(not_run(new(), &nan, batch()), @"the gradient of the batch is not finite");
    // A deviation over the batch is none of a batch of one.
    let spread = |x: &Tensor| m.forward(&x.broadcast_div(&x.var_keepdim(0)?.sqrt()?)?);
    let spread = Learner::new(&vars, spread, loss::cross_entropy);
    let failure = new().parts([1, 15]).check(&spread, (&x, &y)).unwrap_err();
    assert_eq!((failure.kind(), failure.cause()), (FailureKind::Violated, Some(Cause::NotFinite)));
    // Unasked, a single row is left out; that rows are mixed shows in the others.
    let failure = new().check(&spread, (&x, &y)).unwrap_err();
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::BatchMixed), "{failure}");
    // candle panics where it is asked for no part.
    let pairs = |x: &Tensor| Tensor::cat(&x.chunk(x.dim(0)? / 2, 0)?, 0)?.apply(&m);
    let pairs = Learner::new(&vars, pairs, loss::cross_entropy);
    let report = assert_accumulation_equivalent!(pairs, (&x, &y));
    assert_eq!(report.refused, [vec![1, 15], vec![1, 7, 8]]);
    insta::assert_snapshot!(not_run(new().parts([1, 15]), &pairs, batch()), @"a micro-batch panicked");
}
