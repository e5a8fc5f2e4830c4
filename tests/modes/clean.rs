//! What looks like a bug and is none.

use std::cell::Cell;

use candle_core::{DType, Module, Tensor};
use candle_nn::{BatchNormConfig, Init, ModuleT, embedding, group_norm, layer_norm, linear, loss};
use candling::{Cause, Learner, Seed, check::TrainEvalModes};

use super::models::{
    Attention, CPU, Images, OwnNorm, batch_norm, builder, by_batch, candles, check, dropout,
    images, learner, mask, masked, mlp, normed, rows, two,
};

#[test]
fn candles_dropout_passes_in_every_dtype() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (learner, _) = mlp(dtype, |x, train| dropout(x, 0.3, train));
        let report = check(TrainEvalModes::new().dropout(0.3), &learner, &rows(16, dtype)).unwrap();
        let [place] = &report.dropout[..] else { panic!("{dtype:?}: {report}") };
        assert!(report.train_is_random && report.unreached.is_empty());
        assert_eq!(place.place, "after l1");
        assert!((place.scale * 0.7 - 1.0).abs() < 0.02, "{dtype:?}: {report}");
        // Zeros before the mask are not counted.
        assert!(place.draws > 2_000 && place.draws < 16 * 16 * 32, "{report}");
    }
}

#[test]
fn a_report_prints_as_a_table() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let norm = batch_norm(32, &vb);
    let seed = Seed::new(1);
    let calls = Cell::new(0);
    let learner = learner(&vars, move |x, train| {
        let x = norm.forward_t(&l1.forward(x)?, train)?;
        if !train {
            return l2.forward(&x);
        }
        let draw = seed.uniform(
            &format!("{}", calls.replace(calls.get() + 1)),
            0.0..1.0,
            x.shape(),
            DType::F32,
            CPU,
        )?;
        l2.forward(&(x * (draw.ge(0.25)?.to_dtype(DType::F32)? / 0.75)?)?)
    });
    let report =
        check(TrainEvalModes::new().dropout(0.25), &learner, &rows(16, DType::F32)).unwrap();
    insta::assert_snapshot!(report.to_string(), @"
    16 training passes, which differ
    after norm  drops 0.245 of 8192 values, keeps the others times 1.33
    norm  running statistics move, momentum 0.1, evaluation uses them
    ");
}

#[test]
fn a_rate_of_zero_and_no_dropout_at_all_pass() {
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.0, train));
    let x = rows(16, DType::F32);
    for options in [TrainEvalModes::new(), TrainEvalModes::new().dropout(0.0)] {
        let report = check(options, &learner, &x).unwrap();
        assert!(!report.train_is_random && report.dropout.is_empty());
    }
}

#[test]
fn what_is_not_declared_is_reported() {
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.4, train));
    let report = check(TrainEvalModes::new(), &learner, &rows(16, DType::F32)).unwrap();
    assert!((report.dropout[0].rate - 0.4).abs() < 0.1, "{report}");
}

#[test]
fn dropout_of_channels_of_blocks_and_of_weights_passes() {
    let (vars, vb) = builder(1, DType::F32);
    let model = Images::new(&vb);
    let spatial = learner(&vars, |x, train| {
        model.forward(x, |x| match train {
            true => x.broadcast_mul(&(mask(&[x.dim(0)?, 8, 1, 1], 0.2, DType::F32)? / 0.8)?),
            false => Ok(x.clone()),
        })
    });
    let report = check(TrainEvalModes::new().dropout(0.2), &spatial, &images(16)).unwrap();
    assert_eq!(report.dropout[0].shared, [2, 3]);
    assert_eq!(report.dropout[0].draws, 16 * 16 * 8);

    // Stochastic depth, a draw a row, and one for the whole batch.
    for rows_of_mask in [16, 1] {
        let (vars, vb) = builder(2, DType::F32);
        let (l1, l2) = two(&vb);
        let inner = linear(32, 32, vb.pp("inner")).unwrap();
        let depth = learner(&vars, move |x, train| {
            let x = l1.forward(x)?;
            let branch = inner.forward(&x)?.gelu()?;
            let branch = match train {
                true => {
                    branch.broadcast_mul(&(mask(&[rows_of_mask, 1], 0.5, DType::F32)? / 0.5)?)?
                }
                false => branch,
            };
            l2.forward(&(x + branch)?)
        });
        check(TrainEvalModes::new().dropout(0.5), &depth, &rows(16, DType::F32)).unwrap();
    }

    let (vars, vb) = builder(3, DType::F32);
    let (l1, l2) = two(&vb);
    let connect = learner(&vars, move |x, train| {
        let weight = dropout(l1.weight(), 0.3, train)?;
        l2.forward(&x.matmul(&weight.t()?)?.relu()?)
    });
    // As many rows as the weight has.
    check(TrainEvalModes::new().dropout(0.3), &connect, &rows(32, DType::F32)).unwrap();
}

