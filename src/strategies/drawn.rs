//! A drawn value that knows how it was made.

use std::{fmt, ops::Deref};

use proptest::{
    strategy::{NewTree, Strategy, ValueTree},
    test_runner::TestRunner,
};

use super::{Group, Tree, group::Composed};
use crate::{__private::AsInput, Input};

/// A drawn value with the line of Rust that makes it again.
///
/// It dereferences to the value, and assertions take it as an input: `model.forward(&x)` works as with a tensor. `Debug` prints the line and the elements,
/// where candle's prints the dimensions alone.
#[derive(Clone)]
#[non_exhaustive]
pub struct Drawn<V> {
    /// The tensor, or the tensors.
    pub value: V,
    /// An expression for a test with `use candling::{prelude::*, strategies}` that returns `candling::Result<()>`.
    pub line: String,
}

impl<V> Deref for Drawn<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V: Composed> fmt::Debug for Drawn<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.line, self.value.show())
    }
}

impl<I: Input> AsInput for Drawn<I> {
    type Input = I;

    fn as_input(&self) -> &I {
        &self.value
    }
}

/// A strategy whose values are [`Drawn`]: see [`Tensors::with_line`](super::Tensors::with_line).
#[derive(Clone, Debug)]
#[must_use = "strategies do nothing unless used"]
pub struct WithLine<V>(Group<V>);

impl<V: Composed> WithLine<V> {
    pub(super) fn new(strategy: Group<V>) -> Self {
        Self(strategy)
    }
}

impl<V: Composed> Strategy for WithLine<V> {
    type Tree = DrawnTree<V>;
    type Value = Drawn<V>;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        self.0.new_tree(runner).map(DrawnTree)
    }
}

/// A [`Tree`] whose values know their line.
#[derive(Clone, Debug)]
pub struct DrawnTree<V>(Tree<V>);

impl<V: Composed> ValueTree for DrawnTree<V> {
    type Value = Drawn<V>;

    fn current(&self) -> Drawn<V> {
        Drawn { value: self.0.current(), line: self.0.line() }
    }

    fn simplify(&mut self) -> bool {
        self.0.simplify()
    }

    fn complicate(&mut self) -> bool {
        self.0.complicate()
    }
}
