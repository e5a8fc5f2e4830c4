use candling::{Result, check::Shape, prelude::*};

use super::text;

fn tensor() -> Result<Tensor> {
    Ok(Tensor::zeros((2, 4, 5), DType::F32, &Device::Cpu)?)
}

#[test]
fn every_spelling_of_dimensions_is_understood() -> Result<()> {
    let (x, n) = (tensor()?, 3);
    let report = assert_shape!(x, [2, _, n + 2]);
    assert_eq!(report.dims, [2, 4, 5]);
    assert_shape!(x, [_, _, _]);
    assert_shape!(x, (2, 4, 5));
    assert_shape!(x, &[2, 4, 5]);
    assert_shape!(x, x.dims());
    assert_shape!(x, x.shape());
    assert_shape!(x, vec![2, 4, 5]);
    assert_shape!(x, [2, 4, 5].to_vec());
    assert_shape!(x.flatten_all()?, 40);
    assert_shape!(x.sum_all()?, []);
    assert_shape!(x.sum_all()?, ());
    Ok(())
}

#[test]
fn a_wrong_dimension_is_marked() -> Result<()> {
    let check = Shape::new();
    insta::assert_snapshot!(text(check.check(&tensor()?, [Some(2), Some(3), None])), @"
    assertion `shape` failed
    dimension 1 is 4, expected 3

      actual    [2, 4, 5]
                    ^
      expected  [2, 3, _]

      confirmed  shape-mismatch   sizes differ where the pattern fixes them
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    insta::assert_snapshot!(text(check.check(&tensor()?, (2, 5, 4))), @"
    assertion `shape` failed
    dimension 1 is 4, expected 5; dimension 2 is 5, expected 4

      actual    [2, 4, 5]
                    ^  ^
      expected  [2, 5, 4]

      confirmed  shape-mismatch   the same dimensions in another order
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    insta::assert_snapshot!(text(check.check(&tensor()?, (8, 5))), @"
    assertion `shape` failed
    the tensor has 3 dimensions, expected 2

      actual    [2, 4, 5]
      expected  [8, 5]

      confirmed  shape-mismatch   rank 3 is not rank 2
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    Ok(())
}

#[test]
#[should_panic(expected = "block 3")]
fn the_macro_panics_with_its_context() {
    let x = tensor().expect("a tensor");
    assert_shape!(x, [2, _], "block {}", 3);
}
