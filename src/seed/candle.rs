//! Candle's own generators, which models draw dropout masks from, made repeatable.

#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
mod getrandom;

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
    thread,
};

use candle_core::{Device, Tensor};
use rand::rngs::ThreadRng;

use super::{Seed, draw};
use crate::{Failure, Result};

/// Without a function to stand in for, there is nothing to answer.
#[cfg(not(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static"))))]
mod getrandom {
    pub(super) fn answer_from(_: Option<u64>) {}
}

/// Why this target can do nothing; `None` where it can.
const UNSUPPORTED: Option<&str> = if cfg!(not(target_os = "linux")) {
    Some("it is reached through a function of Linux's C library, and this is another system")
} else if cfg!(not(target_env = "gnu")) {
    Some("it is reached through a function of glibc, and this target has another C library")
} else if cfg!(target_feature = "crt-static") {
    Some("it is reached through a function of glibc, which is linked statically here (crt-static)")
} else {
    None
};

const HELP: &str = "run this test on linux-gnu with its default settings, or test what does not depend on the draws: the \
                    model in evaluation mode, dropout with probability 0, or the mean of many draws";

thread_local! {
    static SEEDED: Cell<bool> = const { Cell::new(false) };
}

static SEEDED_DEVICES: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// While it lives, candle's own random numbers are those of a [`Seed`]; made by [`Seed::seed_candle`] and
/// [`Seed::seed_candle_on`].
///
/// It stays on the thread that made it. Dropping it, also by a panic, gives the thread fresh entropy back.
#[derive(Debug)]
#[must_use = "candle's generator is seeded while this lives: bind it, as in `let _seeded = seed.seed_candle()?;`"]
pub struct SeededCandle(Generator);

#[derive(Debug)]
enum Generator {
    /// The handle keeps the generator alive and the guard on its thread.
    Thread(ThreadRng),
    Device {
        device: Device,
        seed_before: u64,
    },
}

impl Seed {
    /// Makes candle's CPU generator repeatable on this thread for as long as the guard lives.
    ///
    /// Dropout, `Tensor::rand` and `Tensor::randn` draw from a generator of the calling thread that candle cannot seed
    /// (`Device::Cpu.set_seed` is an error). With the guard, equal seeds give equal draws; that they do is tried out
    /// before the guard is returned. Other threads keep their entropy, those that the test starts itself included:
    /// each can have a guard of its own.
    ///
    /// The draws are repeatable with one version of candle and `rand`, not for ever: use the methods of [`Seed`] for
    /// numbers to be kept in a file.
    ///
    /// ```
    /// use candling::{Seed, prelude::*};
    ///
    /// # if !cfg!(all(target_os = "linux", target_env = "gnu")) { return Ok(()) }
    /// let dropout = candle_nn::Dropout::new(0.5);
    /// let x = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
    /// let masked = || -> candling::Result<Tensor> {
    ///     let _seeded = Seed::new(7).seed_candle()?;
    ///     Ok(dropout.forward(&x, true)?)
    /// };
    /// assert_close!(masked()?, masked()?, tolerance = Tolerance::exact());
    /// # candling::Result::Ok(())
    /// ```
    ///
    /// # Limits
    ///
    /// - Only linux-gnu with a dynamically linked C library; elsewhere this is an error that says so.
    /// - It works by defining the C function `getrandom`, and a program has room for one definition: two versions of
    ///   candling, or another crate that does the same, do not link or do not take effect.
    /// - While the guard lives, whatever on this thread asks the system for exactly 32 random bytes gets the seed's,
    ///   keys for cryptography too. Enable the feature `seed-candle` for tests (`[dev-dependencies]`), never in a
    ///   library's normal dependencies.
    ///
    /// # Errors
    ///
    /// [`NotRun`](crate::FailureKind::NotRun) where the generator cannot be seeded, and where a guard lives on this
    /// thread already.
    pub fn seed_candle(self) -> Result<SeededCandle> {
        if let Some(reason) = UNSUPPORTED {
            return Err(refused("candle's CPU generator cannot be seeded here", reason));
        }
        if SEEDED.get() {
            return Err(Failure::not_run(
                "candle's CPU generator is seeded on this thread already",
            )
            .help("drop the first guard before the second is made, say by a block of its own"));
        }
        SEEDED.set(true);
        // From here on the guard undoes what was done, however this function is left.
        let guard = SeededCandle(Generator::Thread(rand::rng()));
        let key = draw::key(self.value(), "seed_candle");
        let start = || -> Result<()> {
            getrandom::answer_from(Some(key));
            rand::rng().reseed().map_err(|error| {
                refused("candle's CPU generator could not be seeded", &error.to_string())
            })
        };
        start()?;
        let first = draws(&Device::Cpu)?;
        start()?;
        if draws(&Device::Cpu)? != first {
            return Err(refused(
                "candle's CPU generator does not take the seed",
                "two draws from one seed differ: this program's `getrandom` is not the one that candling defines \
                 (another crate defines it too, the symbol is hidden, `--cfg getrandom_backend` chose another source) \
                 or candle draws from another generator than rand 0.9's",
            ));
        }
        start()?;
        Ok(guard)
    }

