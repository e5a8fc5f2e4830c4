//! Learners of every kind under the three checks: what each says, and every variable as it was, bit for bit.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
};

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{Optimizer, SGD, VarMap, linear, loss};
use candling::{
    Batch, Cause, Failure, Learner, Seed,
    check::{GradientVerdict, GradientsCorrect, GradientsFlow, UnitsAlive},
};

use super::models::{
    Mlp, bits, builder, chain, classes, device, layers, normal, text, with_backward,
};

/// What each of the three checks says of a learner, a line each, with candle's own error.
fn all_three(learner: &Learner<'_>, batch: impl Into<Batch>) -> String {
    let batch = batch.into();
    let said = |check: &str, result: std::result::Result<(), Failure>| match result {
        Ok(()) => format!("{check}: ok"),
        Err(failure) => {
            let source = failure.source().map_or(String::new(), |e| format!(": {e}"));
            let source = source.lines().next().unwrap_or_default().to_owned();
            format!("{check}: {:?}, {}{source}", failure.kind(), failure.headline())
        }
    };
    [
        said("flow", GradientsFlow::new().check(learner, batch.clone()).map(drop)),
        said("correct", GradientsCorrect::new().check(learner, batch.clone()).map(drop)),
        said("alive", UnitsAlive::new().check(learner, batch).map(drop)),
    ]
    .join("\n")
}

fn kept(vars: &VarMap, learner: &Learner<'_>, batch: impl Into<Batch>) -> String {
    let before = bits(vars);
    let said = all_three(learner, batch);
    assert_eq!(bits(vars), before, "{said}");
    said
}

const PASS: &str = "flow: ok\ncorrect: ok\nalive: ok";

#[test]
fn every_kind_of_learner_passes() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let cross_entropy = loss::cross_entropy;
    let new = Learner::new(&vars, |x| m.forward(x), cross_entropy);
    assert_eq!(kept(&vars, &new, (&x, &y)), PASS);
    let two = Learner::new(&vars, |[a, b]: &[Tensor; 2]| m.forward(&(a + b)?), cross_entropy);
    assert_eq!(kept(&vars, &two, (&[x.clone(), x.clone()], &y)), PASS);
    let own = Learner::from_loss(&vars, || loss::cross_entropy(&m.forward(&x)?, &y));
    assert_eq!(kept(&vars, &own, ()), PASS);
    let modes = Learner::with_modes(&vars, |x: &Tensor, _| m.forward(x), cross_entropy);
    assert_eq!(kept(&vars, &modes, (&x, &y)), PASS);
    let given = Learner::new(&vars, |x| m.forward(x), cross_entropy)
        .optimizer(|vars| SGD::new(vars, 0.1))
        .frozen(["l1."]);
    assert_eq!(kept(&vars, &given, (&x, &y)), PASS);
    let built = Learner::build(
        Seed::new(1),
        DType::F32,
        &device(),
        |vb| {
            let m = Mlp::new([6, 16, 4], vb)?;
            Ok(move |x: &Tensor| m.forward(x))
        },
        cross_entropy,
    );
    assert_eq!(all_three(&built.unwrap(), (&x, &y)), PASS);
    insta::assert_snapshot!(all_three(&Learner::forward_only(|x| m.forward(x)), (&x, &y)), @"
    flow: NotRun, the learner has no variables to train
    correct: NotRun, the learner has no variables to train
    alive: NotRun, the learner has no variables to train
    ");
}

#[test]
fn every_format_of_variables() {
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        let (x, y) = classes(1, dtype);
        let (vars, m) = Mlp::seeded(1, [6, 16, 4], dtype);
        let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
        let said = kept(&vars, &learner, (&x, &y));
        match dtype {
            DType::F64 => assert_eq!(said, PASS),
            _ => assert_eq!(
                said,
                format!(
                    "flow: ok\ncorrect: NotRun, slopes cannot be measured in {}: no step is short enough for a slope and long enough to be seen\nalive: ok",
                    dtype.as_str()
                )
            ),
        }
        // What candling builds is built again in f64.
        let built = Learner::build(
            Seed::new(1),
            dtype,
            &device(),
            |vb| {
                let m = Mlp::new([6, 16, 4], vb)?;
                Ok(move |x: &Tensor| m.forward(x))
            },
            loss::cross_entropy,
        )
        .unwrap();
        let report = GradientsCorrect::new().check(&built, (&x, &y)).unwrap();
        assert_eq!(report.dtype, DType::F64);
    }
}

