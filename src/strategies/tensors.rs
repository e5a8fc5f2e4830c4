//! The strategy for one tensor.

use candle_core::{DType, Tensor};
use proptest::{
    strategy::{NewTree, Strategy},
    test_runner::TestRunner,
};

use super::{Dims, Group, Layout, Tree, Values, WithLine, recipe::Recipe};
use crate::{Failure, Result, Seed};

/// A strategy for tensors, made by the functions of [`strategies`](crate::strategies).
#[derive(Clone, Debug, PartialEq)]
#[must_use = "strategies do nothing unless used"]
pub struct Tensors {
    pub(super) dims: Dims,
    pub(super) values: Values,
    pub(super) dtypes: Vec<DType>,
    pub(super) layouts: Vec<Layout>,
    pub(super) distinct: bool,
}

impl Tensors {
    pub(super) fn new(dims: Dims, values: Values, dtype: DType) -> Self {
        Self {
            dims,
            values,
            dtypes: vec![dtype],
            layouts: vec![Layout::Contiguous],
            distinct: true,
        }
    }

    /// What the elements are; [`Values::Normal`] for [`tensor`](super::tensor).
    pub fn values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// The dtype of every tensor.
    pub fn dtype(self, dtype: DType) -> Self {
        self.dtypes([dtype])
    }

    /// The dtypes to choose from, each as likely. The first counts as the simplest.
    pub fn dtypes(mut self, dtypes: impl IntoIterator<Item = DType>) -> Self {
        self.dtypes = dtypes.into_iter().collect();
        self
    }

    /// The layout of every tensor; [`Layout::Contiguous`] by default.
    pub fn layout(self, layout: Layout) -> Self {
        self.layouts([layout])
    }

    /// The layouts to choose from, each as likely among those that the rank allows: [`Layout::ALL`], say. Not the default,
    /// because candle refuses other layouts in many places (a transposed input of `Linear` is one): that is a finding of
    /// its own, which would hide the others.
    pub fn layouts(mut self, layouts: impl IntoIterator<Item = Layout>) -> Self {
        self.layouts = layouts.into_iter().collect();
        self
    }

    /// Whether no two dimensions may be equal: `true` by default. Two that are fixed (`[4, 4]`) may be equal anyway.
    pub fn distinct(mut self, distinct: bool) -> Self {
        self.distinct = distinct;
        self
    }

    /// The tensor that this strategy has for a seed: one of its shapes, dtypes and layouts, and values from the seed's
    /// stream.
    ///
    /// # Errors
    ///
    /// A strategy that cannot be met: see [the module](super#what-cannot-be-drawn).
    pub fn sample(&self, seed: Seed) -> Result<Tensor> {
        self.group().sample(seed)
    }

    /// The same strategy with the line of Rust that makes the value again, for `proptest!` to print.
    pub fn with_line(self) -> WithLine<Tensor> {
        self.group().with_line()
    }

    pub(crate) fn group(&self) -> Group<Tensor> {
        Group::from(self.clone())
    }

    pub(super) fn allow(&self, recipe: &Recipe) -> bool {
        self.dims.allow(&recipe.dims, self.distinct)
            && recipe.layout.fits(recipe.dims.len())
            && recipe.values.fit(&recipe.dims).is_ok()
    }

    pub(super) fn check(&self) -> Result<()> {
        // A dimension that `one_hot(0, ..)` adds is fixed, so its name must come first.
        self.values.check(&self.dtypes)?;
        self.dims.check(self.distinct)?;
        if self.layouts.is_empty() {
            return Err(Failure::bad_argument("layouts", "empty", "at least one layout"));
        }
        let none = |rank: &usize| !self.layouts.iter().any(|layout| layout.fits(*rank));
        if let Some(rank) = self.dims.ranks().find(none) {
            return Err(Failure::bad_argument(
                "layouts",
                format_args!("{:?} for tensors of rank {rank}", self.layouts),
                "`Transposed` from rank 2 on, `Narrowed` and `Broadcast` from rank 1, `Contiguous` for every rank",
            ));
        }
        Ok(())
    }
}

impl Strategy for Tensors {
    type Tree = Tree<Tensor>;
    type Value = Tensor;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        self.group().new_tree(runner)
    }
}
