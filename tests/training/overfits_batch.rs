use candle_core::{DType, Device, IndexOp, Module, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD, loss, ops};
use candling::{
    Cause, FailureKind, Learner, Seed,
    check::{OverfitsBatch, Trajectory},
};

use super::models::{Mlp, classes, device};

fn text(failure: &candling::Failure) -> String {
    // Only a build without optimisation prints the line about it.
    let lines = failure.text();
    lines
        .lines()
        .filter(|l| !l.starts_with("  slow?"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn show() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let p = |name: &str, l: Learner<'_>| match OverfitsBatch::new().check(&l, (&x, &y)) {
        Ok(r) => println!(
            "== {name}\nOK {} {} {:?} {:?} {:?}\n",
            r.final_loss, r.steps, r.trajectory, r.accuracy, r.unused
        ),
        Err(f) => println!("== {name}\n{}\n", text(&f)),
    };
    p(
        "clean",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy),
    );
    p(
        "sgd",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|v| SGD::new(v, 0.1)),
    );
    p(
        "double softmax",
        Learner::new(
            &vars,
            |x| ops::softmax(&m.forward(x)?, 1),
            loss::cross_entropy,
        ),
    );
    p(
        "nll softmax",
        Learner::new(&vars, |x| ops::softmax(&m.forward(x)?, 1), loss::nll),
    );
    p(
        "nll logits",
        Learner::new(&vars, |x| m.forward(x), loss::nll),
    );
    p(
        "neg",
        Learner::new(
            &vars,
            |x| m.forward(x),
            |o, y| loss::cross_entropy(o, y)?.neg(),
        ),
    );
    p(
        "neglr",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|v| SGD::new(v, -0.1)),
    );
    p(
        "lr high",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|v| {
            AdamW::new(
                v,
                ParamsAdamW {
                    lr: 10.0,
                    ..Default::default()
                },
            )
        }),
    );
    p(
        "lr very high",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|v| SGD::new(v, 1e6)),
    );
    p(
        "lr low",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|v| {
            AdamW::new(
                v,
                ParamsAdamW {
                    lr: 1e-5,
                    ..Default::default()
                },
            )
        }),
    );
    p(
        "lr 1e-12",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(|v| SGD::new(v, 1e-12)),
    );
    p(
        "detach loss",
        Learner::new(
            &vars,
            |x| m.forward(x),
            |o, y| loss::cross_entropy(&o.detach(), y),
        ),
    );
    p(
        "detach mid",
        Learner::new(
            &vars,
            |x| m.l2.forward(&m.l1.forward(x)?.relu()?.detach()),
            loss::cross_entropy,
        ),
    );
    p(
        "subset",
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(|v| SGD::new(v[..2].to_vec(), 0.1)),
    );
    p(
        "nan",
        Learner::new(&vars, |x| m.forward(x)?.log(), loss::cross_entropy),
    );
    p(
        "sqrt0",
        Learner::new(
            &vars,
            |x| m.l2.forward(&m.l1.forward(x)?.relu()?.sqrt()?),
            loss::cross_entropy,
        ),
    );
    p(
        "blind",
        Learner::new(
            &vars,
            |x: &Tensor| m.forward(&x.zeros_like()?),
            |o, _| o.sqr()?.mean_all(),
        ),
    );
    p(
        "zeroed",
        Learner::new(
            &vars,
            |x: &Tensor| m.forward(&x.zeros_like()?),
            loss::cross_entropy,
        ),
    );
    let _ = (
        Cause::LossSign,
        FailureKind::Violated,
        Trajectory::Slow,
        device(),
        Device::Cpu,
        Seed::new(1),
        x.i(0),
    );
}
