//! Each defect as a complete program, `main` and all; docs/candle-audit.md shows them as they stand here.
//!
//! What a program prints is recorded instead, and held against what the page says that it prints.

use std::cell::RefCell;

thread_local! {
    static PRINTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first line only: candle appends a backtrace to errors where the environment asks for one.
fn record(text: &str) {
    let line = text.lines().next().unwrap_or_default().trim_end().to_owned();
    PRINTED.with_borrow_mut(|printed| printed.push(line));
}

/// What was printed since the last call.
pub(super) fn printed() -> Vec<String> {
    PRINTED.take()
}

macro_rules! println {
    ($($argument:tt)*) => {
        $crate::audit::defects::programs::record(&format!($($argument)*))
    };
}

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
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
        let (ids, source) =
            (Tensor::new(&[[0u32]], x.device())?, Tensor::new(&[[9f32]], x.device())?);
        let grads = x.scatter(&ids, &source, 1)?.sum_all()?.backward()?;
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

pub(super) mod pow_negative {
    use candle_core::{Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let two = Tensor::new(&[2f32], &Device::Cpu)?;
        println!("{:?}", two.neg()?.pow(&two)?.to_vec1::<f32>()?);
        Ok(())
    }
}

pub(super) mod bce_logits {
    use candle_core::{Device, Result, Tensor};

    pub(crate) fn main() -> Result<()> {
        let (logit, target) = (
            Tensor::new(&[20f32], &Device::Cpu)?,
            Tensor::ones(1, candle_core::DType::F32, &Device::Cpu)?,
        );
        let loss = candle_nn::loss::binary_cross_entropy_with_logit(&logit, &target)?;
        println!("{}", loss.to_scalar::<f32>()?);
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

pub(super) mod layer_norm {
    use candle_core::{Device, Module, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[1f32, 2., 4.]], &Device::Cpu)?;
        let (weight, bias) =
            (Var::ones(3, x.dtype(), x.device())?, Tensor::zeros(3, x.dtype(), x.device())?);
        let norm = candle_nn::LayerNorm::new(weight.as_tensor().clone(), bias, 1e-5);
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

pub(super) mod rope {
    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::new(&[[[[1f32, 2.]]]], &Device::Cpu)?;
        let (cos, sin) =
            (Tensor::new(&[[0.6f32]], x.device())?, Tensor::new(&[[0.8f32]], x.device())?);
        let y = candle_nn::rotary_emb::rope(&x, &cos, &sin)?;
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

pub(super) mod conv_overflow {
    use candle_core::{DType, Device, Result, Var};

    pub(crate) fn main() -> Result<()> {
        let x = Var::ones((1, 1, 1), DType::F32, &Device::Cpu)?;
        let grads = x.conv1d(&x.ones_like()?, 1, 3, 1, 1)?.backward()?;
        println!("{:?}", grads.get(&x).unwrap().to_vec3::<f32>()?);
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
