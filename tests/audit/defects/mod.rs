//! What is behind the verdicts that are not "correct": one defect or limit of candle each, with a program that shows it.

/// In the programs: what is printed is recorded, and held against what the page says that it prints.
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::audit::defects::recorder::record(&format!($($argument)*))
    };
}

mod cut;
mod loud;
mod recorder;
mod wrong;

use candle_core::Result;

use super::{quiet::attempt, verdict::Verdict};

pub(crate) struct Defect {
    /// Also the name of the program's module, with underscores.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The worst that comes of it.
    pub(crate) harm: Verdict,
    /// What happens and why.
    pub(crate) what: &'static str,
    /// Issues and pull requests of huggingface/candle.
    pub(crate) upstream: &'static [u32],
    /// A complete program: the page shows the source of what runs here.
    pub(crate) program: fn() -> Result<()>,
    /// What the program prints today, line by line, in the dev profile.
    pub(crate) prints: &'static [&'static str],
    /// The same where overflow is not checked, if that makes a difference.
    pub(crate) prints_unchecked: Option<&'static [&'static str]>,
    /// What the lines would be without the defect.
    pub(crate) right: &'static str,
}

/// Where overflow checks are off, as in a release build, an index below zero wraps around and comes back.
pub(crate) const OVERFLOW_CHECKS: bool = cfg!(debug_assertions);

/// The defects in the order of harm: what is silent comes first.
pub(crate) fn defects() -> impl Iterator<Item = &'static Defect> {
    [wrong::DEFECTS, cut::DEFECTS, loud::DEFECTS].into_iter().flatten()
}

impl Defect {
    /// Runs the program; what it printed, or the error or panic that ended it.
    fn run(&self) -> Vec<String> {
        recorder::take();
        let ended = attempt(self.program);
        let mut printed = recorder::take();
        match ended {
            Err(failed) if failed.verdict == Verdict::Panics => {
                printed.push(format!("panicked: {}", failed.detail));
            }
            Err(failed) => printed.push(format!("Error: {}", failed.detail)),
            Ok(()) => {}
        }
        printed
    }

    /// Runs the program; what it prints in the dev profile, as far as this build can tell.
    pub(crate) fn printed(&self) -> Vec<String> {
        let printed = self.run();
        match self.prints_unchecked {
            Some(unchecked) if !OVERFLOW_CHECKS && printed == unchecked => {
                self.prints.iter().map(|line| (*line).to_owned()).collect()
            }
            _ => printed,
        }
    }

    /// The program as a file of its own.
    pub(crate) fn source(&self) -> String {
        let module = format!("pub(super) mod {} {{", self.id.replace('-', "_"));
        let files = [
            include_str!("wrong/programs.rs"),
            include_str!("cut/programs.rs"),
            include_str!("loud/programs.rs"),
        ];
        let lines = files.into_iter().flat_map(str::lines);
        lines
            .skip_while(|line| *line != module)
            .skip(1)
            .take_while(|line| *line != "}")
            .filter(|line| line.trim() != "#[rustfmt::skip]")
            .map(|line| line.strip_prefix("    ").unwrap_or(line).replace("pub(crate) fn", "fn"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}
