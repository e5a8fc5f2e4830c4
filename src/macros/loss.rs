//! Assertions on loss functions.

/// Asserts that a loss function computes what its contract says: values, reduction, gradient, bounds.
///
/// `assert_loss_contract!(loss, contract)`, with the options of [`check::LossContract`](crate::check::LossContract): `seed`,
/// `allow`. `loss` is a function or a closure of a prediction and a target; `contract` is made by the functions of
/// [`contract`](mod@crate::contract). Evaluates to [`LossContractReport`](crate::check::LossContractReport).
///
/// ```
/// use candling::{contract, prelude::*};
///
/// assert_loss_contract!(loss::cross_entropy, contract::cross_entropy(10));
/// assert_loss_contract!(|p, y| (p - y)?.sqr()?.sum_all(), contract::mse().sum(), "summed over {}", "the batch");
///
/// let per_row = |p: &Tensor, y: &Tensor| p.squeeze(1)?.sub(y)?.abs()?.mean_all();
/// let report = assert_loss_contract!(per_row, contract::mae().shape([1]).target_shape([]));
/// assert_eq!(report.perfect, Some(0.0));
/// # candling::Result::Ok(())
/// ```
///
/// A column of predictions, broadcast against a row of targets:
///
/// ```should_panic
/// # use candling::{contract, prelude::*};
/// assert_loss_contract!(|p, y| p.broadcast_sub(y)?.sqr()?.mean_all(), contract::mse());
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the loss breaks its contract, or could not be tested; see [`check::LossContract`](crate::check::LossContract).
#[macro_export]
macro_rules! assert_loss_contract {
    ($($args:tt)*) => {
        $crate::__assert!(LossContract [loss, reference]; $($args)*)
    };
}
