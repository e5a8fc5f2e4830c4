//! Inputs that are in part their own and in part another's.

use candle_core::{Result, Tensor};

/// An input and an alternative, from which probes are mixed cell by cell.
///
/// A cell is a row, or a position of a row: row `r` and position `t` of `len` are cell `r * len + t`. Every probe is
/// contiguous, as [`base`](Mix::base) is, so that the same kernels run on both.
pub(crate) struct Mix {
    members: Vec<Member>,
    cells: usize,
}

enum Member {
    /// Takes no part: it has no such dimension, or no alternative.
    Kept(Tensor),
    /// Own cells, then the alternative's, one behind the other.
    Mixed { pool: Tensor, dims: Vec<usize>, dim: usize },
}

impl Mix {
    /// Rows where `dim` is 0, else positions of rows along `dim`. Members with another size there stay as they are.
    ///
    /// `alternatives` has one for each member, of its shape, or none. All members have one number of rows.
    pub(crate) fn new(own: &[Tensor], alternatives: &[Option<Tensor>], dim: usize) -> Result<Self> {
        let Some(first) = own.iter().find(|t| t.rank() > dim) else {
            candle_core::bail!("no input has a dimension {dim}")
        };
        let (rows, len) = (first.dim(0)?, if dim == 0 { 1 } else { first.dim(dim)? });
        let member = |(own, alternative): (&Tensor, &Option<Tensor>)| -> Result<Member> {
            let fits = own.rank() > dim && (dim == 0 || own.dim(dim)? == len);
            match alternative {
                Some(alternative) if fits => Ok(Member::Mixed {
                    pool: Tensor::cat(&[as_cells(own, dim)?, as_cells(alternative, dim)?], 0)?,
                    dims: own.dims().to_vec(),
                    dim,
                }),
                _ => Ok(Member::Kept(own.contiguous()?)),
            }
        };
        let members = own.iter().zip(alternatives).map(member).collect::<Result<_>>()?;
        Ok(Self { members, cells: rows * len })
    }

    /// Whether any member takes part.
    pub(crate) fn is_mixed(&self) -> bool {
        (0..self.members.len()).any(|member| self.mixes(member))
    }

    /// Whether this member takes part.
    pub(crate) fn mixes(&self, member: usize) -> bool {
        matches!(self.members[member], Member::Mixed { .. })
    }

    /// The input itself.
    pub(crate) fn base(&self) -> Result<Vec<Tensor>> {
        self.replacing(|_| false)
    }

    /// The input with some cells replaced.
    pub(crate) fn replacing(&self, replaced: impl Fn(usize) -> bool) -> Result<Vec<Tensor>> {
        let cells = 0..self.cells;
        let picks: Vec<u32> = cells
            .map(|cell| if replaced(cell) { (cell + self.cells) as u32 } else { cell as u32 })
            .collect();
        self.members.iter().map(|member| member.picked(&picks)).collect()
    }
}

impl Member {
    fn picked(&self, picks: &[u32]) -> Result<Tensor> {
        let (pool, dims, dim) = match self {
            Self::Kept(own) => return Ok(own.clone()),
            Self::Mixed { pool, dims, dim } => (pool, dims, *dim),
        };
        let picks = Tensor::new(picks, pool.device())?;
        let cells = pool.index_select(&picks, 0)?;
        if dim <= 1 {
            return cells.reshape(dims.as_slice());
        }
        let mut moved = dims.clone();
        let len = moved.remove(dim);
        moved.insert(1, len);
        let mut back: Vec<usize> = (0..dims.len()).collect();
        back.remove(1);
        back.insert(dim, 1);
        cells.reshape(moved)?.permute(back)?.contiguous()
    }
}

/// `[rows * len, ..]`: one cell behind the other. A dimension of rows alone makes `[rows, ..]`.
pub(super) fn as_cells(tensor: &Tensor, dim: usize) -> Result<Tensor> {
    let tensor = tensor.detach();
    if dim == 0 {
        return tensor.contiguous();
    }
    let mut order: Vec<usize> = (0..tensor.rank()).collect();
    order.remove(dim);
    order.insert(1, dim);
    tensor.permute(order)?.contiguous()?.flatten(0, 1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn cells_are_replaced_and_the_others_stay() -> Result<()> {
        let own = Tensor::arange(0f32, 12.0, &Device::Cpu)?.reshape((2, 2, 3))?;
        let other = (&own + 100.0)?;
        let ids = Tensor::new(&[1u32, 2], &Device::Cpu)?;
        let both = [own.clone(), ids.clone()];
        let mix = |dim| Mix::new(&both, &[Some(other.clone()), None], dim);
        let values = |mix: &Mix, cells: &[usize]| -> Result<Vec<f32>> {
            mix.replacing(|cell| cells.contains(&cell))?[0].flatten_all()?.to_vec1()
        };
        let [rows, second, third] = [mix(0)?, mix(1)?, mix(2)?];
        assert_eq!(values(&rows, &[1])?[5..7], [5.0, 106.0]);
        assert_eq!(values(&second, &[2])?[5..10], [5.0, 106.0, 107.0, 108.0, 9.0]);
        // Row 1, the middle one of three positions.
        let replaced = values(&third, &[4])?;
        assert_eq!(replaced, [0.0, 1., 2., 3., 4., 5., 6., 107., 8., 9., 110., 11.]);
        for mix in [rows, second, third] {
            let base = mix.base()?;
            assert_eq!(base[0].to_vec3::<f32>()?, own.to_vec3::<f32>()?);
            assert_eq!(base[1].to_vec1::<u32>()?, ids.to_vec1::<u32>()?);
            assert!(mix.is_mixed());
        }
        assert!(!Mix::new(&both, &[None, None], 0)?.is_mixed());
        assert!(mix(3).is_err());
        Ok(())
    }
}
