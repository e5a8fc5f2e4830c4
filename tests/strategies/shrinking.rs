//! A failing case shrinks to the smallest shape and the simplest values that still fail.

use std::cell::Cell;

use candling::{
    prelude::*,
    strategies::{self, Dims, Layout, Values},
};
use proptest::{
    prelude::any,
    strategy::{CheckStrategySanityOptions, Strategy, ValueTree, check_strategy_sanity},
    test_runner::{TestCaseError, TestError},
};

use super::{elements, runner, smallest};

#[test]
fn shapes_shrink_to_the_smallest_that_fails() -> candling::Result<()> {
    let any = || strategies::tensor([1..9, 1..9, 1..9]).with_line();
    assert_shape!(smallest(any(), |x| Ok(x.dim(1)? >= 3))?.value, [1, 3, 2]);
    assert_shape!(smallest(any(), |x| Ok(x.dim(2)? >= 5 && x.dim(0)? >= 3))?.value, [3, 1, 5]);
    assert_shape!(smallest(any(), |x| Ok(x.elem_count() > 0))?.value, [1, 2, 3]);
    let even = smallest(any(), |x| Ok(x.dim(0)? % 2 == 0 && x.dim(0)? > 3))?;
    assert_eq!(even.dim(0)?, 4, "{even:?}");
    // Distinct even where a smaller one is taken: the first dimension makes room.
    assert_shape!(smallest(any(), |x| Ok(x.dim(0)? >= 2))?.value, [2, 1, 3]);
    Ok(())
}

#[test]
fn ranks_and_large_sizes_shrink() -> candling::Result<()> {
    let ranks = || strategies::tensor(Dims::of_rank(0..=4, 1..6)).with_line();
    assert_shape!(smallest(ranks(), |x| Ok(x.rank() >= 2))?.value, [1, 2]);
    assert_shape!(smallest(ranks(), |_| Ok(true))?.value, []);
    let long = strategies::tensor(1..100_000).with_line();
    assert_shape!(smallest(long, |x| Ok(x.dim(0)? >= 7_777))?.value, [7_777]);
    let rows = strategies::one_hot(3, Dims::of_rank(0..=2, 4..9)).with_line();
    assert_shape!(smallest(rows, |x| Ok(x.rank() > 1))?.value, [4, 3]);
    Ok(())
}

