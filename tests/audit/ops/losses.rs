//! The losses of candle_nn.

use candle_nn::loss;

use crate::audit::case::{Table, constant, exactly, ids, signed, spread, unit};

pub(super) fn fill(table: &mut Table) {
    table.group("loss");
    table.case("loss::nll", "", [signed([3, 4])], |x| loss::nll(&x[0], &ids([3], &[0, 3, 1])?));
    table.case("loss::cross_entropy", "", [spread([3, 4])], |x| {
        loss::cross_entropy(&x[0], &ids([3], &[0, 3, 1])?)
    });
    table.case("loss::cross_entropy", "tied logits", [exactly([1, 3], &[2.0, 2.0, 1.0])], |x| {
        loss::cross_entropy(&x[0], &ids([1], &[0])?)
    });
    table.case("loss::cross_entropy", "logits ±800", [exactly([1, 2], &[-800.0, 800.0])], |x| {
        loss::cross_entropy(&x[0], &ids([1], &[0])?)
    });
    table.case("loss::mse", "", [signed([3, 4]), signed([3, 4])], |x| loss::mse(&x[0], &x[1]));
    table.case("loss::huber", "0.7", [signed([3, 4]), constant(signed([3, 4]))], |x| {
        loss::huber(&x[0], &x[1], 0.7)
    });
    let bce = "loss::binary_cross_entropy_with_logit";
    table.case(bce, "", [signed([3, 4]), constant(unit([3, 4]))], |x| {
        loss::binary_cross_entropy_with_logit(&x[0], &x[1])
    });
    for (setting, logit) in
        [("logit 30", &[30.0]), ("logit 40", &[40.0]), ("logit -800", &[-800.0])]
    {
        let pair = [exactly([1], logit), constant(exactly([1], &[1.0]))];
        table.case(bce, format!("{setting}, target 1"), pair, |x| {
            loss::binary_cross_entropy_with_logit(&x[0], &x[1])
        });
    }
}
