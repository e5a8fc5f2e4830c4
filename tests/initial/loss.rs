//! Losses before training, and why they are not what theory says.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Embedding, Init, Linear, VarBuilder, VarMap, linear, loss, ops};
use candling::{
    Batch, Cause, Failure, FailureKind, Learner, Seed, assert_initial_loss,
    check::{InitialLoss, InitialLossReport},
    expected::{self, Expected},
};

use crate::{
    support::text,
    training::models::{Mlp, bits, classes, device},
};

fn refused(learner: &Learner<'_>, batch: impl Into<Batch>, expected: Expected) -> Failure {
    InitialLoss::new().check(learner, batch, expected).unwrap_err()
}

fn passed(learner: &Learner<'_>, batch: impl Into<Batch>, expected: Expected) -> InitialLossReport {
    InitialLoss::new().check(learner, batch, expected).unwrap()
}

fn classifier<'a>(vars: &VarMap, model: &'a impl Module) -> Learner<'a> {
    Learner::new(vars, |x: &Tensor| model.forward(x), loss::cross_entropy)
}

fn builder(seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    Seed::new(seed).var_builder(dtype, &device())
}

/// candle's own cross-entropy refuses no dtype, but its `log_softmax` sums in the dtype.
const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

#[test]
fn a_fresh_classifier_starts_where_theory_says_in_every_dtype() {
    for dtype in DTYPES {
        let (vars, model) = Mlp::seeded(1, [6, 16, 4], dtype);
        let (x, y) = classes(1, dtype);
        let before = bits(&vars);
        let report = passed(&classifier(&vars, &model), (&x, &y), expected::cross_entropy(4));
        assert_eq!(report.expected, 4f64.ln());
        assert_eq!((report.best_constant, report.advice, report.seeds.len()), (None, None, 0));
        // A transposed view, and a batch of one.
        let strided = x.t().unwrap().contiguous().unwrap().t().unwrap();
        passed(&classifier(&vars, &model), (&strided, &y), expected::cross_entropy(4));
        let one = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
        passed(&classifier(&vars, &model), one, expected::cross_entropy(4));
        assert_eq!(bits(&vars), before);
    }
}

#[test]
fn a_head_that_starts_at_zero_starts_at_ln_c() {
    for dtype in DTYPES {
        let (vars, vb) = builder(1, dtype);
        let body = linear(6, 16, vb.pp("body")).unwrap();
        let head = Linear::new(vb.get((4, 16), "head.weight").unwrap(), None);
        let learner = Learner::new(
            &vars,
            |x: &Tensor| head.forward(&body.forward(x)?.relu()?),
            loss::cross_entropy,
        );
        let (x, y) = classes(1, dtype);
        passed(&learner, (&x, &y), expected::cross_entropy(4));
        passed(&learner, (&x, &y), expected::value(4f64.ln()));
    }
}

