//! The verdicts of several checks as one.

use crate::{Cause, Failure, FailureKind, Finding, Result, verdict::count};

/// One failure of several: a line for each check and for each that was left out, then all their findings, each with the
/// help of the check that made it.
pub(super) fn together(
    outcomes: Vec<(&'static str, Result<()>)>,
    left_out: Vec<(&'static str, &'static str)>,
) -> Failure {
    let all = outcomes.len();
    let failures: Vec<&Failure> = outcomes.iter().filter_map(|(_, o)| o.as_ref().err()).collect();
    let headline = format!("{} of {} failed", failures.len(), count(all, "check"));
    let is = |kind: FailureKind| failures.iter().any(|failure| failure.kind() == kind);
    let mut failure = if is(FailureKind::Violated) {
        Failure::violated(headline)
    } else if is(FailureKind::Vacuous) {
        Failure::vacuous(headline)
    } else {
        Failure::not_run(headline)
    };
    for (name, outcome) in &outcomes {
        let verdict = match outcome {
            Ok(()) => "passed".to_owned(),
            Err(failed) => failed.headline().to_owned(),
        };
        failure = failure.fact(*name, verdict);
    }
    for (name, why) in left_out {
        failure = failure.fact(name, why);
    }
    for failed in failures {
        // What two checks prove is said once, by the one that was made for it.
        let proved: Vec<Cause> =
            failure.findings().iter().filter(|f| f.is_confirmed()).map(Finding::cause).collect();
        let mut new = failed.helped_findings();
        new.retain(|finding| !proved.contains(&finding.cause()));
        failure = failure.facts_of(failed).with_findings(new);
    }
    // With findings the help stands beside the first of them.
    match outcomes.iter().find_map(|(_, outcome)| outcome.as_ref().err()?.help_text()) {
        Some(help) if failure.findings().is_empty() => failure.help(help),
        _ => failure,
    }
}
