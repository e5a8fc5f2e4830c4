//! Bugs beside their clean twins: what the assertions see, and that they leave the twins alone.
//!
//! Tests and the scoreboard example share this module, so it depends on nothing else in `tests/`.

mod data;
pub(crate) mod entry;
mod gradient_flow;
mod gradient_value;
mod loss;
mod loss_terms;
mod models;
mod numerics;
mod optimizer;
mod optimizers;
mod regularization;
#[cfg(test)]
mod soak;
mod training_loop;

use entry::Entry;

/// Every entry, group by group.
pub(crate) fn entries() -> Vec<Entry> {
    [
        loss::ENTRIES,
        loss_terms::ENTRIES,
        gradient_flow::ENTRIES,
        gradient_value::ENTRIES,
        optimizer::ENTRIES,
        training_loop::ENTRIES,
        numerics::ENTRIES,
        regularization::ENTRIES,
    ]
    .concat()
}

/// Runs `work` with candle's products on this one core: on tensors this small its thread pool costs three times what
/// it does, and entries are what is run side by side.
pub(crate) fn on_one_core<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a thread can be started").install(work)
}
