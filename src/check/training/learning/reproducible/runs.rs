//! Running a closure with seeds, and keeping what it produced.

use candle_core::Tensor;

use super::difference::Difference;
use crate::{
    Failure, Result, Seed,
    check::function::guarded,
    measure::values::{is_readable, same_bits},
};

/// What a run produced, in the order of production.
pub(super) type Produced = Vec<(String, Tensor)>;

pub(super) struct Runs<'f> {
    f: &'f mut dyn FnMut(Seed) -> Result<Produced>,
    done: Vec<(Seed, Produced)>,
}

impl<'f> Runs<'f> {
    pub(super) fn new(f: &'f mut dyn FnMut(Seed) -> Result<Produced>) -> Self {
        Self { f, done: Vec::new() }
    }

    /// Runs the closure; which run it was, counted from 0.
    pub(super) fn again(&mut self, seed: Seed) -> Result<usize> {
        let run = self.done.len() + 1;
        let produced = guarded("the closure", || (self.f)(seed))
            .map_err(|f| f.fact("run", format!("{run}, with seed {}", seed.value())))?;
        let mut kept = Vec::with_capacity(produced.len());
        for (name, tensor) in produced {
            if !is_readable(tensor.dtype()) {
                let was = format!("a tensor of dtype {}, `{name}`", tensor.dtype().as_str());
                return Err(Failure::bad_argument(
                    "what the closure returned",
                    was,
                    "dtypes whose values candle can read",
                ));
            }
            // A handle on a variable would follow the training that comes after it.
            kept.push((name, tensor.copy()?.detach()));
        }
        self.done.push((seed, kept));
        Ok(run - 1)
    }

    pub(super) fn produced(&self, run: usize) -> &Produced {
        &self.done[run].1
    }

    pub(super) fn seed(&self, run: usize) -> Seed {
        self.done[run].0
    }

    pub(super) fn seeds(&self) -> Vec<Seed> {
        self.done.iter().map(|(seed, _)| *seed).collect()
    }

    /// `0, 0, 1, 0`.
    pub(super) fn order(&self) -> String {
        let seeds: Vec<String> =
            self.done.iter().map(|(seed, _)| seed.value().to_string()).collect();
        seeds.join(", ")
    }

    /// How a run differs from the first of its seed, and which run that was.
    pub(super) fn differs_from_first(&self, run: usize) -> Result<Option<(usize, Difference)>> {
        let (seed, produced) = &self.done[run];
        let first = self.done.iter().position(|(other, _)| other == seed).unwrap_or(run);
        let difference = Difference::between(&self.done[first].1, produced)?;
        Ok(difference.map(|difference| (first, difference)))
    }

    /// The tensors that are the same, bit for bit, whatever the seed.
    pub(super) fn seedless(&self) -> Result<Vec<String>> {
        let mut seedless = Vec::new();
        for (at, (name, tensor)) in self.produced(0).iter().enumerate() {
            let mut same = true;
            for (_, produced) in &self.done {
                same = same
                    && match produced.get(at) {
                        Some((other, value)) => other == name && same_bits(tensor, value)?,
                        None => false,
                    };
            }
            if same {
                seedless.push(name.clone());
            }
        }
        Ok(seedless)
    }

    /// A run that differs because of the runs before it settles when it is repeated; one that draws does not.
    pub(super) fn depends_on_what_ran_before(
        &mut self,
        first: usize,
        at: usize,
    ) -> Result<Option<String>> {
        let seed = self.seed(at);
        let between = self.done[first..=at].iter().any(|(other, _)| *other != seed);
        // Where the closure fails now, nothing more is known.
        let (Ok(second), Ok(third)) = (self.again(seed), self.again(seed)) else {
            return Ok(None);
        };
        let same = |a: usize, b: usize| -> Result<bool> {
            Ok(Difference::between(self.produced(a), self.produced(b))?.is_none())
        };
        if !same(at, second)? || !same(second, third)? {
            return Ok(None);
        }
        Ok(Some(match between {
            true => format!(
                "three runs in a row with seed {} agree with each other, and not with run {}: a run changes the next",
                seed.value(),
                first + 1,
            ),
            false => {
                "the first run differs from the second, and from there on all are equal".to_owned()
            }
        }))
    }
}
