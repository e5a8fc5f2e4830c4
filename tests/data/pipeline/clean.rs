//! Pipelines that are as they should be.

use candle_core::Result;
use candling::{check::Pipeline, prelude::*, synthetic};
use rand::seq::SliceRandom;

use super::{Batches, CPU, N, cut, flips, images, loader, pick, said, same};

#[test]
fn whatever_a_right_pipeline_does_to_its_inputs_passes() -> candling::Result<()> {
    let (x, y) = images()?;
    let report = assert_pipeline!(|epoch| loader(&x, &y, epoch, same), N);
    assert_eq!((report.epochs, report.left_out, report.order_judged), (3, 0, true));
    assert_eq!(report.batches, [6, 6, 6, 2]);
    type Each = fn(&Tensor, usize) -> Result<Tensor>;
    let all: [(&str, Each); 9] = [
        ("range", |x, _| (x * 2.0)? - 1.0),
        ("negative", |x, _| 1.0 - x),
        ("channels", |x, _| {
            let mean = Tensor::new(&[0.4f32, 0.5, 0.6], CPU)?.reshape((1, 3, 1, 1))?;
            x.broadcast_sub(&mean)?.broadcast_div(&(mean * 0.5)?)
        }),
        ("bytes", |x, _| (x * 255.0)?.to_dtype(DType::U8)?.to_dtype(DType::F32)? / 255.0),
        ("half", |x, _| x.to_dtype(DType::F16)),
        ("double, channels last", |x, _| x.to_dtype(DType::F64)?.permute((0, 2, 3, 1))),
        ("crop", |x, i| x.narrow(2, i % 3, 4)?.narrow(3, 1, 4)),
        ("flat", |x, _| x.flatten_from(1)),
        ("padded", |x, _| x.pad_with_zeros(2, 1, 0)),
    ];
    for (name, each) in all {
        assert_pipeline!(|epoch| loader(&x, &y, epoch, each), N, "{name}");
    }
    // Augmented anew for every batch of every epoch.
    assert_pipeline!(
        |epoch| loader(&x, &y, epoch, |x, i| flips(x, &format!("{epoch}, {i}"))),
        N,
        "flips"
    );
    assert_pipeline!(
        |epoch| loader(&x, &y, epoch, |x, i| {
            x + (Seed::new(3).normal(&format!("{epoch}, {i}"), x.shape(), DType::F32, CPU)? * 0.05)?
        }),
        N,
        "noise"
    );
    Ok(())
}

#[test]
fn tables_tokens_numbers_and_one_hot_targets_pass() -> candling::Result<()> {
    let (x, y) = synthetic::markers(N, 5)?;
    // Each feature standardised with its own figures.
    let mean = x.mean_keepdim(0)?;
    let std = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
    let scale = Tensor::new(&[1f32, 3.0, 0.2, 7.0, 1.0], CPU)?;
    let table = x.broadcast_sub(&mean)?.broadcast_div(&std)?.broadcast_mul(&scale)?;
    assert_pipeline!(|epoch| loader(&table, &y, epoch, same), N);
    let tokens = (&x * N as f64)?.to_dtype(DType::U32)?;
    assert_pipeline!(|epoch| loader(&tokens, &y, epoch, same), N);
    let numbers = y.reshape((N, 1))?;
    assert_pipeline!(|epoch| loader(&numbers, &y, epoch, same), N);
    let wide = numbers.broadcast_as((N, 4))?.contiguous()?;
    assert_pipeline!(|epoch| loader(&wide, &y, epoch, same), N);
    let one_hot = Tensor::eye(N, DType::F32, CPU)?;
    assert_pipeline!(|epoch| loader(&x, &one_hot, epoch, same), N);
    assert_pipeline!(|epoch| loader(&one_hot, &y, epoch, same), N);
    let floats = y.to_dtype(DType::F32)?.unsqueeze(1)?;
    assert_pipeline!(|epoch| loader(&x, &floats, epoch, same), N);
    let one_value = synthetic::markers(N, ())?.0;
    assert_pipeline!(|epoch| loader(&one_value, &y, epoch, same), N);
    Ok(())
}

#[test]
fn closures_read_what_cannot_be_read_otherwise() -> candling::Result<()> {
    // The number is in the first pixel; the rest is what it is.
    let (_, y) = images()?;
    let first = y.to_dtype(DType::F32)?.reshape((N, 1))?;
    let rest = Seed::new(1).normal("rest", (N, 7), DType::F32, CPU)?;
    let x = Tensor::cat(&[first, rest], 1)?;
    let classes = (y.to_dtype(DType::F64)? * 10.0)?;
    let unread = said(Pipeline::new().check(|epoch| loader(&x, &y, epoch, same), N));
    assert!(unread.contains("cannot be read from its input"), "{unread}");
    assert_pipeline!(
        |epoch| loader(&x, &classes, epoch, same),
        N,
        read_input = |x| Ok(x.get(0)?.to_scalar::<f32>()? as usize),
        read_target = |y| Ok((y.to_scalar::<f64>()? / 10.0) as usize),
        "context {}",
        1
    );
    Ok(())
}

/// Right pipelines of many shapes, sizes and shuffles.
#[test]
fn right_pipelines_pass_on_every_seed() -> candling::Result<()> {
    let mut wrong = Vec::new();
    for seed in 0..40u64 {
        let n = [8, 12, 16, 20, 33, 64][seed as usize % 6];
        let size = [3, 4, 8, 16][seed as usize % 4];
        let (x, y) = synthetic::markers(n, (2, 4, 4))?;
        let key = |label: String| Seed::new(seed).split(&label);
        let pipeline = |epoch: usize| -> Batches {
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.shuffle(&mut key(format!("{epoch}")).rng("order"));
            let batches = cut(&pick(&x, &order)?, &pick(&y, &order)?, size)?;
            let each = batches.into_iter().enumerate().map(|(i, (x, y))| {
                let seed = key(format!("{epoch}, {i}"));
                let noise = seed.normal("noise", x.shape(), DType::F32, CPU)?;
                // A third of a step on a row's mean is 10 deviations.
                let x = (flips(&x, &format!("{seed:?}"))? + (noise * (0.15 / n as f64))?)?;
                Ok(((x * 3.0)?, y))
            });
            Ok(each.collect::<Result<Vec<_>>>()?)
        };
        let evaluation = |_| Ok(cut(&(&x * 3.0)?, &y, 16)?);
        if let Err(failure) = Pipeline::new().evaluation(evaluation).check(pipeline, n) {
            wrong.push(format!("{seed}: {}", failure.text()));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}
