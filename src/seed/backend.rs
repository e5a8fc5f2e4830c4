//! A candle `SimpleBackend` that initialises each variable from the seed and the variable's name.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap, init::NormalOrUniform, var_builder::SimpleBackend};
use rand_chacha::ChaCha8Rng;

use super::{Seed, draw, tensor};

pub(super) fn var_builder(
    seed: Seed,
    unhinted: Option<f64>,
    dtype: DType,
    device: &Device,
) -> (VarMap, VarBuilder<'static>) {
    let vars = VarMap::new();
    let backend = Seeded { seed: seed.split("var_builder"), unhinted, vars: vars.clone() };
    let vb = VarBuilder::from_backend(Box::new(backend), dtype, device.clone());
    (vars, vb)
}

struct Seeded {
    seed: Seed,
    unhinted: Option<f64>,
    vars: VarMap,
}

impl Seeded {
    fn contains(&self, name: &str) -> bool {
        let data = self.vars.data().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        data.contains_key(name)
    }

    fn draw(&self, shape: &Shape, name: &str, init: Init) -> Vec<f64> {
        let n = shape.elem_count();
        let mut rng = self.seed.rng(name);
        match (init, self.unhinted) {
            (Init::Const(0.0), Some(std)) if shape.rank() >= 2 => normal(&mut rng, 0.0, std, n),
            (init, _) => initial(&mut rng, init, shape),
        }
    }
}

/// The values candle's own `Init::var` would draw, from another generator.
fn initial(rng: &mut ChaCha8Rng, init: Init, shape: &Shape) -> Vec<f64> {
    let n = shape.elem_count();
    match init {
        Init::Const(value) => vec![value; n],
        Init::Randn { mean, stdev } => normal(rng, mean, stdev, n),
        Init::Uniform { lo, up } => uniform(rng, lo, up, n),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                // A uniform distribution on [-b, b] has the standard deviation b / sqrt(3).
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * std;
                    uniform(rng, -bound, bound, n)
                }
                NormalOrUniform::Normal => normal(rng, 0.0, std, n),
            }
        }
    }
}

fn normal(rng: &mut ChaCha8Rng, mean: f64, std: f64, n: usize) -> Vec<f64> {
    draw::normal(rng, n).into_iter().map(|z| mean + std * z).collect()
}

fn uniform(rng: &mut ChaCha8Rng, low: f64, high: f64, n: usize) -> Vec<f64> {
    if low < high { draw::uniform(rng, low, high, n) } else { vec![low; n] }
}

impl SimpleBackend for Seeded {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if !self.contains(name) {
            let value = tensor(self.draw(&shape, name, init), shape.clone(), dtype, device)?;
            let var = Var::from_tensor(&value)?;
            let mut data = self.vars.data().lock().unwrap_or_else(|p| p.into_inner());
            data.insert(name.to_owned(), var);
        }
        // candle's own `get` checks the shape and shares a name asked for twice.
        self.vars.get(shape, name, init, dtype, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let data = self.vars.data().lock().unwrap_or_else(|p| p.into_inner());
        match data.get(name) {
            Some(var) => var.to_device(device)?.to_dtype(dtype),
            None => candle_core::bail!(
                "the seeded builder cannot make `{name}` without a shape; ask for it with `get`"
            ),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::init;

    use super::*;

    fn values(vars: &VarMap, name: &str) -> Vec<f64> {
        let data = vars.data().lock().unwrap();
        let tensor = data[name].to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        tensor.to_vec1().unwrap()
    }

    #[test]
    fn a_value_depends_on_the_seed_and_the_name_not_on_other_layers() -> Result<()> {
        let (alone, vb) = Seed::new(7).var_builder(DType::F32, &Device::Cpu);
        candle_nn::linear(4, 3, vb.pp("head"))?;
        let (second, vb) = Seed::new(7).var_builder(DType::F32, &Device::Cpu);
        candle_nn::linear(8, 8, vb.pp("body"))?;
        candle_nn::linear(4, 3, vb.pp("head"))?;
        assert_eq!(values(&alone, "head.weight"), values(&second, "head.weight"));
        let (other, vb) = Seed::new(8).var_builder(DType::F32, &Device::Cpu);
        candle_nn::linear(4, 3, vb.pp("head"))?;
        assert_ne!(values(&alone, "head.weight"), values(&other, "head.weight"));
        Ok(())
    }

    #[test]
    fn every_init_has_its_mean_and_spread() -> Result<()> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F64, &Device::Cpu);
        let shape = (64, 256);
        // Kaiming with fan-in 256 and the gain of ReLU, sqrt(2): a standard deviation of sqrt(2 / 256).
        let kaiming = (2.0f64 / 256.0).sqrt();
        let cases = [
            ("const", Init::Const(0.5), 0.5, 0.0),
            ("randn", Init::Randn { mean: 1.0, stdev: 0.2 }, 1.0, 0.2),
            ("uniform", Init::Uniform { lo: -1.0, up: 3.0 }, 1.0, 4.0 / 12f64.sqrt()),
            ("kaiming_normal", init::DEFAULT_KAIMING_NORMAL, 0.0, kaiming),
            ("kaiming_uniform", init::DEFAULT_KAIMING_UNIFORM, 0.0, kaiming),
        ];
        for (name, init, mean, std) in cases {
            vb.get_with_hints(shape, name, init)?;
            let v = values(&vars, name);
            let n = v.len() as f64;
            let measured = v.iter().sum::<f64>() / n;
            let spread = (v.iter().map(|x| (x - measured).powi(2)).sum::<f64>() / n).sqrt();
            let bound = 5.0 * std / n.sqrt() + 1e-12;
            assert!((measured - mean).abs() < bound, "{name}: mean {measured}");
            assert!((spread - std).abs() < bound, "{name}: standard deviation {spread}");
        }
        Ok(())
    }

    #[test]
    fn an_unhinted_matrix_is_zero_unless_a_normal_is_asked_for() -> Result<()> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        vb.get((4, 4), "w")?;
        assert!(values(&vars, "w").iter().all(|v| *v == 0.0));
        let (vars, vb) = Seed::new(1).var_builder_unhinted(0.02, DType::F32, &Device::Cpu);
        vb.get((4, 4), "w")?;
        vb.get(4, "b")?;
        assert!(values(&vars, "w").iter().all(|v| *v != 0.0 && v.abs() < 0.2));
        assert!(values(&vars, "b").iter().all(|v| *v == 0.0));
        Ok(())
    }

    #[test]
    fn a_name_asked_for_twice_is_one_variable_and_two_shapes_are_an_error() -> Result<()> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        vb.get((2, 2), "w")?;
        vb.get((2, 2), "w")?;
        assert_eq!(vars.all_vars().len(), 1);
        assert!(vb.get((3, 2), "w").is_err());
        Ok(())
    }
}
