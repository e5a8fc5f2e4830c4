//! What is drawn is what was asked for.

use std::collections::BTreeSet;

use candling::{
    prelude::*,
    strategies::{self, Dims, Tensors, Values},
};

use super::{CPU, bits, elements};

fn draws(strategy: &Tensors, count: u64) -> impl Iterator<Item = candling::Result<Tensor>> {
    (0..count).map(|seed| strategy.sample(Seed::new(seed)))
}

#[test]
fn dimensions_are_in_range_and_pairwise_distinct() -> candling::Result<()> {
    let mut shapes = BTreeSet::new();
    for x in draws(&strategies::tensor((1..6, 2..=4, 3, 1..6)), 300) {
        let dims = x?.dims().to_vec();
        assert!((1..6).contains(&dims[0]) && (2..=4).contains(&dims[1]) && dims[2] == 3);
        assert_eq!(dims.iter().collect::<BTreeSet<_>>().len(), 4, "{dims:?}");
        shapes.insert(dims);
    }
    // Distinct from 3 and each other: 2 or 4, and two of the four that remain.
    assert_eq!(shapes.len(), 2 * 3 * 2, "every shape comes up");
    Ok(())
}

#[test]
fn ranges_with_a_single_assignment_or_few_are_still_drawn() -> candling::Result<()> {
    let permutations: BTreeSet<Vec<usize>> =
        draws(&strategies::tensor([1..5, 1..5, 1..5, 1..5]), 400)
            .map(|x| Ok(x?.dims().to_vec()))
            .collect::<candling::Result<_>>()?;
    assert_eq!(permutations.len(), 24);
    // Among 8^8 shapes there are 8! that will do; here luck finds none.
    let tight = strategies::tensor([1..2, 1..3, 1..4, 1..5, 1..6, 1..7, 1..8, 1..9]);
    assert_shape!(tight.sample(Seed::new(1))?, [1, 2, 3, 4, 5, 6, 7, 8]);
    Ok(())
}

#[test]
fn equal_dimensions_are_drawn_where_they_are_asked_for() -> candling::Result<()> {
    assert_shape!(strategies::tensor([4, 4]).sample(Seed::new(1))?, [4, 4]);
    let square = strategies::tensor([1..3, 1..3]).distinct(false);
    let shapes: BTreeSet<Vec<usize>> =
        draws(&square, 60).map(|x| Ok(x?.dims().to_vec())).collect::<candling::Result<_>>()?;
    assert_eq!(shapes.len(), 4);
    Ok(())
}

#[test]
fn every_rank_comes_up_down_to_scalars_and_empty_tensors() -> candling::Result<()> {
    let strategy = strategies::tensor(Dims::of_rank(0..=4, 0..6));
    let (mut ranks, mut empty) = (BTreeSet::new(), false);
    for x in draws(&strategy, 200) {
        let x = x?;
        ranks.insert(x.rank());
        empty |= x.elem_count() == 0;
    }
    assert_eq!(ranks, (0..=4).collect());
    assert!(empty);
    assert_shape!(strategies::tensor(()).sample(Seed::new(1))?, []);
    Ok(())
}

#[test]
fn values_are_those_of_the_seed_in_every_dtype() -> candling::Result<()> {
    let seed = Seed::new(5);
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let normal = strategies::tensor([2, 3]).dtype(dtype).sample(seed)?;
        assert_eq!(bits(&normal)?, bits(&seed.normal("x", (2, 3), dtype, CPU)?)?);
        let uniform = strategies::tensor([2, 3]).values(Values::Uniform(-2.0..5.0)).dtype(dtype);
        let expected = seed.uniform("x", -2.0..5.0, (2, 3), dtype, CPU)?;
        assert_eq!(bits(&uniform.sample(seed)?)?, bits(&expected)?);
    }
    let tokens = strategies::tokens(9, [2, 3]).sample(seed)?;
    assert_eq!(bits(&tokens)?, bits(&seed.tokens("x", 9, (2, 3), CPU)?)?);
    Ok(())
}

#[test]
fn every_dtype_asked_for_is_drawn_and_no_other() -> candling::Result<()> {
    let strategy = strategies::tensor([2, 3]).dtypes([DType::F32, DType::BF16]);
    let dtypes =
        draws(&strategy, 40).map(|x| Ok(x?.dtype())).collect::<candling::Result<Vec<_>>>()?;
    assert!(dtypes.contains(&DType::F32) && dtypes.contains(&DType::BF16));
    assert!(dtypes.iter().all(|dtype| [DType::F32, DType::BF16].contains(dtype)));
    Ok(())
}

