//! What mixes the rows of a batch: experiments that tell one way from another.

use candle_core::Tensor;

use crate::{
    Cause, Result,
    measure::{
        batch::{Column, Probed},
        noise::epsilon,
        perturb::cells_that_differ,
        values::{is_floating, to_f64_vec},
    },
};

/// A way of mixing that an experiment showed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// What was seen, and what does that.
    pub(crate) seen: String,
    pub(crate) help: &'static str,
    /// What the way of mixing is, where the catalogue has a name for it.
    pub(crate) cause: Option<Cause>,
}

/// The way in which rows are mixed, where one explains every column that was measured.
///
/// `columns` holds what replacing one row does, for several rows; `dims` are those of the first input.
pub(crate) fn pattern(
    probed: &mut Probed<'_, '_>,
    columns: &[Column],
    dims: &[usize],
) -> Result<Option<Pattern>> {
    if let Some(pattern) = sums_to_one(probed.own())? {
        return Ok(Some(pattern));
    }
    let rows = probed.rows();
    if let Some(pattern) = reshaped(probed, columns, dims)? {
        return Ok(Some(pattern));
    }
    let all_to_all = columns.iter().all(|c| (0..rows).all(|row| row == c.source || c.noticed[row]));
    match all_to_all && rows > 2 {
        true => over_the_batch(probed, columns),
        false => Ok(arranged(columns, rows)),
    }
}

/// A softmax over the batch: every column of the output is a distribution.
fn sums_to_one(own: &Tensor) -> Result<Option<Pattern>> {
    let Some(epsilon) = epsilon(own.dtype()) else { return Ok(None) };
    let values = to_f64_vec(own)?;
    let rows = own.dim(0)?;
    let width = values.len() / rows;
    // A sum of so many rounded terms.
    let tolerance = (rows as f64 * epsilon * 16.0).min(0.1);
    let one = |term: &dyn Fn(f64) -> f64| {
        (0..width).all(|at| {
            let sum: f64 = (0..rows).map(|row| term(values[row * width + at])).sum();
            (sum - 1.0).abs() <= tolerance
        })
    };
    let is_share = values.iter().all(|value| (0.0..=1.0).contains(value));
    let is_log = values.iter().all(|value| *value <= 0.0);
    let what = match () {
        () if is_share && one(&|value| value) => "the output itself sums to 1",
        () if is_log && one(&f64::exp) => "the exponential of the output sums to 1",
        () => return Ok(None),
    };
    Ok(Some(Pattern {
        seen: format!("over the batch {what} in every column: a softmax over dimension 0"),
        help: "normalise over the last dimension: `softmax(&x, D::Minus1)`",
        cause: None,
    }))
}

/// Every row depends on every other.
fn over_the_batch(probed: &mut Probed<'_, '_>, columns: &[Column]) -> Result<Option<Pattern>> {
    let scaled = scaled(probed)?;
    // A row's own scale shows where it moves its output by a tenth of what rows are apart.
    let is_statistic = |most: f64| scaled.is_some_and(|s| s.all <= most && s.one > 0.1);
    let centred = centred(probed)?;
    let taken_off = match centred {
        // A softmax over the rows gives equal rows equal shares, too, and notices their scale: 16 times the logits leave one
        // winner. A quarter is what a bias and a ReLU before the norm may make of it.
        true if is_statistic(0.25) => Some(
            "with one row in all places the output is the same whatever the row holds: what all rows share",
        ),
        // Here the scale is all the evidence: no more than an epsilon beside the variance makes of it.
        false if is_statistic(0.02) => Some(
            "of all rows times 16 the output is the same, of one row alone it is not: the scale of the batch",
        ),
        _ => None,
    };
    if let Some(what) = taken_off {
        return Ok(Some(Pattern {
            seen: format!("{what} is taken off, as by batch norm in training mode"),
            help: "test in evaluation mode (`forward_t(x, false)`); in training, batch norm mixes rows by design: \
                   `.allow(Cause::BatchMixed)`",
            cause: Some(Cause::NormStatsOfBatch),
        }));
    }
    if centred {
        return Ok(Some(Pattern {
            seen: "with one row in all places the output is the same whatever the row holds: what all rows share is \
                   taken off, as by a softmax over dimension 0, or by batch norm in training mode"
                .to_owned(),
            help: "look for a softmax, a mean or a maximum over dimension 0; test batch norm in evaluation mode \
                   (`forward_t(x, false)`)",
            cause: None,
        }));
    }
    if shifts_alike(probed, &columns[0])? {
        return Ok(Some(Pattern {
            seen: format!(
                "replacing row {} adds the same to the output of every other row: a sum or mean over dimension 0",
                columns[0].source,
            ),
            help: "look for `sum(0)`, `mean(0)`, `sum_all` or `mean_all` on the way to the output",
            cause: None,
        }));
    }
    if is_a_set(probed)? {
        return Ok(Some(Pattern {
            seen: "every row depends on all others, whatever their order: a statistic, softmax or attention over \
                   dimension 0"
                .to_owned(),
            help: "look for a reduction, a softmax or an attention over dimension 0, and for batch norm in training mode",
            cause: None,
        }));
    }
    Ok(None)
}

