//! How many bugs the assertions catch and name, and how often they cry wolf.
//!
//! `cargo run --release --example scoreboard -- [--seeds N] [--only NAMES] [--own] [--applicable] [--failures] [--json]`
//!
//! `--only F2,C7g` runs the entries of these ids; groups (`architecture`) and assertions (`GradientsFlow`) are names, too.
//! `--own` leaves `assert_healthy!` out, which takes most of the time. `--applicable` asks of every clean twin all else that
//! applies to it, whatever its entry is about, and prints nothing but that.

#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::{collections::BTreeMap, process::ExitCode};

use candling::{Cause, Seed};
use corpus::{
    applicable,
    cores::on_all_cores,
    entry::{Assertion, Entry, Verdict},
};

/// An entry is caught when it is on each of the first seeds: a bug seen by luck is not seen.
const SEEDS_TO_CATCH: u64 = 3;

/// How the text of a clean half's failure begins.
const FALSE_ALARM: &str = "FALSE ALARM";

struct Options {
    seeds: u64,
    json: bool,
    failures: bool,
    /// Whether each entry is given to its own assertion alone.
    own: bool,
    /// Whether clean twins are asked all that applies to them, and nothing else is run.
    applicable: bool,
    /// The ids, groups or assertions of the entries to run; all of them where none is named.
    only: Vec<String>,
}

impl Options {
    fn runs(&self, entry: &Entry) -> bool {
        let assertion = match entry.assertion {
            Assertion::Test(name) => name.to_owned(),
            assertion => format!("{assertion:?}"),
        };
        let names = [entry.id, entry.group, assertion.as_str()];
        self.only.is_empty() || self.only.iter().any(|only| names.contains(&only.as_str()))
    }
}

/// What the verdicts on one entry come to.
#[derive(Clone, Default)]
struct Score {
    caught: bool,
    named: bool,
    /// The first causes reported for the buggy half, one for each of the first seeds.
    causes: Vec<Option<Cause>>,
    clean_runs: usize,
    false_alarms: usize,
    /// Buggy halves in which a gradient that was cut is taken for an unused variable, or the other way round.
    confused: usize,
    /// Failures worth reading: false alarms, and buggy halves that were missed or misnamed.
    texts: Vec<String>,
}

#[derive(Default)]
struct Total {
    pairs: usize,
    caught: usize,
    named: usize,
    clean_runs: usize,
    false_alarms: usize,
}

impl Total {
    fn add(&mut self, score: &Score) {
        self.pairs += 1;
        self.caught += usize::from(score.caught);
        self.named += usize::from(score.named);
        self.clean_runs += score.clean_runs;
        self.false_alarms += score.false_alarms;
    }

