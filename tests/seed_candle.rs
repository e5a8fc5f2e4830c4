//! Candle's own generator, made repeatable for a thread.

use std::{collections::HashSet, thread};

use candling::{FailureKind, Result, SeededCandle, prelude::*};

use crate::support::text;

fn uniform(n: usize) -> Result<Vec<f32>> {
    Ok(Tensor::rand(0f32, 1., n, &Device::Cpu)?.to_vec1()?)
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
mod where_it_works {
    use super::*;

    fn seeded<T>(seed: u64, draw: impl FnOnce() -> Result<T>) -> Result<T> {
        let _seeded = Seed::new(seed).seed_candle()?;
        draw()
    }

    #[test]
    fn dropout_masks_are_those_of_the_seed() -> Result<()> {
        let x = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
        let dropout = candle_nn::Dropout::new(0.5);
        let mask = |seed| seeded(seed, || Ok(dropout.forward(&x, true)?.to_vec1::<f32>()?));
        let first = mask(7)?;
        assert!(first.contains(&0.0) && first.contains(&2.0));
        assert_eq!(mask(7)?, first);
        assert_ne!(mask(8)?, first);
        Ok(())
    }

    #[test]
    fn a_second_mask_differs_from_the_first() -> Result<()> {
        seeded(7, || {
            assert_ne!(uniform(100)?, uniform(100)?);
            Ok(())
        })
    }

    /// The generator takes a new key every 64 KiB; a million f32 cross that 60 times. A map made on the way must not
    /// shift the keys.
    #[test]
    fn a_million_draws_repeat() -> Result<()> {
        let draws = || seeded(7, || uniform(1_000_000));
        let first = draws()?;
        let again = seeded(7, || {
            assert_eq!(HashSet::from([1, 2]).len(), 2);
            uniform(1_000_000)
        })?;
        assert!(again == first);
        let distinct: HashSet<u32> = first.iter().map(|value| value.to_bits()).collect();
        assert!(distinct.len() > 900_000, "{}", distinct.len());
        let normal =
            || seeded(7, || Ok(Tensor::randn(0f32, 1., 100_000, &Device::Cpu)?.to_vec1::<f32>()?));
        assert!(normal()? == normal()?);
        Ok(())
    }

    #[test]
    fn other_threads_keep_their_entropy() -> Result<()> {
        let _seeded = Seed::new(7).seed_candle()?;
        let elsewhere = || thread::spawn(|| uniform(100)).join().unwrap();
        assert_ne!(elsewhere()?, elsewhere()?);
        Ok(())
    }

    #[test]
    fn every_thread_can_have_a_guard() -> Result<()> {
        let _seeded = Seed::new(7).seed_candle()?;
        let elsewhere = || thread::spawn(|| seeded(7, || uniform(100))).join().unwrap();
        let here = uniform(100)?;
        assert_eq!(elsewhere()?, here);
        assert_eq!(elsewhere()?, here);
        Ok(())
    }

    #[test]
    fn a_second_guard_is_refused_and_the_first_lives_on() -> Result<()> {
        let expected = seeded(7, || uniform(100))?;
        let _seeded = Seed::new(7).seed_candle()?;
        let failure = Seed::new(8).seed_candle().unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun);
        insta::assert_snapshot!(text(&failure), @"
        candle's CPU generator is seeded on this thread already

          help       drop the first guard before the second is made, say by a block of its own
        ");
        assert_eq!(uniform(100)?, expected);
        Ok(())
    }

    #[test]
    fn a_dropped_guard_gives_fresh_entropy_back() -> Result<()> {
        let after = || -> Result<Vec<f32>> {
            drop(Seed::new(7).seed_candle()?);
            uniform(100)
        };
        let seeded = seeded(7, || uniform(100))?;
        let (first, second) = (after()?, after()?);
        assert!(first != second && first != seeded && second != seeded);
        Ok(())
    }

    #[test]
    fn a_panic_ends_the_guard() -> Result<()> {
        let panicked = std::panic::catch_unwind(|| {
            let _seeded = Seed::new(7).seed_candle().unwrap();
            std::panic::resume_unwind(Box::new("a failing test"));
        });
        assert!(panicked.is_err());
        assert_ne!(uniform(100)?, seeded(7, || uniform(100))?);
        // Refused, if the guard had outlived the panic.
        drop(Seed::new(7).seed_candle()?);
        Ok(())
    }

    #[test]
    fn the_cpu_is_a_device_as_any_other() -> Result<()> {
        let expected = seeded(7, || uniform(100))?;
        let guard: SeededCandle = Seed::new(7).seed_candle_on(&Device::Cpu)?;
        assert_eq!(uniform(100)?, expected);
        drop(guard);
        Ok(())
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static"))))]
#[test]
fn where_it_cannot_work_it_is_refused() -> Result<()> {
    let refused: Result<SeededCandle> = Seed::new(7).seed_candle();
    let failure = refused.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun);
    assert!(text(&failure).contains("cannot be seeded here"));
    assert_ne!(uniform(100)?, uniform(100)?);
    Ok(())
}
