//! Mistakes in losses of pairs.

use super::Changes;
use crate::{
    Cause,
    measure::losses::{Kind, Pairs, Point},
};

pub(super) fn of_pairs(changes: &mut Changes<'_>, pairs: Pairs) {
    let name = changes.claim.name;
    let with = |changes: &mut Changes<'_>, says: String, pairs: Pairs| {
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.kind = Kind::Contrastive(pairs));
    };
    let t = pairs.temperature;
    for (says, temperature) in [
        ("without the temperature", 1.0),
        ("multiplied by the temperature, not divided", 1.0 / t),
        ("divided by the temperature twice", t * t),
        ("divided by the root of the temperature", t.sqrt()),
    ] {
        with(changes, format!("the {name} of similarities {says}"), Pairs { temperature, ..pairs });
    }
    if pairs.one_pool {
        let says = format!("the {name} with every row compared with itself, too");
        with(changes, says, Pairs { with_itself: true, ..pairs });
        let says = format!("the InfoNCE loss at temperature {t}, from one view to the other alone");
        with(changes, says, Pairs { one_pool: false, ..pairs });
        let both = Pairs { one_pool: false, both_ways: true, ..pairs };
        let says = format!(
            "the InfoNCE loss at temperature {t}, both ways, without the pairs inside a view"
        );
        with(changes, says, both);
    } else {
        let (says, both_ways) = match pairs.both_ways {
            true => ("one way alone", false),
            false => ("both ways; declare that as `contract.both_ways()`", true),
        };
        with(changes, format!("the {name}, {says}"), Pairs { both_ways, ..pairs });
        let says = format!("the {name}, from the targets to the predictions");
        changes.add(
            Cause::ValuesDiffer,
            says,
            |point| Point {
                prediction: point.target.clone(),
                target: point.prediction.clone(),
                ..point.clone()
            },
            |_| (),
        );
    }
}
