//! Layouts are what they say, and hold the same values.

use candling::{
    prelude::*,
    strategies::{self, Layout},
};

use super::bits;

fn storage(tensor: &Tensor) -> (usize, Vec<usize>) {
    (tensor.layout().start_offset(), tensor.stride().to_vec())
}

#[test]
fn each_layout_lies_as_it_says_with_the_values_of_the_contiguous_one() -> candling::Result<()> {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = strategies::tensor([2, 3, 4]).dtype(dtype);
        let with = |layout| x.clone().layout(layout).sample(Seed::new(3));
        let contiguous = with(Layout::Contiguous)?;
        assert_eq!(storage(&contiguous), (0, vec![12, 4, 1]));
        for (layout, lies) in
            [(Layout::Transposed, (0, vec![12, 1, 3])), (Layout::Narrowed, (1, vec![18, 6, 1]))]
        {
            let x = with(layout)?;
            assert_eq!(storage(&x), lies, "{layout:?}");
            assert!(!x.is_contiguous());
            assert_eq!(bits(&x)?, bits(&contiguous)?);
        }
        let broadcast = with(Layout::Broadcast)?;
        assert_eq!(storage(&broadcast), (0, vec![0, 4, 1]));
        for row in 0..2 {
            assert_eq!(bits(&broadcast.get(row)?)?, bits(&contiguous.get(0)?)?);
        }
    }
    Ok(())
}

#[test]
fn a_read_outside_of_a_narrowed_tensor_is_seen() -> candling::Result<()> {
    let surroundings = |x: &Tensor| -> candling::Result<Vec<f64>> {
        let (storage, _) = x.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else { panic!("not on the CPU") };
        Ok(match storage {
            candle_core::CpuStorage::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            candle_core::CpuStorage::U32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            candle_core::CpuStorage::U8(v) => v.iter().map(|v| f64::from(*v)).collect(),
            other => panic!("{other:?}"),
        })
    };
    let floats = strategies::tensor([2, 3]).layout(Layout::Narrowed).sample(Seed::new(1))?;
    assert_eq!(surroundings(&floats)?.iter().filter(|v| v.is_nan()).count(), 4);
    assert!(!bits(&floats)?.2.iter().any(|v| f64::from_bits(*v).is_nan()));
    let ids = strategies::tokens(9, [2, 3]).layout(Layout::Narrowed).sample(Seed::new(1))?;
    let outside = f64::from(u32::MAX);
    assert_eq!(surroundings(&ids)?.iter().filter(|v| **v == outside).count(), 4);
    let mask = strategies::mask([2, 3]).layout(Layout::Narrowed).sample(Seed::new(1))?;
    assert_eq!(surroundings(&mask)?.iter().filter(|v| **v == 255.0).count(), 4);
    Ok(())
}

#[test]
fn a_rank_takes_the_layouts_it_allows() -> candling::Result<()> {
    let strategy = strategies::tensor(strategies::Dims::of_rank(0..=3, 0..4)).layouts(Layout::ALL);
    let (mut narrowed_vector, mut transposed) = (false, false);
    for seed in 0..200 {
        let x = strategy.sample(Seed::new(seed))?;
        narrowed_vector |= x.rank() == 1 && x.layout().start_offset() == 1;
        transposed |= x.rank() >= 2 && !x.is_contiguous() && x.t()?.is_contiguous();
    }
    assert!(narrowed_vector && transposed);
    let scalar = strategies::tensor(()).sample(Seed::new(1))?;
    let refused = Layout::Transposed.of(&scalar).map_err(Failure::from).unwrap_err();
    insta::assert_snapshot!(refused.headline(), @"`tensor` is of rank 0; allowed: rank 2 or more for Transposed");
    assert_eq!(bits(&Layout::Contiguous.of(&scalar)?)?, bits(&scalar)?);
    Ok(())
}

#[test]
fn rows_of_a_mask_one_hot_and_probabilities_survive_every_layout() -> candling::Result<()> {
    for layout in Layout::ALL {
        let mask = strategies::mask([3, 5]).layout(layout).sample(Seed::new(4))?;
        assert!(mask.to_vec2::<u8>()?.iter().all(|row| row.contains(&1)), "{layout:?}");
        let y = strategies::one_hot(5, 3).layout(layout).sample(Seed::new(4))?;
        assert_eq!(y.sum(1)?.to_vec1::<f32>()?, [1.0; 3], "{layout:?}");
    }
    Ok(())
}
