//! Groups G and L: what a step does, in loops written by hand.

pub(crate) mod decreases;
pub(crate) mod loops;
mod rules;
mod updates;

use super::entry::Entry;

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    [updates::ENTRIES, decreases::ENTRIES].into_iter().flatten().copied()
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

#[cfg(test)]
mod soak_all {
    use candle_core::{Error, Tensor, Var};
    use candle_nn::{AdamW, Optimizer, SGD};
    use candling::{FailureKind, Seed, check::StepUpdates};

    use super::{
        loops::free,
        rules::{Lion, Momentum},
    };
    use crate::corpus::optimizers::adam;

    type Step = Box<dyn FnMut(&Tensor) -> candle_core::Result<()>>;

    fn rule(kind: usize, vars: Vec<Var>) -> candle_core::Result<Step> {
        Ok(match kind {
            0 => {
                let mut o = AdamW::new(vars, adam(1e-3))?;
                Box::new(move |l| o.backward_step(l))
            }
            1 => {
                let mut o = SGD::new(vars, 0.05)?;
                Box::new(move |l| o.backward_step(l))
            }
            2 => {
                let mut o = Momentum::new(vars, 0.01, 0.9);
                Box::new(move |l| o.step(&l.backward()?))
            }
            3 => {
                let mut o = Lion::new(vars, 1e-3);
                Box::new(move |l| o.step(&l.backward()?))
            }
            4 => {
                let mut o = AdamW::new(vars, adam(1e-5))?;
                Box::new(move |l| o.backward_step(l))
            }

            5..=12 => {
                let mut m: Vec<Option<Tensor>> = vec![None; vars.len()];
                let mut t = 0usize;
                Box::new(move |l| {
                    let grads = l.backward()?;
                    t += 1;
                    for (var, m) in vars.iter().zip(&mut m) {
                        let Some(g) = grads.get(var) else { continue };
                        let old = match m.take() {
                            Some(m) => m,
                            None => g.zeros_like()?,
                        };
                        let w = var.as_tensor();
                        let (d, next) = match kind {
                            // RMSprop
                            5 => {
                                let v = ((&old * 0.99)? + (g.sqr()? * 0.01)?)?;
                                ((g / (v.sqrt()? + 1e-8)?)?.affine(1e-3, 0.0)?, v)
                            }
                            // Adagrad
                            6 => {
                                let v = (&old + g.sqr()?)?;
                                ((g / (v.sqrt()? + 1e-8)?)?.affine(1e-2, 0.0)?, v)
                            }
                            // Nesterov
                            7 => {
                                let v = ((&old * 0.9)? + g)?;
                                ((g + (&v * 0.9)?)?.affine(0.01, 0.0)?, v)
                            }
                            // coupled decay on matrices
                            8 => {
                                let g = if var.rank() > 1 { (g + (w * 5e-4)?)? } else { g.clone() };
                                let v = ((&old * 0.9)? + g)?;
                                (v.affine(0.02, 0.0)?, v)
                            }
                            // sign
                            9 => (g.sign()?.affine(1e-3, 0.0)?, old),
                            // each tensor's gradient to norm 1, LARS-like trust ratio
                            10 => {
                                let n = g
                                    .to_dtype(candle_core::DType::F64)?
                                    .sqr()?
                                    .sum_all()?
                                    .sqrt()?
                                    .to_scalar::<f64>()?;
                                (g.affine(0.02 / n.max(1e-9), 0.0)?, old)
                            }
                            // cosine with restarts every 4
                            11 => {
                                let r = 0.05
                                    * 0.5
                                    * (1.0
                                        + (std::f64::consts::PI * ((t - 1) % 4) as f64 / 4.0)
                                            .cos());
                                (g.affine(r, 0.0)?, old)
                            }
                            // element clip
                            _ => (g.clamp(-0.01, 0.01)?.affine(0.5, 0.0)?, old),
                        };
                        var.set(&(w - d)?)?;
                        *m = Some(next);
                    }
                    Ok(())
                })
            }
            14 => {
                let mut o = AdamW::new(vars, adam(0.1))?;
                Box::new(move |l| o.backward_step(l))
            }
            15 => {
                let mut o = SGD::new(vars, 1.0)?;
                Box::new(move |l| o.backward_step(l))
            }
            // A decay on matrices, two groups.
            _ => {
                let mut o = super::rules::TwoGroups::new(vars, 1e-3, 0.1, 0.0)?;
                Box::new(move |l| o.step(&l.backward()?))
            }
        })
    }

