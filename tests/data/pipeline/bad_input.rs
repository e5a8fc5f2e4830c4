//! What cannot be judged, and batches that are none.

use candling::{FailureKind, check::Pipeline, prelude::*};

use super::super::failure;
use super::{Batches, CPU, N, images, loader, same};

#[test]
fn what_cannot_be_judged_is_said() -> candling::Result<()> {
    let (x, y) = images()?;
    let right = |epoch| loader(&x, &y, epoch, same);
    let fails = |_| -> Batches { Ok(vec![(x.narrow(0, 90, 1)?, y.clone())]) };
    let panics = |_| -> Batches { panic!("no such file") };
    let scalar = |_| -> Batches { Ok(vec![(Tensor::new(1f32, CPU)?, y.clone())]) };
    let labels = |epoch| loader(&x, &(&y + 1.0)?, epoch, same);
    let itself = |epoch| loader(&x, &y, epoch, |x, _| x.broadcast_sub(&x.mean_keepdim((1, 2, 3))?));
    let texts = [
        Pipeline::new().check(right, 7),
        Pipeline::new().epochs(1).check(right, N),
        Pipeline::new().check(fails, N),
        Pipeline::new().check(panics, N),
        Pipeline::new().check(scalar, N),
        Pipeline::new().check(labels, N),
        Pipeline::new().check(itself, N),
        Pipeline::new().read_input(|_| Ok(99)).check(right, N),
        Pipeline::new().read_target(|y| y.dim(3)).check(right, N),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, result)| {
        let failure = result.map(|r| panic!("{i} {r:?}")).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        crate::support::text(&failure)
    })
    .collect::<Vec<_>>();
    insta::assert_snapshot!(texts.join("\n\n"), @"
    assertion `pipeline` did not run
    `samples` is 7; allowed: 8 or more, and 16 or more for the order

    assertion `pipeline` did not run
    `epochs` is 1; allowed: 2 or more

    assertion `pipeline` did not run
    the pipeline returned an error in epoch 0

      error  narrow invalid args start > dim_len: [20, 3, 6, 6], dim: 0, start: 90, len:1

    assertion `pipeline` did not run
    the pipeline panicked

      panic  no such file

    assertion `pipeline` did not run
    the pipeline delivers an input of rank 0 (epoch 0, batch 0); allowed: the batch as the first dimension

    assertion `pipeline` did not run
    the number of a sample cannot be read from its target

      target   20 (epoch 0, batch 0, row 3)
      allowed  a whole number in 0..20, or a one-hot row

      help       feed the pipeline with `synthetic::markers`, whose targets are 0, 1, 2, ..; where it changes
                 them, say how to read them back: `read_target = |y| ..`

    assertion `pipeline` did not run
    the number of a sample cannot be read from its input

      input       0.00263, 0.0074, -0.00926, -0.0126, .. (epoch 0, batch 0, row 0)
      looked for  the numbers of `synthetic::markers`, scaled by one affine function
      of          the pipeline

      help       feed the pipeline with `synthetic::markers`, and with few of them (16 to 32) where noise is
                 added; where it scales each sample or each batch by itself, say how to read the number back:
                 `read_input = |x| ..`

    assertion `pipeline` did not run
    `read_input` read the number 99; allowed: 0..20

    assertion `pipeline` did not run
    `read_target` returned an error

      error  dim: dimension index 3 out of range for shape []
    ");
    Ok(())
}

#[test]
fn empty_uneven_and_missing_batches_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let none = |_| -> Batches { Ok(Vec::new()) };
    let empty = |_| -> Batches {
        Ok(vec![(x.clone(), y.clone()), (x.narrow(0, 0, 0)?, y.narrow(0, 0, 0)?)])
    };
    let uneven = |_| -> Batches { Ok(vec![(x.clone(), y.narrow(0, 0, 9)?)]) };
    let nan = |_| -> Batches { Ok(vec![((&x * f64::NAN)?, y.clone())]) };
    let all: [&dyn Fn(usize) -> Batches; 4] = [&none, &empty, &uneven, &nan];
    let causes = all.map(|pipeline| failure(Pipeline::new().check(pipeline, N)).cause());
    assert_eq!(
        causes,
        [
            Some(Cause::SamplesMissing),
            Some(Cause::SamplesMissing),
            Some(Cause::PairsBroken),
            Some(Cause::NotFinite)
        ]
    );
    Ok(())
}