#[test]
fn whole_numbers_and_tokens_take_every_value_of_their_range() -> candling::Result<()> {
    let seen = |x: Tensor| -> candling::Result<BTreeSet<i64>> {
        Ok(elements(&x)?.into_iter().map(|v| v as i64).collect())
    };
    let whole = strategies::tensor(200).values(Values::Whole(-2..3)).sample(Seed::new(1))?;
    assert_eq!(seen(whole)?, (-2..3).collect());
    for dtype in [DType::U8, DType::U32, DType::I64] {
        let tokens = strategies::tokens(5, 200).dtype(dtype).sample(Seed::new(1))?;
        assert_eq!((tokens.dtype(), seen(tokens)?), (dtype, (0..5).collect()));
    }
    Ok(())
}

#[test]
fn a_mask_hides_something_and_never_a_whole_row() -> candling::Result<()> {
    let mut hidden = 0;
    for mask in draws(&strategies::mask((1..5, 1..7)), 200) {
        let mask = mask?;
        assert_eq!(mask.dtype(), DType::U8);
        for row in mask.to_vec2::<u8>()? {
            assert!(row.contains(&1) && row.iter().all(|v| *v < 2), "{row:?}");
            hidden += row.iter().filter(|v| **v == 0).count();
        }
    }
    assert!(hidden > 100, "{hidden}");
    Ok(())
}

#[test]
fn padding_is_ones_and_then_zeros() -> candling::Result<()> {
    let mut lengths = BTreeSet::new();
    for mask in draws(&strategies::padding((1..3, 4)), 60) {
        for row in mask?.to_vec2::<u8>()? {
            assert!(row[0] == 1 && row.is_sorted_by(|a, b| a >= b), "{row:?}");
            lengths.insert(row.iter().sum::<u8>());
        }
    }
    assert_eq!(lengths, (1..=4).collect());
    Ok(())
}

#[test]
fn one_hot_rows_and_probabilities_are_distributions() -> candling::Result<()> {
    for y in draws(&strategies::one_hot(4, (1..3, 5..8)), 30) {
        let y = y?;
        assert_dims!(y => [_, _, 4]);
        for row in y.flatten_to(1)?.to_vec2::<f32>()? {
            let ones = row.iter().filter(|v| **v == 1.0).count();
            assert!(ones == 1 && row.iter().filter(|v| **v == 0.0).count() == 3, "{row:?}");
        }
    }
    for p in draws(&strategies::probabilities(5, 1..5), 30) {
        for row in p?.to_vec2::<f32>()? {
            assert!(row.iter().all(|v| *v > 0.0), "{row:?}");
            assert!((row.iter().map(|v| f64::from(*v)).sum::<f64>() - 1.0).abs() < 1e-6, "{row:?}");
        }
    }
    let even = strategies::tensor([2, 4]).values(Values::Even).sample(Seed::new(1))?;
    assert!(elements(&even)?.iter().all(|v| *v == 0.25));
    Ok(())
}

#[test]
fn values_by_row_are_drawn_in_half_precision_too() -> candling::Result<()> {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        for strategy in
            [strategies::one_hot(3, 2), strategies::probabilities(3, 2), strategies::mask([2, 3])]
        {
            let x = strategy.dtype(dtype).sample(Seed::new(2))?;
            assert_eq!(x.dtype(), dtype);
            assert!(elements(&x)?.iter().all(|v| (0.0..=1.0).contains(v)));
        }
    }
    Ok(())
}

#[test]
fn a_batch_and_several_inputs_share_their_rows() -> candling::Result<()> {
    let input = || {
        strategies::inputs([
            strategies::tokens(20, (2..9, 3..12)),
            strategies::mask((1..6, 2..4)).dtype(DType::F32),
        ])
    };
    for seed in 0..50 {
        let [ids, mask] = input().sample(Seed::new(seed))?;
        assert_dims!(ids => [batch, _], mask => [batch, _]);
        assert!((2..6).contains(&ids.dim(0)?), "within both ranges: {ids:?}");
        let ([ids, mask], y) =
            strategies::batch(input(), strategies::labels(3, 2..9)).sample(Seed::new(seed))?;
        assert_dims!(ids => [batch, _], mask => [batch, _], y => [batch]);
    }
    // Members of one kind are not copies of each other.
    let (x, y) = strategies::batch(strategies::tensor([4, 3]), strategies::tensor([4, 3]))
        .sample(Seed::new(1))?;
    assert_ne!(bits(&x)?, bits(&y)?);
    Ok(())
}
