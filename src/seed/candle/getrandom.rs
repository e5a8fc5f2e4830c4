//! Answering, on one thread, the system call that rand's thread generator takes its seeds from.
//!
//! rand 0.9 asks getrandom 0.3, which on linux-gnu looks the C function `getrandom` up by name. A definition in the
//! program comes before the one in libc, so the one below is found. It asks the kernel, as libc's does, unless this
//! thread has a seed.

use std::{
    cell::Cell,
    ffi::{c_uint, c_void},
};

use crate::seed::draw;

/// A ChaCha key: what the generator asks for when it seeds itself. Requests of any other length go to the kernel, so
/// that std's keys of a `HashMap` (16 bytes) stay random and take nothing from the stream.
const KEY: usize = 32;

thread_local! {
    /// The next key's place in the stream of SplitMix64. Without a destructor, so that it can be read at any time.
    static STREAM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's generator gets its keys from the stream that starts here, or from the kernel.
pub(super) fn answer_from(start: Option<u64>) {
    // The address is taken so that a linker which drops unreferenced functions keeps this one.
    std::hint::black_box(getrandom as *const () as usize);
    STREAM.set(start);
}

/// What libc's function of this name does, `errno` included.
///
/// # Safety
///
/// As libc's: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if length == KEY
        && let Some(place) = STREAM.get()
    {
        STREAM.set(Some(draw::after_stream(place)));
        // SAFETY: the caller vouches for `length` bytes, which is how many there are; they do not overlap a local.
        unsafe { std::ptr::copy_nonoverlapping(draw::stream(place).as_ptr(), buffer.cast(), KEY) };
        return KEY as isize;
    }
    // SAFETY: the arguments are the caller's, who vouches for them; the call sets `errno` as libc's function does.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize }
}
