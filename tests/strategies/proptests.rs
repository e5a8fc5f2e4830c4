//! The strategies in `proptest!` as it is, beside proptest's own, and what a failure there says.

use candling::{
    Batch,
    check::Close,
    prelude::*,
    strategies::{self, Dims, Layout, Values},
};
use proptest::{prelude::*, test_runner::TestError};

use super::runner;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layouts_do_not_change_a_sum(
        x in strategies::tensor(Dims::of_rank(1..=4, 1..6)).layouts(Layout::ALL),
        dim in 0usize..4,
    ) {
        prop_assume!(dim < x.rank());
        let sum = x.contiguous()?.sum(dim)?;
        Close::new().check(&x.sum(dim)?, &sum)?;
    }

    #[test]
    fn strategies_compose_with_those_of_proptest(
        (x, y) in (1usize..4).prop_flat_map(|classes| strategies::batch(
            strategies::tensor((1..9, 3)),
            strategies::labels(classes, 1..9),
        )),
        z in prop_oneof![strategies::tensor([2, 3]), strategies::tensor([3, 2])].no_shrink(),
        w in strategies::tensor(3).prop_filter("not zero", |w| w.to_vec1::<f32>().is_ok_and(|w| w[0] != 0.0)),
    ) {
        let batch = Batch::from((x, y));
        prop_assert_eq!(batch.rows(), batch.target().map(|y| y.dims()[0]));
        prop_assert_eq!((z.elem_count(), w.elem_count()), (6, 3));
    }

    #[test]
    fn a_value_with_its_line_stands_for_the_value(x in strategies::tensor([1..5, 1..5]).with_line()) {
        prop_assert_eq!(x.rank(), 2);
        Close::new().check(&x, &x.value)?;
        assert_shape!(x, [_, _]);
    }
}

#[test]
fn a_failure_says_what_differs_and_how_to_make_it_again() {
    let strategy = strategies::tensor([1..6, 1..6]).values(Values::Uniform(0.0..2.0)).with_line();
    let outcome = runner().run(&strategy, |x| {
        // Sums the first column alone.
        let sums = x.sum(0)?.sum(0)?;
        let first = x.narrow(1, 0, 1)?.sum_all()?;
        Close::new().check(&first, &sums)?;
        Ok(())
    });
    let Err(TestError::Fail(reason, smallest)) = outcome else { panic!("{outcome:?}") };
    // The lines that depend on the place and the way this test is run.
    let lines = reason.message().lines().filter(|line| {
        !line.starts_with("  at ") && !line.starts_with("  rerun") && !line.starts_with("  slow?")
    });
    let said = lines.collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(format!("{said}\n\n{smallest:?}"), @"
    assertion `close` failed
    the only element differs

      tensors    f32 []
      tolerance  |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      mismatch   index  actual  expected  difference        ulps
                 []        0.0       1.0           1  1065353216

      confirmed  values-differ   []: 0.0, expected 1.0
      help       start from the worst element; see docs/causes.md#values-differ

    strategies::tensor([1, 2]).values(strategies::Values::OneNonzero).sample(Seed::new(0))?
    [[0., 1.]]
    Tensor[[1, 2], f32]
    ");
}
