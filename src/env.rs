//! The environment, read in one place.

use std::{env, path::PathBuf};

use candle_core::Device;

use crate::{Failure, Result};

/// What the environment asks for. Unknown values are errors that list the allowed ones.
///
/// | variable | allowed | default |
/// |---|---|---|
/// | `CANDLING_SEED` | a whole number of 64 bits | the seed in the test |
/// | `CANDLING_UPDATE` | `auto`, `new`, `always`, `no` | `auto`: `new` on a desk, `no` in CI |
/// | `CANDLING_ARTIFACTS` | a folder | nothing is written |
/// | `CANDLING_DEVICE` | `cpu`, `cuda`, `cuda:N`, `metal` | `cpu` |
///
/// ```
/// use candling::Env;
///
/// let env = Env::from_lookup(|name| (name == "CANDLING_SEED").then(|| "7".to_owned()))?;
/// assert_eq!(env.seed(), Some(7));
///
/// let failure = Env::from_lookup(|_| Some("gpu".to_owned())).unwrap_err();
/// assert!(failure.text().contains("CANDLING_"));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Env {
    seed: Option<u64>,
    update: Update,
    artifacts: Option<PathBuf>,
    device: DeviceName,
}

/// Whether goldens may be written: `CANDLING_UPDATE`. In CI they never are, whatever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Update {
    /// Write what is missing on a desk, nothing in CI.
    #[default]
    Auto,
    /// Write what is missing.
    New,
    /// Write what is missing and what differs.
    Always,
    /// Write nothing.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceName {
    Cpu,
    Cuda(usize),
    Metal,
}

impl Env {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// An unknown value, naming the variable and the values allowed.
    pub fn read() -> Result<Self> {
        Self::from_lookup(|name| env::var(name).ok())
    }

    /// Reads from `lookup` instead of the process's environment, so that tests of it do not race.
    ///
    /// An empty value counts as none.
    ///
    /// # Errors
    ///
    /// An unknown value, naming the variable and the values allowed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let value = |name: &str| lookup(name).filter(|v| !v.is_empty());
        let in_ci = value("CI").is_some_and(|v| !matches!(v.as_str(), "false" | "0"));
        let update = match value("CANDLING_UPDATE") {
            None => Update::Auto,
            Some(text) => parse_update(&text)?,
        };
        Ok(Self {
            seed: value("CANDLING_SEED").map(|text| parse_seed(&text)).transpose()?,
            update: if in_ci { Update::No } else { update },
            artifacts: value("CANDLING_ARTIFACTS").map(PathBuf::from),
            device: match value("CANDLING_DEVICE") {
                None => DeviceName::Cpu,
                Some(text) => parse_device(&text)?,
            },
        })
    }

    /// `CANDLING_SEED`.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// `CANDLING_UPDATE`; always [`Update::No`] where `CI` is set.
    pub fn update(&self) -> Update {
        self.update
    }

    /// `CANDLING_ARTIFACTS`.
    pub fn artifacts(&self) -> Option<&std::path::Path> {
        self.artifacts.as_deref()
    }

    /// The device `CANDLING_DEVICE` names, opened.
    ///
    /// # Errors
    ///
    /// The device is not there, or candle was built without its feature.
    pub fn device(&self) -> Result<Device> {
        match self.device {
            DeviceName::Cpu => Ok(Device::Cpu),
            DeviceName::Cuda(ordinal) => Device::new_cuda(ordinal),
            DeviceName::Metal => Device::new_metal(0),
        }
        .map_err(|error| Failure::from_candle("opening the device of CANDLING_DEVICE", error))
    }
}

/// The device that tests run on: what `CANDLING_DEVICE` names, else the CPU.
///
/// # Errors
///
/// An unknown value, or a device that cannot be opened.
pub fn device() -> Result<Device> {
    Env::read()?.device()
}

fn parse_seed(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        unknown("CANDLING_SEED", text, "a whole number from 0 to 18446744073709551615")
    })
}

fn parse_update(text: &str) -> Result<Update> {
    match text {
        "auto" => Ok(Update::Auto),
        "new" => Ok(Update::New),
        "always" => Ok(Update::Always),
        "no" => Ok(Update::No),
        _ => Err(unknown("CANDLING_UPDATE", text, "auto, new, always, no")),
    }
}

fn parse_device(text: &str) -> Result<DeviceName> {
    match text {
        "cpu" => Some(DeviceName::Cpu),
        "cuda" => Some(DeviceName::Cuda(0)),
        "metal" => Some(DeviceName::Metal),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|ordinal| ordinal.parse().ok())
            .map(DeviceName::Cuda),
    }
    .ok_or_else(|| unknown("CANDLING_DEVICE", text, "cpu, cuda, cuda:N, metal"))
}

fn unknown(variable: &str, was: &str, allowed: &str) -> Failure {
    Failure::bad_argument(variable, format_args!("{was:?}"), allowed)
        .help("unset the environment variable, or give it one of the allowed values")
}

/// Whether a panic's text may be coloured: the convention of `NO_COLOR`, `CLICOLOR_FORCE` and `TERM`.
pub(crate) fn colour() -> bool {
    use std::io::IsTerminal;

    let set = |name: &str| env::var(name).is_ok_and(|v| !v.is_empty());
    if set("NO_COLOR") || env::var("TERM").is_ok_and(|term| term == "dumb") {
        return false;
    }
    let forced = env::var("CLICOLOR_FORCE").is_ok_and(|v| !v.is_empty() && v != "0");
    forced || std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Env> {
        Env::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_defaults() -> Result<()> {
        let env = with(&[])?;
        assert_eq!(env.seed(), None);
        assert_eq!(env.update(), Update::Auto);
        assert_eq!(env.artifacts(), None);
        assert!(env.device()?.is_cpu());
        Ok(())
    }

    #[test]
    fn every_unknown_value_is_an_error_that_lists_the_allowed_ones() {
        for (variable, value, allowed) in [
            ("CANDLING_SEED", "seven", "a whole number"),
            ("CANDLING_UPDATE", "yes", "auto, new, always, no"),
            ("CANDLING_DEVICE", "gpu", "cpu, cuda, cuda:N, metal"),
            ("CANDLING_DEVICE", "cuda:x", "cpu, cuda, cuda:N, metal"),
        ] {
            let text = with(&[(variable, value)]).unwrap_err().text();
            assert!(text.contains(variable) && text.contains(value), "{text}");
            assert!(text.contains(allowed), "{text}");
        }
        let failure = with(&[("CANDLING_UPDATE", "yes")]).unwrap_err();
        insta::assert_snapshot!(failure.text(), @r#"
        `CANDLING_UPDATE` is "yes"; allowed: auto, new, always, no

          help       unset the environment variable, or give it one of the allowed values
        "#);
    }

    #[test]
    fn in_ci_goldens_are_never_written() -> Result<()> {
        assert_eq!(with(&[("CI", "true"), ("CANDLING_UPDATE", "always")])?.update(), Update::No);
        assert_eq!(with(&[("CI", "false"), ("CANDLING_UPDATE", "new")])?.update(), Update::New);
        Ok(())
    }
}
