//! The padded inputs that are tried.

use candle_core::{DType, Tensor};

use super::{
    super::{
        grid::{Apart, Grid, worse},
        rounding::{Bound, Rounding},
    },
    PaddingInvariant, Side,
    mask::Padded,
    padded::{Layout, Pad},
    tried::{EXACT, Question, Tried, judged},
};
use crate::{
    Cause, Failure, Finding, Result, check::function, measure::values::same_bits, verdict::count,
};

/// Rows tried one by one: a bug of single rows is in all of them.
const ROWS_ALONE: usize = 4;

pub(super) struct Trial<'t, 'f> {
    f: &'t mut Padded<'f>,
    x: &'t Tensor,
    options: &'t PaddingInvariant,
    pub(super) mask_dtype: DType,
    pub(super) everywhere: bool,
    pub(super) bound: Bound,
    /// Other values, for the content of padding.
    other: Option<Tensor>,
    own: Tensor,
}

impl<'t, 'f> Trial<'t, 'f> {
    pub(super) fn new(
        f: &'t mut Padded<'f>,
        x: &'t Tensor,
        options: &'t PaddingInvariant,
        mask_dtype: DType,
    ) -> Result<Self> {
        let ones = |x: &Tensor| Tensor::ones((x.dim(0)?, x.dim(1)?), mask_dtype, x.device());
        let mut of_x = |members: &[Tensor]| f(&members[0], &ones(&members[0])?);
        let members = std::slice::from_ref(x);
        let own = function::steady_rows(&mut of_x, members, 1)?;
        let other = function::alternatives(members, options.seed)?.pop().flatten();
        if let Some(other) = &other
            && same_bits(&of_x(std::slice::from_ref(other))?, &own)?
        {
            return Err(Failure::vacuous(
                "the output is the same, bit for bit, for another `x`: padding cannot matter to it",
            )
            .finding(Finding::confirmed(Cause::InputIgnored, "every value of `x` replaced")));
        }
        let grid = Grid::of_rows(&own)?;
        let mut rounding = Rounding::of(&grid, own.dtype(), x.dtype());
        rounding.measure(&mut of_x, members, &own, options.seed)?;
        let mut trial = Self {
            bound: Bound::new(options.tolerance, &rounding, own.dtype()),
            everywhere: false,
            f,
            x,
            options,
            mask_dtype,
            other,
            own,
        };
        trial.everywhere = trial.has_positions()?;
        Ok(trial)
    }

    /// Whether the output grows with the input; an output that does neither is refused.
    fn has_positions(&mut self) -> Result<bool> {
        let (rows, len) = (self.x.dim(0)?, self.x.dim(1)?);
        let layout = Layout { lengths: vec![len; rows], width: len + 1, left: false };
        let wider = self.call(&layout, &Pad::Value(self.options.pad), None)?;
        let (own, wider) = (self.own.dims(), wider.dims());
        if own == wider {
            return Ok(false);
        }
        let fits = own.len() >= 2
            && wider.len() == own.len()
            && (own[0], own[1]) == (rows, len)
            && (wider[0], wider[1]) == (rows, len + 1)
            && own[2..] == wider[2..];
        if fits {
            return Ok(true);
        }
        Err(Failure::not_run(format!(
            "the function returned dims {own:?} for {} and {wider:?} for {}; allowed: [batch, time, ..] for positions, or \
             [batch, ..] for rows",
            count(len, "position"),
            count(len + 1, "position"),
        )))
    }

    /// Calls the function on a padded input; `mask` replaces the layout's own.
    pub(super) fn call(
        &mut self,
        layout: &Layout,
        pad: &Pad<'_>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.call_rows(self.x.clone(), layout, pad, mask)
    }

    fn call_rows(
        &mut self,
        x: Tensor,
        layout: &Layout,
        pad: &Pad<'_>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let padded = layout.padded(&x, pad)?;
        let own = layout.mask(self.mask_dtype, x.device())?;
        (self.f)(&padded, mask.unwrap_or(&own)).map_err(|failure| {
            failure
                .fact("x", format!("{:?}, padded from {:?}", padded.dims(), x.dims()))
                .fact("mask", format!("{:?} of {}", own.dims(), self.mask_dtype.as_str()))
                .help("padding makes twice as many positions: where the model ends before that, give a shorter `x`")
        })
    }

