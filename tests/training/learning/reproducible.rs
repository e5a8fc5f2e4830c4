//! `assert_reproducible!`: what repeats, what does not, and where it parts.

use std::{cell::Cell, collections::HashMap};

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, Optimizer, SGD, VarBuilder, VarMap, linear, loss};
use candling::{Cause, FailureKind, Result, Seed, assert_reproducible, check::Reproducible};

const CPU: &Device = &Device::Cpu;

fn scalar(value: f32) -> Tensor {
    Tensor::new(value, CPU).unwrap()
}

/// Weights, batch, and the losses of a short training.
fn training(seed: Seed, weights: VarBuilder<'_>, vars: &VarMap) -> Result<Vec<(String, Tensor)>> {
    let layer = linear(4, 3, weights)?;
    let x = seed.normal("x", (8, 4), DType::F32, CPU)?;
    let y = seed.tokens("y", 3, 8, CPU)?;
    let mut produced =
        vec![("weights".to_owned(), layer.weight().clone()), ("x".to_owned(), x.clone())];
    let mut opt = SGD::new(vars.all_vars(), 0.1)?;
    for step in 0..3 {
        let loss = loss::cross_entropy(&layer.forward(&x)?, &y)?;
        opt.backward_step(&loss)?;
        produced.push((format!("loss of step {step}"), loss));
    }
    Ok(produced)
}

#[test]
fn a_seeded_training_repeats() {
    for n in [2, 3] {
        let report = assert_reproducible!(
            |seed| {
                let (vars, vb) = seed.var_builder(DType::F32, CPU);
                training(seed, vb, &vars)
            },
            seeds = n,
            "a short training, {n} seeds"
        );
        assert_eq!(report.runs.len(), 2 * n);
        assert_eq!(report.tensors[2], "loss of step 0");
        assert!(report.seedless.is_empty() && report.allowed.is_empty());
    }
}

#[test]
fn weights_that_no_seed_reaches_are_the_first_to_differ() {
    let failure = Reproducible::new()
        .check(|seed| {
            let vars = VarMap::new();
            training(seed, VarBuilder::from_varmap(&vars, DType::F32, CPU), &vars)
        })
        .unwrap_err();
    let text = failure.text();
    assert!(text.contains("`weights` is the first of 5 tensors to differ"), "{text}");
    assert!(text.contains("other values altogether"), "{text}");
    assert_eq!(failure.cause(), Some(Cause::NotReproducible));
    assert_eq!(failure.findings().len(), 1);
}