#[test]
fn values_shrink_to_the_simplest_that_fail() -> candling::Result<()> {
    let line = |fails: &dyn Fn(f64) -> bool| -> candling::Result<String> {
        let strategy = strategies::tensor([2..7, 2..7]).with_line();
        Ok(smallest(strategy, |x| Ok(elements(x)?.iter().any(|v| fails(*v))))?.line)
    };
    let lines =
        [line(&|_| true)?, line(&|v| v > 0.5)?, line(&|v| v < -1.5)?, line(&|v| v.fract() != 0.0)?];
    insta::assert_snapshot!(lines.join("\n"), @"
    strategies::tensor([2, 3]).values(strategies::Values::Constant(0.0)).sample(Seed::new(0))?
    strategies::tensor([2, 3]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?
    strategies::tensor([3, 2]).values(strategies::Values::Whole(-2..3)).sample(Seed::new(0))?
    strategies::tensor([2, 3]).sample(Seed::new(0))?
    ");
    let sums = smallest(strategies::tensor([2..7, 2..7]).with_line(), |x| {
        Ok(elements(x)?.iter().sum::<f64>() >= 2.0)
    })?;
    insta::assert_snapshot!(sums.line, @"strategies::tensor([2, 3]).values(strategies::Values::Constant(1.0)).sample(Seed::new(0))?");
    Ok(())
}

#[test]
fn shrunk_values_stay_in_what_was_asked_for() -> candling::Result<()> {
    for range in [0.5..0.75, -3.0..-1.0, 0.0..1.0, -1.0..4.0, 5.5..9.0] {
        let strategy = strategies::tensor([2..5, 2..5]).values(Values::Uniform(range.clone()));
        let mut runner = runner();
        for _ in 0..20 {
            let mut tree = strategy.new_tree(&mut runner).unwrap();
            // Passing where the sum of the bits is odd: a path with both answers.
            loop {
                let values = elements(&tree.current())?;
                assert!(values.iter().all(|v| range.contains(v)), "{range:?}: {values:?}");
                let passes = values.len() % 2 == 1 || values[0] == values[1];
                if !(if passes { tree.complicate() } else { tree.simplify() }) {
                    break;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_layout_is_contiguous_unless_it_is_what_fails() -> candling::Result<()> {
    let any = || strategies::tensor([2..7, 2..7]).layouts(Layout::ALL).with_line();
    let transposed = smallest(any(), |x| Ok(!x.is_contiguous() && x.t()?.is_contiguous()))?;
    let narrowed = smallest(any(), |x| Ok(x.layout().start_offset() == 1))?;
    let broadcast = smallest(any(), |x| Ok(x.stride()[0] == 0))?;
    let tall = smallest(any(), |x| Ok(x.dim(0)? > 4))?;
    let lines = [&transposed, &narrowed, &broadcast, &tall].map(|drawn| drawn.line.as_str());
    insta::assert_snapshot!(lines.join("\n"), @"
    strategies::tensor([2, 3]).values(strategies::Values::Constant(0.0)).layout(strategies::Layout::Transposed).sample(Seed::new(0))?
    strategies::tensor([3, 2]).values(strategies::Values::Constant(0.0)).layout(strategies::Layout::Narrowed).sample(Seed::new(0))?
    strategies::tensor([3, 2]).values(strategies::Values::Constant(0.0)).layout(strategies::Layout::Broadcast).sample(Seed::new(0))?
    strategies::tensor([5, 2]).values(strategies::Values::Constant(0.0)).sample(Seed::new(0))?
    ");
    // Where only one layout may be drawn, none of another is tried.
    let only = strategies::tensor([2..7, 2..7]).layout(Layout::Narrowed).with_line();
    assert_eq!(smallest(only, |_| Ok(true))?.layout().start_offset(), 1);
    Ok(())
}

#[test]
fn the_dtype_is_the_first_unless_it_is_what_fails() -> candling::Result<()> {
    let any =
        || strategies::tensor([1, 2]).dtypes([DType::F32, DType::F16, DType::BF16]).with_line();
    assert_eq!(smallest(any(), |_| Ok(true))?.dtype(), DType::F32);
    assert_eq!(smallest(any(), |x| Ok(x.dtype() == DType::BF16))?.dtype(), DType::BF16);
    Ok(())
}

#[test]
fn tokens_shrink_to_a_small_vocabulary() -> candling::Result<()> {
    let ids = strategies::tokens(50_000, (1..5, 1..9)).with_line();
    let drawn = smallest(ids, |x| Ok(elements(x)?.iter().any(|id| *id >= 3.0)))?;
    insta::assert_snapshot!(drawn.line, @"strategies::tokens(5, [1, 2]).sample(Seed::new(43478))?");
    Ok(())
}

#[test]
fn members_shrink_together_and_keep_their_rows() -> candling::Result<()> {
    let batch = strategies::batch(
        strategies::inputs([strategies::tokens(9, (2..9, 1..9)), strategies::mask((2..9, 1..9))]),
        strategies::labels(3, 2..9),
    );
    let drawn = smallest(batch.with_line(), |([ids, mask], y)| {
        Ok(mask.dim(1)? >= 3 && y.dim(0)? >= 4 && ids.dim(0)? == y.dim(0)?)
    })?;
    insta::assert_snapshot!(drawn.line, @"([strategies::tokens(1, [4, 1]).sample(Seed::new(0))?, strategies::tensor([4, 3]).values(strategies::Values::Constant(1.0)).dtype(DType::U8).sample(Seed::new(1))?], strategies::tokens(1, [4]).sample(Seed::new(2))?)");
    Ok(())
}

#[test]
fn a_strategy_shrinks_beside_others() {
    let both = (strategies::tensor([1..9, 1..9]), 0usize..100, strategies::mask((1..5, 1..9)));
    let outcome =
        runner().run(&both, |(x, n, mask)| match x.dim(0)? >= 2 && n >= 7 && mask.dim(1)? >= 4 {
            true => Err(TestCaseError::fail("all three")),
            false => Ok(()),
        });
    let Err(TestError::Fail(_, (x, n, mask))) = outcome else { panic!("{outcome:?}") };
    assert_eq!((x.dims(), n, mask.dims()), (&[2, 1][..], 7, &[1, 4][..]));
}

#[test]
fn shrinking_takes_few_trials_and_is_the_same_each_time() -> candling::Result<()> {
    let trials = Cell::new(0);
    let run = || {
        let strategy = strategies::tensor([1..40, 1..40, 1..40]).layouts(Layout::ALL).with_line();
        smallest(strategy, |x| {
            trials.set(trials.get() + 1);
            Ok(x.dim(1)? >= 13 && elements(x)?.iter().any(|v| *v > 0.5))
        })
    };
    let first = run()?.line;
    assert!(trials.get() < 60, "{} trials", trials.get());
    assert_eq!(run()?.line, first);
    insta::assert_snapshot!(first, @"strategies::tensor([1, 13, 2]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?");
    Ok(())
}

/// proptest's own test of what a strategy owes to a runner.
#[test]
fn simplify_and_complicate_keep_their_contract() {
    let strategy = strategies::batch(
        strategies::tensor((1..6, 1..4)).layouts(Layout::ALL).dtypes([DType::F32, DType::F16]),
        strategies::labels(4, 1..6),
    );
    let lines = strategy.with_line().prop_map(|drawn| drawn.line);
    check_strategy_sanity(lines, Some(CheckStrategySanityOptions::default()));
}

/// Whatever a property answers, also at random, the way down ends.
#[test]
fn shrinking_ends_whatever_is_answered() {
    let mut runner = runner();
    let strategy = strategies::tensor(Dims::of_rank(1..=4, 1..9)).layouts(Layout::ALL);
    for _ in 0..50 {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let answer = any::<bool>();
        let steps = (0..10_000).take_while(|_| {
            let fails = answer.new_tree(&mut runner).unwrap().current();
            if fails { tree.simplify() } else { tree.complicate() }
        });
        assert!(steps.count() < 1_000);
    }
}
