use std::{error::Error, fmt, panic::Location, sync::Arc};

use super::{
    Cause, Finding,
    content::{Content, FailureKind},
    render,
};

/// What a check says when it does not pass.
///
/// `Display` is the whole message with the place in the test that called the check; `Debug` prints the same, because
/// libtest prints a returned `Err` with `{:?}`; [`text`](Failure::text) leaves the place out. A `Failure` is a
/// [`std::error::Error`], so `?` works in a test, inside `proptest!`, and into `anyhow::Error`.
///
/// ```
/// use candling::{FailureKind, check::InRange, prelude::*};
///
/// let x = Tensor::new(&[0.5f32, 1.5], &Device::Cpu)?;
/// let failure = InRange::new().check(&x, 0.0..=1.0).unwrap_err();
/// assert_eq!(failure.kind(), FailureKind::Violated);
/// assert_eq!(failure.cause(), Some(Cause::OutOfRange));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Failure(Box<Content>);

impl Failure {
    fn new(kind: FailureKind, headline: impl Into<String>) -> Self {
        Self(Box::new(Content {
            assertion: None,
            kind,
            context: None,
            headline: headline.into(),
            facts: Vec::new(),
            findings: Vec::new(),
            ruled_out: Vec::new(),
            help: None,
            rerun: None,
            location: None,
            source: None,
        }))
    }

    pub(crate) fn violated(headline: impl Into<String>) -> Self {
        Self::new(FailureKind::Violated, headline)
    }

    pub(crate) fn vacuous(headline: impl Into<String>) -> Self {
        Self::new(FailureKind::Vacuous, headline)
    }

    pub(crate) fn not_run(headline: impl Into<String>) -> Self {
        Self::new(FailureKind::NotRun, headline)
    }

    /// The one shape of "that argument cannot be used": its name, what it was, what is allowed.
    pub(crate) fn bad_argument(
        argument: &str,
        was: impl fmt::Display,
        allowed: impl fmt::Display,
    ) -> Self {
        // An argument is code; a description of one is a phrase, which may hold code itself.
        let quote = if argument.contains(' ') { "" } else { "`" };
        Self::not_run(format!("{quote}{argument}{quote} is {was}; allowed: {allowed}"))
    }

    /// A closure or a candle call returned an error; `what` says which.
    pub(crate) fn from_candle(what: &str, error: candle_core::Error) -> Self {
        let mut failure =
            Self::not_run(format!("{what} returned an error")).fact("error", message_of(&error));
        failure.0.source = Some(Arc::new(error));
        failure
    }

    pub(crate) fn fact(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.facts.push((label.into(), value.into()));
        self
    }

    /// Adds a finding; confirmed ones stay before possible ones, each in the order added. A cause that is suspected and
    /// found already is left out.
    pub(crate) fn finding(mut self, finding: Finding) -> Self {
        let findings = &mut self.0.findings;
        if !finding.is_confirmed() && findings.iter().any(|f| f.cause() == finding.cause()) {
            return self;
        }
        let place = if finding.is_confirmed() {
            findings.iter().filter(|f| f.is_confirmed()).count()
        } else {
            findings.len()
        };
        findings.insert(place, finding);
        self
    }

    pub(crate) fn with_findings(self, findings: impl IntoIterator<Item = Finding>) -> Self {
        findings.into_iter().fold(self, Self::finding)
    }

    pub(crate) fn ruled_out(mut self, cause: Cause, evidence: impl Into<String>) -> Self {
        self.0.ruled_out.push((cause, evidence.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    pub(crate) fn rerun(mut self, rerun: Option<String>) -> Self {
        self.0.rerun = rerun;
        self
    }

    /// Every check ends here: the assertion's name and the line that called it are known only at the top.
    pub(crate) fn of(
        mut self,
        assertion: &'static str,
        location: &'static Location<'static>,
    ) -> Self {
        self.0.assertion.get_or_insert(assertion);
        self.0.location.get_or_insert(location);
        self
    }

    /// Puts a sentence of the caller's own at the head of the text, as the last arguments of a macro do.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.context = Some(context.to_string());
        self
    }

    /// Violated, vacuous or not run.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// The assertion's name, without `assert_` and `!`; `None` for an error that no assertion raised.
    pub fn assertion(&self) -> Option<&'static str> {
        self.0.assertion
    }

    /// The sentence that says what happened.
    pub fn headline(&self) -> &str {
        &self.0.headline
    }

    /// What was found, in order of confidence.
    pub fn findings(&self) -> &[Finding] {
        &self.0.findings
    }

    /// The first finding's cause.
    pub fn cause(&self) -> Option<Cause> {
        self.0.findings.first().map(Finding::cause)
    }

    /// Where the check was called.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.location
    }

