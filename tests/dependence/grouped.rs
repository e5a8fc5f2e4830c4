//! Rows and positions that run in groups: the width of a group decides which kernel multiplies it, and how it rounds.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Linear, linear};
use candling::{
    Cause, Seed,
    check::{BatchIndependent, Causal},
};

const WIDTH: usize = 32;

struct Routed {
    router: Linear,
    experts: Vec<Linear>,
}

impl Routed {
    fn new() -> Result<Self> {
        let (_, vb) = Seed::new(3).var_builder(DType::F32, &Device::Cpu);
        let expert = |i| linear(WIDTH, WIDTH, vb.pp(format!("expert{i}")));
        Ok(Self {
            router: linear(WIDTH, 4, vb.pp("router"))?,
            experts: (0..4).map(expert).collect::<Result<_>>()?,
        })
    }

    /// Each row to one expert, which runs on its rows alone.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let chosen: Vec<u32> = self.router.forward(x)?.argmax(1)?.to_vec1()?;
        let mut sum = x.clone();
        for (e, expert) in self.experts.iter().enumerate() {
            let rows = (0..chosen.len() as u32).filter(|row| chosen[*row as usize] == e as u32);
            let rows: Vec<u32> = rows.collect();
            if !rows.is_empty() {
                let rows = Tensor::new(rows, x.device())?;
                let part = expert.forward(&x.index_select(&rows, 0)?)?;
                sum = sum.index_add(&rows, &part, 0)?;
            }
        }
        Ok(sum)
    }
}

#[test]
fn rows_round_with_their_group_and_a_leak_of_that_size_is_found() -> candling::Result<()> {
    let model = Routed::new()?;
    let x = Seed::new(1).normal("x", (17, WIDTH), DType::F32, &Device::Cpu)?;
    let report = BatchIndependent::new().check(|x: &Tensor| model.forward(x), &x)?;
    // 0 where the kernels of this machine round alike.
    assert!(report.rounding < 1e-6, "{}", report.rounding);

    let mixed = |x: &Tensor| model.forward(x)?.broadcast_add(&(x.mean_keepdim(0)? * 1e-6)?);
    let failure = BatchIndependent::new().check(mixed, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
    Ok(())
}

#[test]
fn positions_round_with_their_group_and_a_leak_of_that_size_is_found() -> candling::Result<()> {
    let model = Routed::new()?;
    let x = Seed::new(1).normal("x", (2, 11, WIDTH), DType::F32, &Device::Cpu)?;
    let forward = |x: &Tensor| model.forward(&x.cumsum(1)?.flatten_to(1)?)?.reshape(x.shape());
    let report = Causal::new().check(forward, &x)?;
    // 0 where the kernels of this machine round alike.
    assert!(report.rounding < 1e-6, "{}", report.rounding);

    let leaks = |x: &Tensor| forward(x)?.broadcast_add(&(x.mean_keepdim(1)? * 1e-6)?);
    let failure = Causal::new().check(leaks, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    Ok(())
}
