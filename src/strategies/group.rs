//! Strategies for several tensors that share their rows, and for one.

use std::{fmt, marker::PhantomData};

use candle_core::Tensor;
use proptest::{
    num,
    strategy::{NewTree, Strategy, ValueTree},
    test_runner::TestRunner,
};
use rand::RngCore;

use super::{
    Layout, Tensors, WithLine,
    dims::below,
    recipe::Recipe,
    shrink::{Shrink, allow},
};
use crate::{Failure, Result, Seed};

/// What a strategy's tensors make together: a tensor, several inputs, or one of these with targets.
pub trait Composed: fmt::Debug + Clone + Sized {
    /// The value, of as many tensors as it takes from the front.
    fn compose(tensors: &mut dyn Iterator<Item = Tensor>) -> Option<Self>;

    /// Its expression, of those of the tensors.
    fn line(lines: &mut dyn Iterator<Item = String>) -> String;

    /// Its elements, for people.
    fn show(&self) -> String;
}

impl Composed for Tensor {
    fn compose(tensors: &mut dyn Iterator<Item = Tensor>) -> Option<Self> {
        tensors.next()
    }

    fn line(lines: &mut dyn Iterator<Item = String>) -> String {
        lines.next().unwrap_or_default()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<const N: usize> Composed for [Tensor; N] {
    fn compose(tensors: &mut dyn Iterator<Item = Tensor>) -> Option<Self> {
        tensors.take(N).collect::<Vec<_>>().try_into().ok()
    }

    fn line(lines: &mut dyn Iterator<Item = String>) -> String {
        format!("[{}]", lines.take(N).collect::<Vec<_>>().join(", "))
    }

    fn show(&self) -> String {
        self.each_ref().map(Tensor::to_string).join("\n")
    }
}

impl<I: Composed> Composed for (I, Tensor) {
    fn compose(tensors: &mut dyn Iterator<Item = Tensor>) -> Option<Self> {
        Some((I::compose(tensors)?, tensors.next()?))
    }

    fn line(lines: &mut dyn Iterator<Item = String>) -> String {
        let input = I::line(lines);
        format!("({input}, {})", lines.next().unwrap_or_default())
    }

    fn show(&self) -> String {
        format!("{}\n{}", self.0.show(), self.1)
    }
}

/// A strategy for tensors with one number of rows, made by [`inputs`](super::inputs) and [`batch`](super::batch).
#[derive(Clone, Debug)]
#[must_use = "strategies do nothing unless used"]
pub struct Group<V> {
    members: Vec<Tensors>,
    value: PhantomData<fn() -> V>,
}

impl From<Tensors> for Group<Tensor> {
    fn from(only: Tensors) -> Self {
        Self::new(vec![only])
    }
}

impl<V: Composed> Group<V> {
    pub(super) fn new(members: Vec<Tensors>) -> Self {
        Self { members, value: PhantomData }
    }

    pub(super) fn into_members(self) -> Vec<Tensors> {
        self.members
    }

    /// The tensors that this strategy has for a seed; each member's values are of a seed one greater than the one's before.
    ///
    /// # Errors
    ///
    /// A strategy that cannot be met: see [the module](super#what-cannot-be-drawn).
    pub fn sample(&self, seed: Seed) -> Result<V> {
        let specs = tied(&self.members)?;
        let drawn = draw(&specs, &mut seed.rng("strategies"), |_| seed.value())?;
        compose(drawn.iter().map(Recipe::make).collect())
    }

    /// The same strategy with the line of Rust that makes the value again, for `proptest!` to print.
    pub fn with_line(self) -> WithLine<V> {
        WithLine::new(self)
    }

    /// The case that belongs to `seed`: a deterministic search needs no runner.
    pub(super) fn tree(&self, seed: Seed) -> Result<Tree<V>> {
        let specs = tied(&self.members)?;
        // Seeds are small to be read and typed: 65,536 tensors of each shape are enough.
        let small = |rng: &mut dyn RngCore| below(rng, 1 << 16) as u64;
        let drawn = draw(&specs, &mut seed.rng("strategies"), small)?;
        Ok(Tree { shrink: Shrink::new(specs.into(), drawn), value: PhantomData })
    }
}

impl<V: Composed> Strategy for Group<V> {
    type Tree = Tree<V>;
    type Value = V;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        // proptest is on another rand than candle: one number of its own generator is all that is taken from it.
        let seed = num::u64::ANY.new_tree(runner)?.current();
        self.tree(Seed::new(seed)).map_err(|failure| failure.text().into())
    }
}

/// A drawn value on its way to the smallest: what proptest shrinks.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    shrink: Shrink,
    value: PhantomData<fn() -> V>,
}

