//! The line that a strategy gives of itself makes the same tensor again, bit for bit.

use candling::{
    prelude::*,
    strategies::{self, Layout, Values},
};
use proptest::strategy::{Strategy, ValueTree};

use super::{bits, elements, runner, smallest};

/// An expression and its own text.
macro_rules! said {
    ($line:expr) => {
        (stringify!($line), $line)
    };
}

fn spaceless(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_line_run_as_rust_is_the_tensor() -> candling::Result<()> {
    // Fails with drawn values only: a number that is not whole.
    let drawn = |x: &Tensor| Ok(elements(x)?.iter().any(|v| v.fract() != 0.0));
    let held = |x: &Tensor| Ok(drawn(x)? && x.elem_count() >= 6 && !x.is_contiguous());
    let cases = [
        (
            smallest(strategies::tensor([1..6, 1..6]).with_line(), drawn)?,
            said!(strategies::tensor([1, 2]).sample(Seed::new(0))?),
        ),
        (
            smallest(
                strategies::tensor([2..6, 2..6])
                    .dtype(DType::BF16)
                    .layout(Layout::Transposed)
                    .with_line(),
                held,
            )?,
            said!(
                strategies::tensor([2, 3])
                    .dtype(DType::BF16)
                    .layout(strategies::Layout::Transposed)
                    .sample(Seed::new(0))?
            ),
        ),
        (
            smallest(strategies::tensor(()).values(Values::Uniform(1.5..2.0)).with_line(), |_| {
                Ok(true)
            })?,
            said!(
                strategies::tensor(())
                    .values(strategies::Values::Constant(1.5))
                    .sample(Seed::new(0))?
            ),
        ),
        (
            smallest(strategies::tensor(2).values(Values::Constant(f64::NAN)).with_line(), |_| {
                Ok(true)
            })?,
            said!(
                strategies::tensor([2])
                    .values(strategies::Values::Constant(f64::NAN))
                    .sample(Seed::new(0))?
            ),
        ),
        (
            smallest(strategies::tokens(30, [3, 4]).with_line(), |_| Ok(true))?,
            said!(strategies::tokens(1, [3, 4]).sample(Seed::new(0))?),
        ),
        (
            smallest(strategies::mask([2, 9]).with_line(), |x| Ok(elements(x)?.contains(&0.0)))?,
            said!(strategies::mask([2, 9]).sample(Seed::new(0))?),
        ),
        (
            smallest(strategies::padding([2, 9]).dtype(DType::F32).with_line(), |x| {
                Ok(elements(x)?.contains(&0.0))
            })?,
            said!(strategies::padding([2, 9]).dtype(DType::F32).sample(Seed::new(0))?),
        ),
        (
            smallest(strategies::one_hot(3, 6).dtype(DType::F64).with_line(), |x| {
                Ok(elements(&x.narrow(1, 2, 1)?)?.contains(&1.0))
            })?,
            said!(strategies::one_hot(3, [6]).dtype(DType::F64).sample(Seed::new(1))?),
        ),
        (
            smallest(strategies::probabilities(4, 2).with_line(), |x| Ok(elements(x)?[0] != 0.25))?,
            said!(strategies::probabilities(4, [2]).sample(Seed::new(0))?),
        ),
        (
            smallest(strategies::probabilities(4, 2).with_line(), |_| Ok(true))?,
            said!(
                strategies::tensor([2, 4]).values(strategies::Values::Even).sample(Seed::new(0))?
            ),
        ),
    ];
    for (drawn, (text, again)) in cases {
        assert_eq!(spaceless(&drawn.line), spaceless(text));
        assert_eq!(bits(&drawn)?, bits(&again)?, "{text}");
        assert_eq!(drawn.stride(), again.stride(), "{text}");
    }
    Ok(())
}

#[test]
fn a_batch_says_both_of_its_parts() -> candling::Result<()> {
    let batch = strategies::batch(strategies::tensor([2..5, 3..6]), strategies::labels(3, 2..9));
    // Something of each part must stay as drawn, so that the seeds do.
    let drawn = smallest(batch.with_line(), |(x, y)| {
        Ok(elements(x)?[0].fract() != 0.0 && elements(y)?.iter().any(|v| *v > 0.0))
    })?;
    let (text, again) = said!((
        strategies::tensor([2, 3]).sample(Seed::new(0))?,
        strategies::tokens(2, [2]).sample(Seed::new(1))?
    ));
    assert_eq!(spaceless(&drawn.line), spaceless(text));
    assert_eq!(bits(&drawn.0)?, bits(&again.0)?);
    assert_eq!(bits(&drawn.1)?, bits(&again.1)?);
    Ok(())
}

#[test]
fn the_seed_of_any_drawn_line_makes_it_again() -> candling::Result<()> {
    let strategy = strategies::tensor(strategies::Dims::of_rank(0..=4, 1..7)).layouts(Layout::ALL);
    let mut runner = runner();
    for _ in 0..100 {
        let drawn = strategy.clone().with_line().new_tree(&mut runner).unwrap().current();
        let seed = drawn.line.split("Seed::new(").nth(1).and_then(|rest| rest.split(')').next());
        let seed = Seed::new(seed.and_then(|seed| seed.parse().ok()).unwrap());
        let layout = Layout::ALL
            .into_iter()
            .find(|layout| drawn.line.contains(&format!("{layout:?}")))
            .unwrap_or(Layout::Contiguous);
        let again = strategies::tensor(drawn.dims()).layout(layout).sample(seed)?;
        assert_eq!(bits(&drawn)?, bits(&again)?, "{}", drawn.line);
        assert_eq!(drawn.stride(), again.stride(), "{}", drawn.line);
    }
    Ok(())
}

#[test]
fn a_drawn_value_prints_its_line_and_its_elements() -> candling::Result<()> {
    let drawn = smallest(strategies::tensor([2, 3]).with_line(), |x| {
        Ok(elements(x)?.iter().any(|v| *v > 0.5))
    })?;
    insta::assert_snapshot!(format!("{drawn:?}"), @"
    strategies::tensor([2, 3]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?
    [[0., 1., 0.],
     [0., 0., 0.]]
    Tensor[[2, 3], f32]
    ");
    Ok(())
}
