//! A batch as rows: the first dimension.

use std::collections::HashMap;

use candle_core::{Result, Tensor};

use super::values::to_f64_vec;

/// The values of each row, as bits, so that rows can be compared and hashed.
fn rows(tensor: &Tensor) -> Result<Vec<Vec<u64>>> {
    let n = tensor.dims().first().copied().unwrap_or(0);
    let values = to_f64_vec(tensor)?;
    let width = values.len().checked_div(n).unwrap_or(0).max(1);
    Ok(values.chunks(width).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect())
}

/// Two rows with equal inputs and different targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Contradiction {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

/// Every row whose input equals that of an earlier row with another target.
pub(crate) fn contradictions(input: &[Tensor], target: &Tensor) -> Result<Vec<Contradiction>> {
    let targets = rows(target)?;
    let members = input.iter().map(rows).collect::<Result<Vec<_>>>()?;
    let mut seen: HashMap<Vec<&[u64]>, usize> = HashMap::new();
    let mut found = Vec::new();
    for second in 0..targets.len() {
        let key: Option<Vec<&[u64]>> =
            members.iter().map(|rows| rows.get(second).map(Vec::as_slice)).collect();
        // Targets may have other rows than the input (a sequence flattened by the loss): nothing to compare then.
        let Some(key) = key else {
            return Ok(Vec::new());
        };
        match seen.get(&key) {
            Some(first) if targets[*first] != targets[second] => {
                found.push(Contradiction { first: *first, second });
            }
            Some(_) => {}
            None => {
                seen.insert(key, second);
            }
        }
    }
    Ok(found)
}

/// The rotation of the batch that gives the most rows a target not their own, and how many it gives one.
///
/// `None` where no rotation changes a target: a batch of one, or targets that are all equal.
pub(crate) fn misleading_rotation(target: &Tensor) -> Result<Option<(usize, usize)>> {
    let targets = rows(target)?;
    let n = targets.len();
    let changed = |by: usize| (0..n).filter(|i| targets[*i] != targets[(i + by) % n]).count();
    // A few dozen rotations hold a good one; all of them would cost the square of the batch.
    let best =
        (1..n.min(33)).map(|by| (changed(by), by)).max_by_key(|(count, by)| (*count, n - by));
    Ok(best.filter(|(count, _)| *count > 0).map(|(count, by)| (by, count)))
}

/// Row `i` becomes row `i + by`, round the end.
pub(crate) fn rotate(tensor: &Tensor, by: usize) -> Result<Tensor> {
    let n = tensor.dim(0)?;
    let by = by % n;
    Tensor::cat(&[tensor.narrow(0, by, n - by)?, tensor.narrow(0, 0, by)?], 0)
}

/// Whether any two rows differ.
pub(crate) fn differ(tensor: &Tensor) -> Result<bool> {
    let rows = rows(tensor)?;
    Ok(rows.windows(2).any(|pair| pair[0] != pair[1]))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn contradictions_are_equal_inputs_with_different_targets() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1, 0, 2], &Device::Cpu)?;
        let found = contradictions(std::slice::from_ref(&x), &y)?;
        assert_eq!(found, [Contradiction { first: 1, second: 3 }]);
        let mask = Tensor::new(&[0f32, 0.0, 0.0, 1.0], &Device::Cpu)?;
        assert_eq!(contradictions(&[x, mask], &y)?, []);
        Ok(())
    }

    #[test]
    fn the_rotation_moves_every_target_where_one_can() -> Result<()> {
        let sorted = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
        assert_eq!(misleading_rotation(&sorted)?, Some((2, 4)));
        let equal = Tensor::new(&[1u32, 1, 1], &Device::Cpu)?;
        assert_eq!(misleading_rotation(&equal)?, None);
        assert_eq!(misleading_rotation(&Tensor::new(&[1u32], &Device::Cpu)?)?, None);
        let rotated = rotate(&sorted, 1)?.to_vec1::<u32>()?;
        assert_eq!(rotated, [0, 1, 1, 0]);
        Ok(())
    }

    #[test]
    fn rows_of_a_view_are_compared_by_value() -> Result<()> {
        let x = Tensor::new(&[[1f32], [1.0]], &Device::Cpu)?;
        assert!(!differ(&x)?);
        assert!(!differ(&x.broadcast_as((2, 5))?)?);
        assert!(differ(&Tensor::new(&[1f32, 2.0], &Device::Cpu)?)?);
        Ok(())
    }
}
