//! The search for a counterexample, for the assertions that take a strategy in place of an input.

use proptest::strategy::ValueTree;

use super::{Composed, Group, Tree};
use crate::{Failure, Result, Seed};

/// The smallest case found on which a property fails.
#[derive(Debug)]
pub(crate) struct Counterexample<V> {
    /// What the property said of it.
    pub(crate) failure: Failure,
    pub(crate) value: V,
    /// The line of Rust that makes the value again.
    pub(crate) line: String,
    /// Which of the drawn cases failed, counted from 1: those before it passed.
    pub(crate) case: u32,
    /// How many simpler cases were tried, and how many of them failed as well.
    pub(crate) tried: u32,
    pub(crate) shrunk: u32,
}

/// A property on `cases` values of a strategy, all of them pure functions of `seed`: `None` where it holds on each.
///
/// A simpler case counts only where it fails in the same way (the kind and the first cause): a property that fails on
/// zeros because of a division is not the one that was found wrong.
///
/// # Errors
///
/// A strategy that cannot be met.
pub(crate) fn search<V: Composed>(
    strategy: &Group<V>,
    seed: Seed,
    cases: u32,
    property: &mut dyn FnMut(&V) -> Result<()>,
) -> Result<Option<Counterexample<V>>> {
    for case in 1..=cases {
        let tree = strategy.tree(seed.split(&format!("case {case}")))?;
        let value = tree.make()?;
        if let Err(failure) = property(&value) {
            let found =
                Counterexample { failure, line: tree.line(), value, case, tried: 0, shrunk: 0 };
            return smallest(tree, found, property).map(Some);
        }
    }
    Ok(None)
}

/// Far more than any shrinking here takes (about thirty): a guard against a property that answers differently each time.
const MOST_TRIED: u32 = 1000;

fn smallest<V: Composed>(
    mut tree: Tree<V>,
    mut found: Counterexample<V>,
    property: &mut dyn FnMut(&V) -> Result<()>,
) -> Result<Counterexample<V>> {
    let mut more = tree.simplify();
    while more && found.tried < MOST_TRIED {
        let line = tree.line();
        // Nothing simpler is left, and the tree is back where it was.
        if line == found.line {
            more = tree.complicate();
            continue;
        }
        found.tried += 1;
        let value = tree.make()?;
        more = match property(&value) {
            Err(failure) if alike(&failure, &found.failure) => {
                found.shrunk += 1;
                (found.failure, found.value, found.line) = (failure, value, line);
                tree.simplify()
            }
            _ => tree.complicate(),
        };
    }
    Ok(found)
}

fn alike(a: &Failure, b: &Failure) -> bool {
    a.kind() == b.kind() && a.cause() == b.cause()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};

    use super::*;
    use crate::{
        Cause, Finding,
        strategies::{self, Layout},
    };

    fn fails(x: &Tensor) -> Result<()> {
        match x.dim(1)? >= 3 && x.to_dtype(DType::F64)?.max_all()?.to_scalar::<f64>()? > 0.5 {
            true => Err(Failure::violated("too wide")),
            false => Ok(()),
        }
    }

    #[test]
    fn the_smallest_counterexample_comes_with_its_failure_and_line() -> Result<()> {
        let strategy = strategies::tensor([1..9, 1..9]).layouts(Layout::ALL).group();
        let run = || search(&strategy, Seed::new(3), 64, &mut fails);
        let found = run()?.unwrap();
        assert_eq!((found.failure.headline(), found.value.dims()), ("too wide", &[1, 3][..]));
        insta::assert_snapshot!(found.line, @"strategies::tensor([1, 3]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?");
        assert!(found.shrunk <= found.tried && found.tried < 60, "{found:?}");
        let again = run()?.unwrap();
        assert_eq!((again.line, again.case, again.tried), (found.line, found.case, found.tried));
        Ok(())
    }

    #[test]
    fn a_property_that_holds_is_tried_on_every_case() -> Result<()> {
        let mut lines = std::collections::BTreeSet::new();
        let strategy = strategies::tensor([1..9, 1..9]).group();
        let found = search(&strategy, Seed::new(3), 20, &mut |x: &Tensor| {
            lines.insert(x.to_string());
            Ok(())
        })?;
        assert!(found.is_none());
        assert_eq!(lines.len(), 20);
        Ok(())
    }

    #[test]
    fn a_simpler_case_that_fails_otherwise_is_no_counterexample() -> Result<()> {
        let strategy = strategies::tensor([2, 3]).group();
        let found = search(&strategy, Seed::new(1), 5, &mut |x: &Tensor| {
            let sum: f64 = x.abs()?.to_dtype(DType::F64)?.sum_all()?.to_scalar()?;
            let cause = if sum == 0.0 { Cause::NotFinite } else { Cause::ValuesDiffer };
            Err(Failure::violated("no").finding(Finding::confirmed(cause, "seen")))
        })?;
        let found = found.unwrap();
        assert_eq!(found.failure.cause(), Some(Cause::ValuesDiffer));
        assert!(found.line.contains("OneNonzero"), "{}", found.line);
        assert_eq!(found.case, 1);
        Ok(())
    }

    #[test]
    fn the_errors_of_a_closure_and_of_a_strategy_come_through() -> Result<()> {
        let found = search(
            &strategies::batch(strategies::tensor((2..6, 3)), strategies::labels(3, 2..6)),
            Seed::new(1),
            5,
            &mut |(x, y): &(Tensor, Tensor)| Ok(x.matmul(y).map(|_| ())?),
        )?;
        let found = found.unwrap();
        assert_eq!(found.failure.kind(), crate::FailureKind::NotRun);
        insta::assert_snapshot!(found.line, @"(strategies::tensor([2, 3]).values(strategies::Values::Constant(0.0)).sample(Seed::new(0))?, strategies::tokens(1, [2]).sample(Seed::new(1))?)");
        let refused = search(&strategies::tokens(0, 3).group(), Seed::new(1), 5, &mut |_| Ok(()));
        assert!(refused.unwrap_err().text().contains("ids or classes is 0"));
        Ok(())
    }
}
