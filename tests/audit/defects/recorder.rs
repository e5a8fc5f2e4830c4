//! What the programs of this thread print.

use std::cell::RefCell;

thread_local! {
    static PRINTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first line only: candle appends a backtrace to errors where the environment asks for one.
pub(super) fn record(text: &str) {
    let line = text.lines().next().unwrap_or_default().trim_end().to_owned();
    PRINTED.with_borrow_mut(|printed| printed.push(line));
}

/// What was printed since the last call.
pub(super) fn take() -> Vec<String> {
    PRINTED.take()
}
