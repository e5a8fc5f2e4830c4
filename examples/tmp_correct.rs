#[path = "../tests/corpus/mod.rs"]
#[allow(dead_code)]
mod corpus;
use candling::{Seed, check::GradientsCorrect};
fn main() {
    let show = std::env::args().nth(1);
    std::panic::set_hook(Box::new(|_| {}));
    for entry in corpus::entries() {
        if show.as_deref().is_some_and(|s| s != entry.id && s != "all" && s != "clean") {
            continue;
        }
        for seed in 0..(if show.is_some() { 1 } else { 5 }) {
            for (half, make) in [("clean", entry.clean), ("buggy", entry.buggy)] {
                if half == "buggy" && show.is_none() {
                    continue;
                }
                let r = std::panic::catch_unwind(|| {
                    let s = make(Seed::new(seed))?;
                    GradientsCorrect::new().check(&s.learner, &s.batch)
                });
                match r {
                    Err(_) => println!("{} {half} {seed} PANIC", entry.id),
                    Ok(Err(f)) => {
                        println!("== {} {half} {seed} [{}]\n{}\n", entry.id, entry.bug, f.text())
                    }
                    Ok(Ok(r)) => println!(
                        "{} {half} {seed} passed {:?} err {:.1e} kinks {} unclear {} of {} evals {}",
                        entry.id,
                        r.dtype,
                        r.largest_error,
                        r.kinks.len(),
                        r.unclear.len(),
                        r.judged.len(),
                        r.evaluations
                    ),
                }
            }
        }
    }
}
