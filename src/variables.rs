//! Named variables: listing them, keeping their values, and giving them others.

use std::collections::HashMap;

use candle_core::{Shape, Tensor, Var};
use candle_nn::VarMap;

use crate::{Failure, Result};

/// Anything that lists named variables: a [`VarMap`], a `Vec<Var>`, or pairs of a name and a [`Var`].
///
/// candling looks at variables sorted by name, because a `VarMap` lists them in the order of a hash. Variables without
/// names are called `var.0`, `var.1`, in the order given.
pub trait Variables {
    /// Every variable with its name, in any order. A `Var` is a handle: it shares the model's storage.
    fn named(&self) -> Vec<(String, Var)>;
}

impl Variables for VarMap {
    fn named(&self) -> Vec<(String, Var)> {
        // A panic elsewhere while the map was locked does not make its variables wrong.
        let data = self.data().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        data.named()
    }
}

impl Variables for HashMap<String, Var> {
    fn named(&self) -> Vec<(String, Var)> {
        self.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }
}

impl Variables for [Var] {
    fn named(&self) -> Vec<(String, Var)> {
        // Padded, so that sorting by name keeps the order given.
        let width = self.len().saturating_sub(1).to_string().len();
        (self.iter().enumerate())
            .map(|(i, var)| (format!("var.{i:0width$}"), var.clone()))
            .collect()
    }
}

impl Variables for [(String, Var)] {
    fn named(&self) -> Vec<(String, Var)> {
        self.to_vec()
    }
}

impl Variables for [(&str, Var)] {
    fn named(&self) -> Vec<(String, Var)> {
        self.iter().map(|(name, var)| ((*name).to_owned(), var.clone())).collect()
    }
}

impl<T> Variables for Vec<T>
where
    [T]: Variables,
{
    fn named(&self) -> Vec<(String, Var)> {
        self.as_slice().named()
    }
}

impl<T, const N: usize> Variables for [T; N]
where
    [T]: Variables,
{
    fn named(&self) -> Vec<(String, Var)> {
        self.as_slice().named()
    }
}

impl<V: Variables + ?Sized> Variables for &V {
    fn named(&self) -> Vec<(String, Var)> {
        (**self).named()
    }
}

/// Every variable, sorted by name: the order in which everything is done, so that it is done the same way each time.
pub(crate) fn sorted<V: Variables + ?Sized>(vars: &V) -> Vec<(String, Var)> {
    let mut named = vars.named();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}

/// The values of variables at one moment, bit for bit.
///
/// ```
/// use candling::{Seed, Snapshot, prelude::*};
///
/// let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(2, 2, vb)?;
/// let before = layer.weight().to_vec2::<f32>()?;
///
/// let snapshot = Snapshot::take(&vars)?;
/// candling::set_constant(&vars, 0.5)?;
/// snapshot.restore()?;
/// assert_eq!(layer.weight().to_vec2::<f32>()?, before);
/// # candling::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Snapshot {
    kept: Vec<(String, Var, Tensor)>,
}

