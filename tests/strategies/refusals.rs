//! What cannot be drawn says so, by argument.

use std::ops::Range;

use candling::{
    FailureKind,
    prelude::*,
    strategies::{self, Dims, Layout, Tensors, Values},
};
use proptest::test_runner::{TestError, TestRunner};

const NONE: [DType; 0] = [];

#[test]
fn every_bad_argument_names_itself() {
    let tensor = || strategies::tensor([2, 3]);
    let backwards = Range { start: 2.0, end: 1.0 };
    let bad: [Tensors; 17] = [
        strategies::tensor([1..4, 4..4]),
        strategies::tensor([1..3, 1..3, 1..3]),
        strategies::tensor([1usize << 20, 1 << 20]),
        strategies::tensor(Dims::of_rank(3..=9, 1..20)),
        strategies::tensor(Dims::of_rank(3..=2, 1..20)),
        strategies::tokens(0, [2, 3]),
        strategies::tokens(300, [2, 3]).dtype(DType::U8),
        strategies::labels(0, 3),
        strategies::one_hot(0, 3),
        strategies::tensor([2, 3]).values(Values::OneHot(4)),
        strategies::mask(()),
        tensor().values(Values::Uniform(backwards)),
        tensor().values(Values::Whole(3..3)),
        tensor().dtypes(NONE),
        tensor().dtypes([DType::F32, DType::U8]),
        tensor().layouts([]),
        strategies::tensor(5).layout(Layout::Transposed),
    ];
    let texts: Vec<String> = bad
        .iter()
        .map(|strategy| {
            let failure = strategy.sample(Seed::new(1)).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::NotRun);
            failure.text()
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"), @"");
}

#[test]
fn members_without_common_rows_are_refused() {
    let refuse =
        |x: Tensors, y: Tensors| strategies::batch(x, y).sample(Seed::new(1)).unwrap_err().text();
    let texts = [
        refuse(strategies::tensor((2..5, 4)), strategies::labels(3, 7..9)),
        refuse(strategies::tensor(()), strategies::labels(3, 7..9)),
        refuse(strategies::tensor((2, 2..4)), strategies::tensor((2..4, 2..3))),
    ];
    insta::assert_snapshot!(texts.join("\n"), @"");
}

#[test]
fn proptest_aborts_with_the_same_sentence() {
    let outcome = TestRunner::deterministic().run(&strategies::tokens(0, [2, 3]), |_| Ok(()));
    let Err(TestError::Abort(reason)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.message(), "`vocab` is 0; allowed: 1 to 4294967296");
}