    fn of<'a>(scores: impl IntoIterator<Item = &'a Score>) -> Self {
        let mut total = Self::default();
        scores.into_iter().for_each(|score| total.add(score));
        total
    }

    fn json(&self) -> String {
        format!(
            r#"{{"pairs": {}, "caught": {}, "named": {}, "clean_runs": {}, "false_alarms": {}}}"#,
            self.pairs, self.caught, self.named, self.clean_runs, self.false_alarms
        )
    }

    fn line(&self) -> String {
        let percent = |n: usize| 100.0 * n as f64 / self.pairs.max(1) as f64;
        format!(
            "{} of {} caught ({:.0} %), {} named ({:.0} %), {}",
            self.caught,
            self.pairs,
            percent(self.caught),
            self.named,
            percent(self.named),
            self.alarms(),
        )
    }

    fn alarms(&self) -> String {
        let alarms =
            format!("{} false alarms in {} clean runs", self.false_alarms, self.clean_runs);
        match self.false_alarms {
            // With none in n runs, a rate above 3/n would have shown one with a probability of 95 %.
            0 => format!("{alarms} (rate below {:.2} %)", 300.0 / self.clean_runs.max(1) as f64),
            _ => alarms,
        }
    }
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            print(&format!(
                "{wrong}\nusage: scoreboard [--seeds N] [--only NAMES] [--own] [--applicable] [--failures] [--json]"
            ));
            return ExitCode::FAILURE;
        }
    };
    // SAFETY: no other thread runs yet.
    // candle's thread pool costs three times what these small products do; entries are what runs side by side.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    let mut entries = corpus::entries();
    entries.retain(|entry| options.runs(entry));
    if entries.is_empty() {
        print(&format!("no entry is named {}", options.only.join(",")));
        return ExitCode::FAILURE;
    }
    if options.applicable {
        let alarms = on_all_cores(&entries, |entry| alarms(entry, options.seeds));
        print(&of_applicable(&alarms.concat(), entries.len() as u64 * options.seeds));
        return ExitCode::SUCCESS;
    }
    let scores = score_all(&entries, &options);
    print(&match options.json {
        true => json(&entries, &scores),
        false => page(&entries, &scores, &options),
    });
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout, reason = "printing is what this program is for")]
fn print(text: &str) {
    println!("{text}");
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: 30,
        json: false,
        failures: false,
        own: false,
        applicable: false,
        only: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = true,
            "--failures" => options.failures = true,
            "--own" => options.own = true,
            "--applicable" => options.applicable = true,
            "--only" => {
                let names = args.next().unwrap_or_default();
                options.only = names.split(',').map(str::to_owned).collect();
            }
            "--seeds" => {
                let value = args.next().unwrap_or_default();
                options.seeds = match value.parse() {
                    Ok(seeds) if seeds > 0 => seeds,
                    _ => return Err(format!("--seeds is {value:?}; allowed: 1 or more")),
                };
            }
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(options)
}

/// Every entry by its own assertion and by `assert_healthy!`.
fn score_all(entries: &[Entry], options: &Options) -> Vec<[Score; 2]> {
    on_all_cores(entries, |entry| {
        let own = score(entry, entry.assertion, options.seeds);
        let healthy = match options.own {
            true => Score::default(),
            false => score(entry, Assertion::Healthy, options.seeds),
        };
        [own, healthy]
    })
}

/// What else fails a clean twin, and its text.
fn alarms(entry: &Entry, seeds: u64) -> Vec<String> {
    let mut all = Vec::new();
    for seed in 0..seeds {
        match (entry.clean)(Seed::new(seed)) {
            Ok(subject) => all.extend(applicable::alarms(entry.id, &subject).into_iter().map(
                |(check, failure)| {
                    format!("{}, seed {seed}: {check}\n{}", entry.id, indented(&failure.text()))
                },
            )),
            Err(failure) => all.push(format!("{}, seed {seed}: {}", entry.id, failure.text())),
        }
    }
    all
}

fn of_applicable(alarms: &[String], models: u64) -> String {
    let count = format!("{} false alarms on {models} clean models", alarms.len());
    [alarms, &[count]].concat().join("\n\n")
}

fn score(entry: &Entry, assertion: Assertion, seeds: u64) -> Score {
    let mut score = Score { caught: true, named: true, ..Score::default() };
    for seed in 0..SEEDS_TO_CATCH.min(seeds) {
        let verdict = Verdict::of(assertion, entry.buggy, Seed::new(seed));
        let named = verdict.is_caught() && verdict.cause() == Some(entry.cause);
        score.caught &= verdict.is_caught();
        score.named &= named;
        score.causes.push(verdict.cause());
        score.confused += usize::from(verdict.confuses(entry.cause));
        if !named {
            score.texts.push(format!("buggy, seed {seed}: {}", verdict.text()));
        }
    }
    for seed in 0..seeds {
        let verdict = Verdict::of(assertion, entry.clean, Seed::new(seed));
        score.clean_runs += 1;
        if !verdict.passed() {
            score.false_alarms += 1;
            score.texts.push(format!("{FALSE_ALARM}, seed {seed}: {}", verdict.text()));
        }
    }
    score
}

