//! Every variable has its value back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Tensor};
use candle_nn::ModuleT;
use candling::check::TrainEvalModes;

use super::models::{batch_norm, bits, builder, candles, learner, normed, rows, two};

#[test]
fn variables_come_back_on_success_failure_error_and_panic() {
    let x = rows(16, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let norm = batch_norm(32, &vb);
    let model = normed(&vars, &vb, candles(norm.clone()));
    let before = bits(&vars);
    TrainEvalModes::new().check(&model, &x).unwrap();
    assert_eq!(bits(&vars), before);
    TrainEvalModes::new().check(&model, &rows(1, DType::F32)).unwrap_err();
    assert_eq!(bits(&vars), before);
    TrainEvalModes::new().dropout(0.5).check(&model, &x).unwrap_err();
    assert_eq!(bits(&vars), before);
    let always = normed(&vars, &vb, move |x, _| norm.forward_t(x, true));
    TrainEvalModes::new().check(&always, &x).unwrap_err();
    assert_eq!(bits(&vars), before);

    let (l1, l2) = two(&vb);
    let var = vars.data().lock().unwrap()["l1.bias"].clone();
    let breaks = learner(&vars, |x: &Tensor, train| {
        let x = l1.forward(x)?;
        if train {
            var.set(&(var.as_detached_tensor() + 1.0)?)?;
            assert!(x.dim(0)? != 16, "in the middle");
        }
        l2.forward(&x)
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| TrainEvalModes::new().check(&breaks, &x)));
    assert!(outcome.unwrap().is_err());
    assert_eq!(bits(&vars), before);
}
