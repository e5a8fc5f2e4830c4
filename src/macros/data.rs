//! Assertions on data, before a model sees it.

/// Labels are whole numbers in `0..classes`, and every class comes up.
///
/// `assert_labels!(y, classes)`; the options are `balance` (the most times as many labels the most frequent class may
/// have), `ignore` (a label that stands for none, as -100), and `allow`. Evaluates to a
/// [`LabelsReport`](crate::check::LabelsReport); everything else is said at [`check::Labels`](crate::check::Labels).
///
/// ```
/// use candling::{assert_labels, prelude::*};
///
/// let y = Tensor::new(&[0u32, 2, 1, 1], &Device::Cpu)?;
/// assert_labels!(y, 3);
/// assert_labels!(y, 3, balance = 2.0, "training set");
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_labels, prelude::*};
/// let y = Tensor::new(&[1u32, 3, 2, 2], &Device::Cpu)?;
/// assert_labels!(y, 3); // the labels are 1..=3, and none is 0: they count from 1
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_labels {
    ($($arguments:tt)*) => {
        $crate::__assert!(Labels [reference, value]; $($arguments)*)
    };
}

/// No row of one set is in the other.
///
/// `assert_disjoint!(train, validation)`; the option is `allow`. Evaluates to a
/// [`DisjointReport`](crate::check::DisjointReport); everything else is said at
/// [`check::Disjoint`](crate::check::Disjoint).
///
/// ```
/// use candling::{assert_disjoint, prelude::*};
///
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let (train, validation) = (x.narrow(0, 0, 2)?, x.narrow(0, 2, 1)?);
/// assert_disjoint!(train, validation);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_disjoint, prelude::*};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let (train, validation) = (x.narrow(0, 0, 2)?, x.narrow(0, 1, 2)?);
/// assert_disjoint!(train, validation); // validation row 0 is train row 1
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_disjoint {
    ($($arguments:tt)*) => {
        $crate::__assert!(Disjoint [reference, reference]; $($arguments)*)
    };
}

/// An input is scaled as networks are initialised for: to mean 0 and standard deviation 1, or into a range.
///
/// `assert_normalized!(x)`; the options are `scheme` (a range, `0.0..=1.0`, instead of the default
/// [`Standard`](crate::check::Scheme::Standard)), `per_channel` (the dimension whose indices are judged each by itself),
/// `tolerance`, `fitted` (the figures were taken from this very tensor), and `allow`. Evaluates to a
/// [`NormalizedReport`](crate::check::NormalizedReport); everything else is said at
/// [`check::Normalized`](crate::check::Normalized).
///
/// ```
/// use candling::{assert_normalized, prelude::*};
///
/// let x = Seed::new(1).normal("x", (32, 8), DType::F32, &Device::Cpu)?;
/// assert_normalized!(x);
/// assert_normalized!(x, per_channel = 1, "each feature");
/// let pixels = Seed::new(1).uniform("x", 0.0..1.0, (32, 64), DType::F32, &Device::Cpu)?;
/// assert_normalized!(pixels, scheme = 0.0..=1.0);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_normalized, prelude::*};
/// let bytes = Seed::new(1).tokens("x", 256, (32, 64), &Device::Cpu)?.to_dtype(DType::F32)?;
/// assert_normalized!(bytes); // every value is a whole number from 0 to 255: raw bytes, never divided
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_normalized {
    ($($arguments:tt)*) => {
        $crate::__assert!(Normalized [reference]; $($arguments)*)
    };
}

/// A data pipeline delivers every sample once an epoch, with its own target, in an order that changes.
///
/// `assert_pipeline!(|epoch| .., samples)`, where the closure returns the batches of an epoch over marker samples, which
/// [`synthetic::markers`](crate::synthetic::markers) makes; the options are `shuffled` (false for evaluation),
/// `drop_last`, `repeats` (weighted samplers), `aligned` (targets are pictures, as masks), `evaluation` (the pipeline of
/// the evaluation, a closure, too), `read_input` and `read_target` (how to read the number of a sample back), `epochs`,
/// and `allow`. Evaluates to a [`PipelineReport`](crate::check::PipelineReport); everything else is said at
/// [`check::Pipeline`](crate::check::Pipeline).
///
/// ```
/// use candling::{assert_pipeline, prelude::*, synthetic};
///
/// fn batches(x: &Tensor, y: &Tensor, epoch: usize) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
///     # let keys = Seed::new(3).uniform(&format!("epoch {epoch}"), 0.0..1.0, x.dim(0)?, DType::F32, &Device::Cpu)?;
///     # let order = keys.arg_sort_last_dim(true)?;
///     // .. your loader
///     let (x, y) = (x.index_select(&order, 0)?, y.index_select(&order, 0)?);
///     (0..x.dim(0)?).step_by(8).map(|i| Ok((x.narrow(0, i, 8)?, y.narrow(0, i, 8)?))).collect()
/// }
///
/// let (x, y) = synthetic::markers(32, (3, 8, 8))?; // 32 images
/// assert_pipeline!(|epoch| Ok(batches(&x, &y, epoch)?), 32);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_pipeline, prelude::*, synthetic};
/// # let (x, y) = synthetic::markers(32, (3, 8, 8))?;
/// let batches = |_epoch| Ok(vec![(x.narrow(0, 0, 16)?, y.narrow(0, 0, 16)?)]); // `break` after the first
/// assert_pipeline!(batches, 32); // an epoch leaves out 16 of 32 samples
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_pipeline {
    ($($arguments:tt)*) => {
        $crate::__assert!(Pipeline [value, value]; $($arguments)*)
    };
}