#[test]
fn attention_and_words_and_the_input_are_seen() {
    let (vars, vb) = builder(1, DType::F32);
    let words = embedding(20, 8, vb.pp("words")).unwrap();
    let attention = Attention::new(8, &vb.pp("attention"));
    let head = linear(8, 3, vb.pp("head")).unwrap();
    let learner = Learner::with_modes(
        &vars,
        |ids: &Tensor, train| {
            let x = dropout(&words.forward(ids)?, 0.1, train)?;
            let x = (&x + attention.forward(&x, |weights| dropout(weights, 0.3, train))?)?;
            head.forward(&x.mean(1)?)
        },
        loss::cross_entropy,
    );
    let ids = Seed::new(1).tokens("ids", 20, (16, 7), CPU).unwrap();
    let report = TrainEvalModes::new().dropout([0.1, 0.3]).check(&learner, &ids).unwrap();
    assert_eq!(report.dropout.len(), 2, "{report}");

    let (vars, vb) = builder(2, DType::F32);
    let (l1, l2) = two(&vb);
    let input = super::models::learner(&vars, |x, train| {
        l2.forward(&l1.forward(&dropout(x, 0.2, train)?)?.relu()?)
    });
    let report = check(TrainEvalModes::new().dropout(0.2), &input, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.dropout[0].draws, 16 * 16 * 6, "{report}");
}

#[test]
fn other_ways_to_write_it_pass() {
    let x = rows(16, DType::F32);
    let options = || TrainEvalModes::new().dropout(0.25);
    // The scale in an operation of its own, before or after the mask.
    let (learner, _) = mlp(DType::F32, |x, train| match train {
        true => (x * mask(x.dims(), 0.25, DType::F32)?)? / 0.75,
        false => Ok(x.clone()),
    });
    check(options(), &learner, &x).unwrap();
    let (learner, _) = mlp(DType::F32, |x, train| match train {
        true => (x / 0.75)? * mask(x.dims(), 0.25, DType::F32)?,
        false => Ok(x.clone()),
    });
    check(options(), &learner, &x).unwrap();
    // By choice instead of by product.
    let (learner, _) = mlp(DType::F32, |x, train| match train {
        true => {
            let kept = mask(x.dims(), 0.25, DType::U8)?;
            kept.where_cond(&(x / 0.75)?, &x.zeros_like()?)
        }
        false => Ok(x.clone()),
    });
    check(options(), &learner, &x).unwrap();
    // The scale in evaluation, as the first paper had it.
    let (learner, _) = mlp(DType::F32, |x, train| match train {
        true => masked(x, 0.25, 1.0),
        false => x * 0.75,
    });
    check(options(), &learner, &x).unwrap();
    // A constant that belongs to the model.
    let (learner, _) = mlp(DType::F32, |x, train| dropout(&(x * 5.0)?, 0.25, train)? * 0.5);
    check(options(), &learner, &x).unwrap();
}

#[test]
fn an_activation_after_dropout_is_no_dropout() {
    let (learner, _) = mlp(DType::F32, |x, train| (dropout(x, 0.5, train)? - 0.3)?.relu());
    let report =
        check(TrainEvalModes::new().dropout(0.5), &learner, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.dropout.len(), 1, "{report}");
}

#[test]
fn a_head_that_starts_at_zero_hides_nothing() {
    let (vars, vb) = builder(1, DType::F32);
    let l1 = linear(6, 32, vb.pp("l1")).unwrap();
    let head = vb.get_with_hints((4, 32), "head.weight", Init::Const(0.0)).unwrap();
    let visible =
        learner(&vars, |x, train| dropout(&l1.forward(x)?.relu()?, 0.2, train)?.matmul(&head.t()?));
    let x = rows(16, DType::F32);
    check(TrainEvalModes::new().dropout(0.2), &visible, &x).unwrap();
    // Behind a norm that ends the graph.
    let norm = layer_norm(32, 1e-5, vb.pp("norm")).unwrap();
    let cut = learner(&vars, |x, train| {
        let x = norm.forward(&dropout(&l1.forward(x)?, 0.2, train)?)?;
        x.matmul(&head.t()?)
    });
    let report = check(TrainEvalModes::new().dropout(0.2), &cut, &x).unwrap();
    assert!(report.train_is_random && report.dropout.is_empty());
    assert!(report.unreached.contains(&"l1.weight".to_owned()), "{report}");
}

