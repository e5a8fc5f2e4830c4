//! What was found of each tensor's slopes, a line each.

use crate::{
    measure::slope::{Agreement, Compared},
    verdict::{columns, number},
};

/// `0.25`; `1 + 1e-5` where three digits would show 1.
pub(super) fn times(factor: f64) -> String {
    let off = factor - 1.0;
    match off.abs() < 5e-3 {
        true if off < 0.0 => format!("1 - {}", number(-off)),
        true => format!("1 + {}", number(off)),
        false => number(factor),
    }
}

/// So many rows are shown, the wrong ones first.
const ROWS: usize = 24;

pub(super) fn table(compared: &[Compared]) -> String {
    let mut ordered: Vec<&Compared> = compared.iter().collect();
    if ordered.len() > ROWS {
        ordered.sort_by_key(|slot| slot.agreement != Agreement::Differs);
    }
    let rows: Vec<[String; 3]> = ordered.iter().take(ROWS).map(|slot| row(slot)).collect();
    let mut lines = columns(&rows);
    if ordered.len() > ROWS {
        lines.push(format!("and {} more lines", ordered.len() - ROWS));
    }
    lines.join("\n")
}

fn row(slot: &Compared) -> [String; 3] {
    let what = match (slot.agreement, slot.factor) {
        (Agreement::Agrees, _) if slot.comparison.analytic == 0.0 => {
            "zero, as the slope".to_owned()
        }
        (Agreement::Agrees, _) => format!("right   off by {}", number(slot.error)),
        (Agreement::Kink, _) => "right   between the slopes on both sides of a kink".to_owned(),
        (Agreement::Staircase, _) => "not judged: the function is a staircase here".to_owned(),
        (Agreement::Unclear, _) => "unclear".to_owned(),
        (Agreement::Differs, _) if !slot.arrived => "none    where there is a slope".to_owned(),
        (Agreement::Differs, Some(factor)) => format!("wrong   the slope times {}", times(factor)),
        (Agreement::Differs, _) if !slot.comparison.analytic.is_finite() => {
            "wrong   not finite".to_owned()
        }
        (Agreement::Differs, None) => format!("wrong   off by {}", number(slot.error)),
    };
    [slot.name.clone(), format!("{:?}", slot.dims), what]
}
