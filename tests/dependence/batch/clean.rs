//! Networks without a fault raise no alarm.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{VarBuilder, ops};
use candling::{
    Seed,
    check::{BatchIndependent, GradientProof},
};

use super::models::{Clean, ZOO, builder, device};

fn check(model: &Clean, seed: u64, rows: usize, dtype: DType) -> Option<GradientProof> {
    let (_vars, vb) = builder(seed, dtype);
    let network = (model.build)(vb).unwrap();
    let x = model.input(seed, rows, dtype);
    let result = BatchIndependent::new().seed(Seed::new(seed)).check(|x: &_| network(x), &x);
    match result {
        Ok(report) => {
            assert!(report.unmoved.is_empty() || model.name == "classes of ids", "{}", model.name);
            Some(report.gradient)
        }
        // A handful of rows may all be of one class.
        Err(failure) if model.name == "classes of ids" => {
            assert_eq!(failure.kind(), candling::FailureKind::Vacuous, "{failure}");
            None
        }
        Err(failure) => panic!("{} of {rows} rows, seed {seed}, {dtype:?}: {failure}", model.name),
    }
}

#[test]
fn no_network_raises_an_alarm_on_any_seed() {
    for model in ZOO {
        for seed in 0..30 {
            let rows = [2, 3, 4, 7, 8, 13, 33][seed as usize % 7];
            check(model, seed, rows, DType::F32);
        }
    }
}

#[test]
fn no_network_raises_an_alarm_in_another_format() {
    for model in ZOO {
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            // candle has no convolution in bf16, and no fused norm in f64.
            let (_vars, vb) = builder(0, dtype);
            if (model.build)(vb).unwrap()(&model.input(0, 2, dtype)).is_err() {
                continue;
            }
            for (seed, rows) in [(0, 8), (1, 3), (2, 20)] {
                check(model, seed, rows, dtype);
            }
        }
    }
}

#[test]
fn the_gradient_is_proved_or_the_report_says_why_not() {
    for model in ZOO {
        let gradient = check(model, 1, 8, DType::F32);
        match model.name {
            "fused layer norm" => assert_eq!(gradient, Some(GradientProof::Cut)),
            "decoder of ids" | "bag of ids" | "classes of ids" => {
                assert!(matches!(gradient, Some(GradientProof::NotFloat) | None));
            }
            // candle's own backward pass mixes the rows there.
            "conv1d" => {
                let Some(GradientProof::Engine(operation)) = gradient else {
                    panic!("{gradient:?}")
                };
                assert!(operation.starts_with("conv1d("), "{operation}");
            }
            name => {
                assert_eq!(gradient, Some(GradientProof::Proved { passes: 2, rows: 8 }), "{name}");
            }
        }
    }
}

#[test]
fn a_large_batch_is_proved_too() {
    for name in ["mlp", "attention", "conv2d"] {
        let model = ZOO.iter().find(|model| model.name == name).unwrap();
        check(model, 3, 256, DType::F32);
    }
}

/// A pooled embedding of ids, of which a mask says which count.
fn pooled(vb: VarBuilder<'_>) -> impl Fn(&[Tensor; 2]) -> Result<Tensor> {
    let table = candle_nn::embedding(20, 8, vb.pp("embed")).unwrap();
    let query = vb.get_with_hints(8, "query", candle_nn::init::DEFAULT_KAIMING_NORMAL).unwrap();
    move |[ids, mask]| {
        let x = table.forward(ids)?;
        let scores = x.broadcast_mul(&query)?.sum(D::Minus1)?;
        let hidden = ((mask.to_dtype(DType::F32)? - 1.0)? * 1e9)?;
        let weights = ops::softmax(&(scores + hidden)?, D::Minus1)?;
        x.broadcast_mul(&weights.unsqueeze(D::Minus1)?)?.sum(1)
    }
}

#[test]
fn ids_and_their_mask_go_together() {
    for seed in 0..10 {
        let (_vars, vb) = builder(seed, DType::F32);
        let f = pooled(vb);
        let ids = Seed::new(seed).tokens("ids", 20, (9, 6), &device()).unwrap();
        let some = Seed::new(seed).tokens("mask", 2, (9, 6), &device()).unwrap();
        for mask in [some.ones_like().unwrap(), some.clone(), some.zeros_like().unwrap()] {
            for dtype in [DType::F32, DType::U8] {
                let mask = mask.to_dtype(dtype).unwrap();
                let report = BatchIndependent::new().check(&f, &[ids.clone(), mask]).unwrap();
                assert!(report.unmoved.is_empty(), "{dtype:?}");
            }
        }
    }
}