/// Whether a batch of one row in all places gives the same output for different rows.
fn centred(probed: &mut Probed<'_, '_>) -> Result<bool> {
    if !is_floating(probed.own().dtype()) {
        return Ok(false);
    }
    let values = to_f64_vec(probed.own())?;
    let rows = probed.rows();
    let width = values.len() / rows;
    let row = |at: usize| &values[at * width..(at + 1) * width];
    let base = probed.base()?;
    let of_one = |probed: &mut Probed<'_, '_>, row: usize| -> Result<Vec<f64>> {
        let copies = base.iter().map(|t| ordered(t, &vec![row as u32; rows]));
        to_f64_vec(&probed.call(&copies.collect::<Result<Vec<_>>>()?)?).map_err(Into::into)
    };
    let (one, other) = (of_one(probed, 0)?, of_one(probed, rows - 1)?);
    // What is left of the rows is rounding, magnified by a norm of nearly nothing.
    Ok(apart(&one, &other) <= 1e-3 * apart(row(0), row(rows - 1)))
}

/// How far the output moves, in units of how far rows are apart, when rows are 16 times as large.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    /// All rows: a norm over the batch notices little of it (an epsilon beside the variance, a bias before it). A norm
    /// within each row notices nothing, and a softmax much.
    all: f64,
    /// The first row alone, in its own output.
    one: f64,
}

fn scaled(probed: &mut Probed<'_, '_>) -> Result<Option<Scaled>> {
    const SCALE: f64 = 16.0;
    let base = probed.base()?;
    if !is_floating(probed.own().dtype()) || base.iter().any(|t| !is_floating(t.dtype())) {
        return Ok(None);
    }
    let own = to_f64_vec(probed.own())?;
    let width = own.len() / probed.rows();
    let spread = apart(&own[..width], &own[own.len() - width..]);
    let scaled = base.iter().map(|t| t * SCALE).collect::<candle_core::Result<Vec<_>>>()?;
    // A function that refuses such values is asked the other questions all the same.
    let Ok(output) = probed.call(&scaled) else { return Ok(None) };
    let all = apart(&to_f64_vec(&output)?, &own) / spread;
    let one = base.iter().zip(&scaled).map(|(t, scaled)| {
        let rest = t.narrow(0, 1, t.dim(0)? - 1)?;
        Tensor::cat(&[&scaled.narrow(0, 0, 1)?, &rest], 0)
    });
    let one = one.collect::<candle_core::Result<Vec<_>>>()?;
    let Ok(output) = probed.call(&one) else { return Ok(None) };
    let one = apart(&to_f64_vec(&output)?[..width], &own[..width]) / spread;
    Ok(Some(Scaled { all, one }))
}

/// Whether all rows but the replaced one moved by the same amount, beyond rounding.
fn shifts_alike(probed: &Probed<'_, '_>, column: &Column) -> Result<bool> {
    let Some(epsilon) = epsilon(probed.own().dtype()) else { return Ok(false) };
    let (own, other) = (to_f64_vec(probed.own())?, to_f64_vec(&column.output)?);
    let width = own.len() / probed.rows();
    let moved: Vec<f64> = other.iter().zip(&own).map(|(a, b)| a - b).collect();
    let rounding = 4.0 * epsilon * own.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let others: Vec<&[f64]> = (moved.chunks(width).enumerate())
        .filter(|(row, _)| *row != column.source)
        .map(|(_, moved)| moved)
        .collect();
    let Some(first) = others.first() else { return Ok(false) };
    let size = first.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    Ok(size > 16.0 * rounding
        && others.iter().all(|row| apart(row, first) <= rounding.max(1e-3 * size)))
}

/// Whether the rows in another order give the same output in that order.
fn is_a_set(probed: &mut Probed<'_, '_>) -> Result<bool> {
    let Some(epsilon) = epsilon(probed.own().dtype()) else { return Ok(false) };
    let rows = probed.rows() as u32;
    let turned: Vec<u32> = (0..rows).map(|row| rows - 1 - row).collect();
    let base = probed.base()?;
    let input = base.iter().map(|t| ordered(t, &turned)).collect::<Result<Vec<_>>>()?;
    let output = to_f64_vec(&probed.call(&input)?)?;
    let expected = to_f64_vec(&ordered(probed.own(), &turned)?)?;
    let size = expected.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    // Sums over the batch in another order.
    Ok(apart(&output, &expected) <= 1024.0 * epsilon * size)
}