    /// The message without the place that called the check: the same on every machine, so it can be snapshot-tested.
    pub fn text(&self) -> String {
        render::text(&self.0, render::Palette::Plain)
    }

    pub(crate) fn text_in(&self, palette: render::Palette) -> String {
        render::text(&self.0, palette)
    }

    /// What candle said, where an error of candle's is behind this; else the headline.
    pub(crate) fn source_text(&self) -> String {
        self.0.source.as_deref().map_or_else(|| self.0.headline.clone(), message_of)
    }

    /// The findings; where the check has help of its own, the first of them carries it as its advice.
    pub(crate) fn helped_findings(&self) -> Vec<Finding> {
        let mut findings = self.0.findings.clone();
        if let (Some(first), Some(help)) = (findings.first_mut(), &self.0.help) {
            *first = first.clone().advice_is(help.clone());
        }
        findings
    }

    /// What to try next, beside what the findings say.
    pub(crate) fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The facts of another failure after those of this one.
    pub(crate) fn facts_of(mut self, other: &Failure) -> Self {
        self.0.facts.extend(other.0.facts.iter().cloned());
        self
    }
}

/// candle's error without the backtrace it carries when `RUST_BACKTRACE` is set, which would bury the sentence.
pub(super) fn message_of(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => message_of(inner),
        candle_core::Error::Context { inner, context } => {
            format!("{context}\n{}", message_of(inner))
        }
        candle_core::Error::WithPath { inner, path } => {
            format!("{}: {}", path.display(), message_of(inner))
        }
        other => other.to_string(),
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        let mut failure = Self::not_run(message_of(&error));
        failure.0.source = Some(Arc::new(error));
        failure
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())?;
        match self.0.location {
            Some(location) => write!(f, "\n  at {location}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    // libtest and `Result::unwrap` print an error with `{:?}`: the message is for people either way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_failure_reads_as_designed() {
        let failure = Failure::violated("the loss rises: 2.31 -> 41.7 in 60 steps (target 0.01)")
            .fact("loss", "▁▂▃▄▅▆▇█   2.31 .. 41.7")
            .fact("shape", "rising")
            .finding(Finding::possible(
                Cause::LearningRateHigh,
                "the loss grew from the first step",
            ))
            .finding(Finding::confirmed(
                Cause::LossSign,
                "with the loss negated, 2.31 -> 0.004 in 118 steps",
            ))
            .ruled_out(Cause::LossReduction, "the loss does not grow with the batch")
            .rerun(Some("CANDLING_SEED=7 cargo test mlp_learns".to_owned()))
            .of("overfits_batch", Location::caller())
            .context("tiny MLP, seed 7");
        assert_eq!(failure.cause(), Some(Cause::LossSign));
        insta::assert_snapshot!(failure.text(), @"
        assertion `overfits_batch` failed: tiny MLP, seed 7
        the loss rises: 2.31 -> 41.7 in 60 steps (target 0.01)

          loss   ▁▂▃▄▅▆▇█   2.31 .. 41.7
          shape  rising

          confirmed  loss-sign            with the loss negated, 2.31 -> 0.004 in 118 steps
          possible   learning-rate-high   the loss grew from the first step
          ruled out  loss-reduction       the loss does not grow with the batch
          help       the loss closure returns the negative of what it should; see docs/causes.md#loss-sign
          rerun      CANDLING_SEED=7 cargo test mlp_learns
        ");
        assert!(failure.to_string().contains("failure.rs:"));
        assert_eq!(format!("{failure:?}"), failure.to_string());
    }

    #[test]
    fn an_error_of_candle_keeps_its_source_and_loses_its_backtrace() {
        let error = candle_core::Error::Msg("no such thing".to_owned());
        let failure = Failure::from_candle("the forward closure", error);
        assert_eq!(failure.kind(), FailureKind::NotRun);
        assert!(failure.source().is_some());
        insta::assert_snapshot!(failure.text(), @"
        the forward closure returned an error

          error  no such thing
        ");
    }

    #[test]
    fn a_failure_is_small_and_crosses_threads() {
        fn sendable<T: Send + Sync + Clone + 'static>() {}
        sendable::<Failure>();
        assert_eq!(size_of::<Failure>(), size_of::<usize>());
    }
}