#[test]
fn a_choice_of_experts_is_no_dropout() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let experts = [linear(32, 32, vb.pp("e0")).unwrap(), linear(32, 32, vb.pp("e1")).unwrap()];
    let learner = learner(&vars, |x, train| {
        let x = dropout(&l1.forward(x)?, 0.1, train)?;
        let first = mask(&[x.dim(0)?, 1], if train { 0.5 } else { 0.0 }, DType::F32)?;
        let second = (1.0 - &first)?;
        let [a, b] = &experts;
        let x = (a.forward(&x)?.broadcast_mul(&first)? + b.forward(&x)?.broadcast_mul(&second)?)?;
        l2.forward(&x)
    });
    check(TrainEvalModes::new().dropout(0.1), &learner, &rows(16, DType::F32)).unwrap();
}

#[test]
fn monte_carlo_dropout_is_allowed() {
    let (learner, _) = mlp(DType::F32, |x, _| dropout(x, 0.3, true));
    let options = TrainEvalModes::new().dropout(0.3).allow(Cause::DropoutInEval);
    let report = check(options, &learner, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.allowed[0].cause(), Cause::DropoutInEval);
}

#[test]
fn candles_batch_norm_passes() {
    let x = rows(16, DType::F32);
    for momentum in [0.1, 0.01, 0.9] {
        let (vars, vb) = builder(1, DType::F32);
        let config = BatchNormConfig { momentum, ..BatchNormConfig::default() };
        let norm = candle_nn::batch_norm(32, config, vb.pp("norm")).unwrap();
        let report = check(TrainEvalModes::new(), &normed(&vars, &vb, candles(norm)), &x).unwrap();
        assert!(!report.train_is_random);
        let [norm] = &report.norms[..] else { panic!("{report}") };
        assert_eq!((norm.layer.as_str(), norm.momentum), ("norm", Some(momentum)));
        assert_eq!((norm.moves, norm.used_in_eval), (true, Some(true)));
        assert!(report.settled_gap.unwrap() < 1e-3, "{report}");
    }
    for dtype in [DType::F64, DType::F32] {
        let (vars, vb) = builder(1, dtype);
        let norm = batch_norm(32, &vb);
        check(TrainEvalModes::new(), &normed(&vars, &vb, candles(norm)), &rows(16, dtype)).unwrap();
    }
    // Without a mean, and of images.
    let (vars, vb) = builder(1, DType::F32);
    let config = BatchNormConfig { remove_mean: false, ..BatchNormConfig::default() };
    let norm = candle_nn::batch_norm(32, config, vb.pp("norm")).unwrap();
    check(TrainEvalModes::new(), &normed(&vars, &vb, candles(norm)), &x).unwrap();
    let (vars, vb) = builder(1, DType::F32);
    let (model, norm) = (Images::new(&vb), batch_norm(8, &vb));
    let learner = learner(&vars, |x, train| model.forward(x, |x| norm.forward_t(x, train)));
    check(TrainEvalModes::new(), &learner, &images(4)).unwrap();
}

#[test]
fn a_norm_behind_a_scale_of_zero_is_used() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let inner = linear(32, 32, vb.pp("inner")).unwrap();
    let norm = batch_norm(32, &vb);
    let gain = vb.get_with_hints(32, "gain", Init::Const(0.0)).unwrap();
    let learner = learner(&vars, |x, train| {
        let x = l1.forward(x)?;
        let branch = norm.forward_t(&inner.forward(&x)?, train)?.broadcast_mul(&gain)?;
        l2.forward(&(x + branch)?)
    });
    let report = check(TrainEvalModes::new(), &learner, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.norms[0].used_in_eval, Some(true));
}

