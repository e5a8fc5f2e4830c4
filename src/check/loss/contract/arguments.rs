//! What of a contract cannot be tested.

use crate::{
    Contract, Failure, Result,
    contract::Example,
    measure::{
        losses::Kind,
        noise::epsilon,
        scan::is_finite,
        values::{is_floating, is_readable},
    },
};

pub(super) fn contract(contract: &Contract) -> Result<()> {
    contract.examples.iter().try_for_each(example)?;
    if let Some((option, place)) = contract.misplaced {
        let was = format!("set on a contract of {}", contract.name);
        return Err(Failure::bad_argument(option, was, format_args!("on {place}")));
    }
    let Contract { dtype, classes, .. } = contract;
    if epsilon(*dtype).is_none_or(|epsilon| epsilon > 0.1) || !is_floating(*dtype) {
        return Err(Failure::bad_argument("dtype", dtype.as_str(), "f64, f32, f16 or bf16"));
    }
    if let Some(dtype) = contract.target_dtype.filter(|dtype| !is_readable(*dtype)) {
        return Err(Failure::bad_argument(
            "target_dtype",
            dtype.as_str(),
            "a dtype whose values candle can read",
        ));
    }
    if contract.rows == Some(0) {
        return Err(Failure::bad_argument("rows", 0, "1 or more"));
    }
    if !contract.scale.is_finite() || contract.scale <= 0.0 {
        return Err(Failure::bad_argument("scale", contract.scale, "a finite number above 0"));
    }
    let shapes = [("shape", &contract.shape), ("target_shape", &contract.target_shape)];
    for (name, dims) in shapes {
        if let Some(dims) = dims.as_ref().filter(|dims| dims.contains(&0)) {
            return Err(Failure::bad_argument(name, format_args!("{dims:?}"), "dims of 1 or more"));
        }
    }
    for (name, (low, high)) in
        [("predictions", contract.predictions), ("targets", contract.targets)]
    {
        if !(low < high && (high - low).is_finite()) {
            let was = format!("{low}..{high}");
            return Err(Failure::bad_argument(
                name,
                was,
                "finite bounds, the first below the second",
            ));
        }
    }
    let Some(kind) = contract.kind() else {
        return match contract.examples.is_empty() {
            true => Err(Failure::vacuous(format!(
                "the contract `{}` promises nothing: it has neither a formula nor an example",
                contract.name,
            ))
            .help("give it `per_row(|prediction, target| ..)`, or `perfect(&prediction, &target, value)`")),
            false => Ok(()),
        };
    };
    if kind.is_of_classes() {
        of_classes(contract, *classes)?;
    } else if let (Some(shape), Some(target)) = (&contract.shape, &contract.target_shape) {
        let (wide, deep) = (shape.iter().product::<usize>(), target.iter().product::<usize>());
        if kind.is_elementwise() && wide != deep {
            let was = format!("{target:?} for predictions of {shape:?}");
            return Err(Failure::bad_argument(
                "target_shape",
                was,
                "as many values as a row's prediction has",
            ));
        }
    }
    match kind {
        Kind::Huber(delta) if !(delta.is_finite() && *delta > 0.0) => {
            Err(Failure::bad_argument("delta", delta, "a finite number above 0"))
        }
        Kind::Contrastive(pairs) if !(pairs.temperature.is_finite() && pairs.temperature > 0.0) => {
            Err(Failure::bad_argument("temperature", pairs.temperature, "a finite number above 0"))
        }
        Kind::Contrastive(_) if contract.rows == Some(1) => Err(Failure::bad_argument(
            "rows",
            1,
            "2 or more: one pair has no other to be told from",
        )),
        _ if contract.labels.is_some_and(|classes| classes < 2) => {
            Err(Failure::bad_argument("labels", contract.labels.unwrap_or(0), "2 classes or more"))
        }
        _ => positive_weight(contract),
    }
}

fn positive_weight(contract: &Contract) -> Result<()> {
    let weight = contract.reference.as_ref().map_or(1.0, |reference| reference.positive);
    match weight.is_finite() && weight > 0.0 {
        true => Ok(()),
        false => Err(Failure::bad_argument("positive_weight", weight, "a finite number above 0")),
    }
}

fn of_classes(contract: &Contract, classes: usize) -> Result<()> {
    if classes < 2 {
        return Err(Failure::bad_argument("classes", classes, "2 or more"));
    }
    if let Some(shape) = &contract.shape {
        let labels = contract.target_shape.iter().flatten().product::<usize>();
        let scores = shape.iter().product::<usize>();
        if shape.last() != Some(&classes) || scores != labels * classes {
            return Err(Failure::bad_argument(
                "shape",
                format_args!(
                    "{shape:?} for labels of {:?}",
                    contract.target_shape.as_deref().unwrap_or(&[])
                ),
                format_args!("{classes} scores, last, for each label"),
            ));
        }
    }
    if let Some(share) = contract.smoothing.filter(|share| !(0.0..1.0).contains(share)) {
        return Err(Failure::bad_argument("label_smoothing", share, "a share in [0, 1)"));
    }
    let Some(reference) = &contract.reference else { return Ok(()) };
    let usable = |w: &f64| w.is_finite() && *w > 0.0;
    if let Some(weights) = &reference.class_weights
        && (weights.len() != classes || !weights.iter().all(usable))
    {
        return Err(Failure::bad_argument(
            "class_weights",
            format_args!("{weights:?} for {classes} classes"),
            "a finite weight above 0 for each class",
        ));
    }
    let beside_soft = [
        ("ignore_index", reference.ignored.is_some()),
        ("label_smoothing", contract.smoothing.is_some()),
        ("next_token", reference.shift != 0),
    ];
    if let Some((option, _)) = beside_soft.iter().find(|(_, set)| contract.soft && *set) {
        let was = "set beside soft targets";
        return Err(Failure::bad_argument(option, was, "on a loss of labels"));
    }
    let positions = contract.target_shape.iter().flatten().product::<usize>();
    if reference.shift != 0 && (contract.target_shape.is_none() || positions < 3) {
        let was = match &contract.target_shape {
            Some(shape) => format!("{shape:?} with `next_token`"),
            None => "not given with `next_token`".to_owned(),
        };
        return Err(Failure::bad_argument("target_shape", was, "`[time]`, of 3 or more"));
    }
    if classes == 2 && reference.ignored.is_some_and(|label| (0.0..2.0).contains(&label)) {
        return Err(Failure::bad_argument(
            "ignore_index",
            "one of 2 classes",
            "a label that leaves two classes or more",
        ));
    }
    Ok(())
}

/// An example holds numbers, and its loss is one.
fn example(example: &Example) -> Result<()> {
    let bad = |what: &str, was: String, allowed: &str| {
        Err(Failure::bad_argument(&format!("an example's {what}"), was, allowed))
    };
    for (what, tensor) in [("prediction", &example.prediction), ("target", &example.target)] {
        if tensor.elem_count() == 0 {
            return bad(what, format!("of dims {:?}, empty", tensor.dims()), "at least one value");
        }
        if !is_readable(tensor.dtype()) || !is_finite(tensor)? {
            return bad(what, "not finite".to_owned(), "finite values");
        }
    }
    if !example.prediction.dtype().is_float() {
        let was = format!("of dtype {}", example.prediction.dtype().as_str());
        return bad("prediction", was, "a float dtype");
    }
    match example.value {
        Some(value) if !value.is_finite() => bad("loss", value.to_string(), "a finite number"),
        _ => Ok(()),
    }
}
