//! What every check does around its own work.

use std::{panic::Location, thread};

use crate::{Cause, Finding, Result, Seed, measure::stack};

/// Runs a check where deep graphs fit, and signs its failure with the assertion's name and the caller's line.
pub(crate) fn run<T>(
    assertion: &'static str,
    location: &'static Location<'static>,
    check: impl FnOnce() -> Result<T>,
) -> Result<T> {
    signed(assertion, location, stack::deep(check))
}

/// Signs a failure with the assertion's name, the caller's line, and the line that runs the test again.
pub(crate) fn signed<T>(
    assertion: &'static str,
    location: &'static Location<'static>,
    result: Result<T>,
) -> Result<T> {
    result.map_err(|failure| failure.of(assertion, location).rerun(rerun()))
}

/// The line that runs the test of this thread again. libtest names a test's thread after the test.
fn rerun() -> Option<String> {
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main")?;
    Some(match Seed::overridable() {
        Some(seed) => format!("CANDLING_SEED={} cargo test {test}", seed.value()),
        None => format!("cargo test {test}"),
    })
}

/// The findings whose cause the caller did not allow.
pub(crate) fn not_allowed(findings: Vec<Finding>, allowed: &[Cause]) -> Vec<Finding> {
    findings.into_iter().filter(|finding| !allowed.contains(&finding.cause())).collect()
}
