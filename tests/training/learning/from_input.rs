//! `assert_learns_from_input!`: what beats itself without its input, and what does not.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Optimizer, SGD, linear, loss, ops};
use candling::{
    Batch, Cause, FailureKind, Learner, Seed, assert_learns_from_input, check::LearnsFromInput,
};

use crate::{
    support::text,
    training::models::{Mlp, bits, classes, device},
};

#[test]
fn a_healthy_network_beats_itself_blind() {
    for dtype in [DType::F32, DType::F64] {
        for seed in 0..2 {
            let (x, y) = classes(seed, dtype);
            let (vars, m) = Mlp::seeded(seed, [6, 16, 4], dtype);
            let before = bits(&vars);
            let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
            let report = assert_learns_from_input!(learner, (&x, &y), steps = 100, "seed {seed}");
            assert!(report.loss < 0.3 * report.loss_without, "{report:?}");
            assert_eq!(report.without, "every input zeroed");
            assert!((report.loss_without - 4f64.ln()).abs() < 0.2, "{}", report.loss_without);
            assert_eq!(bits(&vars), before);
        }
    }
}

#[test]
fn half_precision_learns_too() {
    for dtype in [DType::F16, DType::BF16] {
        let (x, y) = classes(1, dtype);
        let (vars, m) = Mlp::seeded(1, [6, 16, 4], dtype);
        let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
        assert_learns_from_input!(learner, (&x, &y), steps = 100);
    }
}

/// 8 sequences of 6 tokens, and a class for each.
fn sequences(seed: u64) -> (Tensor, Tensor) {
    let x = Seed::new(seed).tokens("x", 12, (8, 6), &device()).unwrap();
    (x, Tensor::new(&[0u32, 1, 2, 3, 1, 0, 3, 2], &device()).unwrap())
}

#[test]
fn tokens_become_one_token_of_the_batch() {
    let (x, y) = sequences(1);
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, &device());
    let tokens = candle_nn::embedding(12, 8, vb.pp("tokens")).unwrap();
    let head = linear(48, 4, vb.pp("head")).unwrap();
    let forward = |x: &Tensor| head.forward(&tokens.forward(x)?.flatten_from(1)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let report = assert_learns_from_input!(learner, (&x, &y), steps = 100);
    assert!(report.without.starts_with("every token replaced by "), "{}", report.without);

    // A mask beside the tokens lets everything through.
    let masked = |[x, mask]: &[Tensor; 2]| {
        let x = tokens.forward(x)?.broadcast_mul(&mask.unsqueeze(2)?)?;
        let mean = (x.sum(1)?.broadcast_div(&mask.sum_keepdim(1)?))?;
        head.forward(&mean.repeat((1, 6))?)
    };
    let mask = Tensor::ones((8, 6), DType::F32, &device()).unwrap();
    let learner = Learner::new(&vars, masked, loss::cross_entropy);
    assert_learns_from_input!(learner, (&[x, mask], &y), steps = 100);
}

#[test]
fn an_input_of_zeros_that_is_no_input_becomes_the_first_row() {
    let (x, y) = classes(2, DType::F32);
    let (vars, m) = Mlp::seeded(2, [6, 16, 4], DType::F32);
    // A ReLU would make zeros of the NaN.
    let normed = |x: &Tensor| {
        let x = x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?)?;
        m.l2.forward(&m.l1.forward(&x)?.tanh()?)
    };
    let learner = Learner::new(&vars, normed, loss::cross_entropy);
    let report = assert_learns_from_input!(learner, (&x, &y), steps = 100);
    assert_eq!(report.without, "every row given the input of the first");
}

