//! Assertions on training and evaluation mode.

mod declared;
mod dropout;
mod evaluation;
mod norms;
mod passes;
mod report;
mod train_eval;
mod training;

pub use declared::DropoutRates;
pub use report::{DropoutSeen, NormSeen, TrainEvalModesReport};
pub use train_eval::TrainEvalModes;
