//! Groups G and L: what a step does, in loops written by hand.

pub(crate) mod loops;
mod rules;
mod updates;

use super::entry::Entry;

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    [updates::ENTRIES].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use candling::Seed;

    use super::super::entry::Verdict;

    /// The scoreboard runs more seeds of every entry.
    #[test]
    fn steps_are_told_on_a_seed() {
        let seeds = std::env::var("STEPS_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let only = std::env::var("STEPS_ONLY").unwrap_or_default();
        let mut wrong = Vec::new();
        for entry in super::super::entries() {
            let ours = matches!(
                entry.assertion,
                super::super::entry::Assertion::Test("step_updates" | "loss_decreases")
            );
            if !ours || !(only.is_empty() || entry.id == only) {
                continue;
            }
            for seed in 0..seeds {
                let began = std::time::Instant::now();
                let clean = Verdict::of(entry.assertion, entry.clean, Seed::new(seed));
                if !clean.passed() {
                    wrong.push(format!("{} clean, seed {seed}\n{}", entry.id, clean.text()));
                }
                let buggy = Verdict::of(entry.assertion, entry.buggy, Seed::new(seed));
                if !buggy.is_caught() || buggy.cause() != Some(entry.cause) {
                    wrong.push(format!(
                        "{} buggy, seed {seed}: wanted {}\n{}",
                        entry.id,
                        entry.cause,
                        buggy.text()
                    ));
                } else if seed == 0 && std::env::var("STEPS_SHOW").is_ok() {
                    eprintln!("{} {}\n{:?}\n", entry.id, buggy.text(), began.elapsed());
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