impl Snapshot {
    /// Copies the value of every variable.
    ///
    /// # Errors
    ///
    /// candle's, where the device has no memory left for the copy.
    pub fn take<V: Variables + ?Sized>(vars: &V) -> Result<Self> {
        let kept = sorted(vars)
            .into_iter()
            .map(|(name, var)| {
                // `clone` and `detach` share storage with the variable; only `copy` keeps the value.
                let value = var
                    .as_tensor()
                    .copy()
                    .map_err(|e| Failure::from_candle(&format!("copying variable `{name}`"), e))?;
                Ok((name, var, value.detach()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { kept })
    }

    /// Gives every variable the value it had.
    ///
    /// # Errors
    ///
    /// candle's, from the device.
    pub fn restore(&self) -> Result<()> {
        for (name, var, value) in &self.kept {
            var.set(value)
                .map_err(|e| Failure::from_candle(&format!("restoring variable `{name}`"), e))?;
        }
        Ok(())
    }

    /// The kept values, sorted by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &Var, &Tensor)> {
        self.kept.iter().map(|(name, var, value)| (name.as_str(), var, value))
    }

    /// From here on the values come back whatever happens: on success, on failure, on panic.
    pub(crate) fn guard(self) -> RestoreOnDrop {
        RestoreOnDrop(self)
    }
}

/// Restores its snapshot when dropped.
#[derive(Debug)]
pub(crate) struct RestoreOnDrop(Snapshot);

impl RestoreOnDrop {
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.0
    }
}

impl Drop for RestoreOnDrop {
    fn drop(&mut self) {
        // A closure that panics while candle holds a lock poisons that lock, and candle then panics on it. During an
        // unwinding that would abort the whole test binary, so the other variables are still restored one by one.
        for (_, var, value) in &self.0.kept {
            let set = std::panic::AssertUnwindSafe(|| var.set(value));
            if std::thread::panicking() {
                let _ = std::panic::catch_unwind(set);
            } else {
                let _ = set();
            }
        }
    }
}

/// Gives every entry of every variable one value, so that a model's output can be worked out by hand.
///
/// Returns the values before; drop the result to keep the constant, or call [`Snapshot::restore`] on it. Integer
/// variables get the value cut to their dtype.
///
/// ```
/// use candling::{Seed, prelude::*};
///
/// let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(3, 1, vb)?;
/// candling::set_constant(&vars, 0.5)?;
/// let y = layer.forward(&Tensor::ones((1, 3), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[2.0]]); // three weights and a bias
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// candle's, from the device.
pub fn set_constant<V: Variables + ?Sized>(vars: &V, value: f64) -> Result<Snapshot> {
    replace(vars, |_, var| Tensor::full(value, var.shape(), &candle_core::Device::Cpu))
}

/// Gives every variable the tensor that `value` makes from its name and shape, cast to the variable's dtype.
///
/// Returns the values before, as [`set_constant`] does.
///
/// # Errors
///
/// An error of `value`, or a tensor of another shape than the variable's; the variables then keep their values.
pub fn set_with<V, F>(vars: &V, mut value: F) -> Result<Snapshot>
where
    V: Variables + ?Sized,
    F: FnMut(&str, &Shape) -> candle_core::Result<Tensor>,
{
    replace(vars, |name, var| value(name, var.shape()))
}

fn replace<V: Variables + ?Sized>(
    vars: &V,
    mut value: impl FnMut(&str, &Var) -> candle_core::Result<Tensor>,
) -> Result<Snapshot> {
    let before = Snapshot::take(vars)?;
    let set = |name: &str, var: &Var, value: candle_core::Result<Tensor>| {
        let value = value
            .map_err(|e| Failure::from_candle(&format!("the value for variable `{name}`"), e))?;
        if value.shape() != var.shape() {
            return Err(Failure::bad_argument(
                &format!("the value for variable `{name}`"),
                format_args!("of shape {:?}", value.dims()),
                format_args!("{:?}, the variable's shape", var.dims()),
            ));
        }
        value
            .to_dtype(var.dtype())
            .and_then(|v| v.to_device(var.device()))
            .and_then(|v| var.set(&v))
            .map_err(|e| Failure::from_candle(&format!("setting variable `{name}`"), e))
    };
    for (name, var, _) in before.values() {
        if let Err(failure) = set(name, var, value(name, var)) {
            before.restore()?;
            return Err(failure);
        }
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn two() -> candle_core::Result<Vec<(String, Var)>> {
        let a = Var::new(&[1.0f32, 2.0], &Device::Cpu)?;
        let b = Var::new(&[[3.0f64]], &Device::Cpu)?;
        Ok(vec![("b".to_owned(), b), ("a".to_owned(), a)])
    }

    #[test]
    fn variables_come_sorted_by_name_and_named_by_place() -> candle_core::Result<()> {
        let names = |v: Vec<(String, Var)>| v.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(sorted(&two()?)), ["a", "b"]);
        let eleven = vec![Var::new(0f32, &Device::Cpu)?; 11];
        assert_eq!(names(sorted(&eleven))[..2], ["var.00", "var.01"]);
        Ok(())
    }

    #[test]
    fn constants_are_set_in_every_dtype_and_restored() -> Result<()> {
        let vars = two()?;
        let before = set_constant(&vars, 0.25)?;
        assert_eq!(vars[1].1.to_vec1::<f32>()?, [0.25, 0.25]);
        assert_eq!(vars[0].1.to_vec2::<f64>()?, [[0.25]]);
        before.restore()?;
        assert_eq!(vars[1].1.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_refused_and_nothing_changes() -> Result<()> {
        let vars = two()?;
        let failure = set_with(&vars, |name, shape| match name {
            "a" => Tensor::zeros(shape, DType::F32, &Device::Cpu),
            _ => Tensor::zeros(7, DType::F32, &Device::Cpu),
        })
        .unwrap_err();
        insta::assert_snapshot!(failure.text(), @"the value for variable `b` is of shape [7]; allowed: [1, 1], the variable's shape");
        assert_eq!(vars[1].1.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }

    #[test]
    fn a_panic_restores_too() -> Result<()> {
        let vars = two()?;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = Snapshot::take(&vars).unwrap().guard();
            set_constant(&vars, 9.0).unwrap();
            panic!("in the middle");
        }));
        assert!(outcome.is_err());
        assert_eq!(vars[1].1.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }
}