#[test]
fn the_failure_names_the_first_tensor_and_clears_those_before() {
    let calls = Cell::new(0);
    let failure = Reproducible::new()
        .seed(Seed::new(7))
        .check(|seed| {
            calls.set(calls.get() + 1);
            let drawn = Tensor::new(&[[0.5f32, 0.25], [0.1, 0.3 * calls.get() as f32]], CPU)?;
            Ok(vec![
                ("weights", seed.normal("w", 3, DType::F32, CPU)?),
                ("first batch", seed.normal("x", 3, DType::F32, CPU)?),
                ("step 3 loss", drawn.clone()),
                ("step 4 loss", drawn),
                ("labels", seed.tokens("y", 4, 3, CPU)?),
            ])
        })
        .unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
    insta::assert_snapshot!(failure.text(), @"
    assertion `reproducible` failed
    run 2 with seed 7 gives other bits than run 1: `step 3 loss` is the first of 5 tensors to differ

      first difference   `step 3 loss` at [1, 1]: 0.3, then 0.6; 1 of 4 elements differ
      equal before it    weights, first batch
      after it           1 of 2 tensors differ
      seeds of the runs  7, 7

      confirmed  not-reproducible   `step 3 loss`: other values altogether: a draw, or a counter, that the seed
                                    does not reach
      help       draw all randomness from the seed, and iterate maps in sorted order; see
                 docs/causes.md#not-reproducible
      rerun      cargo test
                 training::learning::reproducible::the_failure_names_the_first_tensor_and_clears_those_before
    ");
}

#[test]
fn sums_over_a_hash_map_differ_in_the_last_places() {
    let failure = Reproducible::new()
        .seeds(4)
        .check(|seed| {
            let values: Vec<f32> = seed.normal("w", 4096, DType::F32, CPU)?.to_vec1()?;
            let map: HashMap<usize, f32> = values.into_iter().enumerate().collect();
            Ok(vec![("norm", scalar(map.values().map(|v| v * v).sum()))])
        })
        .unwrap_err();
    let text = failure.text();
    assert!(text.contains("in the last place of the largest"), "{text}");
}

#[test]
fn a_shuffle_without_the_seed_is_told_from_other_values() {
    let calls = Cell::new(0);
    let failure = Reproducible::new()
        .check(|seed| {
            calls.set(calls.get() + 1);
            let x = seed.normal("x", 9, DType::F32, CPU)?.roll(calls.get(), 0)?;
            Ok(vec![("order", x)])
        })
        .unwrap_err();
    let text = failure.text();
    assert!(text.contains("the same values in other places"), "{text}");
    assert!(text.contains("`order` differs"), "{text}");
}

#[test]
fn what_ran_before_is_a_state() {
    let largest = Cell::new(0);
    let failure = Reproducible::new()
        .check(|seed| {
            largest.set(largest.get().max(seed.value()));
            Ok(vec![("x", scalar(seed.value() as f32)), ("mean", scalar(largest.get() as f32))])
        })
        .unwrap_err();
    insta::assert_snapshot!(failure.text(), @"
    assertion `reproducible` failed
    run 4 with seed 0 gives other bits than run 1: `mean` is the first of 2 tensors to differ

      first difference   `mean` 0, then 1
      equal before it    x
      seeds of the runs  0, 0, 1, 0

      confirmed  not-reproducible   `mean`: other values altogether, though nothing is drawn anew in each run
      confirmed  state-kept         three runs in a row with seed 0 agree with each other, and not with run 1: a
                                    run changes the next
      help       draw all randomness from the seed, and iterate maps in sorted order; see
                 docs/causes.md#not-reproducible
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
      rerun      cargo test training::learning::reproducible::what_ran_before_is_a_state
    ");

    let first = Cell::new(true);
    let failure = Reproducible::new()
        .check(|seed| {
            Ok(vec![("x", scalar(seed.value() as f32 + f32::from(u8::from(first.replace(false)))))])
        })
        .unwrap_err();
    let text = failure.text();
    assert!(text.contains("from there on all are equal"), "{text}");
}

#[test]
fn names_that_come_go_or_change_places_are_told() {
    let text = |names: fn(usize) -> Vec<&'static str>| {
        let calls = Cell::new(0);
        let run = |seed: Seed| {
            calls.set(calls.get() + 1);
            let value = |name: &str| Ok((name.to_owned(), seed.normal(name, 2, DType::F32, CPU)?));
            names(calls.get()).into_iter().map(value).collect()
        };
        Reproducible::new().check(run).unwrap_err().text()
    };
    let missing = text(|call| if call == 1 { vec!["a", "b", "c"] } else { vec!["a", "c"] });
    assert!(missing.contains("`b` is missing"), "{missing}");
    let extra = text(|call| if call == 1 { vec!["a"] } else { vec!["a", "a"] });
    assert!(extra.contains("`a` is new"), "{extra}");
    let order = text(|call| if call % 2 == 1 { vec!["a", "b", "c"] } else { vec!["a", "c", "b"] });
    insta::assert_snapshot!(order, @"
    assertion `reproducible` failed
    run 2 with seed 0 gives other bits than run 1: tensor 2 is `c`, and was `b`

      equal before it    a
      seeds of the runs  0, 0

      confirmed  not-reproducible   `b`: the same tensors come in another order, each with the same bits: the
                                    order of a hash map, or of threads
      help       draw all randomness from the seed, and iterate maps in sorted order; see
                 docs/causes.md#not-reproducible
      rerun      cargo test training::learning::reproducible::names_that_come_go_or_change_places_are_told
    ");
}

#[test]
fn shapes_and_dtypes_belong_to_the_result() {
    let calls = Cell::new(0);
    let failure = Reproducible::new()
        .check(|_| {
            calls.set(calls.get() + 1);
            Ok(vec![("x", Tensor::zeros((calls.get(), 2), DType::F32, CPU)?)])
        })
        .unwrap_err();
    let text = failure.text();
    assert!(text.contains("`x` is [2, 2] f32, and was [1, 2] f32"), "{text}");
}

#[test]
fn a_closure_that_ignores_its_seed_is_told() {
    let failure = Reproducible::new()
        .check(|_| {
            Ok(vec![("x", Seed::new(3).normal("x", 4, DType::F32, CPU)?), ("y", scalar(1.0))])
        })
        .unwrap_err();
    insta::assert_snapshot!(failure.text(), @"
    assertion `reproducible` failed
    seeds 0 and 1 give the same bits in all 2 tensors: nothing depends on the seed

      the same           x, y
      seeds of the runs  0, 0, 1, 0

      confirmed  not-reproducible   a run repeats because it is always the same one: its seed is written down
                                    elsewhere, or nothing is drawn
      help       draw weights and data from the seed that the closure is given; where nothing is random, say
                 `seed_matters = false`
      rerun      cargo test training::learning::reproducible::a_closure_that_ignores_its_seed_is_told
    ");
    let report = assert_reproducible!(|_| Ok(vec![("x", scalar(1.0))]), seed_matters = false);
    assert_eq!(report.seedless, ["x"]);
    assert_reproducible!(|_| Ok(vec![("x", scalar(1.0))]), seeds = 1);
}

#[test]
fn a_nan_equals_itself_and_views_and_every_dtype_are_compared() {
    let report = assert_reproducible!(|seed| {
        let x = seed.normal("x", (3, 4), DType::F32, CPU)?;
        Ok(vec![
            ("nan", scalar(f32::NAN)),
            ("view", x.t()?),
            ("half", x.to_dtype(DType::BF16)?),
            ("f16", x.to_dtype(DType::F16)?),
            ("double", x.to_dtype(DType::F64)?),
            ("ids", seed.tokens("ids", 9, 5, CPU)?),
            ("empty", x.narrow(0, 0, 0)?),
        ])
    });
    assert_eq!(report.seedless, ["nan", "empty"]);
}

#[test]
fn a_variable_is_kept_as_it_was() {
    // The handle that is returned follows the variable; the value of its time is what counts.
    let var = candle_core::Var::from_tensor(&scalar(0.0)).unwrap();
    assert_reproducible!(|seed| {
        var.set(&scalar(seed.value() as f32))?;
        Ok(vec![("var", var.as_tensor().clone())])
    });
}

#[test]
fn what_cannot_be_compared_says_so() {
    type Nothing = Vec<(String, Tensor)>;
    let text = |outcome: Result<candling::check::ReproducibleReport>| outcome.unwrap_err().text();
    let empty = text(Reproducible::new().check(|_| Ok(Nothing::new())));
    assert!(
        empty.starts_with(
            "assertion `reproducible` proves nothing here\nthe closure returned no tensor"
        ),
        "{empty}"
    );
    let hollow = Reproducible::new()
        .check(|_| Ok(vec![("x", Tensor::zeros((0, 3), DType::F32, CPU)?)]))
        .unwrap_err();
    assert_eq!(hollow.kind(), FailureKind::Vacuous);
    let none = Reproducible::new().seeds(0).check(|_| Ok(Nothing::new())).unwrap_err();
    assert!(none.text().contains("`seeds` is 0; allowed: 1 or more"));

    let calls = Cell::new(0);
    let refused = Reproducible::new()
        .check(|_| {
            calls.set(calls.get() + 1);
            match calls.get() {
                3 => Err(candle_core::Error::Msg("no more".to_owned()).into()),
                _ => Ok(vec![("x", scalar(0.0))]),
            }
        })
        .unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotRun);
    assert!(refused.text().contains("3, with seed 1"), "{}", refused.text());

    let panicked =
        Reproducible::new().check(|_| -> Result<Nothing> { panic!("out of order") }).unwrap_err();
    assert!(panicked.text().contains("the closure panicked"), "{}", panicked.text());
}

#[test]
fn what_is_allowed_is_reported() -> Result<()> {
    let report = Reproducible::new().allow(Cause::NotReproducible).check(|_| {
        let x = Tensor::zeros(64, DType::F32, CPU)?.rand_like(0.0, 1.0)?;
        Ok(vec![("x", x)])
    })?;
    assert_eq!(report.allowed.len(), 1);
    Ok(())
}