#[test]
fn an_offset_does_not_hide_what_is_learned() {
    let (x, y) = classes(3, DType::F32);
    let (vars, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    for offset in [20.0, -20.0] {
        let shifted = move |o: &Tensor, y: &Tensor| loss::cross_entropy(o, y)? + offset;
        let learner = Learner::new(&vars, |x| m.forward(x), shifted);
        assert_learns_from_input!(learner, (&x, &y), steps = 100);
    }
    let (x, y) = (x, Seed::new(3).normal("y", (16, 4), DType::F32, &device()).unwrap());
    let learner = Learner::new(&vars, |x| m.forward(x), |o, y| loss::mse(o, &(y + 1000.0)?));
    assert_learns_from_input!(learner, (&x, &y), steps = 100);
}

#[test]
fn an_input_that_is_masked_away_is_ignored() {
    let (x, y) = classes(4, DType::F32);
    let (vars, m) = Mlp::seeded(4, [6, 16, 4], DType::F32);
    let before = bits(&vars);
    let learner =
        Learner::new(&vars, |x: &Tensor| m.forward(&x.zeros_like()?), loss::cross_entropy);
    let failure = LearnsFromInput::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(bits(&vars), before);
    insta::assert_snapshot!(text(&failure), @"
    assertion `learns_from_input` failed
    the training does not see its input: every input zeroed changes no bit of the loss

      with input  ▄▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.39 .. 1.41
      without     ▄▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.39 .. 1.41
      optimizer   the default: AdamW, at a learning rate of 0.01

      confirmed  input-ignored   with every input zeroed each of 301 losses is the same, bit for bit
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    let allowed = LearnsFromInput::new().allow(Cause::InputIgnored).check(&learner, (&x, &y));
    assert_eq!(allowed.unwrap().allowed.len(), 1);
}

#[test]
fn a_head_that_starts_at_zero_is_no_proof_that_the_input_is_ignored() {
    let (x, y) = classes(3, DType::F32);
    let (vars, m) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    for var in [m.l2.weight(), m.l2.bias().unwrap()] {
        let all = vars.all_vars();
        let head = all.iter().find(|v| v.id() == var.id()).unwrap();
        head.set(&head.zeros_like().unwrap()).unwrap();
    }
    // The first loss is ln 4 with any input; at this rate the training with the input ends above it, so that the one
    // without ends before its first step.
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| SGD::new(vars, 1e4));
    let failure = LearnsFromInput::new().steps(1).check(&learner, (&x, &y)).unwrap_err();
    let named = failure.findings().iter().any(|f| f.cause() == Cause::InputIgnored);
    assert!(!named, "{failure}");
}

#[test]
fn a_softmax_over_one_unit_is_a_constant() {
    let (x, _) = classes(5, DType::F32);
    let y = Tensor::new(&[[0f32], [1.0]], &device()).unwrap().repeat((8, 1)).unwrap();
    let (vars, m) = Mlp::seeded(5, [6, 16, 1], DType::F32);
    let learner = Learner::new(&vars, |x| ops::softmax(&m.forward(x)?, 1), loss::mse);
    let failure = LearnsFromInput::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::OutputConstant));
    insta::assert_snapshot!(text(&failure), @"
    assertion `learns_from_input` failed
    the training does not see its input: every input zeroed changes no bit of the loss

      with input  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.5 .. 0.5
      without     ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.5 .. 0.5
      optimizer   the default: AdamW, at a learning rate of 0.01

      confirmed  output-constant   with every input zeroed each of 301 losses is the same, bit for bit; nor does
                                   the output change with any weight, and all its rows are equal
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
}

#[test]
fn a_signal_that_drowns_in_biases_is_not_learned() {
    let (x, y) = classes(6, DType::F32);
    let (vars, m) = Mlp::seeded(6, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x: &Tensor| m.forward(&(x / 65025.0)?), loss::cross_entropy);
    let failure = LearnsFromInput::new().steps(150).check(&learner, (&x, &y)).unwrap_err();
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::InputNotLearned));
    insta::assert_snapshot!(text(&failure), @"
    assertion `learns_from_input` failed
    the training does as well without its input: the loss ends at 1.39, and at 1.39 with every input zeroed

      with input  ▅▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.39 .. 1.46
      without     ▄▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.39 .. 1.46
      optimizer   the default: AdamW, at a learning rate of 0.01, then 0.001 and 0.1; the best of each

      confirmed  input-not-learned       1.46 -> 1.39 in 150 steps with the input, 1.46 -> 1.39 in 150 steps with
                                         every input zeroed
      ruled out  loss-on-probabilities   with the output's tanh undone it still goes 1.47 -> 1.39 in 150 steps
      help       check that the signal survives the preprocessing and the first layers; see
                 docs/causes.md#input-not-learned
    ");
}

#[test]
fn labels_that_contradict_each_other_are_named() {
    let (x, y) = classes(7, DType::F32);
    // Every row twice, with another class.
    let x = Tensor::cat(&[&x, &x, &x, &x], 0).unwrap();
    let more = |by: u32| {
        let labels = y.to_vec1::<u32>().unwrap().into_iter().map(|y| (y + by) % 4);
        Tensor::from_vec(labels.collect::<Vec<_>>(), 16, &device()).unwrap()
    };
    let y = Tensor::cat(&[more(0), more(1), more(2), more(3)], 0).unwrap();
    let (vars, m) = Mlp::seeded(7, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let failure = LearnsFromInput::new().steps(100).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::LabelsContradictory), "{failure}");
}