/// Rows that depend on the rows at fixed places beside them, or all on one.
fn arranged(columns: &[Column], rows: usize) -> Option<Pattern> {
    let pairs: Vec<(usize, usize)> = columns
        .iter()
        .flat_map(|c| (0..rows).filter(|r| *r != c.source && c.noticed[*r]).map(|r| (r, c.source)))
        .collect();
    let help = "look for `roll`, `flip`, `cat` or an `index_select` over dimension 0";
    // The columns were measured one by one; a lone leak among them is no arrangement.
    let sources = columns.iter().filter(|c| pairs.iter().any(|p| p.1 == c.source)).count();
    let (to, from) = *pairs.first()?;
    if sources >= 2 && columns.len() >= 3 {
        let by = (to + rows - from) % rows;
        if pairs.iter().all(|(to, from)| (to + rows - from) % rows == by)
            && sources + 1 >= columns.len()
        {
            let (places, side) = if by <= rows / 2 { (by, "before") } else { (rows - by, "after") };
            let seen = match places {
                1 => format!("every row depends on the row {side} it: rows are shifted"),
                n => format!("every row depends on the row {n} places {side} it: rows are shifted"),
            };
            return Some(Pattern { seen, help, cause: None });
        }
        if pairs.iter().all(|(to, from)| to + from == rows - 1) {
            let seen =
                "every row depends on the one at its place from the other end: rows are flipped";
            return Some(Pattern { seen: seen.to_owned(), help, cause: None });
        }
        // Three rows are three pairs, which other mistakes make, too. The last row reaches nobody.
        let is_scan =
            |c: &Column| (0..rows).all(|r| r == c.source || c.noticed[r] == (r > c.source));
        if rows > 3 && columns.iter().all(is_scan) {
            return Some(Pattern {
                seen: "every row depends on all rows before it: rows are taken for steps of time"
                    .to_owned(),
                help: "look for a `cumsum(0)`, and for a recurrence or a causal mask over dimension 0: it takes \
                       [batch, time, ..]",
                cause: None,
            });
        }
    }
    let reaches_all = pairs.len() == rows - 1 && rows > 2;
    if columns.len() >= 3 && sources == 1 && reaches_all {
        let seen = format!("all rows depend on row {from}, and on no other row that was tried");
        return Some(Pattern {
            seen,
            help: "look for a `get(..)`, `i(..)` or `narrow` over dimension 0",
            cause: None,
        });
    }
    None
}

/// A reshape between `[rows, len, ..]` and `[len, rows, ..]` where a transpose was meant, before the work or after it.
fn reshaped(
    probed: &Probed<'_, '_>,
    columns: &[Column],
    dims: &[usize],
) -> Result<Option<Pattern>> {
    let rows = probed.rows();
    let output = probed.own().dims().to_vec();
    for len in dims.iter().skip(1).copied().filter(|len| *len > 1 && *len <= 1 << 16) {
        // Where the output has the positions, they are told apart: short batches mix all rows with all.
        let cells = output.len() >= 2 && output[1] == len;
        let fits = |depends: &dyn Fn(usize, usize, usize) -> bool| -> Result<bool> {
            let mut informative = false;
            for column in columns {
                let differs = match cells {
                    true => cells_that_differ(probed.own(), &column.output, 1)?,
                    false => column.noticed.clone(),
                };
                let positions = if cells { len } else { 1 };
                for (cell, differs) in differs.iter().enumerate() {
                    let (row, position) = (cell / positions, cell % positions);
                    let expected = match cells {
                        true => depends(row, position, column.source),
                        false => (0..len).any(|position| depends(row, position, column.source)),
                    };
                    // A residual path, or the position's own, may keep a row's own dependence.
                    if row != column.source && expected != *differs {
                        return Ok(false);
                    }
                    informative |= row != column.source && !expected;
                }
            }
            Ok(informative)
        };
        let before =
            |row: usize, position: usize, source: usize| (position * rows + row) / len == source;
        let after =
            |row: usize, position: usize, source: usize| (row * len + position) % rows == source;
        // With a recurrence or a causal attention behind it, a position sees those before it.
        let through_time = |row: usize, position: usize, source: usize| {
            (0..=position).any(|earlier| before(row, earlier, source))
        };
        let everywhere = |row: usize, _: usize, source: usize| {
            (0..len).any(|position| before(row, position, source))
        };
        if rows > 1
            && (fits(&before)? || fits(&after)? || fits(&through_time)? || fits(&everywhere)?)
        {
            return Ok(Some(Pattern {
                seen: format!(
                    "row i depends on the rows that a reshape between [{rows}, {len}, ..] and [{len}, {rows}, ..] puts \
                     in its place: a reshape where a transpose was meant",
                ),
                help: "write `x.transpose(0, 1)?.contiguous()?` where the two dimensions change places",
                cause: None,
            }));
        }
    }
    Ok(None)
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    let apart = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() };
    a.iter()
        .zip(b)
        .map(apart)
        .fold(0.0, |most: f64, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
}

/// The tensor's rows in another order, or some of them several times.
fn ordered(tensor: &Tensor, order: &[u32]) -> Result<Tensor> {
    let order = Tensor::new(order, tensor.device())?;
    Ok(tensor.contiguous()?.index_select(&order, 0)?)
}
