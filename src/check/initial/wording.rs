//! What is wrong with a model's weights, as findings.

use super::{
    copies::EqualRows,
    judged::Weight,
    scale::{self, Off},
    weights_table::WeightVerdict,
};
use crate::{
    Cause, Finding,
    verdict::{count, listed, number},
};

/// One finding for all zeros, one for each other weight.
pub(super) fn constants_and_rows(weights: &[Weight<'_>]) -> Vec<Finding> {
    let of = |verdict| weights.iter().filter(move |weight| weight.row.verdict == verdict);
    let names = |verdict| of(verdict).map(|weight| weight.row.name.as_str()).collect::<Vec<_>>();
    let mut found = Vec::new();
    let zeros = names(WeightVerdict::Zero);
    if !zeros.is_empty() {
        let evidence = "every entry is 0, so all its units are alike";
        found.push(Finding::confirmed(Cause::WeightsConstant, evidence).at(listed(&zeros)).advice_is(
            "`vb.get` without a hint is zeros; use `get_with_hints` with a random init, or name what starts at zero by \
             intent (a gate, LoRA's B, a head) with `allow_zero`",
        ));
    }
    for weight in of(WeightVerdict::Constant) {
        let evidence =
            format!("every entry is {}, so all its units are alike", number(weight.first));
        found.push(
            Finding::confirmed(Cause::WeightsConstant, evidence).at(weight.row.name.as_str()),
        );
    }
    for weight in weights {
        if let Some(rows) = &weight.rows {
            found.push(equal_rows(rows).at(weight.row.name.as_str()));
        }
    }
    found
}

pub(super) fn off_scale(weights: &[Weight<'_>]) -> Vec<Finding> {
    let scaled = |weight: &&Weight<'_>| {
        matches!(weight.row.verdict, WeightVerdict::TooLarge | WeightVerdict::TooSmall)
    };
    let told = |weight: &Weight<'_>| {
        Some(size_told(weight.off?, weight.row.rms).at(weight.row.name.as_str()))
    };
    weights.iter().filter(scaled).filter_map(told).collect()
}

fn equal_rows(rows: &EqualRows) -> Finding {
    let shown: Vec<String> = rows.first.iter().map(usize::to_string).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let repeats = if rows.repeated == 1 { "repeats" } else { "repeat" };
    let evidence = format!(
        "rows {} are equal bit for bit; {} of {} {repeats} an earlier one",
        listed(&shown),
        rows.repeated,
        count(rows.rows, "row"),
    );
    Finding::confirmed(Cause::WeightsDuplicated, evidence)
        .advice_is("draw every row anew: one row was repeated, or broadcast, into all")
}

fn size_told(off: Off, rms: f64) -> Finding {
    let size = number(rms);
    let evidence = match off {
        Off::TooLarge { gain, terms } => format!(
            "entries of size {size} (root mean square) over {}: signals grow {} times, where initialisations are made \
             for {} at most",
            count(terms, "term"),
            number(gain),
            number(scale::USUAL_GAIN),
        ),
        Off::TooSmall { gain, terms } => format!(
            "entries of size {size} (root mean square) over at most {}: a signal shrinks to {} of itself or less",
            count(terms, "term"),
            number(gain),
        ),
        Off::LargeTable { rms } => format!(
            "rows with entries of size {} (root mean square), where embeddings start at 1 or less",
            number(rms),
        ),
    };
    let finding = Finding::confirmed(Cause::WeightsScale, evidence);
    match off {
        Off::LargeTable { .. } => {
            finding.advice_is("draw the rows with a standard deviation of 1 or less")
        }
        _ => finding,
    }
}
