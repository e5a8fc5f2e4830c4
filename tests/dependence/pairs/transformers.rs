//! candle-transformers' models: what sees what in networks that no one wrote for this crate.

use candle_core::Tensor;
use candling::{
    Cause, FailureKind, Learner, Seed,
    check::{Causal, UsesInput},
};

use crate::models::{Kind, Model, models, tokens};

const SEED: Seed = Seed::new(1);

fn of_kind(kind: Kind) -> impl Iterator<Item = Model> {
    models().into_iter().filter(move |model| model.kind == kind)
}

fn forward(learner: &Learner<'_>, input: &[Tensor]) -> candle_core::Result<Tensor> {
    let output = match input {
        [only] => learner.forward(only),
        [first, second] => learner.forward(&[first.clone(), second.clone()]),
        _ => unreachable!("no model takes {} tensors", input.len()),
    };
    output.map_err(|failure| candle_core::Error::Msg(failure.text()))
}

#[test]
fn decoders_are_causal() -> candling::Result<()> {
    let mut seen = 0;
    for model in models() {
        let Some(positions) = model.positions else { continue };
        let mut positions = positions(SEED)?;
        let report = Causal::new().check(|ids: &Tensor| positions(ids), &tokens(SEED)?);
        let report = report.map_err(|failure| failure.context(model.name))?;
        assert_eq!(report.reach, 1, "{}", model.name);
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
    Ok(())
}

#[test]
fn encoders_look_both_ways() -> candling::Result<()> {
    for model in of_kind(Kind::Encoder) {
        let (learner, batch) = (model.learner)(SEED)?;
        let f = |ids: &Tensor| forward(&learner, std::slice::from_ref(ids));
        let failure = Causal::new().check(f, &batch.input()[0]).unwrap_err();
        // The encoder of t5 has a class for each row here.
        match failure.kind() {
            FailureKind::NotRun => assert_eq!(model.name, "t5 encoder", "{failure}"),
            _ => assert_eq!(failure.cause(), Some(Cause::FutureLeak), "{}: {failure}", model.name),
        }
    }
    Ok(())
}

#[test]
fn targets_see_earlier_targets_beside_a_source_that_the_closure_owns() -> candling::Result<()> {
    for model in of_kind(Kind::EncoderDecoder).filter(|model| model.name == "whisper") {
        let (learner, batch) = (model.learner)(SEED)?;
        let [source, target] = batch.input() else { unreachable!("two inputs") };
        let f = |target: &Tensor| {
            let copies = target.dim(0)? / source.dim(0)?;
            let sources = Tensor::cat(&vec![source; copies], 0)?;
            forward(&learner, &[sources, target.clone()])
        };
        let report = Causal::new().check(f, target)?;
        assert_eq!((report.positions, report.reach), (6, 1));
        // A source of another length than the target is left as it is.
        let both = |x: &[Tensor; 2]| forward(&learner, &[x[1].clone(), x[0].clone()]);
        Causal::new().check(both, &[target.clone(), source.clone()])?;
    }
    Ok(())
}

#[test]
fn every_model_uses_all_of_its_input() -> candling::Result<()> {
    // One second a call.
    for model in models().into_iter().filter(|model| model.name != "convnext") {
        let (learner, batch) = (model.learner)(SEED)?;
        let check = UsesInput::new();
        let report = match batch.input() {
            [only] => check.check(|x: &Tensor| forward(&learner, std::slice::from_ref(x)), only),
            [first, second] => check
                .check(|x: &[Tensor; 2]| forward(&learner, x), &[first.clone(), second.clone()]),
            _ => unreachable!("no model takes more"),
        };
        report.map_err(|failure| failure.context(model.name))?;
    }
    Ok(())
}
