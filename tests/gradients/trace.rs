//! What a trace names and keeps, and that taps change nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::{VarMap, linear, loss, seq};
use candling::{Trace, tap};

use super::models::{Mlp, builder, classes, device, layers, normal};

fn names(trace: &Trace) -> Vec<&str> {
    trace.layers().iter().map(|layer| layer.name()).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn modules_of_a_sequential_are_named_and_nested_ones_too() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (vars, vb) = builder(1, dtype);
        let model = seq()
            .add(linear(6, 8, vb.pp("encoder.0")).unwrap())
            .add(|x: &Tensor| x.relu())
            .add(linear(8, 8, vb.pp("encoder.1")).unwrap())
            .add(linear(8, 4, vb.pp("head")).unwrap());
        let x = normal(1, &[3, 6], dtype);
        let trace = Trace::record(&vars, || model.forward(&x)).unwrap();
        assert_eq!(names(&trace), ["encoder.0", "encoder", "encoder.1", "head"], "{dtype:?}");
        assert_eq!(values(trace.get("head").unwrap()), values(&model.forward(&x).unwrap()));
        assert_eq!(trace.get("encoder").unwrap().id(), trace.get("encoder.1").unwrap().id());
        assert!(trace.unreached().is_empty());
        assert_eq!(trace.first_not_finite().unwrap(), None);
        assert!(trace.get("encoder.2").is_none() && trace.gradient("head").is_none());
    }
}

#[test]
fn a_trace_prints_a_line_a_layer() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    linear(4, 4, vb.pp("unused")).unwrap();
    let x = normal(1, &[3, 6], DType::F32);
    let forward = || l[1].forward(&tap("hidden", &l[0].forward(&x)?.relu()?)?);
    let trace = Trace::record(&vars, forward).unwrap();
    insta::assert_snapshot!(trace.to_string(), @"
    l0      f32 [3, 8]          rms 1.28      0 % zero
    hidden  f32 [3, 8]          rms 1.04      33.3 % zero
    l1      f32 [3, 4]          rms 1.42      0 % zero
    not reached: unused.bias, unused.weight (2 variables)
    ");
}

#[test]
fn a_module_that_is_called_twice_is_named_at_its_first_call() {
    let (vars, vb) = builder(1, DType::F32);
    let shared = linear(6, 6, vb.pp("shared")).unwrap();
    let x = normal(1, &[3, 6], DType::F32);
    let forward = || shared.forward(&shared.forward(&x)?.tanh()?);
    let trace = Trace::record(&vars, forward).unwrap();
    assert_eq!(names(&trace), ["shared"]);
    assert_eq!(values(trace.get("shared").unwrap()), values(&shared.forward(&x).unwrap()));
}

#[test]
fn tied_weights_are_one_variable() {
    let (vars, vb) = builder(1, DType::F32);
    let embedding = candle_nn::embedding(7, 4, vb.pp("embed")).unwrap();
    let body = linear(4, 4, vb.pp("body")).unwrap();
    let ids = Tensor::new(&[1u32, 5, 1], &device()).unwrap();
    let forward = || {
        let h = body.forward(&embedding.forward(&ids)?)?;
        h.matmul(&embedding.embeddings().t()?)
    };
    let trace = Trace::record(&vars, forward).unwrap();
    assert_eq!(names(&trace), ["embed", "body"]);
    assert_eq!(trace.get("embed").unwrap().dims(), [3, 4]);
    assert_eq!(trace.output().dims(), [3, 7]);
}

#[test]
fn taps_keep_values_gradients_and_their_order() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let x = normal(1, &[3, 6], DType::F32);
    let forward = || {
        let h = tap("a", &l[0].forward(&x)?)?;
        tap("b", &l[1].forward(&tap("relu", &h.relu()?)?)?)?.sqr()?.sum_all()
    };
    let trace = Trace::record(&vars, forward).unwrap();
    assert_eq!(names(&trace), ["l0", "a", "relu", "l1", "b"]);
    assert!(trace.gradient("a").is_none());
    trace.output().backward().unwrap();
    let twice = trace.get("b").unwrap().affine(2.0, 0.0).unwrap();
    assert_eq!(values(&trace.gradient("b").unwrap()), values(&twice));
    let back = twice.matmul(l[1].weight()).unwrap();
    assert_eq!(values(&trace.gradient("relu").unwrap()), values(&back));
    assert!(trace.gradient("l1").is_none());
}

fn gradients(vars: &VarMap, loss: &Tensor) -> Vec<Vec<u32>> {
    let grads = loss.backward().unwrap();
    let data = vars.data().lock().unwrap();
    let mut names: Vec<&String> = data.keys().collect();
    names.sort();
    let of = |name: &&String| grads.get(data[*name].as_tensor()).unwrap().flatten_all().unwrap();
    let bits = |grad: Tensor| grad.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits);
    names.iter().map(|name| bits(of(name)).collect()).collect()
}

