//! What a test file of a candle user needs: the assertions, the vocabulary, and candle's usual names.

#[doc(no_inline)]
pub use candle_core::{DType, Device, Module, Tensor, Var};
#[doc(no_inline)]
pub use candle_nn::{ModuleT, Optimizer, VarBuilder, VarMap, loss};

#[doc(no_inline)]
pub use crate::{Cause, Failure, Learner, Seed, Tolerance, tap};
#[doc(no_inline)]
pub use crate::{
    assert_accumulation_equivalent, assert_batch_independent, assert_cache_consistent,
    assert_capacity_helps, assert_causal, assert_close, assert_dependence, assert_deterministic,
    assert_dims, assert_equivalent, assert_equivariant, assert_finite, assert_gradients_correct,
    assert_gradients_flow, assert_healthy, assert_in_range, assert_invariant,
    assert_layout_invariant, assert_learns_from_input, assert_nonlinear, assert_overfits_batch,
    assert_padding_invariant, assert_position_sensitive, assert_reproducible, assert_sensitive,
    assert_shape, assert_units_alive, assert_uses_input,
};
