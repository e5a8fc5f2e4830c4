//! Failures inside `proptest!`.

use candling::{Seed, check::Close, prelude::*};
use proptest::{
    prelude::*,
    test_runner::{TestError, TestRunner},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn addition_commutes(seed: Seed, rows in 1usize..5, columns in 1usize..5) {
        let a = seed.normal("a", (rows, columns), DType::F32, &Device::Cpu)?;
        let b = seed.normal("b", (rows, columns), DType::F32, &Device::Cpu)?;
        Close::new().tolerance(Tolerance::exact()).check(&(&a + &b)?, &(&b + &a)?)?;
    }
}

#[test]
fn a_failing_property_shrinks_and_says_what_candling_says() {
    let mut runner = TestRunner::deterministic();
    let outcome = runner.run(&(any::<Seed>(), 1usize..6), |(seed, n)| {
        let x = seed.uniform("x", 0.0..1.0, n, DType::F32, &Device::Cpu)?;
        // Wrong from three elements on.
        let y = if n < 3 { x.clone() } else { (&x + 1.0)? };
        Close::new().check(&y, &x)?;
        Ok(())
    });
    let Err(TestError::Fail(reason, (_, smallest))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(smallest, 3);
    assert!(reason.message().contains("assertion `close` failed"), "{reason}");
    assert!(
        reason.message().contains("property.rs:"),
        "the place is part of an error's text: {reason}"
    );
}