    /// The real positions of an output; rows as they are where the output has no positions.
    fn real(&self, output: &Tensor, layout: &Layout) -> Result<Vec<Grid>> {
        let rows = layout.lengths.len();
        if output.dims().first() != Some(&rows)
            || (self.everywhere && output.dims().get(1) != Some(&layout.width))
        {
            return Err(Failure::not_run(format!(
                "the function returned dims {:?} for {} of {}; allowed: the rows{} first, as in {:?} for {:?}",
                output.dims(),
                count(rows, "row"),
                count(layout.width, "position"),
                if self.everywhere { " and positions" } else { "" },
                self.own.dims(),
                self.x.dims(),
            )));
        }
        let each = |row: usize| -> Result<Grid> {
            let own = output.narrow(0, row, 1)?;
            Ok(match self.everywhere {
                true => {
                    Grid::of_positions(&own.narrow(1, layout.start(row), layout.lengths[row])?)?
                }
                false => Grid::of_rows(&own)?,
            })
        };
        (0..rows).map(each).collect()
    }

    fn sides(&self) -> Vec<bool> {
        match self.options.side {
            Side::Right => vec![false],
            Side::Left => vec![true],
            Side::Both => vec![false, true],
        }
    }

    pub(super) fn pad(&self) -> Pad<'static> {
        Pad::Value(self.options.pad)
    }

    /// Every padded input, on every side asked for.
    pub(super) fn all(&mut self) -> Result<Vec<Tried>> {
        let (rows, len) = (self.x.dim(0)?, self.x.dim(1)?);
        let whole = Layout { lengths: vec![len; rows], width: len, left: false };
        let unpadded = self.real(&self.own.clone(), &whole)?;
        let mut tried = Vec::new();
        for left in self.sides() {
            let side = if left { "left" } else { "right" };
            // More padding than there is to see, so that what counts it is far off.
            for padding in [1, len.max(3)] {
                let layout = Layout { lengths: vec![len; rows], width: len + padding, left };
                let output = self.call(&layout, &self.pad(), None)?;
                let real = self.real(&output, &layout)?;
                let name = format!("padded by {padding} on the {side}");
                let bound = self.bound;
                tried.push(judged(Question::Length, &layout, name, (&real, &unpadded), &bound));
                if padding > 1
                    && let Some(other) = self.other.clone()
                {
                    let changed = self.call(&layout, &Pad::Other(&other), None)?;
                    let changed = self.real(&changed, &layout)?;
                    let name = format!("with other content on the {side}");
                    let both = (changed.as_slice(), real.as_slice());
                    tried.push(judged(Question::Content, &layout, name, both, &EXACT));
                }
            }
            tried.extend(self.one_row(left)?);
            tried.extend(self.mixed(left)?);
        }
        Ok(tried)
    }

    /// Rows alone; the first that differs, or else the last that was tried.
    fn one_row(&mut self, left: bool) -> Result<Option<Tried>> {
        let (rows, len) = (self.x.dim(0)?, self.x.dim(1)?);
        if rows == 1 {
            return Ok(None);
        }
        let side = if left { "left" } else { "right" };
        let mut kept: Option<Tried> = None;
        for row in 0..rows.min(ROWS_ALONE) {
            let x = self.x.narrow(0, row, 1)?.contiguous()?;
            let bare = Layout { lengths: vec![len], width: len, left: false };
            let padded = Layout { lengths: vec![len], width: len + len.max(3), left };
            let pad = self.pad();
            let (alone, wide) = match self.call_rows(x.clone(), &bare, &pad, None) {
                Ok(alone) => (alone, self.call_rows(x, &padded, &pad, None)?),
                // A function for one number of rows has no rows alone.
                Err(_) => return Ok(None),
            };
            let (alone, wide) = (self.real(&alone, &bare)?, self.real(&wide, &padded)?);
            let name = format!("a row alone, padded by {} on the {side}", len.max(3));
            let bound = self.bound;
            let mut tried = judged(Question::OneRow, &padded, name, (&wide, &alone), &bound);
            if let Some(at) = &mut tried.apart {
                at.row = row;
                return Ok(Some(tried));
            }
            let difference = kept.as_ref().map_or(0.0, |kept| kept.difference);
            tried.difference = worse(tried.difference, difference);
            kept = Some(tried);
        }
        Ok(kept)
    }

    /// Rows cut to different lengths in one batch, against each cut row in a batch of its own length. The function is
    /// given as many rows as `x` has, where it has two.
    fn mixed(&mut self, left: bool) -> Result<Option<Tried>> {
        let len = self.x.dim(1)?;
        if len == 1 {
            return Ok(None);
        }
        let x = match self.x.dim(0)? {
            1 => Tensor::cat(&[self.x, self.x], 0)?,
            _ => self.x.clone(),
        };
        let rows = x.dim(0)?;
        // The first row is not the longest, so that a mask of the first row's for all is seen.
        let lengths: Vec<usize> =
            (0..rows).map(|row| len - (rows - 1 - row) % len.min(4)).collect();
        let mixed = Layout { lengths: lengths.clone(), width: len, left };
        let pad = self.pad();
        let output = match self.call_rows(x.clone(), &mixed, &pad, None) {
            Ok(output) => output,
            Err(_) if rows != self.x.dim(0)? => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let real = self.real(&output, &mixed)?;
        let side = if left { "left" } else { "right" };
        let mut alone = Vec::new();
        for (row, own) in lengths.iter().enumerate() {
            // All rows cut to this length: no padding, and as many rows.
            let layout = Layout { lengths: vec![*own; rows], width: *own, left: false };
            let output = self.call_rows(x.clone(), &layout, &pad, None)?;
            alone.push(self.real(&output, &layout)?.swap_remove(row));
        }
        let name = format!("rows of different lengths, padded on the {side}");
        let tried = judged(Question::Mixed, &mixed, name, (&real, &alone), &self.bound);
        let Some(Apart { row, .. }) = tried.apart else { return Ok(Some(tried)) };
        // With all rows of its length, it is no matter of other rows.
        let own = lengths[row];
        let layout = Layout { lengths: vec![own; rows], width: len, left };
        let output = self.call_rows(x, &layout, &pad, None)?;
        let real = self.real(&output, &layout)?.swap_remove(row);
        let name = format!("rows of {own}, padded by {} on the {side}", len - own);
        let both = (std::slice::from_ref(&real), &alone[row..=row]);
        let mut by_length = judged(Question::Length, &layout, name, both, &self.bound);
        match &mut by_length.apart {
            Some(at) => {
                at.row = row;
                Ok(Some(by_length))
            }
            None => Ok(Some(tried)),
        }
    }

    /// Whether a mask of ones gives the same, bit for bit.
    pub(super) fn ignores_mask(&mut self, left: bool) -> Result<bool> {
        let (rows, len) = (self.x.dim(0)?, self.x.dim(1)?);
        let layout = Layout { lengths: vec![len; rows], width: len + len.max(3), left };
        let ones = Tensor::ones((rows, layout.width), self.mask_dtype, self.x.device())?;
        // Zeros times a mask are zeros: what is masked must be something.
        let other = self.other.clone();
        let pad = other.as_ref().map_or(self.pad(), Pad::Other);
        let own = self.call(&layout, &pad, None)?;
        let Ok(unmasked) = self.call(&layout, &pad, Some(&ones)) else { return Ok(false) };
        let (own, unmasked) = (self.real(&own, &layout)?, self.real(&unmasked, &layout)?);
        Ok(own == unmasked)
    }

    /// `row 0, position 2, output 5`; without a position where the output has none.
    pub(super) fn place(&self, at: &Apart) -> String {
        match (self.everywhere, at.alone) {
            (true, _) => at.place(),
            (false, true) => format!("row {}", at.row),
            (false, false) => format!("row {}, output {}", at.row, at.index),
        }
    }

    pub(super) fn takes_ids(&self) -> bool {
        !self.x.dtype().is_float()
    }
}
