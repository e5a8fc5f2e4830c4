//! Every macro works where nothing is in scope but the macro itself.

#[no_implicit_prelude]
mod nothing_in_scope {
    use ::candling::candle_core::{DType, Device, Result, Tensor};

    #[test]
    fn the_assertions_on_tensors_expand() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let n = 2;
        ::candling::assert_close!(x, &x);
        ::candling::assert_close!(&x, x, tolerance = 0.5, "context {}", n);
        ::candling::assert_close!(x, x, tolerance = 0.5,);
        ::candling::assert_finite!(x);
        ::candling::assert_finite!(&x, "context {n}");
        ::candling::assert_in_range!(x, 0.0..=1.0, strictly_inside = false);
        ::candling::assert_in_range!(&x, ..1.0, "context");
        ::candling::assert_shape!(x, [2, _]);
        ::candling::assert_shape!(x, [n, n + 1,], "context {}", n);
        ::candling::assert_shape!(x, (2, 3));
        ::candling::assert_shape!(x, x.dims());
        let dims = ::candling::assert_dims!(&x => [rows, (n + 1)], x => [_, { 3 }], x => [.., 3]);
        ::std::assert_eq!(dims["rows"], 2);
        ::candling::assert_dims!(x => [rows, ..], "context {}", n,);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_data_expand() -> ::candling::Result<()> {
        let (x, y) = ::candling::synthetic::markers(16, 2)?;
        let z = ::candling::Seed::new(1).normal("z", (16, 2), DType::F32, &Device::Cpu)?;
        let n = 16;
        let allowed = ::candling::Cause::InputConstant;
        ::candling::assert_labels!(y, n, balance = 1.0);
        ::candling::assert_labels!(&y, 16, ignore = -100, "context {}", n);
        ::candling::assert_normalized!(z);
        ::candling::assert_normalized!(x, scheme = 0.0..=1.0, allow = allowed, "context {n}");
        ::candling::assert_disjoint!(x.narrow(0, 0, 8)?, &x.narrow(0, 8, 8)?);
        ::candling::assert_disjoint!(x, z, "context",);
        let batches = |_| {
            ::std::result::Result::Ok(::std::vec![(
                ::std::clone::Clone::clone(&x),
                ::std::clone::Clone::clone(&y),
            )])
        };
        let report = ::candling::assert_pipeline!(batches, n, shuffled = false);
        ::std::assert_eq!(report.left_out, 0);
        ::candling::assert_pipeline!(
            batches,
            16,
            shuffled = false,
            evaluation = batches,
            "context {}",
            n
        );
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_that_train_expand() -> ::candling::Result<()> {
        use ::candling::candle_core::Module;

        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candling::candle_nn::linear(2, 2, vb)?;
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1], &Device::Cpu)?;
        let learner = ::candling::Learner::new(
            &vars,
            |x| model.forward(x),
            ::candling::candle_nn::loss::cross_entropy,
        );
        let batch = (x, y);
        let report = ::candling::assert_overfits_batch!(learner, &batch, steps = 500);
        ::std::assert!(report.steps <= 500);
        ::candling::assert_overfits_batch!(&learner, (&batch.0, &batch.1), "context {}", 1);
        ::candling::assert_healthy!(&learner, &batch, classes = 2, skip = ["finite"]);
        ::candling::assert_healthy!(learner, batch, "context",);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_before_training_expand() -> ::candling::Result<()> {
        use ::candling::candle_core::Module;

        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candling::candle_nn::linear(2, 2, vb.pp("l"))?;
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1], &Device::Cpu)?;
        let learner = ::candling::Learner::new(
            &vars,
            |x| model.forward(x),
            ::candling::candle_nn::loss::cross_entropy,
        );
        let (n, cause) = (1, ::candling::Cause::WeightsConstant);
        let report = ::candling::assert_initialized!(vars);
        ::std::assert_eq!(report.weights.len(), n);
        ::candling::assert_initialized!(&vars, allow_zero = ["l"], "context {}", n);
        ::candling::assert_initialized!(learner.variables(), allow = cause);
        let expected = ::candling::expected::cross_entropy(2);
        let report = ::candling::assert_initial_loss!(learner, (&x, &y), expected);
        ::std::assert_eq!(report.seeds.len(), 0);
        ::candling::assert_initial_loss!(
            &learner,
            (x, y),
            ::candling::expected::between(0.0, 9.0),
            seeds = 2,
            "context {n}"
        );
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_behaviour_expand() -> ::candling::Result<()> {
        let x = Tensor::new(&[[1f32, -1.0], [0.5, 2.0]], &Device::Cpu)?;
        let both = [::std::clone::Clone::clone(&x), ::std::clone::Clone::clone(&x)];
        let n = 2;
        let report = ::candling::assert_deterministic!(|x| x.tanh(), x, repeats = n);
        ::std::assert_eq!(report.calls, 6);
        ::candling::assert_deterministic!(Tensor::tanh, &x, "context {}", n);
        ::candling::assert_deterministic!(|[a, b]| a + b, both, repeats = 3, "context {n}");
        ::candling::assert_layout_invariant!(|x| x.tanh(), &x, seed = ::candling::Seed::new(1));
        ::candling::assert_layout_invariant!(|x: &Tensor| x.tanh(), x, "context",);
        ::candling::assert_nonlinear!(move |x| x.tanh(), &x, at_least = 1e-3);
        let cause = ::candling::Cause::NetworkLinear;
        ::candling::assert_nonlinear!(|x| x * 2.0, &&x, allow = cause, "context {}", n);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_modes_expand() -> ::candling::Result<()> {
        use ::candling::candle_core::Module;

        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candling::candle_nn::linear(2, 2, vb)?;
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let learner = ::candling::Learner::with_modes(
            &vars,
            |x: &Tensor, _| model.forward(x),
            ::candling::candle_nn::loss::cross_entropy,
        );
        let n = 2;
        let report = ::candling::assert_train_eval_modes!(learner, x, passes = n, dropout = [0.0]);
        ::std::assert!(!report.train_is_random);
        ::candling::assert_train_eval_modes!(&learner, &x, dropout = 0.0, "context {}", n);
        ::candling::assert_train_eval_modes!(learner, &&x, "context {n}",);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_gradients_expand() -> ::candling::Result<()> {
        use ::candling::candle_core::Module;

        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candling::candle_nn::linear(2, 2, vb.pp("l"))?;
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1], &Device::Cpu)?;
        let learner = ::candling::Learner::new(
            &vars,
            |x| model.forward(x),
            ::candling::candle_nn::loss::cross_entropy,
        );
        let (batch, n) = ((x, y), 1);
        let report = ::candling::assert_gradients_flow!(learner, &batch);
        ::std::assert_eq!(report.variables.len(), 2);
        let allowed = ::candling::Cause::VariableUnused;
        ::candling::assert_gradients_flow!(&learner, &batch, allow = allowed, "context {}", n);
        ::candling::assert_units_alive!(learner, &batch, scale = 1e6);
        ::candling::assert_units_alive!(&learner, &batch, "context {n}",);
        ::candling::assert_gradients_correct!(learner, &batch);
        ::candling::assert_gradients_correct!(&learner, &batch, tolerance = 0.1, "context {}", n);
        let x = &batch.0;
        let both = [::std::clone::Clone::clone(x), ::std::clone::Clone::clone(x)];
        ::candling::assert_gradients_correct!(|x| x.tanh(), x);
        ::candling::assert_gradients_correct!(|x: &Tensor| x.tanh(), x, tolerance = 1e-5, "{}", n);
        ::candling::assert_gradients_correct!(move |x| x.tanh(), *x, "context",);
        ::candling::assert_gradients_correct!(|[a, b]| a + b, both);
        ::candling::assert_gradients_correct!(Tensor::tanh, x, "context {n}");
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_steps_expand() -> ::candling::Result<()> {
        use ::candling::{candle_core::Module, candle_nn::Optimizer};

        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candling::candle_nn::linear(2, 2, vb)?;
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1], &Device::Cpu)?;
        let loss = || ::candling::candle_nn::loss::cross_entropy(&model.forward(&x)?, &y);
        let mut optimizer = ::candling::candle_nn::SGD::new(vars.all_vars(), 0.1)?;
        let report = ::candling::assert_step_updates!(vars, || optimizer.backward_step(&loss()?));
        ::std::assert_eq!(report.variables.len(), 2);
        ::candling::assert_step_updates!(
            &vars,
            || optimizer.backward_step(&loss()?),
            loss = loss,
            steps = 3,
            "context {}",
            1
        );
        let learner = ::candling::Learner::from_loss(&vars, loss);
        ::candling::assert_loss_decreases!(learner, ());
        ::candling::assert_loss_decreases!(&learner, (), steps = 5, "context",);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertion_on_losses_expands() -> ::candling::Result<()> {
        use ::candling::{candle_nn::loss, contract};

        let (n, seed) = (10, ::candling::Seed::new(1));
        let report =
            ::candling::assert_loss_contract!(loss::cross_entropy, contract::cross_entropy(n));
        ::std::assert_eq!(report.perfect, ::std::option::Option::Some(0.0));
        let square = |p: &Tensor, y: &Tensor| loss::mse(p, y);
        ::candling::assert_loss_contract!(square, &contract::mse(), seed = seed, "context {}", n);
        ::candling::assert_loss_contract!(
            |p, y| loss::huber(p, y, 0.5),
            contract::huber(0.5),
            "{n}",
        );
        let allowed = ::candling::Cause::LossUnstable;
        ::candling::assert_loss_contract!(
            loss::binary_cross_entropy_with_logit,
            contract::bce_with_logits(),
            allow = allowed,
        );
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertion_on_rows_expands() -> ::candling::Result<()> {
        let x = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [2.0, 3.0]], &Device::Cpu)?;
        let (n, seed) = (1, ::candling::Seed::new(1));
        let report = ::candling::assert_batch_independent!(|x| x.tanh(), x);
        ::std::assert_eq!(report.rows, 3);
        ::candling::assert_batch_independent!(Tensor::tanh, &x, seed = seed, "context {}", n);
        ::candling::assert_batch_independent!(|x: &Tensor| x.tanh(), &x, "context {n}",);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_positions_and_features_expand() -> ::candling::Result<()> {
        let x = ::candling::Seed::new(1).normal("x", (2, 3), DType::F32, &Device::Cpu)?;
        let (mask, n) = (Tensor::tril2(3, DType::U8, &Device::Cpu)?, 1);
        let seed = ::candling::Seed::new(2);
        let both = [::std::clone::Clone::clone(&x), ::std::clone::Clone::clone(&x)];
        let report = ::candling::assert_causal!(|x| x.cumsum(1), &x);
        ::std::assert_eq!(report.positions, 3);
        ::candling::assert_causal!(
            |x: &Tensor| x.cumsum(1),
            x,
            dim = 1,
            seed = seed,
            "context {}",
            n
        );
        ::candling::assert_causal!(move |[a, b]| (a + b)?.cumsum(1), both, "context {n}",);
        ::candling::assert_dependence!(|x| x.cumsum(1), &x, &mask);
        ::candling::assert_dependence!(|x| x.cumsum(1), x, mask, dim = 1, seed = seed,);
        ::candling::assert_dependence!(|x| x.cumsum(1), x, mask, dim = 1, "context {}", n);
        ::candling::assert_uses_input!(Tensor::tanh, &x);
        ::candling::assert_uses_input!(
            |x| x.tanh(),
            x,
            dims = [1],
            ignore = (1, [0]),
            "context {n}"
        );
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_sequences_expand() -> ::candling::Result<()> {
        let x = ::candling::Seed::new(1).normal("x", (2, 5, 3), DType::F32, &Device::Cpu)?;
        let n = 1;
        let mut sum = Tensor::zeros((2, 1, 3), DType::F32, &Device::Cpu)?;
        let mut step = |x: &Tensor, offset: usize| {
            if offset == 0 {
                sum = sum.zeros_like()?;
            }
            let sums = x.cumsum(1)?.broadcast_add(&sum)?;
            sum = sums.narrow(1, x.dim(1)? - 1, 1)?;
            ::std::result::Result::Ok(sums)
        };
        let report = ::candling::assert_cache_consistent!(|x| x.cumsum(1), &mut step, x);
        ::std::assert_eq!(report.positions, 5);
        ::candling::assert_cache_consistent!(
            |x| x.cumsum(1),
            |x, at| step(x, at),
            &x,
            single_tokens = true
        );
        ::candling::assert_cache_consistent!(
            |x: &Tensor| x.cumsum(1),
            step,
            &x,
            tolerance = 0.1,
            "{}",
            n
        );
        let masked = |x: &Tensor, mask: &Tensor| x.broadcast_mul(&mask.unsqueeze(2)?);
        ::candling::assert_padding_invariant!(masked, x);
        ::candling::assert_padding_invariant!(|x, mask| masked(x, mask), &x, pad = 2, "{n}",);
        ::candling::assert_padding_invariant!(&masked, &x, mask_dtype = DType::F32,);
        ::candling::assert_position_sensitive!(|x| x.cumsum(1), x);
        ::candling::assert_position_sensitive!(|x| x.cumsum(2), &x, dim = 2, "context {}", n);
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_properties_expand() -> ::candling::Result<()> {
        use ::candling::check::Direction;

        let x = Tensor::new(&[[1f32, 2.0, 4.0], [3.0, 0.5, 7.0]], &Device::Cpu)?;
        let both = [::std::clone::Clone::clone(&x), ::std::clone::Clone::clone(&x)];
        let (n, cause) = (1, ::candling::Cause::NotInvariant);
        ::candling::assert_invariant!(|x| x.max(1), &x, |x| x.flip(&[1]));
        ::candling::assert_invariant!(|x| x.max(1), x, [|x| x.roll(1, 1), |x| x.roll(2, 1),]);
        ::candling::assert_invariant!(|x| x.max(1), x, |x| x.flip(&[1]), allow = cause, "{}", n);
        ::candling::assert_invariant!(|[a, b]| (a + b)?.max(1), &both, |[a, b]| {
            ::std::result::Result::Ok([a.flip(&[1])?, b.flip(&[1])?])
        },);
        ::candling::assert_equivariant!(Tensor::tanh, &x, |x| x.flip(&[1]), "context {n}");
        ::candling::assert_equivariant!(|x| x.tanh(), x, |x| x.flip(&[1]), tolerance = 1e-3);
        let report =
            ::candling::assert_equivariant!(|x| x.max(1), &x, |x| x * 2.0, |y| y * 2.0, "{}", n);
        ::std::assert_eq!(report.transformations, 1);
        ::candling::assert_equivariant!(
            |x| x.max(1),
            &x,
            |x| x * 2.0,
            |y| y * 2.0,
            tolerance = 1e-3
        );
        ::candling::assert_equivariant!(
            |x| x.tanh(),
            x,
            [|x| x.roll(1, 1)],
            tolerance = 1e-3,
            "{n}"
        );
        ::candling::assert_equivalent!(|x| x.sqr(), |x| x * x, &x);
        ::candling::assert_equivalent!(|[a, b]| a + b, |[a, b]| b + a, both, "context {}", n);
        ::candling::assert_equivalent!(|x| x.sqr(), |x| x.powf(2.0), x, tolerance = 1e-3);
        ::candling::assert_sensitive!(|x| x.tanh(), &x, |x| x * 2.0);
        let direction = Direction::Up;
        ::candling::assert_sensitive!(|x| x.sum(1), x, |x| x * 2.0, direction = direction, "{n}");
        ::candling::assert_sensitive!(
            |x| x.sum(1),
            x,
            [|x| x * 2.0, |x| x + 1.0],
            every_row = true
        );
        ::std::result::Result::Ok(())
    }

    #[test]
    fn the_assertions_on_what_a_training_learns_expand() -> ::candling::Result<()> {
        let x = ::candling::Seed::new(1).normal("x", (4, 2), DType::F32, &Device::Cpu)?;
        let y = Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu)?;
        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let model = ::candle_nn::linear(2, 2, vb)?;
        let forward = |x: &Tensor| ::candling::candle_core::Module::forward(&model, x);
        let learner = ::candling::Learner::new(&vars, forward, ::candle_nn::loss::cross_entropy);
        let (n, cause) = (1, ::candling::Cause::NotReproducible);
        ::candling::assert_reproducible!(|seed| {
            let x = seed.normal("x", 3, DType::F32, &Device::Cpu)?;
            ::std::result::Result::Ok(::std::vec![("x", x)])
        });
        ::candling::assert_reproducible!(
            |seed| {
                let x = seed.normal("x", 3, DType::F32, &Device::Cpu)?;
                ::std::result::Result::Ok(::std::vec![("x", x)])
            },
            seeds = 3,
            allow = cause,
            "context {}",
            n
        );
        ::candling::assert_accumulation_equivalent!(learner, (&x, &y));
        let report =
            ::candling::assert_accumulation_equivalent!(&learner, (&x, &y), parts = [1, 3], "{n}");
        ::std::assert_eq!(report.splits, [[1, 3]]);
        ::candling::assert_learns_from_input!(learner, (&x, &y));
        ::candling::assert_learns_from_input!(&learner, (&x, &y), steps = 50, "context {}", n);
        let (vars, vb) = ::candling::Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let wide = ::candle_nn::linear(2, 32, ::std::clone::Clone::clone(&vb))?;
        let last = ::candle_nn::linear(32, 2, vb.pp("last"))?;
        let deep = |x: &Tensor| {
            let hidden = ::candling::candle_core::Module::forward(&wide, x)?.relu()?;
            ::candling::candle_core::Module::forward(&last, &hidden)
        };
        let deep = ::candling::Learner::new(&vars, deep, ::candle_nn::loss::cross_entropy);
        let y = Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu)?;
        let xor =
            Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
        ::candling::assert_capacity_helps!(learner, deep, (&xor, &y), steps = 50);
        ::candling::assert_capacity_helps!(&learner, &deep, (&xor, &y), steps = 50, "{n}");
        ::std::result::Result::Ok(())
    }
}
