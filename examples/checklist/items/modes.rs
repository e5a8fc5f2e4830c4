//! Training and evaluation mode.

use candling::prelude::*;

use super::{
    super::models::{DROPOUT, Net},
    Item,
};

pub(crate) const ITEMS: &[Item] = &[Item {
    assertion: "assert_train_eval_modes!",
    question: "does dropout drop what it should, in training alone?",
    bug: "a flag that is not passed on",
    cause: Cause::DropoutInactive,
    test: |digits, bug| {
        let ((vars, net), (x, _)) = (Net::fresh()?, digits.rows(0, 32)?);
        let learner = Learner::with_modes(
            &vars,
            |x, train| net.forward_t(x, train && !bug),
            loss::cross_entropy,
        );
        assert_train_eval_modes!(learner, &x, dropout = DROPOUT);
        Ok(())
    },
}];