    /// As [`seed_candle`](Seed::seed_candle), for whatever generator candle uses for `device`.
    ///
    /// On the CPU it is the same. On CUDA and Metal it is [`Device::set_seed`], and the generator belongs to the
    /// device: all threads that share `device` share it, so draws repeat only where no other thread draws. Dropping the
    /// guard sets the seed that the device had before.
    ///
    /// # Errors
    ///
    /// [`NotRun`](crate::FailureKind::NotRun) where the generator cannot be seeded, and where it is seeded already.
    pub fn seed_candle_on(self, device: &Device) -> Result<SeededCandle> {
        if device.is_cpu() {
            return self.seed_candle();
        }
        let seed_before = device.get_current_seed()?;
        {
            let mut seeded = SEEDED_DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
            if seeded.iter().any(|other| other.same_device(device)) {
                return Err(Failure::not_run(
                    "candle's generator of this device is seeded already",
                )
                .fact("device", format!("{:?}", device.location()))
                .help(
                    "drop the first guard before the second is made; threads need a device each",
                ));
            }
            seeded.push(device.clone());
        }
        let guard = SeededCandle(Generator::Device { device: device.clone(), seed_before });
        let seed = draw::key(self.value(), "seed_candle");
        device.set_seed(seed)?;
        let first = draws(device)?;
        device.set_seed(seed)?;
        if draws(device)? != first {
            return Err(refused(
                "candle's generator of this device does not take the seed",
                "two draws from one seed differ; another thread may be drawing from the same device",
            ));
        }
        device.set_seed(seed)?;
        Ok(guard)
    }
}

/// Through candle, so that the generator which is tried out is the one that models use.
fn draws(device: &Device) -> Result<Vec<f32>> {
    Ok(Tensor::rand(0f32, 1., 8, device)?.to_vec1()?)
}

fn refused(what: &str, why: &str) -> Failure {
    Failure::not_run(what).fact("why", why).help(HELP)
}

impl Drop for SeededCandle {
    fn drop(&mut self) {
        match &mut self.0 {
            Generator::Thread(generator) => {
                getrandom::answer_from(None);
                SEEDED.set(false);
                let fresh = generator.reseed();
                // A second panic would abort the test binary, and hide the first.
                if let Err(error) = fresh
                    && !thread::panicking()
                {
                    panic!("candle's generator got no fresh entropy: {error}");
                }
            }
            Generator::Device { device, seed_before } => {
                // A device that fails here has failed whatever ran on it before; there is nobody to tell.
                let _ = device.set_seed(*seed_before);
                let mut seeded = SEEDED_DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
                seeded.retain(|other| !other.same_device(device));
            }
        }
    }
}
