//! How small an error of a backward pass `GradientsCorrect` finds among 7,178 numbers, and how closely it names it. The
//! network and the bugs are those that `benches/peers` gives to `torch.autograd.gradcheck`.

use candling::{
    Cause, Failure, Learner, Result, Seed,
    candle_core::{self, CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor, Var},
    check::GradientsCorrect,
};

/// One unit of the activation, on one row: it lies behind `x[ROW, _]`, `l1.weight[_, UNIT]` and `l1.bias[UNIT]`.
const ROW: usize = 0;
const UNIT: usize = 7;
const WIDTH: usize = 64;
const SEEDS: u64 = 5;

/// The factors of a backward pass, one for each element of the activation.
type Bug = fn(&mut [f64]);

const NONE: Bug = |_| {};
const ALL_BY_A_PART_IN_100_000: Bug = |factors| factors.iter_mut().for_each(|f| *f *= 1.0 + 1e-5);
const ONE_BY_A_PERCENT: Bug = |factors| factors[ROW * WIDTH + UNIT] *= 1.01;
const ONE_ZERO: Bug = |factors| factors[ROW * WIDTH + UNIT] = 0.0;

/// `x * x` with this bug.
struct Square(Bug);

impl CustomOp1 for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (start, end) = layout.contiguous_offsets().expect("the result of a tanh");
        let squares = storage.as_slice::<f64>()?[start..end].iter().map(|x| x * x).collect();
        Ok((CpuStorage::F64(squares), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let mut factors = vec![2.0; x.elem_count()];
        (self.0)(&mut factors);
        let factors = Tensor::from_vec(factors, x.shape(), x.device())?;
        Ok(Some(((x * factors)? * grad)?))
    }
}

fn check(seed: u64, bug: Bug) -> Result<()> {
    let shapes: [(&str, &[usize], f64); 7] = [
        ("x", &[8, 32], 1.0),
        ("l1.weight", &[32, WIDTH], 0.3),
        ("l1.bias", &[WIDTH], 0.1),
        ("l2.weight", &[WIDTH, 64], 0.2),
        ("l2.bias", &[64], 0.1),
        ("l3.weight", &[64, 10], 0.2),
        ("l3.bias", &[10], 0.1),
    ];
    let draw =
        |name, shape: &[usize]| Seed::new(seed).normal(name, shape, DType::F64, &Device::Cpu);
    let var = |(name, shape, scale)| -> Result<(&str, Var)> {
        Ok((name, Var::from_tensor(&(draw(name, shape)? * scale)?)?))
    };
    let vars = shapes.into_iter().map(var).collect::<Result<Vec<_>>>()?;
    assert_eq!(vars.iter().map(|(_, var)| var.elem_count()).sum::<usize>(), 7178);
    let weights = draw("weights", &[8, 10])?;
    let learner = Learner::from_loss(&vars, || {
        let [x, w1, b1, w2, b2, w3, b3] = &vars[..] else { unreachable!("seven variables") };
        let h = x.1.matmul(&w1.1)?.broadcast_add(&b1.1)?.tanh()?.apply_op1(Square(bug))?;
        let h = h.matmul(&w2.1)?.broadcast_add(&b2.1)?.tanh()?;
        (h.matmul(&w3.1)?.broadcast_add(&b3.1)? * &weights)?.sum_all()
    });
    GradientsCorrect::new().check(&learner, ())?;
    Ok(())
}

/// The variables that a failure accuses, each with the indices of the element it names.
fn accused(failure: &Failure) -> Vec<(String, Vec<usize>)> {
    let place = |place: &str| {
        let (name, index) = place.trim_end_matches(']').split_once('[').expect("an element");
        (name.to_owned(), index.split(", ").map(|i| i.parse().expect("an index")).collect())
    };
    let findings = failure.findings();
    assert!(findings.iter().all(|finding| finding.cause() == Cause::GradientWrong), "{failure}");
    findings.iter().map(|finding| place(finding.place().expect("a place"))).collect()
}

#[test]
fn a_right_backward_pass_is_not_accused() -> Result<()> {
    (0..SEEDS).try_for_each(|seed| check(seed, NONE))
}

#[test]
fn a_part_in_a_hundred_thousand_is_found_in_every_variable_before_the_operation() {
    for seed in 0..SEEDS {
        let failure = check(seed, ALL_BY_A_PART_IN_100_000).unwrap_err();
        let names: Vec<String> = accused(&failure).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["l1.bias", "l1.weight", "x"], "seed {seed}: {failure}");
    }
}

#[test]
fn one_wrong_element_is_found_and_named() {
    for bug in [ONE_BY_A_PERCENT, ONE_ZERO] {
        for seed in 0..SEEDS {
            let failure = check(seed, bug).unwrap_err();
            let accused = accused(&failure);
            let names: Vec<&str> = accused.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["l1.bias", "l1.weight", "x"], "seed {seed}: {failure}");
            let indices: Vec<usize> = vec![accused[0].1[0], accused[1].1[1], accused[2].1[0]];
            assert_eq!(indices, [UNIT, UNIT, ROW], "seed {seed}: {failure}");
        }
    }
}
