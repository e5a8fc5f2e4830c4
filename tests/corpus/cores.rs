//! The corpus over all cores.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::entry::Entry;

/// Subjects are not `Send`, so each is built on the thread that tests it.
pub(crate) fn on_all_cores<T: Default + Send>(
    entries: &[Entry],
    judge: impl Fn(&Entry) -> T + Sync,
) -> Vec<T> {
    let results: Mutex<Vec<T>> = Mutex::new(entries.iter().map(|_| T::default()).collect());
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = entries.get(i) else { break };
                    let result = judge(entry);
                    results.lock().expect("no worker panics")[i] = result;
                }
            });
        }
    });
    results.into_inner().expect("no worker panics")
}
