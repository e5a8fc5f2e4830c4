//! Complete programs, as the page shows them.

pub(super) mod layer_norm {
    use candle_core::{DType, Device, Module, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 4.]], &Device::Cpu)?;
        let weight = Var::ones(3, DType::F32, &Device::Cpu)?;
        let norm =
            candle_nn::LayerNorm::new(weight.as_tensor().clone(), weight.zeros_like()?, 1e-5);
        let grads = norm.forward(&x)?.sqr()?.sum_all()?.backward()?;
        println!("{} {}", grads.get(&x).is_some(), grads.get(&weight).is_some());
        Ok(())
    }
}

pub(super) mod rms_norm {
    use candle_core::{Device, Module, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 4.]], &Device::Cpu)?;
        let weight = Var::ones(3, x.dtype(), x.device())?;
        let norm = candle_nn::RmsNorm::new(weight.as_tensor().clone(), 1e-5);
        let grads = norm.forward(&x)?.sum_all()?.backward()?;
        println!("{} {}", grads.get(&x).is_some(), grads.get(&weight).is_some());
        Ok(())
    }
}

pub(super) mod softmax_last_dim {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2.]], &Device::Cpu)?;
        let y = candle_nn::ops::softmax_last_dim(&x)?.get_on_dim(1, 0)?;
        println!("{:?}", y.backward()?.get(&x).is_some());
        Ok(())
    }
}

pub(super) mod rope {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[[1f32, 2.]]]], &Device::Cpu)?;
        let angle = Tensor::new(&[[0.5f32]], &Device::Cpu)?;
        let y = candle_nn::rotary_emb::rope(&x, &angle.cos()?, &angle.sin()?)?;
        println!("{:?}", y.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}

pub(super) mod attention_kernels {
    use candle_core::{DType, Device, Result, Var};
    use candle_nn::attention::{AttnMask, flash_attn};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 2, 1, 4), DType::F32, &Device::Cpu)?;
        let y = flash_attn::<f32>(&x, &x, &x, 1., AttnMask::causal(), None, None)?;
        println!("{:?}", y.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}

pub(super) mod written_into {
    use candle_core::{DType, Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        let y = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
        y.slice_set(&x, 0, 1)?;
        println!("{:?}", y.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}

pub(super) mod detached_caches {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 2, 3), DType::F32, &Device::Cpu)?;
        let (k, v) = candle_nn::kv_cache::ConcatKvCache::new(1).append(&x, &x)?;
        println!("{:?}", (k + v)?.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}

pub(super) mod quantized_matmul {
    use candle_core::{DType, Device, Module, Result, Tensor, Var, quantized::*};

    pub(crate) fn main() -> Result<()> {
        let weight = Tensor::ones((1, 32), DType::F32, &Device::Cpu)?;
        let layer = QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q8_0)?)?;
        let x = Var::ones((1, 32), DType::F32, &Device::Cpu)?;
        println!("{:?}", layer.forward(&x)?.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}
