use std::fmt;

/// One line a cause: its name, its code, what it means (also its documentation), and the first thing to try.
macro_rules! catalogue {
    ($($variant:ident $code:literal $summary:literal $advice:literal)*) => {
        /// Why a property does not hold: one of a fixed catalogue.
        ///
        /// Every cause has a kebab-case [`code`](Cause::code), printed in the failure text, and a section of that name
        /// in `docs/causes.md` with the bug in a few lines of candle, how it shows, and the fix.
        ///
        /// ```
        /// use candling::Cause;
        ///
        /// assert_eq!(Cause::LossSign.code(), "loss-sign");
        /// assert_eq!(Cause::from_code("loss-sign"), Some(Cause::LossSign));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Cause {
            $(#[doc = $summary] $variant,)*
        }

        impl Cause {
            /// Every cause of this version, in the catalogue's order.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)*];

            /// The kebab-case name: what the failure text prints and `docs/causes.md` is indexed by.
            pub const fn code(self) -> &'static str {
                match self { $(Cause::$variant => $code,)* }
            }

            /// What the cause means, in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Cause::$variant => $summary,)* }
            }

            pub(crate) const fn advice(self) -> &'static str {
                match self { $(Cause::$variant => $advice,)* }
            }
        }
    };
}

catalogue! {
    InputNotScaled "input-not-scaled" "The input's scale is far from what networks are initialised for."
        "scale the input to mean 0 and standard deviation 1, or to [0, 1]"
    InputConstant "input-constant" "An input feature, or the whole input, is constant."
        "look at the preprocessing: an integer division or a wrong index leaves a constant behind"
    LabelOutOfRange "label-out-of-range" "A label is outside 0..classes."
        "labels count from 0; check for an offset, or for a head with too few outputs"
    LabelMissingClass "label-missing-class" "A class has no sample."
        "check the label mapping, or the split"
    SplitOverlap "split-overlap" "A sample of the training set is in the validation set too."
        "split before augmenting, and split by sample, not by view of a sample"
    PairsBroken "pairs-broken" "Inputs and targets no longer belong together."
        "shuffle inputs and targets with one permutation"
    SamplesMissing "samples-missing" "An epoch leaves samples out, or repeats some."
        "look for an early break, a `take`, or a dropped last batch"
    OrderNotShuffled "order-not-shuffled" "Epochs come in one and the same order."
        "draw a new permutation for every epoch"
    LabelLeaked "label-leaked" "The target is among the input's features."
        "leave the target's column, and all that is made from it, out of the input"
    PreprocessingDiffers "preprocessing-differs" "Training and evaluation prepare one sample differently."
        "use one function for both, with the figures of the training set, and augment in training only"
    AugmentationRepeated "augmentation-repeated" "Samples are augmented with the same random draws."
        "give each worker, and each epoch, a generator of its own: `seed.split(..)`"

    WeightsConstant "weights-constant" "All entries of a weight are equal, so its units can never differ."
        "`vb.get` without a hint is zeros; use `get_with_hints` with a random init"
    WeightsDuplicated "weights-duplicated" "Two weights, or two rows of one, are identical."
        "draw each variable anew; one init tensor was given to several"
    WeightsScale "weights-scale" "The weights' scale is far from what the fan-in asks for."
        "use Kaiming initialisation: a standard deviation of sqrt(2/fan_in) before a ReLU"
    InitialLossHigh "initial-loss-high" "The loss before training is higher than an undecided model's."
        "check the input's scale and the last layer's initialisation"
    InitialLossLow "initial-loss-low" "The loss before training is lower than an undecided model's."
        "check the shift between input and target, the divisor of the mean, and whether a checkpoint was loaded"

    ShapeMismatch "shape-mismatch" "A tensor does not have the dimensions it should."
        "follow the named dimension back to where it took the wrong size"
    BatchSizeFixed "batch-size-fixed" "The model works for one batch size only."
        "take the batch size from the input: `x.dim(0)?`"
    VariableUnused "variable-unused" "Changing the variable changes nothing."
        "the layer is built and never called; call it, or list it in `.frozen(..)`"
    VariableShared "variable-shared" "Two layers share one variable."
        "give each layer a prefix of its own, or allow the sharing"
    VariableUntracked "variable-untracked" "A parameter is a plain tensor that no gradient can reach."
        "make it a `Var`, from a `VarMap`; weights from `from_mmaped_safetensors` are not variables"
    NetworkLinear "network-linear" "The network is an affine map: its layers collapse into one."
        "put an activation between the linear layers"
    OutputConstant "output-constant" "The output is the same for every input."
        "look for a softmax over a dimension of size 1, dead units, or an input that is never used"
    OutputBounded "output-bounded" "The output cannot reach the targets: its last activation bounds it."
        "drop the last activation, or choose one whose range holds the targets"

    ValuesDiffer "values-differ" "Two tensors that should be equal are not."
        "start from the worst element"
    OutOfRange "out-of-range" "A value is outside the range it must be in."
        "look at the named element and follow it back"
    NotInvariant "not-invariant" "The output changes under a transformation it should not notice."
        "find the first layer whose output changes"
    NotEquivariant "not-equivariant" "The output does not follow the transformation of the input."
        "find the first layer that does not follow"
    NotSensitive "not-sensitive" "The output does not notice a change it should notice."
        "check that the changed input reaches the model"
    WrongDirection "wrong-direction" "The output moves against the stated direction."
        "check the sign, and the order of the operands"
    LayoutDependent "layout-dependent" "The result depends on how the tensor lies in memory, not on its values."
        "call `.contiguous()?` before the operation; candle 0.11's matmul is wrong for some strided inputs"

    BatchMixed "batch-mixed" "A row of the output depends on another row of the input."
        "look for a reshape where a transpose was meant, or a reduction over dim 0"
    FutureLeak "future-leak" "An output depends on later positions."
        "check the mask: its diagonal, its orientation, and whether it is added before the softmax"
    InputIgnored "input-ignored" "The output does not depend on an input it should depend on."
        "check that the input is used, and not replaced or zeroed on the way"
    PaddingLeak "padding-leak" "Padding changes the result for real positions."
        "mask the padded positions in attention, pooling and loss"
    CacheMismatch "cache-mismatch" "Step by step and all at once give different results."
        "check the cache's offset, its reset, and the mask of a chunk"
    PositionIgnored "position-ignored" "The order of the positions does not matter, where it should."
        "check that the positional encoding is added, and not all zeros"
    StateKept "state-kept" "A call changes the result of the next."
        "reset the state, or pass it explicitly"

    LossOnProbabilities "loss-on-probabilities" "The loss expects logits or log-probabilities and is given probabilities."
        "remove the softmax or sigmoid before the loss: it applies its own"
    LossOnLogits "loss-on-logits" "The loss expects probabilities or log-probabilities and is given logits."
        "apply `log_softmax` (or `sigmoid`) first, or use the loss that takes logits"
    LossSign "loss-sign" "The loss has the wrong sign: training drives the model away from the targets."
        "the loss closure returns the negative of what it should"
    LossReduction "loss-reduction" "The loss is summed where it should be averaged, or the other way round."
        "use `mean_all` so that the step does not change with the batch"
    LossBroadcast "loss-broadcast" "Prediction and target broadcast against each other, (N, 1) against (N)."
        "bring both to one shape, with `squeeze(1)` or `unsqueeze(1)`"
    LossIgnoresTarget "loss-ignores-target" "The loss does not depend on the target."
        "check what the loss closure does with its second argument"
    LossIgnoresRows "loss-ignores-rows" "Some rows do not count in the loss."
        "check the indexing and the mask inside the loss"
    LossDetached "loss-detached" "The loss is cut from the graph: nothing can be trained by it."
        "look for `detach`, `argmax`, `to_scalar`, or a tensor rebuilt from a `Vec` between output and loss"
    LossUnstable "loss-unstable" "The loss overflows on inputs it should bear."
        "use a form that subtracts the maximum: `log_softmax`, or `relu(x) - x*y + log(1 + exp(-|x|))`"

    GradientCut "gradient-cut" "The variable shapes the result, yet no gradient reaches it."
        "candle's `LayerNorm`, `RmsNorm`, `softmax_last_dim` and `rope` have no backward pass: use `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow`; else look for a `detach`, `argmax` or `round`. What must not train belongs into `.frozen(..)`"
    GradientWrong "gradient-wrong" "The gradient is not the derivative of the function."
        "check the hand-written backward pass"
    GradientEngine "gradient-engine" "The gradient is wrong because of a known defect of a candle operation."
        "replace the operation, or take a candle version where it is mended"
    GradientVanishing "gradient-vanishing" "The gradient shrinks to nothing on its way back."
        "use ReLU-like activations, normalisation, or residual connections"
    GradientExploding "gradient-exploding" "The gradient grows without bound on its way back."
        "lower the initial weights' scale, normalise, or clip the gradient's norm"
    UnitsDead "units-dead" "Units of a layer are zero for every input."
        "lower the learning rate, check the bias, or use a leaky activation"
    UnitsSaturated "units-saturated" "Units of a layer sit in the flat part of their activation."
        "lower the weights' scale, or normalise before the activation"

    LearningRateHigh "learning-rate-high" "The learning rate is too high: steps overshoot."
        "lower the learning rate tenfold"
    LearningRateLow "learning-rate-low" "The learning rate is too low: steps are lost."
        "raise the learning rate tenfold"
    OptimizerMissesVariable "optimizer-misses-variable" "The variable has a gradient, but the optimizer does not own it."
        "build the optimizer after the model, from `varmap.all_vars()`"
    FrozenVariableMoved "frozen-variable-moved" "A variable that must not train was changed by training."
        "leave the frozen variables out of the optimizer's list"
    GradientsStale "gradients-stale" "A step uses gradients of an earlier one."
        "compute the gradients anew for every step"
    LabelsContradictory "labels-contradictory" "Equal inputs carry different targets."
        "look for a shuffle of only one side, or duplicates with other labels"
    CapacityTooSmall "capacity-too-small" "The model is too small to hold the batch."
        "widen the narrowest layer"
    InputNotLearned "input-not-learned" "The model does as well without its input."
        "check that the signal survives the preprocessing and the first layers"
    BaselineNotBeaten "baseline-not-beaten" "A simple baseline does as well."
        "check the data and the features before the model"
    AccumulationDiffers "accumulation-differs" "Micro-batches do not add up to the batch."
        "weight each micro-batch by its share of the samples or tokens"
    DecayUnintended "decay-unintended" "Weight decay moves what it should not, or too much."
        "lower the decay, and leave biases and norms out of it"
    RegularizationSign "regularization-sign" "The penalty has the wrong sign: it rewards large weights."
        "add the penalty, do not subtract it"
    OptimizerStateReset "optimizer-state-reset" "The optimizer forgets its state at every step."
        "build the optimizer once, before the loop"
    UpdateRatio "update-ratio" "A step changes the weights by far too large or too small a share of their size."
        "look at the learning rate of this variable's group"

    DropoutInEval "dropout-in-eval" "Dropout is active in evaluation."
        "pass `train = false` down to every layer"
    DropoutInactive "dropout-inactive" "Dropout is never active."
        "pass `train = true` down to every layer"
    DropoutUnscaled "dropout-unscaled" "Dropout does not scale what it keeps by 1/(1-p)."
        "divide the kept values by 1 - p"
    DropoutRate "dropout-rate" "Dropout drops another share than declared."
        "check whether p is the share dropped or the share kept"
    NormStatsFrozen "norm-stats-frozen" "The running statistics never move."
        "call `forward_t(x, true)` in training"
    NormStatsOfBatch "norm-stats-of-batch" "Evaluation uses the batch's own statistics."
        "call `forward_t(x, false)` in evaluation"
    EvalChangesState "eval-changes-state" "Evaluation changes the model."
        "look for a `Var::set` or a training-mode layer in the evaluation path"

    NotFinite "not-finite" "A value is NaN or infinite."
        "start at the named origin: what comes after it is only carried along"
    PrecisionLoss "precision-loss" "The number format is too coarse for what is done with it."
        "keep master weights, sums and losses in f32"

    GoldenChanged "golden-changed" "The result differs from the committed golden."
        "look at the difference; accept it with CANDLING_UPDATE=always if it is meant"
    MetricRegressed "metric-regressed" "A metric is worse than the committed value."
        "bisect to the change that made it worse"
    ArchitectureChanged "architecture-changed" "Layers, parameters or behaviour differ from the committed contract."
        "accept it with CANDLING_UPDATE=always if it is meant"
    CheckpointKeys "checkpoint-keys" "A checkpoint's keys and the model's are not the same."
        "rename the prefixes; `VarMap::load` before the model is built loads nothing"
    ParityDiverged "parity-diverged" "A layer's output differs from the reference."
        "compare the layer's hyper-parameters with the reference's"
    ParityTransposed "parity-transposed" "A layer's output is the reference's transposed, or was made with a transposed weight."
        "transpose the product, or the weight where it is converted"
    ParityScaled "parity-scaled" "A layer's output is a multiple of the reference's."
        "look for a missing or doubled scale factor"
    ParityPermuted "parity-permuted" "A layer's output is the reference's in another order."
        "compare the order of gates, heads or fused slices"

    NotReproducible "not-reproducible" "The same seed gives different results."
        "draw all randomness from the seed, and iterate maps in sorted order"
}

impl Cause {
    /// The cause with that code.
    pub fn from_code(code: &str) -> Option<Cause> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_names_in_kebab_case() {
        for cause in Cause::ALL {
            let mut kebab = String::new();
            for letter in format!("{cause:?}").chars() {
                if letter.is_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.extend(letter.to_lowercase());
            }
            assert_eq!(cause.code(), kebab);
            assert_eq!(Cause::from_code(cause.code()), Some(*cause));
        }
    }

    #[test]
    fn every_cause_has_its_section_in_the_docs() {
        let page = include_str!("../../docs/causes.md");
        for cause in Cause::ALL {
            let heading = format!("\n## {}\n", cause.code());
            assert!(page.contains(&heading), "docs/causes.md has no section {}", cause.code());
        }
        let sections = page.lines().filter(|line| line.starts_with("## ")).count();
        assert_eq!(sections, Cause::ALL.len(), "a section without a cause");
    }
}
