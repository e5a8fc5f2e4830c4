//! The strategies: what they draw, how it shrinks, and what their lines make again.

mod assertions;
mod drawing;
mod layouts;
mod lines;
mod proptests;
mod refusals;
mod shrinking;
mod smallest;

use candling::{prelude::*, strategies::Drawn};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

const CPU: &Device = &Device::Cpu;

/// Dims, dtype and every element's bits; NaN equals itself.
fn bits(tensor: &Tensor) -> candling::Result<(Vec<usize>, DType, Vec<u64>)> {
    let values: Vec<f64> = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    let bits = values.into_iter().map(f64::to_bits).collect();
    Ok((tensor.dims().to_vec(), tensor.dtype(), bits))
}

fn elements(tensor: &Tensor) -> candling::Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The same cases each time, and no file of failures.
fn runner() -> TestRunner {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// What proptest shrinks a failing property to.
fn smallest<S, V>(
    strategy: S,
    fails: impl Fn(&V) -> candling::Result<bool>,
) -> candling::Result<Drawn<V>>
where
    S: Strategy<Value = Drawn<V>>,
    Drawn<V>: std::fmt::Debug + Clone,
{
    let outcome = runner().run(&strategy, |drawn| match fails(&drawn)? {
        true => Err(TestCaseError::fail("as it should")),
        false => Ok(()),
    });
    match outcome {
        Err(TestError::Fail(_, drawn)) => Ok(drawn),
        other => panic!("{other:?}"),
    }
}
