use super::*;
use std::time::Instant;
#[test]
fn measure() {
    for model in models() {
        for a in ASSERTIONS {
            let t = Instant::now();
            let said = (a.on)(&model);
            let t = t.elapsed().as_secs_f64();
            match said {
                Ok(Said::Defect(f)) => eprintln!("## {} | {} | {t:.2} s\n{f}", model.name, a.name),
                Ok(s) => eprintln!("## {} | {} | {t:.2} s | {s:?}", model.name, a.name),
                Err(f) => eprintln!("## {} | {} | {t:.2} s ERR\n{f}", model.name, a.name),
            }
        }
    }
}