#[test]
fn raw_pixels_and_sums_are_told() {
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let (x, y) = classes(1, DType::F32);
    let raw = x.affine(70.0, 120.0).unwrap();
    let before = bits(&vars);
    let failure = refused(&classifier(&vars, &model), (&raw, &y), expected::cross_entropy(4));
    insta::assert_snapshot!(text(&failure), @"
    assertion `initial_loss` failed
    the loss before training is 189, too high for an undecided model: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 192 (root mean square)

      confirmed  input-not-scaled   the input has mean 107 and standard deviation 71; brought to 0 and 1, the loss
                                    is 1.51
      help       scale the input to mean 0 and standard deviation 1, or to [0, 1]; see
                 docs/causes.md#input-not-scaled
    ");
    assert_eq!(bits(&vars), before);

    let summed = Learner::new(
        &vars,
        |x: &Tensor| model.forward(x),
        |o: &Tensor, y: &Tensor| loss::cross_entropy(o, y)? * 16.0,
    );
    let failure = refused(&summed, (&x, &y), expected::cross_entropy(4));
    insta::assert_snapshot!(text(&failure), @"
    assertion `initial_loss` failed
    the loss before training is 26, too high for an undecided model: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.0123 .. 5.89
      outputs   of size 1.31 (root mean square)

      confirmed  loss-reduction   the loss is the sum of 16 cross-entropies, by its value; their mean is 1.62
      help       use `mean_all` so that the step does not change with the batch; where the sum is meant, expect
                 `.times(terms)`; see docs/causes.md#loss-reduction
    ");
    passed(&summed, (&x, &y), expected::cross_entropy(4).times(16.0));
}

#[test]
fn weights_and_biases_that_are_off_are_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let layer = |name: &str, out: usize, input: usize| {
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        let weight = vb.pp(name).get_with_hints((out, input), "weight", init).unwrap();
        Linear::new(weight, Some(vb.pp(name).get(out, "bias").unwrap()))
    };
    let (l1, l2, l3) = (layer("l1", 64, 6), layer("l2", 64, 64), layer("l3", 4, 64));
    let learner = Learner::new(
        &vars,
        |x: &Tensor| l3.forward(&l2.forward(&l1.forward(x)?.relu()?)?.relu()?),
        loss::cross_entropy,
    );
    let failure = refused(&learner, (&x, &y), expected::cross_entropy(4));
    insta::assert_snapshot!(text(&failure), @"
    assertion `initial_loss` failed
    the loss before training is 42.6, too high for an undecided model: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 51.2 (root mean square)

      confirmed  weights-scale   l2.weight: signals grow up to 7.95 times; with a gain of 1, the loss is 1.41
      help       use Kaiming initialisation: a standard deviation of sqrt(2/fan_in) before a ReLU; see
                 docs/causes.md#weights-scale
    ");

    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let data = vars.data().lock().unwrap();
    data["l2.bias"].set(&Tensor::new(&[0f32, 20.0, 0.0, 0.0], &device()).unwrap()).unwrap();
    drop(data);
    let failure = refused(&classifier(&vars, &model), (&x, &y), expected::cross_entropy(4));
    insta::assert_snapshot!(text(&failure), @"
    assertion `initial_loss` failed
    the loss before training is 14.7, too high for an undecided model: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 10.3 (root mean square)

      confirmed  initial-loss-high   l2.bias: it reaches 20 in size; with zeros there, the loss is 1.57
      help       start the bias at 0, or the last one at what the targets ask for: the logarithm of the classes'
                 shares, or their mean; see docs/causes.md#initial-loss-high
    ");
}

#[test]
fn an_embedding_that_is_the_head_too_is_named() {
    let model = |stdev: f64| -> Result<(VarMap, Embedding, Linear)> {
        let (vars, vb) = builder(1, DType::F32);
        let init = Init::Randn { mean: 0.0, stdev };
        let table = vb.pp("tokens").get_with_hints((50, 32), "weight", init)?;
        Ok((vars, Embedding::new(table, 32), linear(32, 32, vb.pp("mix"))?))
    };
    let ids = Seed::new(1).tokens("ids", 50, 24, &device()).unwrap();
    let next = Seed::new(1).tokens("next", 50, 24, &device()).unwrap();
    let learner = |model: &(VarMap, Embedding, Linear)| {
        let (tokens, mix) = (model.1.clone(), model.2.clone());
        let forward = move |ids: &Tensor| {
            let x = tokens.forward(ids)?;
            let (ones, zeros) = (
                Tensor::ones(32, DType::F32, &Device::Cpu)?,
                Tensor::zeros(32, DType::F32, &Device::Cpu)?,
            );
            let x = ops::layer_norm_slow(&(&x + mix.forward(&x)?)?, &ones, &zeros, 1e-5)?;
            x.matmul(&tokens.embeddings().t()?)
        };
        Learner::new(&model.0, forward, loss::cross_entropy)
    };
    let large = model(1.0).unwrap();
    let failure = refused(&learner(&large), (&ids, &next), expected::cross_entropy(50));
    insta::assert_snapshot!(text(&failure), @"
    assertion `initial_loss` failed
    the loss before training is 18.7, too high for an undecided model: 3.91 is expected

      expected  3.91: ln 50, the cross-entropy of 50 equally likely classes
      allowed   1.81 .. 8.41
      outputs   of size 6.26 (root mean square)

      confirmed  initial-loss-high   tokens.weight: as a head it has a gain of 5.65; with a tenth of it the loss
                                     is 4.05, and with a tenth of no other weight
      help       the outputs are sums over its rows: an embedding that is the head, too, starts at a standard
                 deviation of 0.02, or 1/sqrt(width); see docs/causes.md#initial-loss-high
    ");
    let small = model(0.02).unwrap();
    passed(&learner(&small), (&ids, &next), expected::cross_entropy(50));
}

#[test]
fn a_loss_that_is_too_low_says_what_knows_the_targets() {
    let (x, y) = classes(1, DType::F32);
    let (vars, model) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    let learner = classifier(&vars, &model);
    let before = bits(&vars);
    // Trained.
    let mut optimizer = candle_nn::AdamW::new_lr(vars.all_vars(), 0.02).unwrap();
    for _ in 0..200 {
        let loss = learner.loss((&x, &y)).unwrap();
        candle_nn::Optimizer::backward_step(&mut optimizer, &loss).unwrap();
    }
    assert_ne!(bits(&vars), before);
    let trained = bits(&vars);
    insta::assert_snapshot!(text(&refused(&learner, (&x, &y), expected::cross_entropy(4))), @"
    assertion `initial_loss` failed
    the loss before training is 0.00224, too low for a model that knows nothing: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 4.88 (root mean square)

      confirmed  initial-loss-low   the loss is 0.00224, 0.00161 times the 1.39 expected; with weights drawn anew,
                                    of the same size, it is 4.53: these know the targets
      help       the weights are trained, or loaded from a checkpoint: check an untrained model; see
                 docs/causes.md#initial-loss-low
    ");
    assert_eq!(bits(&vars), trained);

    // The mean divided by the batch again.
    let (vars, model) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    let divided = Learner::new(
        &vars,
        |x: &Tensor| model.forward(x),
        |o: &Tensor, y: &Tensor| loss::cross_entropy(o, y)? / 256.0,
    );
    insta::assert_snapshot!(text(&refused(&divided, (&x, &y), expected::cross_entropy(4))), @"
    assertion `initial_loss` failed
    the loss before training is 0.0113, too low for a model that knows nothing: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 1.77 (root mean square)

      confirmed  loss-reduction   the mean cross-entropy, 2.89, is divided by 256 once more, by its value
      help       divide once: a mean over the rows is the loss; see docs/causes.md#loss-reduction
    ");

    // A residual from the one-hot input to the logits, and the input is the target.
    let (vars, vb) = builder(1, DType::F32);
    let layer = linear(4, 4, vb.pp("layer")).unwrap();
    let one_hot = Tensor::eye(4, DType::F32, &device()).unwrap().index_select(&y, 0).unwrap();
    let leaks = Learner::new(
        &vars,
        |x: &Tensor| x.affine(20.0, 0.0)? + layer.forward(x)?,
        loss::cross_entropy,
    );
    insta::assert_snapshot!(text(&refused(&leaks, (&one_hot, &y), expected::cross_entropy(4))), @"
    assertion `initial_loss` failed
    the loss before training is 0, too low for a model that knows nothing: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 10.2 (root mean square)

      confirmed  initial-loss-low   the loss is 0, where 1.39 is expected; with weights drawn anew it is 0; with
                                    the targets of other rows, 15.2: each row's input carries its target
      help       look for the label among the features, and for a shift between input and target; see
                 docs/causes.md#initial-loss-low
    ");
}

#[test]
fn another_formula_is_told_by_its_value() {
    let (x, y) = classes(1, DType::F32);
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let of = |loss: fn(&Tensor, &Tensor) -> Result<Tensor>| {
        let learner = Learner::new(&vars, |x: &Tensor| model.forward(x), loss);
        refused(&learner, (&x, &y), expected::cross_entropy(4)).cause()
    };
    assert_eq!(of(|o, y| loss::cross_entropy(o, y)?.neg()), Some(Cause::LossSign));
    assert_eq!(of(loss::nll), Some(Cause::LossOnLogits));
    let softmax = Learner::new(&vars, |x: &Tensor| ops::softmax(&model.forward(x)?, 1), loss::nll);
    let failure = refused(&softmax, (&x, &y), expected::cross_entropy(4));
    assert_eq!(failure.cause(), Some(Cause::LossOnProbabilities));
}

#[test]
fn regressions_and_binary_answers_have_their_theory() -> Result<()> {
    let x = Seed::new(1).normal("x", (32, 6), DType::F32, &device())?;
    let y = Seed::new(1).normal("y", (32, 1), DType::F32, &device())?;
    let bits = y.gt(0.0)?.to_dtype(DType::F32)?;
    let (vars, model) = Mlp::seeded(1, [6, 16, 1], DType::F32);
    let learner = |loss: fn(&Tensor, &Tensor) -> Result<Tensor>| {
        Learner::new(&vars, |x: &Tensor| model.forward(x), loss)
    };
    let mae = |o: &Tensor, y: &Tensor| (o - y)?.abs()?.mean_all();
    passed(&learner(loss::mse), (&x, &y), expected::mse(&y));
    passed(&learner(mae), (&x, &y), expected::mae(&y));
    passed(&learner(|o, y| loss::huber(o, y, 1.0)), (&x, &y), expected::huber(&y, 1.0));
    passed(&learner(loss::binary_cross_entropy_with_logit), (&x, &bits), expected::bce());

    // Targets far from 0: the loss is as expected, and the report says how to start better.
    let prices = y.affine(50.0, 1000.0)?;
    let report = passed(&learner(loss::mse), (&x, &prices), expected::mse(&prices));
    assert!(report.best_constant.is_some_and(|best| best < 0.01 * report.loss));
    insta::assert_snapshot!(report.advice.unwrap_or_default(), @"bring the targets to mean 0 and standard deviation 1, or start the last bias at their mean");

    let raw = (&x * 1e4)?;
    for (loss, y, expected) in [
        (loss::mse as fn(&Tensor, &Tensor) -> Result<Tensor>, &y, expected::mse(&y)),
        (loss::binary_cross_entropy_with_logit, &bits, expected::bce()),
    ] {
        let failure = refused(&learner(loss), (&raw, y), expected);
        assert_eq!(failure.cause(), Some(Cause::InputNotScaled), "{failure}");
    }
    Ok(())
}

#[test]
fn a_mean_that_is_lost_in_half_precision_is_told() -> Result<()> {
    let (vars, vb) = builder(1, DType::BF16);
    let model = linear(6, 100, vb)?;
    let x = Seed::new(1).normal("x", (64, 6), DType::BF16, &device())?;
    let y = Seed::new(1).uniform("y", 0.0..1.0, (64, 100), DType::F32, &device())?;
    let y = y.ge(0.5)?.to_dtype(DType::BF16)?;
    let learner = Learner::new(
        &vars,
        |x: &Tensor| model.forward(x),
        |o: &Tensor, y: &Tensor| {
            let tail = (o.abs()?.neg()?.exp()? + 1.0)?.log()?;
            ((o.relu()? - (o * y)?)? + tail)?.mean_all()
        },
    );
    insta::assert_snapshot!(text(&refused(&learner, (&x, &y), expected::bce())), @"
    assertion `initial_loss` failed
    the loss before training is 0.188, too low for a model that knows nothing: 0.693 is expected

      expected  0.693: ln 2, the binary cross-entropy of an even chance
      allowed   0.693 .. 4.19
      outputs   of size 1.42 (root mean square)

      confirmed  initial-loss-low   the loss is 0.188, 0.271 times the 0.693 expected; with weights drawn anew it
                                    is 0.192; whatever the targets, it is as low
      help       check the divisor of the mean: padding that counts, or a second division by the batch; see
                 docs/causes.md#initial-loss-low
    ");
    Ok(())
}

#[test]
fn rare_classes_are_expected_lower() -> Result<()> {
    let labels: Vec<u32> = (0..64).map(|i| u32::from(i % 16 == 0)).collect();
    let y = Tensor::from_vec(labels, 64, &device())?;
    let x = Seed::new(1).normal("x", (64, 6), DType::F32, &device())?;
    let (vars, vb) = builder(1, DType::F32);
    let weight = vb.get_with_hints((2, 6), "weight", Init::Randn { mean: 0.0, stdev: 0.02 })?;
    let prior = Tensor::new(&[(15f32 / 16.0).ln(), (1f32 / 16.0).ln()], &device())?;
    for (bias, expected) in [
        (Some(&prior), expected::cross_entropy(2)),
        (Some(&prior), expected::cross_entropy_with_prior(&y, 2)),
        (None, expected::cross_entropy(2)),
    ] {
        let head = Linear::new(weight.clone(), bias.cloned());
        let learner = Learner::new(&vars, move |x: &Tensor| head.forward(x), loss::cross_entropy);
        let report = passed(&learner, (&x, &y), expected);
        assert!(report.expected < 0.3 || report.advice.is_some());
    }
    Ok(())
}

#[test]
fn a_learner_that_can_be_built_again_shows_its_spread() -> candling::Result<()> {
    let (x, y) = classes(1, DType::F32);
    let build = |scale: f64| {
        Learner::build(
            Seed::new(1),
            DType::F32,
            &device(),
            move |vb| {
                let model = Mlp::new([6, 16, 4], vb)?;
                Ok(move |x: &Tensor| model.forward(x)? * scale)
            },
            loss::cross_entropy,
        )
    };
    let report = passed(&build(1.0)?, (&x, &y), expected::cross_entropy(4));
    assert_eq!(report.seeds.len(), 5);
    let report =
        assert_initial_loss!(build(1.0)?, (&x, &y), expected::cross_entropy(4), seeds = 2, "{}", 1);
    assert_eq!(report.seeds.len(), 2);
    insta::assert_snapshot!(text(&refused(&build(60.0)?, (&x, &y), expected::cross_entropy(4))), @"
    assertion `initial_loss` failed
    the loss before training is 55.5, too high for an undecided model: 1.39 is expected

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89
      outputs   of size 78.7 (root mean square)
      seeds     5 other seeds: 65.1 .. 126

      confirmed  initial-loss-high   the loss is 55.5, 40.1 times the 1.39 expected
      help       check the input's scale and the last layer's initialisation; see docs/causes.md#initial-loss-high
    ");
    Ok(())
}

#[test]
fn what_cannot_be_judged_says_so() -> Result<()> {
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, &model);
    let (x, y) = classes(1, DType::F32);
    let before = bits(&vars);
    let not_run = |learner: &Learner<'_>, batch: Batch, expected: Expected| {
        let failure = refused(learner, batch, expected);
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        failure.headline().to_owned()
    };
    let ce = || expected::cross_entropy(4);
    insta::assert_snapshot!(not_run(&learner, (&x, &y).into(), expected::cross_entropy(1)), @"`expected` is a cross-entropy over 1; allowed: 2 classes or more");
    insta::assert_snapshot!(not_run(&learner, ().into(), ce()), @"`batch` is `()`; allowed: an input and its targets, `(&x, &y)`");
    let empty = Tensor::zeros((0, 6), DType::F32, &device())?;
    insta::assert_snapshot!(not_run(&learner, (&empty, &y).into(), ce()), @"`batch` is the input of dims [0, 6], empty; allowed: at least one row");
    let nan = x.affine(f64::NAN, 0.0)?;
    insta::assert_snapshot!(not_run(&learner, (&nan, &y).into(), ce()), @"`batch` is the input with NaN or infinite values; allowed: finite values");
    let scalar = Tensor::new(1f32, &device())?;
    insta::assert_snapshot!(not_run(&learner, (&scalar, &y).into(), ce()), @"`batch` is the input of rank 0; allowed: the batch as the first dimension");
    let broken =
        Learner::new(&vars, |_: &Tensor| candle_core::bail!("no model here"), loss::cross_entropy);
    insta::assert_snapshot!(not_run(&broken, (&x, &y).into(), ce()), @"the forward closure returned an error");
    let forward = Learner::forward_only(|x: &Tensor| x.sqr());
    insta::assert_snapshot!(not_run(&forward, (&x, &y).into(), ce()), @"`learner` is one from `Learner::forward_only`, without a loss; allowed: a learner with a loss closure");

    let infinite = Learner::new(
        &vars,
        |x: &Tensor| model.forward(x)?.affine(1e30, 0.0)?.sqr(),
        loss::cross_entropy,
    );
    insta::assert_snapshot!(text(&refused(&infinite, (&x, &y), ce())), @"
    assertion `initial_loss` failed
    the loss is NaN before the first step

      expected  1.39: ln 4, the cross-entropy of 4 equally likely classes
      allowed   0.00703 .. 5.89

      confirmed  not-finite   the output is not finite already, and all variables are
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    InitialLoss::new().allow(Cause::NotFinite).check(&infinite, (&x, &y), ce()).unwrap();

    let panics = Learner::new(
        &vars,
        |_: &Tensor| -> Result<Tensor> { panic!("in the model") },
        loss::cross_entropy,
    );
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        InitialLoss::new().check(&panics, (&x, &y), ce()).map(drop)
    }));
    assert!(outcome.is_err());
    assert_eq!(bits(&vars), before);
    let own = Learner::from_loss(&vars, || model.forward(&x)?.sqr()?.mean_all());
    passed(&own, (), expected::between(0.0, 100.0));
    assert!(InitialLoss::new().check(&own, (), expected::value(1e6)).is_err());
    Ok(())
}