impl<V: Composed> Tree<V> {
    /// The line of Rust that makes the current value again.
    pub fn line(&self) -> String {
        V::line(&mut self.shrink.lines())
    }

    pub(super) fn into_shrink(self) -> Shrink {
        self.shrink
    }
}

impl<V: Composed> ValueTree for Tree<V> {
    type Value = V;

    fn current(&self) -> V {
        match compose(self.shrink.make()) {
            Ok(value) => value,
            Err(failure) => panic!("{} cannot be made: {}", self.line(), failure.text()),
        }
    }

    fn simplify(&mut self) -> bool {
        self.shrink.simplify()
    }

    fn complicate(&mut self) -> bool {
        self.shrink.complicate()
    }
}

fn compose<V: Composed>(tensors: candle_core::Result<Vec<Tensor>>) -> Result<V> {
    let made = V::compose(&mut tensors?.into_iter());
    made.ok_or_else(|| {
        Failure::not_run("the strategy has another number of tensors than its value")
    })
}

/// The members, checked, with the rows that all of them may have.
fn tied(members: &[Tensors]) -> Result<Vec<Tensors>> {
    let mut members = members.to_vec();
    for member in &members {
        member.check()?;
    }
    let [first, others @ ..] = &mut members[..] else { return Ok(members) };
    if others.is_empty() {
        return Ok(members);
    }
    let all = || std::iter::once(&*first).chain(&*others);
    if let Some(member) = all().find(|member| !member.dims.have_rows()) {
        return Err(Failure::bad_argument(
            "dims",
            format_args!("{}, which allows a scalar", member.dims),
            "the rows as the first dimension",
        ));
    }
    let rows = all().filter_map(|member| member.dims.rows());
    let Some(shared) = rows.reduce(|shared, rows| shared.intersection(rows)) else {
        return Ok(members);
    };
    if shared.is_empty() {
        let each: Vec<String> =
            all().filter_map(|member| member.dims.rows()).map(|rows| rows.to_string()).collect();
        return Err(Failure::bad_argument(
            "rows",
            format_args!("{}, which have none in common", each.join(" and ")),
            "ranges that share a number of rows",
        ));
    }
    for member in &mut members {
        member.dims.set_rows(shared);
    }
    Ok(members)
}

fn draw(
    specs: &[Tensors],
    rng: &mut dyn RngCore,
    seed: impl Fn(&mut dyn RngCore) -> u64,
) -> Result<Vec<Recipe>> {
    const ATTEMPTS: usize = 256;
    let seed = seed(rng);
    let mut last = Vec::new();
    for attempt in 0..=ATTEMPTS {
        let mut case: Vec<Recipe> = Vec::with_capacity(specs.len());
        for (spec, offset) in specs.iter().zip(0..) {
            let mut dims = spec.dims.draw(rng);
            // Ranges so tight that no luck helps: one assignment is known to exist.
            if attempt == ATTEMPTS && spec.distinct {
                dims = spec.dims.packed(dims.len()).unwrap_or(dims);
            }
            if let (Some(first), Some(rows)) = (case.first(), dims.first_mut()) {
                *rows = first.dims.first().copied().unwrap_or(*rows);
            }
            let layouts: Vec<Layout> =
                spec.layouts.iter().copied().filter(|layout| layout.fits(dims.len())).collect();
            case.push(Recipe {
                seed: seed.wrapping_add(offset),
                dims,
                values: spec.values.clone(),
                dtype: spec.dtypes[below(rng, spec.dtypes.len())],
                layout: layouts[below(rng, layouts.len())],
            });
        }
        if allow(specs, &case) {
            return Ok(case);
        }
        last = case;
    }
    Err(undrawable(specs, &last))
}

/// Why the shapes that were drawn will not do: `last` is one of them.
fn undrawable(specs: &[Tensors], last: &[Recipe]) -> Failure {
    for (spec, recipe) in specs.iter().zip(last) {
        if let Err(allowed) = recipe.values.fit(&recipe.dims) {
            return Failure::bad_argument(
                "dims",
                format_args!("{}, which cannot hold {:?}", spec.dims, recipe.values),
                allowed,
            );
        }
    }
    let each: Vec<String> = specs.iter().map(|spec| spec.dims.to_string()).collect();
    Failure::bad_argument(
        "dims",
        format_args!("{}: no shapes with distinct dimensions were found", each.join(" beside ")),
        "wider ranges, or equal dimensions with `.distinct(false)`",
    )
}
