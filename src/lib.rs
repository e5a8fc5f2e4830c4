//! Testing assertions for neural networks written with candle: a few lines in `cargo test` that catch the silent bugs,
//! say why, and never cry wolf.
//!
//! *Candling* is holding an egg up to a candle to see, without breaking it, whether anything inside is alive.
//!
//! ```
//! use candling::{prelude::*, synthetic};
//!
//! # struct Mlp { l1: candle_nn::Linear, l2: candle_nn::Linear }
//! # impl Mlp {
//! #     fn new(vb: VarBuilder) -> candle_core::Result<Self> {
//! #         Ok(Self { l1: candle_nn::linear(2, 32, vb.pp("l1"))?, l2: candle_nn::linear(32, 3, vb.pp("l2"))? })
//! #     }
//! #     fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> { self.l2.forward(&self.l1.forward(x)?.relu()?) }
//! # }
//! # /*
//! #[test]
//! # */
//! fn mlp_learns() -> candling::Result<()> {
//!     let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
//!     let model = Mlp::new(vb)?; // your model, unchanged
//!     let (x, y) = synthetic::spirals(Seed::new(1), 3, 4)?; // 3 classes, 4 points each
//!     let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
//!
//!     assert_overfits_batch!(learner, (&x, &y));
//!     assert_healthy!(learner, (&x, &y), classes = 3); // everything that applies, one report
//!     Ok(())
//! }
//! # mlp_learns().unwrap();
//! ```
//!
//! With a softmax at the end of the model nothing crashes and the loss falls, but not far enough:
//!
//! ```text
//! assertion `overfits_batch` failed: digits, seed 42
//! the loss stops above its target: 2.3 -> 1.46 in 300 steps (target 0.023)
//!
//!   loss       ▇▃▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.46 .. 2.3
//!   shape      floor above zero
//!   accuracy   1
//!   optimizer  the default: AdamW, at a learning rate of 0.01
//!
//!   confirmed  loss-on-probabilities   the loss is the cross-entropy of logits, and the outputs' rows sum to 1:
//!                                      its floor over 10 classes is 1.46, not 0
//!   help       remove the softmax or sigmoid before the loss: it applies its own; see
//!              docs/causes.md#loss-on-probabilities
//!   rerun      cargo test digits_are_learned
//! ```
//!
//! Some bugs no training shows: a mask off by one, rows that see each other, padding that counts. The assertions on
//! dependence need no data and no trained weights, only the function and an input:
//!
//! ```
//! use candling::prelude::*;
//!
//! let ids = Seed::new(1).tokens("ids", 40, (3, 9), &Device::Cpu)?;
//! # let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
//! # let embed = candle_nn::embedding(40, 8, vb)?;
//! # struct Gpt(candle_nn::Embedding);
//! # impl Gpt { fn forward(&mut self, ids: &Tensor) -> candle_core::Result<Tensor> { self.0.forward(ids)?.cumsum(1) } }
//! # let mut model = Gpt(embed);
//! assert_causal!(|ids| model.forward(ids), &ids);
//! assert_batch_independent!(|ids| model.forward(ids), &ids);
//! # candling::Result::Ok(())
//! ```
//!
//! # Assertions
//!
//! | macro | subjects | what must hold |
//! |---|---|---|
//! | [`assert_close!`] | actual, expected | shape, dtype and every element within tolerance; NaN never matches |
//! | [`assert_finite!`] | tensor | no NaN, no infinity |
//! | [`assert_in_range!`] | tensor, range | every element in the range |
//! | [`assert_shape!`] | tensor, dims | exact dimensions, `_` free |
//! | [`assert_dims!`] | `x => [batch, time, 64], mask => [batch, time]` | names unify across tensors |
//! | [`assert_labels!`] | y, classes | whole numbers in `0..classes`, every class present |
//! | [`assert_normalized!`] | x | mean 0 and deviation 1, or a range, as far as its rows can tell |
//! | [`assert_disjoint!`] | train, validation | no row of one set is in the other |
//! | [`assert_pipeline!`] | epoch closure, samples | every sample once an epoch, with its target, in a new order; training and evaluation prepare it alike |
//! | [`assert_initialized!`] | vars | no constant, copied or mis-scaled weights; zeros by intent are named |
//! | [`assert_initial_loss!`] | learner, batch, expected | the loss before training is what theory says; names what moved it |
//! | [`assert_loss_contract!`] | loss, contract | the loss computes what it claims: values, reduction, gradient; bears logits of 100; every row counts, ignored labels do not |
//! | [`assert_batch_independent!`] | f, &x | no row of the output depends on another row of the input: all pairs, by bits |
//! | [`assert_causal!`] | f, &x | an output depends on no later position, and on some earlier one |
//! | [`assert_dependence!`] | f, &x, mask | exactly the allowed pairs of output and input depend |
//! | [`assert_uses_input!`] | f, &x | every feature, channel and position of the input moves the output |
//! | [`assert_cache_consistent!`] | full, step, &tokens | one pass = token by token = any chunks = after a reset |
//! | [`assert_padding_invariant!`] | f(x, mask), &x | neither the length nor the content of padding changes a real position |
//! | [`assert_position_sensitive!`] | f, &x | the order of the positions matters |
//! | [`assert_invariant!`] | f, &x, transform | `f(T(x)) = f(x)` |
//! | [`assert_equivariant!`] | f, &x, transform(s) | `f(T(x)) = T'(f(x))` |
//! | [`assert_equivalent!`] | f, g, &x | two implementations agree, up to the rounding measured on both |
//! | [`assert_sensitive!`] | f, &x, perturbation | the perturbation changes the output, where wanted in a stated direction |
//! | [`assert_deterministic!`] | f, &x | the same bits when asked again and after other inputs |
//! | [`assert_layout_invariant!`] | f, &x | views of the same values give the same result (candle 0.11's `Linear` fails this) |
//! | [`assert_nonlinear!`] | f, &x | not an affine map in disguise |
//! | [`assert_gradients_flow!`] | learner, batch | every variable gets a finite gradient of a sane size; names the op that cut it |
//! | [`assert_gradients_correct!`] | f, &x; learner, batch | the backward pass gives the slope, kinks told from bugs |
//! | [`assert_units_alive!`] | learner, batch | no layer is dead or saturated |
//! | [`assert_loss_decreases!`] | learner, batch | a small step against the gradient lowers the loss, and so does the learner's own optimizer |
//! | [`assert_step_updates!`] | vars, step closure | your own training step moves every variable that is not frozen, no frozen one, by a sane share |
//! | [`assert_accumulation_equivalent!`] | learner, batch | micro-batches add up to the batch, as the loss or the loop weights them |
//! | [`assert_overfits_batch!`] | learner, batch | one batch is memorised, by every variable, from its input |
//! | [`assert_learns_from_input!`] | learner, batch | trained on the batch, it beats itself without its input |
//! | [`assert_capacity_helps!`] | small, large, batch | more capacity, lower loss |
//! | [`assert_reproducible!`] | closure of a `Seed` | same seed, same bits; other seed, other bits; names the first tensor that differs |
//! | [`assert_train_eval_modes!`] | learner, &x | evaluation repeats and changes nothing; dropout drops the declared share, scales it, row by row; running statistics move in training only and are used |
//! | [`assert_healthy!`] | learner, batch | everything that applies, in one report |
//!
//! All have one grammar:
//!
//! ```text
//! assert_<property>!(subject, ...);                                  // panics at the caller's line
//! assert_<property>!(subject, ..., option = value, option = value);  // the setters of the options type, by name
//! assert_<property>!(subject, ..., "context {}", value);             // context first in the message
//! let report = assert_<property>!(...);                              // evaluates to the report
//!
//! <Property>::new().option(value).check(subject, ...)?;              // the same as a Result<Report, Failure>
//! ```
//!
//! Subjects may be given as `x` or `&x`. The options types are in [`check`].
//!
//! # What is under test
//!
//! A [`Learner`] holds variables, a forward closure, a loss closure, and optionally an optimizer. A [`Seed`] makes
//! variables and inputs, a [`Snapshot`] keeps values, [`set_constant`] replaces them. A check returns its report or a
//! [`Failure`], which names a [`Cause`] out of a fixed catalogue; `docs/causes.md` explains each.
//!
//! [`Trace::record`] reads every layer's output from the autograd graph, under the names of the variables; [`tap`] names a
//! finer place, and catches its gradient.
//!
//! With the default feature `proptest`, `strategies` draws inputs of many shapes, dtypes and layouts for property tests,
//! and shrinks a failing one to a line of Rust.
//!
//! # Three kinds of failure
//!
//! [`FailureKind::Violated`]: the property does not hold. [`FailureKind::Vacuous`]: the check ran and proved nothing.
//! [`FailureKind::NotRun`]: an argument cannot be used, or a closure returned an error. A macro panics on all three.
//!
//! # Limits
//!
//! - Dropout draws from candle's CPU generator, which has no seed: a learner with active dropout trains a little
//!   differently each time. Give it [`Learner::with_modes`], so that the fit is judged in evaluation mode. On linux-gnu
//!   the feature `seed-candle` makes that generator repeatable: `let _seeded = Seed::new(7).seed_candle()?;`.
//! - A variable that shapes the result without receiving a gradient is told from an unused one by moving it; where two
//!   evaluations differ already, the finding is only *possible*.
//! - What a passing training hides (rows mixed across the batch, a mask off by one) is not seen by training: that is what
//!   the assertions on dependence are for. They call the function again and again, and need it to repeat itself bit for bit.

mod approx;
mod diagnose;
mod env;
mod input;
mod inputs;
mod learner;
mod macros;
mod measure;
mod seed;
mod tolerance;
mod trace;
mod variables;
mod verdict;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod check;
pub mod contract;
pub mod expected;
pub mod prelude;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod synthetic;

pub use candle_core;
pub use candle_nn;

pub use approx::Approx;
pub use contract::Contract;
pub use env::{Env, Update, device};
pub use input::{Batch, Input};
pub use inputs::Inputs;
pub use learner::Learner;
pub use seed::Seed;
#[cfg(feature = "seed-candle")]
pub use seed::SeededCandle;
pub use tolerance::Tolerance;
pub use trace::{Layer, Trace, tap};
pub use variables::{Snapshot, Variables, set_constant, set_with};
pub use verdict::{Cause, Failure, FailureKind, Finding};

/// What every fallible function of candling returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// The programs of the findings run as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/findings.md")]
mod findings {}
