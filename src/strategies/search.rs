//! The search for a counterexample, for the assertions that take a strategy in place of an input.

use candle_core::Tensor;

use super::{Composed, Group, shrink::Shrink};
use crate::{Failure, FailureKind, Result, Seed, verdict::count};

/// Judges the tensors of one case. Not generic: a search is compiled once, whatever it is for.
type Judge<'j> = dyn FnMut(&[Tensor]) -> Result<()> + 'j;

/// What one case in ten shows is missed by that many once in a thousand searches; proptest's 256 would cost a model four
/// times the time.
const CASES: usize = 64;

/// Far more than any shrinking here takes (about twenty): a guard against a judge that answers differently each time.
const MOST_TRIED: usize = 1000;

impl<V: Composed> Group<V> {
    /// Judges cases of this strategy, all of them pure functions of `seed`, and says how many there were. The failure is
    /// that of the smallest case that was found, with the line that makes it again.
    ///
    /// A case on which nothing could have failed (dimensions of 1 make many a function constant) says nothing: the search
    /// is vacuous where all are.
    ///
    /// # Errors
    ///
    /// The counterexample's failure; a strategy that cannot be met; `Vacuous` where every case is.
    pub(crate) fn judge_each(&self, seed: Seed, judge: &mut Judge<'_>) -> Result<usize> {
        match self.search(seed, CASES, judge)? {
            None => Ok(CASES),
            Some(found) => Err(found.told()),
        }
    }

    pub(super) fn search(
        &self,
        seed: Seed,
        cases: usize,
        judge: &mut Judge<'_>,
    ) -> Result<Option<Counterexample>> {
        let drawn = |case| Ok(self.tree(seed.split(&format!("case {case}")))?.into_shrink());
        search(cases, &drawn, V::line, judge)
    }
}

/// The smallest case found on which a property fails.
#[derive(Debug)]
pub(super) struct Counterexample {
    /// What was said of it.
    pub(super) failure: Failure,
    /// The line of Rust that makes it again.
    pub(super) line: String,
    /// Which of the drawn cases it was, counted from 1: those before it did not fail.
    case: usize,
    /// How many simpler cases were tried.
    pub(super) tried: usize,
}

impl Counterexample {
    /// The failure with the way back to it.
    fn told(self) -> Failure {
        let drawn = match self.case {
            1 => "the first one drawn".to_owned(),
            case => format!("drawn after {}", count(case - 1, "other")),
        };
        let trials = count(self.tried, "trial");
        self.failure
            .fact("case", format!("{drawn}, made as small as possible in {trials}"))
            .fact("made by", self.line)
    }
}

type Line = fn(&mut dyn Iterator<Item = String>) -> String;

fn search(
    cases: usize,
    drawn: &dyn Fn(usize) -> Result<Shrink>,
    line: Line,
    judge: &mut Judge<'_>,
) -> Result<Option<Counterexample>> {
    let mut vacuous = None;
    let mut judged = 0;
    for case in 1..=cases {
        let shrink = drawn(case)?;
        match judge(&shrink.make()?) {
            Ok(()) => judged += 1,
            Err(failure) if failure.kind() == FailureKind::Vacuous => {
                vacuous.get_or_insert(failure);
            }
            Err(failure) => {
                let line_of = |shrink: &Shrink| line(&mut shrink.lines());
                let found = Counterexample { failure, line: line_of(&shrink), case, tried: 0 };
                return smallest(shrink, found, &line_of, judge).map(Some);
            }
        }
    }
    match vacuous {
        Some(failure) if judged == 0 => Err(failure),
        _ => Ok(None),
    }
}

/// Down from a case that fails. A simpler one counts only where it fails in the same way (the kind and the first cause):
/// what fails on zeros, because of a division, is not what was found.
fn smallest(
    mut shrink: Shrink,
    mut found: Counterexample,
    line_of: &dyn Fn(&Shrink) -> String,
    judge: &mut Judge<'_>,
) -> Result<Counterexample> {
    let mut more = shrink.simplify();
    while more && found.tried < MOST_TRIED {
        if shrink.is_back() {
            break;
        }
        found.tried += 1;
        more = match judge(&shrink.make()?) {
            Err(failure) if alike(&failure, &found.failure) => {
                (found.failure, found.line) = (failure, line_of(&shrink));
                shrink.simplify()
            }
            _ => shrink.complicate(),
        };
    }
    Ok(found)
}

