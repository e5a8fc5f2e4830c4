//! Replacing positions of an input, and seeing which positions of the output notice.

use candle_core::{DType, Tensor};

use super::matrix::Matrix;
use crate::{
    Failure, Result, Seed,
    check::function::{self, Function, dims_of},
    measure::{
        perturb::{Mix, cells_that_differ, differences},
        scan::is_finite,
    },
    verdict::count,
};

/// About so many rows a call are the fastest: fewer do not fill the kernels, more do not fit the caches.
const ROWS: usize = 8;

/// Where the positions are: a dimension of the input, and that of the output. 0 are the rows themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    pub(super) dim: usize,
    pub(super) output_dim: usize,
}

/// A function, its input, and what it makes of it.
///
/// Where the positions are rows (dim 0), all of them are positions of one row, number 0.
pub(super) struct Probes<'p, 'f> {
    f: &'p mut Function<'f>,
    along: Along,
    seed: Seed,
    state: State,
    /// The caller's own batch, where copies of it are in use.
    own: Option<State>,
    /// How often the function was called.
    pub(super) calls: usize,
}

struct State {
    x: Vec<Tensor>,
    /// One for each draw of other values.
    mixes: Vec<Mix>,
    base: Tensor,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl<'p, 'f> Probes<'p, 'f> {
    pub(super) fn new(
        f: &'p mut Function<'f>,
        x: &[Tensor],
        along: Along,
        seed: Seed,
    ) -> Result<Self> {
        function::input(x)?;
        if !x.iter().any(|tensor| tensor.rank() > along.dim) {
            let was = format!("{} for an input of {}", along.dim, dims_of(x));
            return Err(Failure::bad_argument("dim", was, "a dimension of the input"));
        }
        if (along.dim == 0) != (along.output_dim == 0) {
            let was = format!("{} beside `dim` {}", along.output_dim, along.dim);
            return Err(Failure::bad_argument("output_dim", was, "0 for rows, else 1 or more"));
        }
        let state = State::of(f, x.to_vec(), along, seed)?;
        Ok(Self { f, along, seed, state, own: None, calls: 2 })
    }

    /// Rows with positions of their own, of which each can be replaced differently in one call.
    pub(super) fn rows(&self) -> usize {
        self.state.rows
    }

    pub(super) fn inputs(&self) -> usize {
        self.state.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.state.outputs
    }

    /// What the function makes of its input.
    pub(super) fn base(&self) -> &Tensor {
        &self.state.base
    }

    /// The input, contiguous.
    pub(super) fn input(&self) -> Result<Vec<Tensor>> {
        Ok(self.state.mixes[0].base()?)
    }

    /// For every row and output position, one behind the other, its largest value.
    pub(super) fn sizes(&self) -> Result<Vec<f64>> {
        let base = &self.state.base;
        Ok(differences(base, &base.zeros_like()?, self.along.output_dim)?)
    }

    /// Whether the outputs are of half precision.
    pub(super) fn is_half(&self) -> bool {
        matches!(self.state.base.dtype(), DType::F16 | DType::BF16)
    }

    /// The output has one position for each of the input.
    pub(super) fn must_pair(&self) -> Result<()> {
        if self.inputs() == self.outputs() {
            return Ok(());
        }
        let dims = dims_of(&self.state.x);
        Err(Failure::not_run(format!(
            "the function returned dims {:?} for an input of {dims}: {} of dim {} for {} of dim {}",
            self.state.base.dims(),
            count(self.outputs(), "output position"),
            self.along.output_dim,
            count(self.inputs(), "position"),
            self.along.dim,
        ))
        .help(
            "let the closure return one output for each position, and name the dimensions with `dim` and `output_dim` where \
             they are not 1; an output of the last position alone cannot be judged",
        ))
    }

    /// Repeats the rows of a small batch, so that fewer calls do for so many probes. The function may not take another
    /// number of rows: then all stays as it is.
    pub(super) fn widen(&mut self, probes: usize) {
        let copies = ROWS.min(probes).div_ceil(self.state.rows);
        if self.along.dim == 0 || copies < 2 {
            return;
        }
        let repeated = |tensor: &Tensor| Tensor::cat(&vec![tensor.contiguous()?; copies], 0);
        let wide = self.state.x.iter().map(repeated).collect::<candle_core::Result<_>>();
        let wide = wide.map_err(Failure::from);
        self.calls += 2;
        if let Ok(wide) = wide.and_then(|x| State::of(self.f, x, self.along, self.seed))
            && wide.outputs == self.state.outputs
        {
            self.own = Some(std::mem::replace(&mut self.state, wide));
        }
    }

    /// Back to the caller's own batch; whether copies were in use. Rows that are mixed are told of that batch only.
    pub(super) fn narrow(&mut self) -> bool {
        match self.own.take() {
            Some(own) => {
                self.state = own;
                true
            }
            None => false,
        }
    }

    /// What the function returns when the named positions of the named rows have the values of a draw.
    fn call(&mut self, draw: usize, replaced: &dyn Fn(usize, usize) -> bool) -> Result<Tensor> {
        while self.state.mixes.len() <= draw {
            let seed = self.seed.split(&format!("draw {}", self.state.mixes.len()));
            self.state.mixes.push(mixed(
                &self.state.x,
                &function::alternatives(&self.state.x, seed)?,
                self.along,
            )?);
        }
        self.calls += 1;
        let len = self.state.inputs;
        let x = self.state.mixes[draw].replacing(|cell| replaced(cell / len, cell % len))?;
        (self.f)(&x).map_err(changed)
    }

    /// For every row and output position, one behind the other, whether any bit of it differs, at the speed of memory; and
    /// the output.
    pub(super) fn bits(
        &mut self,
        draw: usize,
        replaced: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(Vec<bool>, Tensor)> {
        let output = self.call(draw, replaced)?;
        Ok((cells_that_differ(&self.state.base, &output, self.along.output_dim)?, output))
    }

    /// For every row and output position, one behind the other, by how much its values move.
    pub(super) fn moved(
        &mut self,
        draw: usize,
        replaced: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Vec<f64>> {
        let output = self.call(draw, replaced)?;
        self.moves_of(&output)
    }

    pub(super) fn moves_of(&self, output: &Tensor) -> Result<Vec<f64>> {
        let base = &self.state.base;
        if base.dims() != output.dims() || base.dtype() != output.dtype() {
            // Says so.
            cells_that_differ(base, output, self.along.output_dim)?;
        }
        Ok(differences(base, output, self.along.output_dim)?)
    }

    /// As [`moved`](Self::moved), with all other rows as they were.
    pub(super) fn moved_alone(
        &mut self,
        draw: usize,
        row: usize,
        replaced: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<f64>> {
        self.moved(draw, &|r, position| r == row && replaced(position))
    }

    /// Which of the input's tensors moves the output, each replaced by itself; none where there is one only.
    pub(super) fn members_that_move(
        &mut self,
        draw: usize,
        (row, output): (usize, usize),
        replaced: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<usize>> {
        let state = &self.state;
        let mut movers = Vec::new();
        if state.x.len() == 1 {
            return Ok(movers);
        }
        let seed = if draw == 0 { self.seed } else { self.seed.split(&format!("draw {draw}")) };
        let others = function::alternatives(&state.x, seed)?;
        for member in (0..others.len()).filter(|member| state.mixes[0].mixes(*member)) {
            let only = |(i, other): (usize, &Option<Tensor>)| other.clone().filter(|_| i == member);
            let only: Vec<Option<Tensor>> = others.iter().enumerate().map(only).collect();
            let mix = Mix::new(&state.x, &only, self.along.dim)?;
            let len = state.inputs;
            let x = mix.replacing(|cell| cell / len == row && replaced(cell % len))?;
            self.calls += 1;
            let moved = differences(&state.base, &(self.f)(&x)?, self.along.output_dim)?;
            if moved[row * state.outputs + output] > 0.0 {
                movers.push(member);
            }
        }
        Ok(movers)
    }

    /// By how much each position of the input moves each of the output, one position of a row at a time.
    ///
    /// `alone`: with all other rows as they were, for a function that mixes rows; takes as many more calls.
    pub(super) fn matrix(&mut self, alone: bool, draws: usize) -> Result<Matrix> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let mut matrix = Matrix::new(outputs, inputs);
        let at_once = if alone { 1 } else { self.rows() };
        for draw in 0..draws {
            let lone = draw % self.rows();
            for start in (0..inputs).step_by(at_once) {
                // Another row of the batch in each draw: what one row hides another may show.
                let of_row = |row: usize| match alone {
                    true => (row == lone).then_some(start),
                    false => Some(start + (row + draw) % at_once).filter(|at| *at < inputs),
                };
                let moved = self.moved(draw, &|row, at| of_row(row) == Some(at))?;
                for (row, moved) in moved.chunks(outputs).enumerate() {
                    if let Some(input) = of_row(row) {
                        matrix.raise(input, moved);
                    }
                }
            }
        }
        Ok(matrix)
    }
}

impl State {
    fn of(f: &mut Function<'_>, x: Vec<Tensor>, along: Along, seed: Seed) -> Result<Self> {
        let mix = mixed(&x, &function::alternatives(&x, seed)?, along)?;
        if !mix.is_mixed() {
            return Err(Failure::vacuous(format!(
                "no tensor of the input with a dimension {} has other values: it is all zeros of an integer dtype",
                along.dim,
            ))
            .help("give an input with at least two different ids, so that one can replace another"));
        }
        let base = function::steady_rows(f, &mix.base()?, 1)?;
        let Some(outputs) = base.dims().get(along.output_dim).copied() else {
            return Err(no_positions(&x, &base, along));
        };
        let first = x.iter().find(|tensor| tensor.rank() > along.dim).map_or(&[][..], |t| t.dims());
        let (rows, inputs) = match along.dim {
            0 => (1, first[0]),
            dim => (first[0], first[dim]),
        };
        Ok(Self { x, mixes: vec![mix], base, rows, inputs, outputs })
    }
}

/// The input beside other values of it. A tensor with infinities is a mask, and stays as it is where another one can be
/// replaced: without a score left an attention returns NaN, which no mask behind it stops (0 times NaN is NaN).
fn mixed(x: &[Tensor], others: &[Option<Tensor>], along: Along) -> Result<Mix> {
    let without_masks = (x.iter().zip(others))
        .map(|(own, other)| Ok(if is_finite(own)? { other.clone() } else { None }))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let mix = Mix::new(x, &without_masks, along.dim)?;
    Ok(if mix.is_mixed() { mix } else { Mix::new(x, others, along.dim)? })
}

/// The caller's own input was taken; says that another one was not.
pub(super) fn changed(failure: Failure) -> Failure {
    failure.fact("called with", "the input with other values of its kind in some places")
}

/// The output has no dimension of positions.
fn no_positions(x: &[Tensor], output: &Tensor, along: Along) -> Failure {
    Failure::not_run(format!(
        "the function returned dims {:?} for an input of {}: no dimension {} to hold an output for each position",
        output.dims(),
        dims_of(x),
        along.output_dim,
    ))
    .help(
        "let the closure return one output for each position; an output of the last position alone cannot be judged",
    )
}
