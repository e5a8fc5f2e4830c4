//! Assertions on sequence models.

/// A model with a cache says the same however its tokens are handed to it.
///
/// `assert_cache_consistent!(full, step, tokens)`, with `full(tokens)` one pass over all of them and `step(tokens, offset)`
/// a piece behind `offset` others, 0 to start anew. The options are `tolerance`, `single_tokens` (default false), `seed` and
/// `allow`. Evaluates to a [`CacheConsistentReport`](crate::check::CacheConsistentReport); everything else is said at
/// [`check::CacheConsistent`](crate::check::CacheConsistent).
///
/// ```
/// use candling::{assert_cache_consistent, prelude::*};
///
/// // An embedding under a running sum: the cache is the sum so far.
/// let (_, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// let embed = candle_nn::embedding(20, 8, vb)?;
/// let ids = Seed::new(1).tokens("ids", 20, (2, 6), &Device::Cpu)?;
/// let mut sum = Tensor::zeros((2, 1, 8), DType::F32, &Device::Cpu)?;
/// assert_cache_consistent!(
///     |ids| embed.forward(ids)?.cumsum(1),
///     |ids, offset| {
///         if offset == 0 {
///             sum = sum.zeros_like()?;
///         }
///         let sums = embed.forward(ids)?.cumsum(1)?.broadcast_add(&sum)?;
///         sum = sums.narrow(1, ids.dim(1)? - 1, 1)?;
///         Ok(sums)
///     },
///     &ids
/// );
/// # candling::Result::Ok(())
/// ```
///
/// A step that keeps nothing:
///
/// ```should_panic
/// # use candling::{assert_cache_consistent, prelude::*};
/// # let x = Seed::new(1).normal("x", (2, 6, 3), DType::F32, &Device::Cpu)?;
/// assert_cache_consistent!(|x| x.cumsum(1), |x, _| x.cumsum(1), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::CacheConsistent`](crate::check::CacheConsistent).
#[macro_export]
macro_rules! assert_cache_consistent {
    ($full:expr, $step:expr, $tokens:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_step!($full, $step, $tokens $(, $name = $value)*),
            $crate::__private::None
        )
    };
    ($full:expr, $step:expr, $tokens:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::__of_step!($full, $step, $tokens $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __of_step {
    ($full:expr, $step:expr, $tokens:expr $(, $name:ident = $value:expr)*) => {
        match $crate::__private::input(&$tokens) {
            tokens => $crate::check::CacheConsistent::new()$(.$name($value))*.check(
                $crate::__private::function_of(tokens, $full),
                $crate::__private::step_of($step),
                tokens,
            ),
        }
    };
}

/// Padding changes no real position.
///
/// `assert_padding_invariant!(|x, mask| .., x)`, with 1 in the mask for a real position and 0 for padding. The options are
/// `pad` (default 0), `side` (default [`Side::Right`](crate::check::Side)), `mask_dtype`, `tolerance`, `seed` and `allow`.
/// Evaluates to a [`PaddingInvariantReport`](crate::check::PaddingInvariantReport); everything else is said at
/// [`check::PaddingInvariant`](crate::check::PaddingInvariant).
///
/// ```
/// use candling::{assert_padding_invariant, prelude::*};
///
/// let (_, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// let embed = candle_nn::embedding(20, 8, vb)?;
/// let ids = Seed::new(1).tokens("ids", 20, (2, 6), &Device::Cpu)?;
/// let report = assert_padding_invariant!(
///     |ids, mask| {
///         let sum = embed.forward(ids)?.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
///         sum.broadcast_div(&mask.sum_keepdim(1)?)
///     },
///     &ids
/// );
/// assert_eq!(report.mask_dtype, DType::F32);
/// # candling::Result::Ok(())
/// ```
///
/// A mean that counts the padding:
///
/// ```should_panic
/// # use candling::{assert_padding_invariant, prelude::*};
/// # let x = Seed::new(1).normal("x", (2, 6, 3), DType::F32, &Device::Cpu)?;
/// assert_padding_invariant!(|x, mask| x.broadcast_mul(&mask.unsqueeze(2)?)?.mean(1), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::PaddingInvariant`](crate::check::PaddingInvariant).
#[macro_export]
macro_rules! assert_padding_invariant {
    ($f:expr, $x:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::check::PaddingInvariant::new()$(.$name($value))*
                .check($crate::__private::padded_of($f), $crate::__private::input(&$x)),
            $crate::__private::None
        )
    };
    ($f:expr, $x:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::check::PaddingInvariant::new()$(.$name($value))*
                .check($crate::__private::padded_of($f), $crate::__private::input(&$x)),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

/// The order of the positions matters.
///
/// `assert_position_sensitive!(f, x)`; the options are `dim` (default 1), `tolerance`, `seed` and `allow`. Evaluates to a
/// [`PositionSensitiveReport`](crate::check::PositionSensitiveReport); everything else is said at
/// [`check::PositionSensitive`](crate::check::PositionSensitive).
///
/// ```
/// use candling::{assert_position_sensitive, prelude::*};
///
/// let (_, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// let (words, places) =
///     (candle_nn::embedding(20, 8, vb.pp("words"))?, candle_nn::embedding(6, 8, vb.pp("places"))?);
/// let ids = Seed::new(1).tokens("ids", 20, (2, 6), &Device::Cpu)?;
/// let place = Tensor::arange(0u32, 6, &Device::Cpu)?;
/// assert_position_sensitive!(
///     |ids| words.forward(ids)?.broadcast_mul(&places.forward(&place)?)?.sum(1),
///     &ids
/// );
/// # candling::Result::Ok(())
/// ```
///
/// A bag of words:
///
/// ```should_panic
/// # use candling::{assert_position_sensitive, prelude::*};
/// # let (_, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
/// # let words = candle_nn::embedding(20, 8, vb)?;
/// # let ids = Seed::new(1).tokens("ids", 20, (2, 6), &Device::Cpu)?;
/// assert_position_sensitive!(|ids| words.forward(ids)?.mean(1), &ids);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::PositionSensitive`](crate::check::PositionSensitive).
#[macro_export]
macro_rules! assert_position_sensitive {
    ($($arguments:tt)*) => {
        $crate::__assert_function!(PositionSensitive; $($arguments)*)
    };
}
