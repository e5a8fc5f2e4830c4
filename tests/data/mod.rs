mod disjoint;
mod labels;
mod normalized;
mod pipeline;
mod synthetic;

use candling::Failure;

/// What a check that must fail says.
fn text<R: std::fmt::Debug>(result: candling::Result<R>) -> String {
    crate::support::text(&failure(result))
}

fn failure<R: std::fmt::Debug>(result: candling::Result<R>) -> Failure {
    result.expect_err("the check passed")
}
