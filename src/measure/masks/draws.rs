//! A mask as draws: what was drawn once holds for all elements along the dimensions that share it.

use super::{
    Place,
    products::{DROPPED, KEPT, UNSEEN},
};

/// What was drawn at one place in all passes.
pub(crate) struct Draws {
    /// Draws that were seen.
    pub(crate) count: usize,
    pub(crate) dropped: usize,
    /// The dimensions along which one draw holds.
    pub(crate) shared: Vec<usize>,
    /// Minus the logarithm of the chance that all rows have one mask by luck; `None` where they do not, or where the whole
    /// tensor has one draw.
    pub(crate) rows_share: Option<f64>,
    /// How many times as far the passes are apart as independent draws would be: 1, or more.
    pub(crate) dispersion: f64,
}

impl Draws {
    pub(crate) fn of(place: &Place) -> Self {
        let dims = rows_seen(place);
        let shared: Vec<usize> = (0..dims.len())
            .filter(|dim| dims[*dim] > 1 && place.masks.iter().all(|m| one_along(m, &dims, *dim)))
            .filter(|dim| place.masks.iter().any(|mask| is_seen_along(mask, &dims, *dim)))
            .collect();
        let units: Vec<Vec<u8>> =
            place.masks.iter().map(|mask| collapsed(mask, &dims, &shared)).collect();
        let of = |state: u8, units: &[u8]| units.iter().filter(|unit| **unit == state).count();
        let dropped: usize = units.iter().map(|units| of(DROPPED, units)).sum();
        let count = dropped + units.iter().map(|units| of(KEPT, units)).sum::<usize>();
        let rate = dropped as f64 / count.max(1) as f64;

        let each: Vec<(f64, f64)> = (units.iter())
            .map(|units| {
                let dropped = of(DROPPED, units);
                (dropped as f64, (dropped + of(KEPT, units)) as f64)
            })
            .collect();
        let variance = rate * (1.0 - rate);
        let squares = each.iter().filter(|(_, n)| *n > 0.0 && variance > 0.0);
        let squares: f64 = squares.map(|(d, n)| (d - n * rate).powi(2) / (n * variance)).sum();
        let dispersion = (squares / (each.len() as f64 - 1.0).max(1.0)).max(1.0);

        let rows_share = shared.contains(&0).then(|| {
            let others: Vec<usize> = shared.iter().copied().filter(|dim| *dim != 0).collect();
            chance_of_one_row(place, &dims, &others, rate)
        });
        let rows_share =
            rows_share.filter(|_| shared.len() < dims.iter().filter(|d| **d > 1).count());
        Self { count, dropped, shared, rows_share, dispersion }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.dropped as f64 / self.count.max(1) as f64
    }

    /// As many independent draws would say as much.
    pub(crate) fn effective(&self) -> f64 {
        self.count as f64 / self.dispersion
    }
}

/// Of a large tensor the first rows were looked at.
fn rows_seen(place: &Place) -> Vec<usize> {
    let mut dims = place.dims.clone();
    let seen = place.masks.first().map_or(0, Vec::len);
    if let Some(first) = dims.first_mut() {
        let elements: usize = place.dims.iter().product();
        *first = *first * seen / elements.max(1);
    }
    dims
}

/// The elements of each line along a dimension.
fn lines(dims: &[usize], dim: usize) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    let stride: usize = dims[dim + 1..].iter().product();
    let (length, outer) = (dims[dim], dims[..dim].iter().product::<usize>());
    (0..outer * stride).map(move |line| {
        let start = line / stride * stride * length + line % stride;
        (0..length).map(move |at| start + at * stride)
    })
}

fn one_along(mask: &[u8], dims: &[usize], dim: usize) -> bool {
    lines(dims, dim).all(|line| {
        let (mut dropped, mut kept) = (false, false);
        for at in line {
            dropped |= mask[at] == DROPPED;
            kept |= mask[at] == KEPT;
        }
        !(dropped && kept)
    })
}

fn is_seen_along(mask: &[u8], dims: &[usize], dim: usize) -> bool {
    lines(dims, dim).any(|line| line.filter(|at| mask[*at] != UNSEEN).count() > 1)
}

/// One state for all elements along the shared dimensions.
fn collapsed(mask: &[u8], dims: &[usize], shared: &[usize]) -> Vec<u8> {
    let left: Vec<usize> =
        dims.iter().enumerate().map(|(d, n)| if shared.contains(&d) { 1 } else { *n }).collect();
    let mut units = vec![UNSEEN; left.iter().product()];
    for (at, state) in mask.iter().enumerate() {
        let (mut rest, mut unit, mut stride) = (at, 0, 1);
        for (dim, kept) in dims.iter().zip(&left).rev() {
            let index = rest % dim;
            rest /= dim;
            if *kept > 1 {
                unit += index * stride;
                stride *= kept;
            }
        }
        if *state != UNSEEN {
            units[unit] = *state;
        }
    }
    units
}

/// Minus the logarithm of the chance that independent rows have one mask: for each column of `r` rows `p^r + (1-p)^r`.
fn chance_of_one_row(place: &Place, dims: &[usize], others: &[usize], rate: f64) -> f64 {
    let mut left = dims.to_vec();
    others.iter().for_each(|dim| left[*dim] = 1);
    let column = |rows: usize| {
        let rows = rows as i32;
        -(rate.powi(rows) + (1.0 - rate).powi(rows)).ln()
    };
    let of_pass = |mask: &Vec<u8>| -> f64 {
        let units = collapsed(mask, dims, others);
        let seen = |line| Iterator::filter(line, |at: &usize| units[*at] != UNSEEN).count();
        lines(&left, 0).map(seen).filter(|rows| *rows > 1).map(column).sum()
    };
    place.masks.iter().map(of_pass).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dims: &[usize], masks: Vec<Vec<u8>>) -> Place {
        Place {
            name: String::new(),
            dims: dims.to_vec(),
            scale: 1.0,
            precision: 1e-6,
            masks,
            of_input: true,
            is_fixed: false,
        }
    }

    #[test]
    fn what_is_shared_along_a_dimension_is_one_draw() {
        // Two rows, two channels, three places: spatial dropout.
        let spatial = vec![0, 0, 0, 1, 1, 1, 1, 2, 1, 1, 1, 2];
        let draws = Draws::of(&place(&[2, 2, 3], vec![spatial]));
        assert_eq!((draws.count, draws.dropped, draws.shared), (4, 1, vec![2]));
        assert!(draws.rows_share.is_none());
    }

    #[test]
    fn rows_with_one_mask_are_told_from_luck() {
        let masks = (0..8u8).map(|i| [i & 1, i >> 1 & 1, i >> 2].repeat(4)).collect();
        let draws = Draws::of(&place(&[4, 3], masks));
        assert_eq!(draws.shared, [0]);
        // 24 columns of 4 rows at 0.5: 1/8 each.
        assert!((draws.rows_share.unwrap() - 24.0 * 8f64.ln()).abs() < 1e-9);
        let one = Draws::of(&place(&[4, 3], vec![vec![0; 12], vec![1; 12]]));
        assert!(one.rows_share.is_none(), "a whole block left out is one draw");
    }
}