#[test]
fn integers_and_other_formats_beside_the_variables() {
    let (x, y) = classes(1, DType::F32);
    let scale = Var::from_tensor(&Tensor::new(&[0.7f64], &device()).unwrap()).unwrap();
    let shift = Var::from_tensor(&normal(3, &[4], DType::BF16)).unwrap();
    let order = Var::from_tensor(&Tensor::new(&[2u32, 0, 1, 3], &device()).unwrap()).unwrap();
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let mut all: Vec<(String, Var)> = Vec::new();
    all.extend(vars.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())));
    let mixed = |with: &[(&str, &Var)]| {
        let others = with.iter().map(|(name, var)| ((*name).to_owned(), (*var).clone()));
        all.iter().cloned().chain(others).collect::<Vec<_>>()
    };
    let forward = |x: &Tensor| {
        let o = m.forward(x)?.index_select(order.as_tensor(), 1)?;
        o.broadcast_mul(&scale.as_tensor().to_dtype(DType::F32)?)
    };
    let listed = mixed(&[("order", &order), ("scale", &scale)]);
    let learner = Learner::new(&listed[..], forward, loss::cross_entropy);
    let bits_of = |var: &Var| var.as_tensor().to_vec1::<f64>().unwrap()[0].to_bits();
    let (before, own) = (bits(&vars), bits_of(&scale));
    assert_eq!(all_three(&learner, (&x, &y)), PASS);
    assert_eq!((bits(&vars), bits_of(&scale)), (before, own));
    assert_eq!(order.as_tensor().to_vec1::<u32>().unwrap(), [2, 0, 1, 3]);

    let forward =
        |x: &Tensor| m.forward(x)?.broadcast_add(&shift.as_tensor().to_dtype(DType::F32)?);
    let listed = mixed(&[("shift", &shift)]);
    let learner = Learner::new(&listed[..], forward, loss::cross_entropy);
    insta::assert_snapshot!(all_three(&learner, (&x, &y)), @"
    flow: ok
    correct: NotRun, slopes cannot be measured in bf16: no step is short enough for a slope and long enough to be seen
    alive: ok
    ");
}

/// candle's conversion of f8e4m3 to f64 never returns: nothing here may call it.
#[test]
fn a_variable_of_eight_bits_does_not_hang() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let scale = normal(3, &[4], DType::F32).to_dtype(DType::F8E4M3).unwrap();
    let scale = Var::from_tensor(&scale).unwrap();
    let mut all = vec![("scale".to_owned(), scale.clone())];
    all.extend(vars.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())));
    let forward =
        |x: &Tensor| m.forward(x)?.broadcast_mul(&scale.as_tensor().to_dtype(DType::F32)?);
    let learner = Learner::new(&all[..], forward, loss::cross_entropy);
    let before = scale.as_tensor().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    insta::assert_snapshot!(kept(&vars, &learner, (&x, &y)), @"
    flow: ok
    correct: NotRun, slopes cannot be measured in f8e4m3: no step is short enough for a slope and long enough to be seen
    alive: ok
    ");
    let after = scale.as_tensor().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(before, after);
}

