//! Complete programs, as the page shows them.

pub(super) mod linear_layout {
    use candle_core::{DType, Device, Module, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::arange(0f32, 8., &Device::Cpu)?.reshape((2, 2, 2))?.transpose(1, 2)?;
        let identity = candle_nn::Linear::new(Tensor::eye(2, DType::F32, &Device::Cpu)?, None);
        println!("{:?}", identity.forward(&x)?.to_vec3::<f32>()?);
        println!("{:?}", x.to_vec3::<f32>()?);
        Ok(())
    }
}

pub(super) mod conv1d_kernel_layout {
    use candle_core::{Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::new(&[[[1f32], [10.]]], &Device::Cpu)?;
        let kernel = Tensor::new(&[[[1f32], [2.]], [[3.], [4.]]], &Device::Cpu)?.transpose(0, 1)?;
        println!("{:?}", x.conv1d(&kernel, 0, 1, 1, 1)?.to_vec3::<f32>()?);
        println!("{:?}", x.conv1d(&kernel.contiguous()?, 0, 1, 1, 1)?.to_vec3::<f32>()?);
        Ok(())
    }
}

pub(super) mod conv1d_gradient {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[1f32], [2.]], [[3.], [4.]]], &Device::Cpu)?;
        let kernel = Var::new(&[[[1f32], [0.]], [[0.], [1.]]], &Device::Cpu)?;
        let weights = Tensor::new(&[[[1f32], [10.]], [[100.], [1000.]]], &Device::Cpu)?;
        let grads = (x.conv1d(&kernel, 0, 1, 1, 1)? * weights)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec3::<f32>()?);
        println!("{:?}", grads.get(&kernel).unwrap().to_vec3::<f32>()?);
        Ok(())
    }
}

pub(super) mod conv_transpose1d_batch {
    use candle_core::{DType, Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::arange(0f32, 8., &Device::Cpu)?.reshape((2, 2, 2))?;
        let identity = Tensor::eye(2, DType::F32, &Device::Cpu)?.reshape((2, 2, 1))?;
        println!("{:?}", x.conv_transpose1d(&identity, 0, 0, 1, 1, 1)?.to_vec3::<f32>()?);
        Ok(())
    }
}

pub(super) mod flash_attn_layout {
    use candle_core::{DType, Device, Result, Tensor};
    use candle_nn::attention::{AttnMask, flash_attn};

    pub(crate) fn main() -> Result<()> {
        let kv = Tensor::eye(2, DType::F32, &Device::Cpu)?.reshape((1, 2, 1, 2))?;
        let q = Tensor::new(&[[[[1f32, 1.]], [[0., 0.]]]], &Device::Cpu)?.transpose(1, 3)?;
        let out = flash_attn::<f32>(&q, &kv, &kv, 1e3, AttnMask::None, None, None)?;
        println!("{:?}", out.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod max_pool_scale {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu)?;
        let grads = x.max_pool2d(2)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod pool_remainder {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[[1f32, 2., 3.], [4., 5., 6.], [7., 8., 9.]]]], &Device::Cpu)?;
        let grads = x.avg_pool2d(2)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod scatter_init {
    use candle_core::{DType, Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
        let ids = Tensor::zeros((1, 1), DType::U32, &Device::Cpu)?;
        let grads = x.scatter(&ids, &ids.to_dtype(DType::F32)?, 1)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec2::<f32>()?);
        Ok(())
    }
}

pub(super) mod scatter_add_init {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
        let ids = Tensor::new(&[[0u32, 0, 1]], &Device::Cpu)?;
        let grads = x.scatter_add(&ids, &x.zeros_like()?, 1)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec2::<f32>()?);
        Ok(())
    }
}

pub(super) mod upsample_overwrites {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[[1f32]]]], &Device::Cpu)?;
        let (large, ten) = (x.upsample_nearest2d(2, 2)?.sum_all()?, (x.sum_all()? * 10.)?);
        for loss in [(&large + &ten)?, (&ten + &large)?] {
            println!("{:?}", loss.backward()?.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}

pub(super) mod unfold_order {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
        let weights = Tensor::new(&[[[1f32, 2.], [3., 4.]]], &Device::Cpu)?;
        let grads = (x.unfold(0, 2, 2)? * weights)?.sum_all()?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec2::<f32>()?);
        Ok(())
    }
}

pub(super) mod ties {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[3f32, 3., 1.], &Device::Cpu)?;
        println!("{:?}", x.max(0)?.backward()?.get(&x).unwrap().to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod in_place {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        let y = (x.as_tensor() * 3.)?;
        y.zero_set()?;
        println!("{:?}", y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod set_before_backward {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        let loss = x.sqr()?.sum_all()?;
        x.set(&Tensor::new(&[10f32, 10.], &Device::Cpu)?)?;
        println!("{:?}", loss.backward()?.get(&x).unwrap().to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod bce_logits {
    use candle_core::{Device, Result, Tensor};
    use candle_nn::loss::binary_cross_entropy_with_logit;

    pub(crate) fn main() -> Result<()> {
        let logit = Tensor::new(&[20f32], &Device::Cpu)?;
        let loss = binary_cross_entropy_with_logit(&logit, &logit.ones_like()?)?;
        println!("{}", loss.to_scalar::<f32>()?);
        Ok(())
    }
}

pub(super) mod pow_negative {
    use candle_core::{Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let two = Tensor::new(&[2f32], &Device::Cpu)?;
        println!("{:?}", two.neg()?.pow(&two)?.to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod norm_at_zero {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[0f32, 0.], &Device::Cpu)?;
        println!("{:?}", x.norm()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?);
        println!("{:?}", x.powf(0.)?.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod mish_large {
    use candle_core::{Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[100f32], &Device::Cpu)?;
        let grads = candle_nn::ops::mish(&x)?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec1::<f32>()?);
        Ok(())
    }
}
