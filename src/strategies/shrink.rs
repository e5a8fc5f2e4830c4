//! The way from a failing case to the smallest one.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::{Layout, Tensors, Values, recipe::Recipe, values::numbers};

/// A search that descends one axis at a time and starts over until no axis descends.
///
/// Along an axis the candidates go from the simplest up to the one that is known to fail. The simplest is tried first;
/// where it passes, numbers are bisected and the rest is tried in order. Every descent makes the case smaller by a
/// well-founded measure (the layout, the rank, the sum of the dimensions, the kind of values, the dtype), so it ends.
#[derive(Clone, Debug)]
pub(super) struct Shrink {
    specs: Arc<[Tensors]>,
    /// The last case known to fail; at first, the case that was drawn.
    failing: Vec<Recipe>,
    current: Vec<Recipe>,
    axes: Vec<Axis>,
    next_axis: usize,
    steps: Vec<Step>,
    bisect: bool,
    /// Steps below this pass; the step `high` fails, or is the failing case itself.
    low: usize,
    high: usize,
    /// The step being tried: `current` is not `failing`.
    probe: Option<usize>,
    descended: bool,
}

/// What can become simpler, each of a member by its number.
#[derive(Clone, Copy, Debug)]
enum Axis {
    Layout(usize),
    Rank(usize),
    Size(usize, usize),
    Values(usize),
    DType(usize),
    Seed,
}

#[derive(Clone, Debug)]
enum Step {
    Layout(usize, Layout),
    Rank(usize, usize),
    Size(usize, usize, usize),
    Values(usize, Values),
    DType(usize, DType),
    Seed(u64),
}

impl Shrink {
    pub(super) fn new(specs: Arc<[Tensors]>, drawn: Vec<Recipe>) -> Self {
        let members = 0..drawn.len();
        // The rows of all members are the first one's.
        let sizes = |member: usize| usize::from(member > 0)..drawn[member].dims.len();
        let axes = (members.clone().map(Axis::Layout))
            .chain(members.clone().map(Axis::Rank))
            .chain(members.clone().flat_map(|m| sizes(m).map(move |i| Axis::Size(m, i))))
            .chain(members.clone().map(Axis::Values))
            .chain(members.map(Axis::DType))
            .chain([Axis::Seed])
            .collect();
        Self {
            specs,
            current: drawn.clone(),
            failing: drawn,
            axes,
            next_axis: 0,
            steps: Vec::new(),
            bisect: false,
            low: 0,
            high: 0,
            probe: None,
            descended: false,
        }
    }

    /// The tensors of the current case.
    pub(super) fn make(&self) -> candle_core::Result<Vec<Tensor>> {
        self.current.iter().map(Recipe::make).collect()
    }

    /// The line of each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.current.iter().map(Recipe::line)
    }

    /// Whether the current case is the last that is known to fail, and nothing simpler is left.
    pub(super) fn is_back(&self) -> bool {
        self.probe.is_none()
    }

    /// The current case fails: on to a simpler one.
    pub(super) fn simplify(&mut self) -> bool {
        if let Some(probe) = self.probe.take() {
            self.failing.clone_from(&self.current);
            self.high = probe;
            self.descended = true;
        }
        self.advance()
    }

    /// The current case passes: on to one less simple, or another way to be simpler; when there is none, back to the last
    /// that fails. That one counts as a change, so that the runner goes on with the other parts of a composed value.
    pub(super) fn complicate(&mut self) -> bool {
        let Some(probe) = self.probe.take() else { return false };
        self.low = probe + 1;
        self.advance();
        true
    }

    fn advance(&mut self) -> bool {
        while self.low >= self.high {
            if self.next_axis == self.axes.len() {
                if !self.descended {
                    self.current.clone_from(&self.failing);
                    return false;
                }
                self.descended = false;
                self.next_axis = 0;
            }
            let axis = self.axes[self.next_axis];
            self.next_axis += 1;
            (self.steps, self.bisect) = self.steps(axis);
            (self.low, self.high) = (0, self.steps.len());
        }
        let probe = match self.bisect && self.low > 0 {
            true => usize::midpoint(self.low, self.high),
            false => self.low,
        };
        self.current = apply(&self.specs, &self.failing, &self.steps[probe]);
        self.probe = Some(probe);
        true
    }

    /// The steps down an axis from the failing case, the simplest first, and whether to bisect them.
    fn steps(&self, axis: Axis) -> (Vec<Step>, bool) {
        let (steps, bisect): (Vec<Step>, bool) = match axis {
            Axis::Layout(m) => {
                let layout = self.failing[m].layout;
                let mut simpler: Vec<Layout> = self.specs[m].layouts.clone();
                simpler.retain(|other| *other < layout);
                simpler.sort();
                (simpler.into_iter().map(|layout| Step::Layout(m, layout)).collect(), false)
            }
            Axis::Rank(m) => {
                let ranks = *self.specs[m].dims.ranks().start()..self.failing[m].dims.len();
                (ranks.map(|rank| Step::Rank(m, rank)).collect(), true)
            }
            Axis::Size(m, i) => {
                let spec = &self.specs[m].dims;
                let dims = &self.failing[m].dims;
                let lowest = spec.sizes(dims.len()).get(i).map(|size| size.lowest());
                let sizes = match (lowest, dims.get(i)) {
                    (Some(lowest), Some(size)) => numbers(lowest, *size),
                    // The rank fell since the axes were listed.
                    _ => Vec::new(),
                };
                (sizes.into_iter().map(|size| Step::Size(m, i, size)).collect(), true)
            }
            Axis::Values(m) => {
                let (simpler, bisect) = self.failing[m].values.simpler();
                (simpler.into_iter().map(|values| Step::Values(m, values)).collect(), bisect)
            }
            Axis::DType(m) => {
                let dtype = self.failing[m].dtype;
                let simpler = self.specs[m].dtypes.iter().take_while(|other| **other != dtype);
                (simpler.map(|dtype| Step::DType(m, *dtype)).collect(), false)
            }
            Axis::Seed => {
                // Any other seed is as good as the drawn one: a few that are short to write.
                let seed = self.failing.first().map_or(0, |recipe| recipe.seed);
                ((0..seed.min(4)).map(Step::Seed).collect(), false)
            }
        };
        let allowed = steps.into_iter().filter(|step| {
            let case = apply(&self.specs, &self.failing, step);
            allow(&self.specs, &case)
        });
        (allowed.collect(), bisect)
    }
}

/// Whether the strategies allow these shapes. Steps keep layouts, values and dtypes within what was asked for.
pub(super) fn allow(specs: &[Tensors], case: &[Recipe]) -> bool {
    specs.iter().zip(case).all(|(spec, recipe)| spec.allow(recipe))
}

fn apply(specs: &[Tensors], case: &[Recipe], step: &Step) -> Vec<Recipe> {
    let mut case = case.to_vec();
    match step {
        Step::Layout(m, layout) => case[*m].layout = *layout,
        Step::Rank(m, rank) => case[*m].dims = specs[*m].dims.cut(&case[*m].dims, *rank),
        Step::Size(0, 0, rows) => {
            for recipe in &mut case {
                if let Some(size) = recipe.dims.first_mut() {
                    *size = *rows;
                }
            }
        }
        Step::Size(m, i, size) => case[*m].dims[*i] = *size,
        Step::Values(m, values) => case[*m].values = values.clone(),
        Step::DType(m, dtype) => case[*m].dtype = *dtype,
        Step::Seed(seed) => {
            for (recipe, offset) in case.iter_mut().zip(0..) {
                recipe.seed = seed.wrapping_add(offset);
            }
        }
    }
    case
}
