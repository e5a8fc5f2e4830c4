//! What cannot be drawn says so, by argument.

use std::ops::{Range, RangeInclusive};

use candling::{
    FailureKind,
    prelude::*,
    strategies::{self, Dims, Layout, Tensors, Values},
};
use proptest::test_runner::TestError;

use super::runner;

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
        strategies::tensor(Dims::of_rank(RangeInclusive::new(3, 2), 1..20)),
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
    insta::assert_snapshot!(texts.join("\n"), @"
    `dims` is 4..4 in dimension 1, an empty range; allowed: a range with at least one size
    `dims` is [1..3, 1..3, 1..3], which holds too few sizes for distinct dimensions; allowed: a size of its own for each dimension, or equal ones with `.distinct(false)`
    `dims` is [1048576, 1048576], which may become a tensor that is too large; allowed: up to 268435456 elements
    `ranks` is 3..=9; allowed: a range with at least one rank, none above 8
    `ranks` is 3..=2; allowed: a range with at least one rank, none above 8
    the number of ids or classes is 0; allowed: 1 to 4294967296
    `vocab` is 300 in u8; allowed: 1 to 256, or a wider dtype
    the number of ids or classes is 0; allowed: 1 to 4294967296
    `classes` is 0; allowed: 1 to 4294967296
    `dims` is [2, 3], which cannot hold OneHot(4); allowed: a last dimension of 4 or more
    `dims` is [], which cannot hold Mask; allowed: one dimension or more
    `range` is 2..1; allowed: finite bounds, the first below the second
    `range` is 3..3; allowed: 1 to 4294967296 whole numbers, none beyond 2^53
    `dtypes` is empty; allowed: at least one dtype
    `dtypes` is u8 for Normal; allowed: f64, f32, f16, bf16
    `layouts` is empty; allowed: at least one layout
    `layouts` is [Transposed] for tensors of rank 1; allowed: `Transposed` from rank 2 on, `Narrowed` and `Broadcast` from rank 1, `Contiguous` for every rank
    ");
}

#[test]
fn members_without_common_rows_are_refused() {
    let refuse =
        |x: Tensors, y: Tensors| strategies::batch(x, y).sample(Seed::new(1)).unwrap_err().text();
    let texts = [
        refuse(strategies::tensor((2..5, 4)), strategies::labels(3, 7..9)),
        refuse(strategies::tensor(()), strategies::labels(3, 7..9)),
        refuse(strategies::tensor((2..4, 2)), strategies::tensor((2..4, 3))),
    ];
    insta::assert_snapshot!(texts.join("\n"), @"
    `rows` is 2..5 and 7..9, which have none in common; allowed: ranges that share a number of rows
    `dims` is [], which allows a scalar; allowed: the rows as the first dimension
    `dims` is [2..4, 2] beside [2..4, 3]: no shapes with distinct dimensions were found; allowed: wider ranges, or equal dimensions with `.distinct(false)`
    ");
}

#[test]
fn proptest_aborts_with_the_same_sentence() {
    let outcome = runner().run(&strategies::tokens(0, [2, 3]), |_| Ok(()));
    let Err(TestError::Abort(reason)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.message(), "the number of ids or classes is 0; allowed: 1 to 4294967296");
}
