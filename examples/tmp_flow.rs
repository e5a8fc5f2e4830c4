#[path = "../tests/corpus/mod.rs"]
#[allow(dead_code)]
mod corpus;
use candling::{Seed, check::GradientsFlow};
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
                if half == "buggy" && show.as_deref() == Some("clean") {
                    continue;
                }
                let r = std::panic::catch_unwind(|| {
                    let s = make(Seed::new(seed))?;
                    GradientsFlow::new().check(&s.learner, &s.batch)
                });
                match r {
                    Err(_) => println!("{} {half} {seed} PANIC", entry.id),
                    Ok(Err(f)) => {
                        println!("== {} {half} {seed} [{}]\n{}\n", entry.id, entry.bug, f.text())
                    }
                    Ok(Ok(r)) => {
                        let e: Vec<f64> = r
                            .variables
                            .iter()
                            .filter(|v| v.dims.len() >= 2 && v.size > 0.0)
                            .filter_map(|v| Some(v.norm? * v.size))
                            .collect();
                        let max = e.iter().copied().fold(0.0, f64::max);
                        let min = e.iter().copied().fold(f64::INFINITY, f64::min);
                        let g: f64 = r
                            .variables
                            .iter()
                            .filter_map(|v| v.norm)
                            .map(|n| n * n)
                            .sum::<f64>()
                            .sqrt();
                        let w: f64 =
                            r.variables.iter().map(|v| v.size * v.size).sum::<f64>().sqrt();
                        let odd: Vec<String> = r
                            .variables
                            .iter()
                            .filter(|v| v.verdict.to_string() != "flows")
                            .map(|v| format!("{} {}", v.name, v.verdict))
                            .collect();
                        println!(
                            "{} {half} {seed} passed min/max {:.1e} g/w {:.1e} {odd:?}",
                            entry.id,
                            min / max,
                            g / w
                        );
                    }
                }
            }
        }
    }
}
