//! What a passed check of the two modes saw.

use std::fmt;

use crate::{
    Finding,
    verdict::{count, listed, number},
};

/// One place where training drops values at random.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DropoutSeen {
    /// The layer it comes after, by the prefix of its variables: `after fc1`. A second place there is `after fc1 (2)`.
    pub place: String,
    /// The share of values dropped, over all passes.
    pub rate: f64,
    /// What the values that stay are multiplied by: `1 / (1 - p)` where it is right.
    pub scale: f64,
    /// How many draws were seen; a draw may be for many elements.
    pub draws: usize,
    /// The dimensions along which one draw holds: `[2, 3]` for dropout of whole channels of images.
    pub shared: Vec<usize>,
}

/// One layer with running statistics.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NormSeen {
    /// The prefix of its variables; empty where they have none.
    pub layer: String,
    /// Its running statistics, by their full names.
    pub statistics: Vec<String>,
    /// Whether a training pass moves them.
    pub moves: bool,
    /// The share of the batch's own statistic in an update, in candle's and PyTorch's sense: 0.1 is usual. `None` where
    /// the statistics do not move, or are no moving average.
    pub momentum: Option<f64>,
    /// Whether evaluation uses them; `None` where evaluation is random.
    pub used_in_eval: Option<bool>,
}

/// What a passed [`TrainEvalModes`](super::TrainEvalModes) saw. `Display` is a table of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainEvalModesReport {
    /// Whether two training passes on one input differ.
    pub train_is_random: bool,
    /// How many training passes were compared.
    pub passes: usize,
    /// The places where values are dropped, in the order they were computed, as far as the autograd graph shows them.
    pub dropout: Vec<DropoutSeen>,
    /// The layers with running statistics, sorted by name.
    pub norms: Vec<NormSeen>,
    /// How far evaluation is from training on this input once the running statistics are those of its batch, as after many
    /// passes on it: the norm of the difference by the norm of the training output. Near 0 for a batch norm (the running
    /// variance is the unbiased one, which is allowed for); not judged, since the modes may differ in other things by
    /// intent. `None` without a moving average, and where a mode is random.
    pub settled_gap: Option<f64>,
    /// Training passes moved something that is none of the learner's variables, and that evaluation sees: running statistics
    /// outside of them, as a rule. They are not saved with the variables, and were not put back.
    pub hidden_state: bool,
    /// Variables that the graph of a training pass does not reach: what is dropped on the way to them is not seen, where
    /// one of candle's fused operations ends the graph. Running statistics are not listed.
    pub unreached: Vec<String>,
    /// What was found and is allowed.
    pub allowed: Vec<Finding>,
}

impl fmt::Display for TrainEvalModesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.train_is_random { "which differ" } else { "all equal" };
        writeln!(f, "{} training passes, {how}", self.passes)?;
        f.write_str(&dropout_table(&self.dropout))?;
        f.write_str(&norm_table(&self.norms))?;
        if let Some(gap) = self.settled_gap {
            let gap = number(gap);
            writeln!(f, "with settled statistics evaluation is {gap} away from training")?;
        }
        if self.hidden_state {
            writeln!(f, "training moves something that is no variable, and evaluation sees it")?;
        }
        if !self.unreached.is_empty() {
            let names: Vec<&str> = self.unreached.iter().map(String::as_str).collect();
            writeln!(f, "not seen before {}: the graph ends there", listed(&names))?;
        }
        Ok(())
    }
}

/// A line a place.
pub(super) fn dropout_table(places: &[DropoutSeen]) -> String {
    let width = places.iter().map(|place| place.place.chars().count()).max().unwrap_or(0);
    let line = |place: &DropoutSeen| {
        let of = match place.shared.as_slice() {
            [] => count(place.draws, "value"),
            shared => format!(
                "{} that {} over dimension {}",
                count(place.draws, "draw"),
                if place.draws == 1 { "holds" } else { "hold" },
                shared.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
            ),
        };
        format!(
            "{:<width$}  drops {} of {of}, keeps the others times {}\n",
            place.place,
            number(place.rate),
            number(place.scale),
        )
    };
    places.iter().map(line).collect()
}

/// A line a layer.
pub(super) fn norm_table(norms: &[NormSeen]) -> String {
    let name = |norm: &NormSeen| match norm.layer.is_empty() {
        true => norm.statistics.join(", "),
        false => norm.layer.clone(),
    };
    let width = norms.iter().map(|norm| name(norm).chars().count()).max().unwrap_or(0);
    let line = |norm: &NormSeen| {
        let moves = match (norm.moves, norm.momentum) {
            (false, _) => "running statistics stay".to_owned(),
            (true, None) => "running statistics move".to_owned(),
            (true, Some(m)) => format!("running statistics move, momentum {}", number(m)),
        };
        let used = match norm.used_in_eval {
            Some(true) => ", evaluation uses them",
            Some(false) => ", evaluation does not use them",
            None => "",
        };
        format!("{:<width$}  {moves}{used}\n", name(norm))
    };
    norms.iter().map(line).collect()
}