#[test]
fn taps_change_no_bit_of_any_gradient() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let tapped = || {
        let h = tap("h", &tap("l1", &m.l1.forward(&tap("x", &x)?)?)?.gelu()?)?;
        // A transposed tensor, and one tapped twice.
        let h = tap("again", &tap("t", &h.t()?)?.t()?)?;
        loss::cross_entropy(&tap("logits", &m.l2.forward(&h)?)?, &y)
    };
    let off = gradients(&vars, &tapped().unwrap());
    let trace = Trace::record(&vars, tapped).unwrap();
    assert_eq!(gradients(&vars, trace.output()), off);
    let plain =
        loss::cross_entropy(&m.l2.forward(&m.l1.forward(&x).unwrap().gelu().unwrap()).unwrap(), &y);
    assert_eq!(gradients(&vars, &plain.unwrap()), off);
}

#[test]
fn taps_keep_values_and_the_order_of_the_dimensions() {
    let var = Var::from_tensor(&normal(1, &[4, 3, 2], DType::F32)).unwrap();
    let base = var.as_tensor();
    let views: [Tensor; 5] = [
        base.transpose(0, 2).unwrap(),
        base.permute((1, 2, 0)).unwrap(),
        base.narrow(1, 1, 2).unwrap(),
        base.narrow(0, 0, 1).unwrap().broadcast_as((5, 3, 2)).unwrap(),
        base.narrow(1, 0, 1).unwrap().transpose(0, 2).unwrap(),
    ];
    for view in views {
        let trace = Trace::record(&[var.clone()][..], || tap("view", &view)).unwrap();
        let kept = trace.get("view").unwrap();
        assert_eq!((kept.dims(), values(kept)), (view.dims(), values(&view)));
        let order = |t: &Tensor| {
            let mut dims: Vec<usize> = (0..t.rank()).filter(|d| t.dims()[*d] > 1).collect();
            dims.sort_by_key(|dim| std::cmp::Reverse(t.stride()[*dim]));
            dims
        };
        assert_eq!(order(kept), order(&view), "{:?}", view.layout());
    }
}

#[test]
fn the_innermost_trace_alone_listens() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let x = normal(1, &[3, 6], DType::F32);
    let mut inner = Vec::new();
    let outer = Trace::record(&vars, || {
        let h = tap("before", &l[0].forward(&x)?)?;
        let nested = Trace::record(&vars, || tap("inside", &h.relu()?)).unwrap();
        inner = names(&nested).into_iter().map(str::to_owned).collect();
        l[1].forward(&tap("after", nested.output())?)
    })
    .unwrap();
    assert_eq!(inner, ["l0", "inside"]);
    assert_eq!(names(&outer), ["l0", "before", "after", "l1"]);
}

#[test]
fn a_panic_or_an_error_leaves_nobody_listening() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8], &vb);
    let x = normal(1, &[3, 6], DType::F32);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        Trace::record(&vars, || {
            tap("lost", &l[0].forward(&x)?)?;
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    let failed = Trace::record(&vars, || {
        tap("lost", &l[0].forward(&x)?)?;
        x.reshape(7)
    });
    let failure = failed.unwrap_err();
    assert!(failure.to_string().contains("the closure of the trace"), "{failure}");
    let h = l[0].forward(&x).unwrap();
    // Nobody listens: the very tensor.
    assert_eq!(tap("h", &h).unwrap().id(), h.id());
    let after = Trace::record(&vars, || l[0].forward(&x)).unwrap();
    assert_eq!(names(&after), ["l0"]);
}

#[test]
fn what_a_cut_hides_is_listed_and_a_tap_sees_it() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let x = normal(1, &[3, 6], DType::F32);
    let forward = || l[1].forward(&tap("hidden", &l[0].forward(&x)?)?.detach());
    let trace = Trace::record(&vars, forward).unwrap();
    assert_eq!(trace.unreached(), ["l0.bias", "l0.weight"]);
    assert_eq!(names(&trace), ["hidden", "l1"]);
    assert!(trace.get("l0").is_none());
}

#[test]
fn the_first_nan_is_placed_behind_a_relu_and_before_a_cut() {
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let x = normal(1, &[3, 6], DType::F32);
    let hidden = || l[1].forward(&l[0].forward(&x)?.log()?.relu()?);
    let trace = Trace::record(&vars, hidden).unwrap();
    assert!(values(trace.output()).iter().all(|v| v.is_finite()));
    assert_eq!(trace.first_not_finite().unwrap().as_deref(), Some("after l0"));

    let cut = || l[1].forward(&tap("log", &l[0].forward(&x)?.log()?)?.relu()?.detach());
    let trace = Trace::record(&vars, cut).unwrap();
    assert_eq!(trace.first_not_finite().unwrap().as_deref(), Some("log"));
}

/// On the stack of a test thread: recording, reading and dropping a deep graph must not overflow it.
#[test]
fn a_chain_of_thousands_of_operations_is_recorded_and_dropped() {
    let (vars, vb) = builder(1, DType::F32);
    let weight = vb.get(1, "weight").unwrap();
    let trace = Trace::record(&vars, || {
        let mut x: Result<Tensor> = Ok(weight.clone());
        for _ in 0..DEEP {
            x = x? + 1e-3;
        }
        x
    })
    .unwrap();
    assert_eq!(trace.first_not_finite().unwrap(), None);
    assert!(trace.unreached().is_empty());
    drop(trace);
}

const DEEP: usize = 20_000;