fn alike(a: &Failure, b: &Failure) -> bool {
    a.kind() == b.kind() && a.cause() == b.cause()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::DType;

    use super::*;
    use crate::{
        Cause, Finding,
        strategies::{self, Layout},
    };

    const SEED: Seed = Seed::new(3);

    fn wide_and_large(x: &[Tensor]) -> Result<()> {
        let largest: f64 = x[0].to_dtype(DType::F64)?.max_all()?.to_scalar()?;
        match x[0].dim(1)? >= 3 && largest > 0.5 {
            true => Err(Failure::violated("too wide")),
            false => Ok(()),
        }
    }

    #[test]
    fn the_smallest_counterexample_comes_with_the_way_back() -> Result<()> {
        let strategy = strategies::tensor([1..9, 1..9]).layouts(Layout::ALL).group();
        let run = || strategy.judge_each(SEED, &mut wide_and_large).unwrap_err();
        insta::assert_snapshot!(run().text(), @"
        too wide

          case     the first one drawn, made as small as possible in 8 trials
          made by  strategies::tensor([1, 3]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?
        ");
        assert_eq!(run().text(), run().text());
        Ok(())
    }

    #[test]
    fn a_property_that_holds_is_tried_on_every_case() -> Result<()> {
        let mut seen = BTreeSet::new();
        let strategy = strategies::tensor([1..9, 1..9]).group();
        let cases = strategy.judge_each(SEED, &mut |x| {
            seen.insert(x[0].to_string());
            Ok(())
        })?;
        assert_eq!((cases, seen.len()), (CASES, CASES));
        Ok(())
    }

    #[test]
    fn a_simpler_case_that_fails_otherwise_is_no_counterexample() -> Result<()> {
        let strategy = strategies::tensor([2, 3]).group();
        let found = strategy.search(SEED, 5, &mut |x| {
            let sum: f64 = x[0].abs()?.to_dtype(DType::F64)?.sum_all()?.to_scalar()?;
            let cause = if sum == 0.0 { Cause::NotFinite } else { Cause::ValuesDiffer };
            Err(Failure::violated("no").finding(Finding::confirmed(cause, "seen")))
        })?;
        let found = found.unwrap();
        assert_eq!(found.failure.cause(), Some(Cause::ValuesDiffer));
        assert!(found.line.contains("OneNonzero"), "{}", found.line);
        Ok(())
    }

    #[test]
    fn cases_that_prove_nothing_neither_fail_nor_pass() -> Result<()> {
        let vacuous_up_to = |most: usize| {
            move |x: &[Tensor]| match x[0].dim(0)? <= most {
                true => Err(Failure::vacuous("constant")),
                false => Ok(()),
            }
        };
        let strategy = strategies::tensor(1..5).group();
        assert!(strategy.judge_each(SEED, &mut vacuous_up_to(3)).is_ok());
        let failure = strategy.judge_each(SEED, &mut vacuous_up_to(4)).unwrap_err();
        assert_eq!((failure.kind(), failure.headline()), (FailureKind::Vacuous, "constant"));
        Ok(())
    }

    #[test]
    fn the_errors_of_a_closure_and_of_a_strategy_come_through() -> Result<()> {
        let strategy =
            strategies::batch(strategies::tensor((2..6, 3)), strategies::labels(3, 2..6));
        let failure =
            strategy.judge_each(SEED, &mut |x| Ok(x[0].matmul(&x[1]).map(|_| ())?)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun);
        insta::assert_snapshot!(failure.text(), @"
        shape mismatch in matmul, lhs: [2, 3], rhs: [2]

          case     the first one drawn, made as small as possible in 3 trials
          made by  (strategies::tensor([2, 3]).values(strategies::Values::Constant(0.0)).sample(Seed::new(0))?,
                   strategies::tokens(1, [2]).sample(Seed::new(1))?)
        ");
        let refused = strategies::tokens(0, 3).group().judge_each(SEED, &mut |_| Ok(()));
        assert!(refused.unwrap_err().text().contains("ids or classes is 0"));
        Ok(())
    }

    /// A judge whose answers change does not keep the search going.
    #[test]
    fn an_unsteady_judge_ends() -> Result<()> {
        let mut calls = 0u32;
        let strategy = strategies::tensor([1..40, 1..40, 1..40]).layouts(Layout::ALL).group();
        let found = strategy.search(SEED, 64, &mut |_| {
            calls += 1;
            match calls % 3 {
                0 => Err(Failure::violated("now and then")),
                _ => Ok(()),
            }
        })?;
        assert!(found.is_some_and(|found| found.tried <= MOST_TRIED));
        Ok(())
    }
}
