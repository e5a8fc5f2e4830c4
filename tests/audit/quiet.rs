//! Panics as values, without their message on the terminal.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use candle_core::Result;

use super::verdict::{Outcome, Verdict};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `f` returns; its error or panic as an outcome, with the first line of its text.
pub(crate) fn attempt<T>(f: impl FnOnce() -> Result<T>) -> std::result::Result<T, Outcome> {
    static HOOK: Once = Once::new();
    // Other threads, other tests among them, keep their messages.
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Outcome::new(Verdict::Errors, first_line(&error.to_string()))),
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a text");
            Err(Outcome::new(Verdict::Panics, first_line(text)))
        }
    }
}

/// Without the backtrace that candle appends where the environment asks for one.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end().to_owned()
}
