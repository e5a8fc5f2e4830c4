//! What the numbers of the delivered samples tell: pairs, what is missing, and order.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    epoch::{Epoch, Sample},
    ids::Ids,
};
use crate::{
    Cause, Finding,
    verdict::{count, listed},
};

/// A headline with the finding that it is of.
pub(super) type Told = (String, Finding);

fn place(epoch: usize, sample: &Sample) -> String {
    format!("epoch {epoch}, batch {}, row {}", sample.batch, sample.row)
}

/// Inputs that have another sample's target.
pub(super) fn pairs(epochs: &[Epoch], inputs: &Ids, targets: &Ids) -> Option<Told> {
    let all = epochs.iter().enumerate().flat_map(|(epoch, delivered)| {
        let ids = inputs[epoch].iter().zip(&targets[epoch]);
        delivered.samples.iter().zip(ids).map(move |(sample, ids)| (epoch, sample, ids))
    });
    let wrong: Vec<_> = all.filter(|(.., (input, target))| input != target).collect();
    let (epoch, sample, (input, target)) = wrong.first()?;
    let total: usize = targets.iter().map(Vec::len).sum();
    let headline = match wrong.len() {
        n if n == total => format!("all {total} inputs have another sample's target"),
        1 => format!("1 of {total} inputs has another sample's target"),
        n => format!("{n} of {total} inputs have another sample's target"),
    };
    let mut evidence = format!("the input is sample {input}, the target sample {target}'s");
    // In file or storage order on one side alone: that side was left out of the shuffle.
    let in_order = |ids: &Ids| ids.iter().all(|ids| ids.windows(2).all(|pair| pair[0] < pair[1]));
    let same_map = |ids: &Ids| {
        let map = |epoch: usize| -> BTreeMap<usize, usize> {
            inputs[epoch].iter().copied().zip(ids[epoch].iter().copied()).collect()
        };
        epochs.len() > 1 && (1..epochs.len()).all(|epoch| map(epoch) == map(0))
    };
    let mut advice = None;
    if same_map(targets) {
        evidence += "; the same wrong pairs in every epoch";
        advice = Some(
            "the two sides are read in different orders, once: sort both by name (`read_dir` has no order), and build maps with a fixed order",
        );
    } else if in_order(targets) && !in_order(inputs) {
        evidence +=
            "; the targets come in their own order in every epoch: only the inputs are shuffled";
    } else if in_order(inputs) && !in_order(targets) {
        evidence +=
            "; the inputs come in their own order in every epoch: only the targets are shuffled";
    }
    let mut finding = Finding::confirmed(Cause::PairsBroken, evidence).at(place(*epoch, sample));
    if let Some(advice) = advice {
        finding = finding.advice_is(advice);
    }
    Some((headline, finding))
}

/// Every sample once an epoch; with `drop_last`, but for those of a last short batch.
pub(super) fn missing(
    epochs: &[Epoch],
    ids: &Ids,
    samples: usize,
    drop_last: bool,
) -> Option<Told> {
    let (number, told) = (epochs.iter().zip(ids).enumerate())
        .find_map(|(n, (epoch, ids))| Some((n, of_epoch(epoch, ids, samples, drop_last)?)))?;
    let (headline, finding) = told;
    let without = |ids: &Vec<usize>| -> BTreeSet<usize> {
        let delivered: BTreeSet<usize> = ids.iter().copied().collect();
        (0..samples).filter(|id| !delivered.contains(id)).collect()
    };
    let first = without(&ids[0]);
    let always = ids.len() > 1 && !first.is_empty() && ids.iter().all(|ids| without(ids) == first);
    if !always {
        return Some((headline, finding.at(format!("epoch {number}"))));
    }
    let evidence = format!("{}; the same in every epoch", finding.evidence());
    let advice = finding.advice().to_owned();
    let finding = Finding::confirmed(finding.cause(), evidence).advice_is(advice);
    Some((headline, finding.at(format!("epoch {number}"))))
}

