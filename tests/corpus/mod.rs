//! Bugs beside their clean twins: what the assertions see, and that they leave the twins alone.
//!
//! Tests and the scoreboard example share this module, so it depends on nothing else in `tests/`.

pub(crate) mod applicable;
mod architecture;
mod contracts;
pub(crate) mod cores;
mod data;
mod dependence;
pub(crate) mod entry;
mod gradient_flow;
mod gradient_value;
mod gradients;
mod initialisation;
mod inputs;
mod learning;
mod loading;
mod loss;
mod loss_terms;
mod models;
mod modes;
mod normalisation;
mod numerics;
mod optimizer;
mod optimizers;
mod pipeline;
mod property;
mod regularization;
#[cfg(test)]
mod soak;
mod starts;
mod steps;
mod training_loop;
mod two_modes;

use entry::Entry;

/// Every entry, group by group.
pub(crate) fn entries() -> Vec<Entry> {
    let groups = [
        architecture::ENTRIES,
        initialisation::ENTRIES,
        loading::ENTRIES,
        loss::ENTRIES,
        loss_terms::ENTRIES,
        gradient_flow::ENTRIES,
        gradient_value::ENTRIES,
        optimizer::ENTRIES,
        training_loop::ENTRIES,
        modes::ENTRIES,
        normalisation::ENTRIES,
        numerics::ENTRIES,
        regularization::ENTRIES,
    ];
    let groups = groups.into_iter().flatten().copied();
    groups
        .chain(gradients::entries())
        .chain(dependence::entries())
        .chain(inputs::entries())
        .chain(pipeline::entries())
        .chain(starts::entries())
        .chain(contracts::entries())
        .chain(steps::entries())
        .chain(learning::entries())
        .chain(two_modes::entries())
        .collect()
}
