//! Complete programs, as the page shows them.

pub(super) mod conv_overflow {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 1), DType::F32, &Device::Cpu)?;
        let grads = x.conv1d(&x.ones_like()?, 1, 3, 1, 1)?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec3::<f32>()?);
        Ok(())
    }
}

pub(super) mod custom_op_none {
    use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, Var};

    struct Same;
    #[rustfmt::skip]
    impl CustomOp1 for Same {
        fn name(&self) -> &'static str { "same" }
        fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> { Ok((s.clone(), l.shape().clone())) }
        fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> { Ok(None) }
    }
    pub(crate) fn main() -> Result<()> {
        (Var::new(&[1f32], &Device::Cpu)?.as_tensor() * 2.)?.apply_op1(Same)?.backward().map(drop)
    }
}

pub(super) mod conv_transpose1d_backward {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 2), DType::F32, &Device::Cpu)?;
        let y = x.conv_transpose1d(&x, 0, 0, 1, 1, 1)?.sum_all()?;
        println!("{}", y.backward().unwrap_err());
        Ok(())
    }
}

pub(super) mod upsample_backward {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?;
        println!("{}", x.upsample_nearest2d(3, 3)?.backward().unwrap_err());
        println!("{}", x.upsample_nearest2d(4, 6)?.backward().unwrap_err());
        println!("{}", x.upsample_bilinear2d(4, 4, false)?.backward().unwrap_err());
        Ok(())
    }
}

pub(super) mod pool_stride {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 5, 5), DType::F32, &Device::Cpu)?;
        println!("{}", x.max_pool2d_with_stride(3, 2)?.backward().unwrap_err());
        Ok(())
    }
}

pub(super) mod conv2d_remainder {
    use candle_core::{DType, Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 6, 7), DType::F32, &Device::Cpu)?;
        let kernel = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
        println!("{}", x.conv2d(&kernel, 1, 2, 1, 1)?.backward().unwrap_err());
        Ok(())
    }
}

pub(super) mod unfold_overlap {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones(4, DType::F32, &Device::Cpu)?;
        println!("{}", x.unfold(0, 2, 1)?.contiguous()?.backward().unwrap_err());
        Ok(())
    }
}

pub(super) mod contiguous_only {
    use candle_core::{DType, Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?.t()?;
        println!("{}", x.index_select(&Tensor::new(&[0u32], &Device::Cpu)?, 0).unwrap_err());
        println!("{}", x.flip(&[0]).unwrap_err());
        println!("{}", x.sort_last_dim(true).unwrap_err());
        Ok(())
    }
}

pub(super) mod matmul_striding {
    use candle_core::{DType, Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::ones((2, 2, 2, 3), DType::F32, &Device::Cpu)?.transpose(0, 1)?;
        println!("{}", x.matmul(&x.t()?.contiguous()?).is_err());
        Ok(())
    }
}

pub(super) mod no_f64 {
    use candle_core::{DType, Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::ones((2, 3), DType::F64, &Device::Cpu)?;
        println!("{}", candle_nn::ops::rms_norm(&x, &x.get(0)?, 1e-5).unwrap_err());
        println!("{}", candle_nn::ops::selu(&x, 1.67, 1.05).unwrap_err());
        Ok(())
    }
}

pub(super) mod sdpa_cpu {
    use candle_core::{DType, Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let x = Tensor::ones((1, 1, 2, 8), DType::F32, &Device::Cpu)?;
        println!("{}", candle_nn::ops::sdpa(&x, &x, &x, None, false, 1., 1.).unwrap_err());
        Ok(())
    }
}