fn groups<'a>(
    entries: &[Entry],
    scores: &'a [[Score; 2]],
) -> BTreeMap<&'static str, Vec<&'a Score>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (entry, [own, _]) in entries.iter().zip(scores) {
        groups.entry(entry.group).or_default().push(own);
    }
    groups
}

fn json(entries: &[Entry], scores: &[[Score; 2]]) -> String {
    let total = |which: usize| Total::of(scores.iter().map(|both| &both[which])).json();
    let groups: Vec<String> = groups(entries, scores)
        .into_iter()
        .map(|(group, scores)| format!(r#""{group}": {}"#, Total::of(scores).json()))
        .collect();
    format!(
        r#"{{"total": {}, "healthy": {}, "groups": {{{}}}}}"#,
        total(0),
        total(1),
        groups.join(", ")
    )
}

fn page(entries: &[Entry], scores: &[[Score; 2]], options: &Options) -> String {
    let mut lines = vec![format!(
        "{:4} {:26} {:7} {:26} {:>6}  {:12} bug",
        "id", "expected", "verdict", "reported first", "alarms", "healthy"
    )];
    for (entry, [own, healthy]) in entries.iter().zip(scores) {
        lines.push(format!(
            "{:4} {:26} {:7} {:26} {:>6}  {:12} {}",
            entry.id,
            entry.cause.code(),
            word(own),
            reported(own),
            format!("{}/{}", own.false_alarms, own.clean_runs),
            of_healthy(healthy),
            entry.bug,
        ));
        if options.failures {
            let of_healthy = healthy.texts.iter().filter(|text| text.starts_with(FALSE_ALARM));
            let texts = own.texts.iter().chain(of_healthy);
            lines.extend(texts.map(|text| format!("\n{}\n", indented(text))));
        }
    }
    lines.push(String::new());
    for (group, scores) in groups(entries, scores) {
        lines.push(format!("{group:15} {}", Total::of(scores).line()));
    }
    lines.push(format!("{:15} {}", "total", Total::of(scores.iter().map(|[own, _]| own)).line()));
    if !options.own {
        let healthy = Total::of(scores.iter().map(|[_, healthy]| healthy));
        lines.push(format!("{:15} {}", "by healthy", healthy.line()));
    }
    let confused: Vec<&str> = (entries.iter().zip(scores))
        .filter(|(_, both)| both.iter().any(|score| score.confused > 0))
        .map(|(entry, _)| entry.id)
        .collect();
    lines.push(match confused.is_empty() {
        true => "cut and unused are never confused".to_owned(),
        false => format!("cut and unused are confused in {}", confused.join(", ")),
    });
    lines.extend(missed(entries, scores));
    lines.join("\n")
}

fn missed(entries: &[Entry], scores: &[[Score; 2]]) -> Vec<String> {
    let missed: Vec<String> = entries
        .iter()
        .zip(scores)
        .filter(|(_, [own, _])| !own.caught)
        .map(|(entry, _)| {
            let by = entry.missed_today.map(|later| format!(" (will be seen by {later})"));
            format!("  {:4} {}{}", entry.id, entry.bug, by.unwrap_or_default())
        })
        .collect();
    match missed.is_empty() {
        true => vec!["\nno bug is missed".to_owned()],
        false => [vec!["\nmissed:".to_owned()], missed].concat(),
    }
}

fn of_healthy(score: &Score) -> String {
    match score.clean_runs {
        0 => "-".to_owned(),
        runs => format!("{} {}/{runs}", word(score), score.false_alarms),
    }
}

fn word(score: &Score) -> &'static str {
    match (score.caught, score.named) {
        (true, true) => "named",
        (true, false) => "caught",
        _ => "MISSED",
    }
}

/// The causes reported for the buggy half; one where the seeds agree.
fn reported(score: &Score) -> String {
    let mut codes: Vec<&str> =
        score.causes.iter().map(|cause| cause.map_or("-", Cause::code)).collect();
    codes.dedup();
    codes.join(", ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("        {line}")).collect::<Vec<_>>().join("\n")
}