#[test]
fn batches_of_every_size_and_layout() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let one = (x.narrow(0, 0, 1).unwrap(), y.narrow(0, 0, 1).unwrap());
    assert_eq!(kept(&vars, &learner, &one), PASS);
    let transposed = x.t().unwrap().contiguous().unwrap().t().unwrap();
    assert_eq!(kept(&vars, &learner, (&transposed, &y)), PASS);
    let empty = (x.narrow(0, 0, 0).unwrap(), y.narrow(0, 0, 0).unwrap());
    insta::assert_snapshot!(kept(&vars, &learner, &empty), @"
    flow: NotRun, `batch` is the input of dims [0, 6], empty; allowed: at least one row
    correct: NotRun, `batch` is the input of dims [0, 6], empty; allowed: at least one row
    alive: NotRun, `batch` is the input of dims [0, 6], empty; allowed: at least one row
    ");
    insta::assert_snapshot!(kept(&vars, &learner, (&(&x / 0.0).unwrap(), &y)), @"
    flow: NotRun, `batch` is the input with NaN or infinite values; allowed: finite values
    correct: NotRun, `batch` is the input with NaN or infinite values; allowed: finite values
    alive: NotRun, `batch` is the input with NaN or infinite values; allowed: finite values
    ");
    insta::assert_snapshot!(kept(&vars, &learner, ()), @"
    flow: NotRun, `batch` is `()`; allowed: an input and its targets, `(&x, &y)`
    correct: NotRun, `batch` is `()`; allowed: an input and its targets, `(&x, &y)`
    alive: NotRun, `batch` is `()`; allowed: an input and its targets, `(&x, &y)`
    ");
}

#[test]
fn a_loss_that_no_variable_reaches_or_that_is_none() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let said = |loss: fn(&Tensor, &Tensor) -> Result<Tensor>| {
        kept(&vars, &Learner::new(&vars, |x| m.forward(x), loss), (&x, &y))
    };
    insta::assert_snapshot!(said(|o, _| o.zeros_like()?.sum_all()), @"
    flow: Violated, 4 of 4 variables do not get the gradient they should
    correct: Vacuous, the loss does not depend on any variable: every slope is zero
    alive: ok
    ");
    insta::assert_snapshot!(said(|o, _| o.detach().sqr()?.mean_all()), @"
    flow: Violated, 4 of 4 variables do not get the gradient they should
    correct: Violated, the gradient of 4 of 4 variables is not the slope of the loss
    alive: ok
    ");
    insta::assert_snapshot!(said(|o, _| Ok(o.clone())), @"
    flow: NotRun, the loss closure returned a tensor of dims [16, 4]; allowed: a scalar
    correct: NotRun, the loss closure returned a tensor of dims [16, 4]; allowed: a scalar
    alive: ok
    ");
    insta::assert_snapshot!(said(|o, _| o.argmax(1)?.sum_all()), @"
    flow: NotRun, the loss closure returned a scalar of dtype u32; allowed: a float dtype
    correct: NotRun, the loss closure returned a scalar of dtype u32; allowed: a float dtype
    alive: ok
    ");
    insta::assert_snapshot!(said(|o, _| o.sqr()?.mean_all()? / 0.0), @"
    flow: Violated, 4 of 4 variables do not get the gradient they should
    correct: NotRun, the loss is not finite here: it has no slope
    alive: ok
    ");
    let none = Learner::new(&VarMap::new(), |x| m.forward(x), loss::cross_entropy);
    insta::assert_snapshot!(all_three(&none, (&x, &y)), @"
    flow: NotRun, the learner has no variables to train
    correct: NotRun, the learner has no variables to train
    alive: NotRun, the learner has no variables to train
    ");
    let frozen = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).frozen(["l"]);
    insta::assert_snapshot!(kept(&vars, &frozen, (&x, &y)), @"
    flow: NotRun, none of the learner's 4 variables may train: all are frozen, integers or running statistics
    correct: NotRun, none of the learner's 4 variables may train: all are frozen, integers or running statistics
    alive: NotRun, none of the learner's 4 variables may train: all are frozen, integers or running statistics
    ");
}

/// candle's recursion over a graph as deep as this overflows the stack of a test's thread.
#[test]
fn a_loss_of_thousands_of_operations_in_a_row() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let chain = |x: &Tensor| {
        let mut x = m.forward(x)?;
        for _ in 0..4_000 {
            x = (x + 1e-4)?;
        }
        Ok(x)
    };
    let learner = Learner::new(&vars, chain, loss::cross_entropy);
    assert_eq!(kept(&vars, &learner, (&x, &y)), PASS);
    let cut =
        Learner::new(&vars, |x: &Tensor| chain(&x.clone())?.detach().sqr(), loss::cross_entropy);
    let failure = GradientsFlow::new().check(&cut, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::GradientCut), "{failure}");
}

#[test]
fn a_variable_with_two_names_is_one_variable() {
    let (x, y) = classes(1, DType::F32);
    let draw =
        |name, shape: &[usize]| (name, Var::from_tensor(&normal(1, shape, DType::F32)).unwrap());
    let (embed, gate) = (draw("embed.weight", &[6, 4]).1, draw("gate.weight", &[6, 4]).1);
    let names = ["embed.weight", "gate.weight", "head.weight"];
    let vars: Vec<(&str, Var)> =
        names.into_iter().zip([embed.clone(), gate.clone(), embed.clone()]).collect();
    // The first gradient of the gated part is zero, so that rounding is measured.
    let zero = Tensor::zeros((6, 4), DType::F32, &device()).unwrap();
    gate.set(&zero).unwrap();
    let forward = |x: &Tensor| {
        let h = x.matmul(&embed)?;
        x.matmul(&gate)?.mul(&h)? + (h.tanh()?.matmul(&embed.t()?)?.narrow(1, 0, 4)? * 0.5)?
    };
    let before = embed.as_tensor().copy().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let said = all_three(&learner, (&x, &y));
    assert_eq!(said, PASS);
    assert_eq!(embed.flatten_all().unwrap().to_vec1::<f32>().unwrap(), before);
    let trace = candling::Trace::record(&vars, || forward(&x)).unwrap();
    assert_eq!(trace.unreached(), <[String; 0]>::default());
}

#[test]
fn running_statistics_come_back() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let norm = candle_nn::batch_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let learner = Learner::with_modes(
        &vars,
        |x: &Tensor, train| l[1].forward(&norm.forward_t(&l[0].forward(x)?, train)?.relu()?),
        loss::cross_entropy,
    );
    assert_eq!(kept(&vars, &learner, (&x, &y)), PASS);
    let report = GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
    let bias = report.variables.iter().find(|row| row.name == "l0.bias").unwrap();
    assert_eq!(bias.verdict, GradientVerdict::NumericallyZero);
    assert_eq!(report.variables.len(), 6);
}

#[test]
fn dropout_is_judged_without_its_noise() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    let dropout = candle_nn::Dropout::new(0.5);
    let learner = Learner::with_modes(
        &vars,
        |x: &Tensor, train| m.l2.forward(&dropout.forward(&m.l1.forward(x)?.relu()?, train)?),
        loss::cross_entropy,
    );
    assert_eq!(kept(&vars, &learner, (&x, &y)), PASS);
    let random = Learner::new(
        &vars,
        |x: &Tensor| m.l2.forward(&dropout.forward(&m.l1.forward(x)?.relu()?, true)?),
        loss::cross_entropy,
    );
    insta::assert_snapshot!(kept(&vars, &random, (&x, &y)), @"
    flow: ok
    correct: NotRun, two evaluations of the learner differ: its slope cannot be measured
    alive: ok
    ");
}

#[test]
fn a_backward_pass_that_fails_or_panics_leaves_the_variables_alone() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let kernel = vb.pp("up").get((1, 1, 2), "weight").unwrap();
    let forward = |x: &Tensor| {
        let up = x.narrow(0, 0, 1)?.unsqueeze(0)?.conv_transpose1d(&kernel, 0, 0, 1, 1, 1)?;
        chain(&l, x, Tensor::tanh)?.broadcast_add(&up.mean_all()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    insta::assert_snapshot!(kept(&vars, &learner, (&x, &y)), @"
    flow: NotRun, the backward pass returned an error: backward is not supported for conv-transpose1d
    correct: NotRun, the backward pass returned an error: backward is not supported for conv-transpose1d
    alive: ok
    ");

    let none = |x: &Tensor| chain(&l, x, |h| with_backward(h, |_| Ok(None)));
    let learner = Learner::new(&vars, none, loss::cross_entropy);
    insta::assert_snapshot!(kept(&vars, &learner, (&x, &y)), @"
    flow: NotRun, candle panicked in the backward pass
    correct: NotRun, candle panicked in the backward pass
    alive: ok
    ");
    let failure = GradientsFlow::new().check(&learner, (&x, &y)).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_flow` did not run
    candle panicked in the backward pass

      panic  candle internal error - grad not populated

      help       a custom operation whose `bwd` returns `Ok(None)` does that, and some convolutions with padding;
                 docs/candle-audit.md lists them
    ");
}

#[test]
fn a_closure_that_breaks_on_the_way_leaves_the_variables_alone() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    // Unused, so that variables are moved to see whether they matter.
    linear(2, 2, vb.pp("unused")).unwrap();
    let before = bits(&vars);
    for panics in [false, true] {
        for last in 1..40 {
            let calls = std::cell::Cell::new(0);
            let learner = Learner::new(
                &vars,
                |x: &Tensor| {
                    calls.set(calls.get() + 1);
                    match calls.get() >= last {
                        true if panics => panic!("on purpose"),
                        true => candle_core::bail!("on purpose"),
                        false => chain(&l, x, Tensor::tanh),
                    }
                },
                loss::cross_entropy,
            );
            let quietly = |work: &dyn Fn()| drop(catch_unwind(AssertUnwindSafe(work)));
            let again = || calls.set(0);
            quietly(&|| drop(GradientsFlow::new().check(&learner, (&x, &y))));
            assert_eq!(bits(&vars), before, "flow, call {last}");
            again();
            quietly(&|| drop(GradientsCorrect::new().check(&learner, (&x, &y))));
            assert_eq!(bits(&vars), before, "correct, call {last}");
            again();
            quietly(&|| drop(UnitsAlive::new().check(&learner, (&x, &y))));
            assert_eq!(bits(&vars), before, "alive, call {last}");
        }
    }
}
