//! Judgement: one property a file.
//!
//! Every options type has `new()`, a setter for each option, and `check(..)`, which returns a report or a
//! [`Failure`](crate::Failure). The macro of the same name takes the same options by the setters' names.

mod arguments;
mod call;
mod data;
pub(crate) mod dependence;
mod function;
mod gradients;
mod healthy;
mod initial;
mod loss;
mod modes;
mod properties;
mod rounding;
mod tensors;
mod training;

pub use crate::diagnose::Trajectory;
pub use data::{
    ChannelMoments, Disjoint, DisjointReport, Labels, LabelsReport, Normalized, NormalizedReport,
    Pipeline, PipelineReport, Scheme,
};
pub use dependence::pairs::{
    Causal, CausalReport, Dependence, DependenceReport, UsesInput, UsesInputReport,
};
pub use dependence::sequence::{
    CacheConsistent, CacheConsistentReport, CachedRun, PaddingInvariant, PaddingInvariantReport,
    PositionSensitive, PositionSensitiveReport, Side,
};
pub use dependence::{BatchIndependent, BatchIndependentReport, GradientProof};
pub use gradients::{
    Differentiated, GradientVerdict, GradientsCorrect, GradientsCorrectReport, GradientsFlow,
    GradientsFlowReport, LayerActivity, UnitsAlive, UnitsAliveReport, VariableGradient,
};
pub use healthy::{Healthy, HealthyReport};
pub use initial::{
    InitialLoss, InitialLossReport, InitialWeight, Initialized, InitializedReport, WeightVerdict,
};
pub use loss::{LossContract, LossContractReport};
pub use modes::{DropoutRates, DropoutSeen, NormSeen, TrainEvalModes, TrainEvalModesReport};
pub use properties::{
    Deterministic, DeterministicReport, Direction, Equivalent, EquivalentReport, Equivariant,
    EquivariantReport, Invariant, InvariantReport, LayoutInvariant, LayoutInvariantReport,
    Nonlinear, NonlinearReport, Sensitive, SensitiveReport, Transform, Transforms,
};
pub use tensors::{
    Close, CloseReport, Dim, Dims, DimsReport, Finite, FiniteReport, InRange, InRangeReport, Shape,
    ShapePattern, ShapeReport,
};
pub use training::{
    AccumulationEquivalent, AccumulationEquivalentReport, CapacityHelps, CapacityHelpsReport,
    Count, LearnsFromInput, LearnsFromInputReport, LossDecreases, LossDecreasesReport,
    OverfitsBatch, OverfitsBatchReport, Reproducible, ReproducibleReport, StepUpdates,
    StepUpdatesReport, VariableUpdate, VariableVerdict, Weighting,
};