#[test]
fn what_proves_nothing_says_so() {
    let (x, y) = classes(8, DType::F32);
    let (vars, m) = Mlp::seeded(8, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let vacuous = |learner: &Learner<'_>, batch: (Tensor, Tensor)| {
        let failure = LearnsFromInput::new().check(learner, &batch).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Vacuous, "{failure}");
        failure.headline().to_owned()
    };
    let one = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
    insta::assert_snapshot!(vacuous(&learner, one), @"the batch has one row: it is learned without looking at the input");
    insta::assert_snapshot!(vacuous(&learner, (x.zeros_like().unwrap(), y.clone())), @"all rows of the input are equal: it says nothing about the targets");
    insta::assert_snapshot!(vacuous(&learner, (x.clone(), y.zeros_like().unwrap())), @"all targets are equal, so a bias fits them: the input is not needed");
    let zero = Learner::new(&vars, |x| m.forward(x), |o, _| o.sum_all()? * 0.0);
    insta::assert_snapshot!(vacuous(&zero, (x.clone(), y)), @"the loss is 0 before the first step: nothing is left to learn");

    // An autoencoder does not look at its targets.
    let (vars, m) = Mlp::seeded(8, [6, 16, 6], DType::F32);
    let both = |x: &Tensor| Tensor::stack(&[&m.forward(x)?, x], 1);
    let itself = |o: &Tensor, _: &Tensor| {
        let part = |i: usize| o.narrow(1, i, 1)?.squeeze(1);
        loss::mse(&part(0)?, &part(1)?)
    };
    let autoencoder = Learner::new(&vars, both, itself);
    let place_holder = Tensor::zeros(16, DType::F32, &device()).unwrap();
    // Zeros are easier to make than the input: there is no twin to beat.
    let outcome = LearnsFromInput::new().steps(100).check(&autoencoder, (&x, &place_holder));
    assert_ne!(outcome.map_err(|f| f.kind()).err(), Some(FailureKind::Vacuous));
}

#[test]
fn what_cannot_be_used_says_so() {
    let (x, y) = classes(9, DType::F32);
    let (vars, m) = Mlp::seeded(9, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let not_run = |options: LearnsFromInput, learner: &Learner<'_>, batch: Batch| {
        let failure = options.check(learner, batch).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        failure.headline().to_owned()
    };
    let new = LearnsFromInput::new;
    let batch = || Batch::from((&x, &y));
    insta::assert_snapshot!(not_run(new().steps(0), &learner, batch()), @"`steps` is 0; allowed: 1 or more");
    insta::assert_snapshot!(not_run(new().margin(1.0), &learner, batch()), @"`margin` is 1; allowed: a share in (0, 1)");
    let owning = Learner::from_loss(&vars, || m.forward(&x)?.sqr()?.mean_all());
    insta::assert_snapshot!(not_run(new(), &owning, ().into()), @"`learner` is one from `Learner::from_loss`, whose closure owns its data: its input cannot be changed; allowed: a learner with a forward and a loss closure");
    let empty = (x.narrow(0, 0, 0).unwrap(), y.narrow(0, 0, 0).unwrap());
    insta::assert_snapshot!(not_run(new(), &learner, (&empty).into()), @"`batch` is the input of dims [0, 6], empty; allowed: at least one row");
    let nan = (&x / 0.0).unwrap();
    insta::assert_snapshot!(not_run(new(), &learner, (&nan, &y).into()), @"`batch` is the input with NaN or infinite values; allowed: finite values");
    let scalar = Tensor::new(1f32, &device()).unwrap();
    insta::assert_snapshot!(not_run(new(), &learner, (&scalar, &y).into()), @"`batch` is the input of rank 0; allowed: the batch as the first dimension");
    let fails = Learner::new(&vars, |_: &Tensor| candle_core::bail!("no"), loss::cross_entropy);
    insta::assert_snapshot!(not_run(new(), &fails, batch()), @"the forward closure returned an error");
}

#[test]
fn a_slow_optimizer_of_ones_own_is_told_as_such() {
    let (x, y) = classes(10, DType::F32);
    let (vars, m) = Mlp::seeded(10, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| SGD::new(vars, 1e-7));
    let failure = LearnsFromInput::new().steps(50).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::LearningRateLow), "{failure}");
}