fn of_epoch(epoch: &Epoch, ids: &[usize], samples: usize, drop_last: bool) -> Option<Told> {
    let mut times = vec![0usize; samples];
    ids.iter().for_each(|id| times[*id] += 1);
    let missing: Vec<usize> = (0..samples).filter(|id| times[*id] == 0).collect();
    let repeated: Vec<usize> = (0..samples).filter(|id| times[*id] > 1).collect();
    let size = epoch.sizes[0];
    let even = epoch.sizes.iter().all(|rows| *rows == size);
    let left_over = samples % size;
    let dropped = even && repeated.is_empty() && !missing.is_empty() && missing.len() == left_over;
    if (missing.is_empty() && repeated.is_empty()) || (dropped && drop_last) {
        return None;
    }
    let headline = match (missing.len(), repeated.len()) {
        (n, 0) => format!("an epoch leaves out {n} of {}", count(samples, "sample")),
        (0, n) => format!("an epoch delivers {n} of {} more than once", count(samples, "sample")),
        (n, m) => format!(
            "an epoch leaves out {n} of {} and delivers {m} more than once",
            count(samples, "sample")
        ),
    };
    if let Some((first, second)) = same_batches(epoch, ids) {
        let finding = Finding::confirmed(
            Cause::SamplesMissing,
            format!("batch {second} holds the samples of batch {first} once more"),
        )
        .advice_is("look at the index that cuts the batches: it does not move on");
        return Some((headline, finding));
    }
    if dropped {
        let finding = Finding::confirmed(
            Cause::SamplesMissing,
            format!(
                "{} in batches of {size} leave {left_over} over, and the last batch is dropped",
                count(samples, "sample")
            ),
        )
        .advice_is("let the last batch be short, or declare that it is meant: `drop_last = true`");
        return Some((headline, finding));
    }
    // Each sample once, and some of them again to fill the last batch up.
    let filled = even
        && missing.is_empty()
        && ids.len() == samples.div_ceil(size) * size
        && ids[..samples].iter().collect::<BTreeSet<_>>().len() == samples;
    if filled {
        let finding = Finding::confirmed(
            Cause::SamplesMissing,
            format!(
                "the last batch of {size} is filled up with {} that came before",
                count(ids.len() - samples, "sample")
            ),
        )
        .advice_is("let the last batch be short, or declare that samples repeat: `repeats = true`");
        return Some((headline, finding));
    }
    let names = |ids: &[usize]| {
        let names: Vec<String> = ids.iter().map(usize::to_string).collect();
        listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut evidence = Vec::new();
    if !missing.is_empty() {
        evidence.push(format!(
            "without {} {}",
            if missing.len() == 1 { "sample" } else { "samples" },
            names(&missing)
        ));
    }
    if !repeated.is_empty() {
        let most = repeated.iter().map(|id| times[*id]).max().unwrap_or(0);
        evidence.push(format!(
            "{} {} up to {most} times",
            if repeated.len() == 1 { "sample" } else { "samples" },
            names(&repeated)
        ));
    }
    evidence.push(format!("{} of {}", count(epoch.sizes.len(), "batch"), sizes(&epoch.sizes)));
    let mut finding = Finding::confirmed(Cause::SamplesMissing, evidence.join("; "));
    if !repeated.is_empty() {
        finding = finding.advice_is(
            "draw a permutation, not indices with replacement; a weighted sampler is declared with `repeats = true`",
        );
    }
    Some((headline, finding))
}

fn sizes(sizes: &[usize]) -> String {
    let (least, greatest) = (sizes.iter().min(), sizes.iter().max());
    match (least, greatest) {
        (Some(a), Some(b)) if a != b => format!("{a} to {b} rows"),
        (Some(a), _) => count(*a, "row"),
        _ => "no rows".to_owned(),
    }
}

/// Two batches of one epoch with the same samples.
fn same_batches(epoch: &Epoch, ids: &[usize]) -> Option<(usize, usize)> {
    let mut seen: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    for (number, batch) in epoch.batches(ids).into_iter().enumerate() {
        let mut sorted = batch.to_vec();
        sorted.sort_unstable();
        // A batch of one that comes twice is a repeated sample.
        if sorted.len() > 1
            && let Some(first) = seen.insert(sorted, number)
        {
            return Some((first, number));
        }
    }
    None
}

/// Every epoch in an order of its own, and in batches of its own.
pub(super) fn order(epochs: &[Epoch], ids: &Ids) -> Option<Told> {
    let (first, others) = ids.split_first()?;
    let told = |headline: &str, evidence: &str| {
        Some((
            headline.to_owned(),
            Finding::confirmed(Cause::OrderNotShuffled, evidence.to_owned()),
        ))
    };
    if others.iter().all(|ids| ids == first) {
        let in_order = first.windows(2).all(|pair| pair[0] < pair[1]);
        return match in_order {
            true => told(
                "the samples come in the order they are stored in, in every epoch",
                "0, 1, 2, .. in every epoch: nothing shuffles",
            ),
            false => told(
                "the samples come in one and the same order in every epoch",
                "shuffled once, before the first epoch, or with a generator that starts anew",
            ),
        };
    }
    let partition = |number: usize| -> BTreeSet<BTreeSet<usize>> {
        let batches = epochs[number].batches(&ids[number]);
        batches.into_iter().map(|batch| batch.iter().copied().collect()).collect()
    };
    let batches = partition(0);
    let of_several = batches.len() > 1 && batches.iter().any(|batch| batch.len() > 1);
    if of_several && (1..epochs.len()).all(|number| partition(number) == batches) {
        return told(
            "the batches hold the same samples in every epoch",
            "only the order of the batches changes, or that of the rows within them",
        );
    }
    None
}
