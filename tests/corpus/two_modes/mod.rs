//! Group H: training and evaluation mode.

mod dropout;
mod norms;
mod states;

use candling::{Result, check::TrainEvalModes};

use super::entry::{Assertion, Entry, Subject};

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    [dropout::ENTRIES, norms::ENTRIES, states::ENTRIES].into_iter().flatten().copied()
}

pub(crate) const MODES: Assertion = Assertion::Test("train_eval_modes");

/// The test of a model whose configuration has these rates.
pub(crate) fn modes(subject: Subject, options: fn() -> TrainEvalModes) -> Result<Subject> {
    Ok(subject.test(move |learner, batch| options().check(learner, &batch.input()[0])))
}

#[cfg(test)]
mod tests {
    use candling::Seed;

    use super::super::{entries, entry::Verdict};

    #[test]
    fn modes_are_told_on_other_seeds_than_the_soaks() {
        let mut wrong = Vec::new();
        for entry in entries().into_iter().filter(|entry| entry.assertion == super::MODES) {
            for seed in 0..2 {
                let clean = Verdict::of(entry.assertion, entry.clean, Seed::new(seed));
                if !clean.passed() {
                    wrong.push(format!("{} clean, seed {seed}\n{}", entry.id, clean.text()));
                }
                let buggy = Verdict::of(entry.assertion, entry.buggy, Seed::new(seed));
                if buggy.cause() != Some(entry.cause) {
                    wrong.push(format!("{} buggy, seed {seed}\n{}", entry.id, buggy.text()));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