#[test]
fn norms_without_statistics_and_with_a_cumulative_average_pass() {
    let x = rows(16, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let (model, norm) = (Images::new(&vb), group_norm(4, 8, 1e-5, vb.pp("norm")).unwrap());
    let grouped = learner(&vars, |x, _| model.forward(x, |x| norm.forward(x)));
    check(TrainEvalModes::new(), &grouped, &images(4)).unwrap();
    // One that always takes the batch's own is no norm of this check.
    let (vars, vb) = builder(1, DType::F32);
    check(TrainEvalModes::new(), &normed(&vars, &vb, |x, _| by_batch(x)), &x).unwrap();

    let (vars, vb) = builder(1, DType::F32);
    let norm = OwnNorm::new(32, 1.0, &vars, &vb.pp("norm"));
    vb.get_with_hints(1, "norm.num_batches_tracked", Init::Const(0.0)).unwrap();
    let passes = vars.data().lock().unwrap()["norm.num_batches_tracked"].clone();
    let average = move |x: &Tensor, train: bool| {
        if !train {
            return norm.by_running(x);
        }
        passes.set(&(passes.as_detached_tensor() + 1.0)?)?;
        let n = f64::from(passes.to_vec1::<f32>()?[0]);
        OwnNorm { momentum: 1.0 / n, mean: norm.mean.clone(), var: norm.var.clone() }.update(x)?;
        by_batch(x)
    };
    check(TrainEvalModes::new(), &normed(&vars, &vb, average), &x).unwrap();
}

#[test]
fn frozen_layers_keep_their_statistics() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = batch_norm(32, &vb);
    let learner = normed(&vars, &vb, move |x, _| norm.forward_t(x, false)).frozen(["norm."]);
    check(TrainEvalModes::new(), &learner, &rows(16, DType::F32)).unwrap();
}

#[test]
fn several_inputs_and_other_layouts_pass() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let both = Learner::with_modes(
        &vars,
        |[x, gate]: &[Tensor; 2], train| {
            l2.forward(&dropout(&(l1.forward(x)?.broadcast_mul(gate)?).relu()?, 0.2, train)?)
        },
        loss::mse,
    );
    let x = [rows(16, DType::F32), Tensor::ones((16, 1), DType::F32, CPU).unwrap()];
    TrainEvalModes::new().dropout(0.2).check(&both, &x).unwrap();

    let wide = Seed::new(1).normal("x", (6, 16), DType::F32, CPU).unwrap().t().unwrap();
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.2, train));
    check(TrainEvalModes::new().dropout(0.2), &learner, &wide).unwrap();
    // One row.
    check(TrainEvalModes::new().dropout(0.2), &learner, &rows(1, DType::F32)).unwrap();
}

#[test]
fn a_network_of_transposed_batches_is_not_taken_for_a_shared_mask() {
    // Time first, and as long as the batch is; one mask for all times is what a recurrent network wants.
    let (learner, _) = {
        let (vars, vb) = builder(1, DType::F32);
        let (l1, l2) = two(&vb);
        let learner = super::models::learner(&vars, move |x, train| {
            let x = l1.forward(&x.transpose(0, 1)?.contiguous()?)?;
            let x = match train {
                true => x.broadcast_mul(&(mask(&[1, x.dim(1)?, 32], 0.3, DType::F32)? / 0.7)?)?,
                false => x,
            };
            l2.forward(&x)?.transpose(0, 1)?.contiguous()
        });
        (learner, vars)
    };
    let x = Seed::new(1).normal("x", (8, 8, 6), DType::F32, CPU).unwrap();
    check(TrainEvalModes::new().dropout(0.3), &learner, &x).unwrap();
}

#[test]
fn an_own_mask_over_an_output_layer_passes() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let learner = learner(&vars, |x, train| {
        let x = l2.forward(&l1.forward(x)?.relu()?)?;
        if train { masked(&x, 0.1, 1.0 / 0.9) } else { Ok(x) }
    });
    check(TrainEvalModes::new().dropout(0.1f32), &learner, &rows(16, DType::F32)).unwrap();
}

#[test]
fn channels_of_the_input_that_are_left_out_for_a_batch_pass() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let learner = learner(&vars, |x, train| {
        let x = match train {
            true => x.broadcast_mul(&mask(&[1, 6], 0.3, DType::F32)?)?,
            false => x.clone(),
        };
        l2.forward(&l1.forward(&x)?.relu()?)
    });
    let report = check(TrainEvalModes::new(), &learner, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.dropout[0].scale, 1.0);
}

#[test]
fn blocks_that_are_left_out_at_random_keep_their_norms() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let inner = linear(32, 32, vb.pp("inner")).unwrap();
    let norm = batch_norm(32, &vb);
    let seed = Seed::new(5);
    let calls = Cell::new(0);
    let learner = learner(&vars, move |x, train| {
        let x = l1.forward(x)?;
        let call = calls.replace(calls.get() + 1);
        let draw = seed.uniform(&format!("{call}"), 0.0..1.0, 1, DType::F64, CPU)?;
        if train && draw.to_vec1::<f64>()?[0] < 0.7 {
            return l2.forward(&x);
        }
        l2.forward(&(&x + norm.forward_t(&inner.forward(&x)?, train)?)?)
    });
    let report = check(TrainEvalModes::new(), &learner, &rows(16, DType::F32)).unwrap();
    assert!(report.train_is_random && report.norms[0].momentum == Some(0.1), "{report}");
}