    #[test]
    #[ignore]
    fn all_clean() {
        let mut counts = [0; 4];
        let every: usize =
            std::env::var("STEPS_EVERY").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let seed: u64 = std::env::var("STEPS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let only = std::env::var("STEPS_ONLY").unwrap_or_default();
        for (at, entry) in crate::corpus::entries().into_iter().enumerate() {
            if at % every != 0 {
                continue;
            }
            if !(only.is_empty() || entry.id == only) {
                continue;
            }
            for kind in std::env::var("STEPS_RULES")
                .unwrap_or("0,1,2,3,4".into())
                .split(',')
                .map(|k| k.parse::<usize>().unwrap())
            {
                for with_loss in [true, false] {
                    let Ok(subject) = (entry.clean)(Seed::new(seed)) else { continue };
                    let (learner, batch) = (&subject.learner, &subject.batch);
                    if learner.loss(batch).is_err() || learner.variables().is_empty() {
                        continue;
                    }
                    let loss = || learner.loss(batch).map_err(Error::wrap);
                    let Ok(mut step) = rule(kind, free(learner)) else { continue };
                    let frozen: Vec<String> = learner
                        .variables()
                        .iter()
                        .filter(|(n, _)| learner.is_frozen(n))
                        .map(|(n, _)| n.clone())
                        .collect();
                    let mut options = StepUpdates::new().frozen(frozen);
                    if with_loss {
                        options = options.loss(loss);
                    }
                    let began = std::time::Instant::now();
                    let result = options.check(learner.variables(), || step(&loss()?));
                    let took = began.elapsed();
                    match result {
                        Ok(_) => counts[0] += 1,
                        Err(f) => {
                            counts[match f.kind() {
                                FailureKind::Violated => 1,
                                FailureKind::Vacuous => 2,
                                _ => 3,
                            }] += 1;
                            eprintln!(
                                "== {} rule {kind} loss {with_loss} {took:?}\n{}",
                                entry.id,
                                f.text()
                            );
                        }
                    }
                    if took.as_secs_f64() > 3.0 {
                        eprintln!("-- slow {} {kind} {took:?}", entry.id)
                    }
                }
            }
        }
        eprintln!("passed, violated, vacuous, not run: {counts:?}");
    }
}

#[cfg(test)]
mod soak_decreases {
    use candling::{Cause, FailureKind, Seed, check::LossDecreases};

    #[test]
    #[ignore]
    fn all_clean() {
        let mut counts = [0; 4];
        for entry in crate::corpus::entries() {
            for (half, make) in [("clean", entry.clean), ("buggy", entry.buggy)] {
                let Ok(Ok(subject)) = std::panic::catch_unwind(|| make(Seed::new(1))) else {
                    continue;
                };
                let (learner, batch) = (&subject.learner, &subject.batch);
                if !std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    learner.loss(batch).is_ok()
                }))
                .unwrap_or(false)
                    || learner.variables().is_empty()
                {
                    continue;
                }
                let began = std::time::Instant::now();
                let Ok(result) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    LossDecreases::new().check(learner, batch)
                })) else {
                    eprintln!("panicked {} {half}", entry.id);
                    continue;
                };
                let took = began.elapsed();
                match result {
                    Ok(_) => {
                        if half == "clean" {
                            counts[0] += 1
                        }
                    }
                    Err(f) => {
                        if half == "clean" {
                            counts[match f.kind() {
                                FailureKind::Violated => 1,
                                FailureKind::Vacuous => 2,
                                _ => 3,
                            }] += 1;
                        }
                        let named = f.cause() == Some(entry.cause);
                        let _ = Cause::LossSign;
                        eprintln!(
                            "== {} {half} {took:?} wanted {} named {named}\n{}",
                            entry.id,
                            entry.cause,
                            f.text()
                        );
                    }
                }
                if took.as_secs_f64() > 2.0 {
                    eprintln!("-- slow {} {took:?}", entry.id)
                }
            }
        }
        eprintln!("passed, violated, vacuous, not run: {counts:?}");
    }
}

#[cfg(test)]
mod soak_healthy {
    use candling::{FailureKind, Seed};

    use crate::corpus::{
        entry::{Assertion, Verdict},
        property::Property,
    };

    #[test]
    #[ignore]
    fn ours() {
        let mut wrong = Vec::new();
        for entry in super::entries().filter(|e| ["G1b", "G4b"].contains(&e.id)) {
            for seed in [1002, 0, 1, 2, 3] {
                let began = std::time::Instant::now();
                let verdict = Verdict::of(Assertion::Healthy, entry.clean, Seed::new(seed));
                if !verdict.passed() {
                    wrong.push(format!("{} {seed}\n{}", entry.id, verdict.text()));
                }
                if began.elapsed().as_secs_f64() > 4.0 {
                    eprintln!("slow {} {:?}", entry.id, began.elapsed());
                }
            }
            for property in [Property::Deterministic, Property::BatchIndependent] {
                let subject = (entry.clean)(Seed::new(1001)).unwrap();
                if subject.batch.input().is_empty() {
                    continue;
                }
                match property.check(&subject) {
                    Err(f) if f.kind() == FailureKind::Violated => {
                        wrong.push(format!("{} {property:?}\n{}", entry.id, f.text()))
                    }
                    _ => {}
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
