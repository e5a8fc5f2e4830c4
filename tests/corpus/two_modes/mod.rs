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
            let seeds = std::env::var("SEEDS").map_or(3, |n| n.parse().unwrap());
            for seed in 0..seeds {
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

    #[test]
    #[ignore]
    fn throwaway_clean() {
        let seeds = std::env::var("SEEDS").map_or(3, |n| n.parse().unwrap());
        let mut n = 0;
        for entry in entries() {
            for seed in 0..seeds {
                let s = (entry.clean)(Seed::new(seed)).unwrap();
                if s.batch.input().is_empty() {
                    continue;
                }
                let mut o = candling::check::TrainEvalModes::new();
                for c in &s.allowed {
                    o = o.allow(*c);
                }
                let r = match s.batch.input() {
                    [x] => o.check(&s.learner, x),
                    [a, b] => o.check(&s.learner, &[a.clone(), b.clone()]),
                    _ => continue,
                };
                match r {
                    Ok(r) => {
                        n += 1;
                        if seed == 0 {
                            println!("{}\n{r}", entry.id);
                        }
                    }
                    Err(f) if f.text().contains("knows no modes") => {}
                    Err(f) => println!("ALARM {} seed {seed}\n{}", entry.id, f.text()),
                }
            }
        }
        println!("{n} clean");
    }

    #[test]
    #[ignore]
    fn throwaway_healthy() {
        let seeds = std::env::var("SEEDS").map_or(1, |n| n.parse().unwrap());
        for entry in entries().into_iter().filter(|entry| entry.assertion == super::MODES) {
            for seed in 0..seeds {
                let t = std::time::Instant::now();
                let v = Verdict::of(
                    super::super::entry::Assertion::Healthy,
                    entry.clean,
                    Seed::new(1002 + seed),
                );
                println!(
                    "{} {:?} {}",
                    entry.id,
                    t.elapsed(),
                    if v.passed() { "ok".to_owned() } else { format!("ALARM {}", v.text()) }
                );
            }
        }
    }
}
