//! Today's verdicts, and what the programs print today.

use std::sync::LazyLock;

use candle_core::Result;

use super::{
    audit, cases, changes,
    defects::defects,
    examine::Examined,
    known::KNOWN,
    page::{Audited, page},
};

/// Audited once for all tests; the cases themselves cannot be shared between threads.
static EXAMINED: LazyLock<Vec<Examined>> = LazyLock::new(|| {
    let audited = audit().expect("the audit runs");
    audited.into_iter().map(|(_, examined)| examined).collect()
});

fn audited() -> Vec<Audited> {
    cases().into_iter().zip(EXAMINED.iter().cloned()).collect()
}

#[test]
fn the_verdicts_are_those_of_today() {
    let changes = changes(&audited());
    assert!(changes.is_empty(), "what changed against known.rs:\n{}", changes.join("\n"));
}

#[test]
fn the_page_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/candle-audit.md");
    let written = std::fs::read_to_string(file).unwrap_or_default().replace("\r\n", "\n");
    let page = page(&audited());
    let differs = page.lines().zip(written.lines()).find(|(now, then)| now != then);
    assert!(
        page == written,
        "docs/candle-audit.md is out of date; `cargo run --release --example audit` writes it. First: {differs:?}"
    );
}

#[test]
fn the_programs_print_what_the_page_says() {
    for defect in defects() {
        assert_eq!(defect.printed(), defect.prints, "{}", defect.id);
    }
}

#[test]
fn the_programs_are_complete_and_short() {
    for defect in defects() {
        let source = defect.source();
        let lines = source.lines().filter(|line| !line.trim().is_empty()).count();
        assert!((3..=10).contains(&lines), "{}: {lines} lines", defect.id);
        assert!(source.starts_with("use candle_core::"), "{}", defect.id);
        assert!(source.contains("fn main() -> Result<()> {"), "{}", defect.id);
        assert!(!source.contains("crate"), "{}", defect.id);
    }
}

#[test]
fn what_is_known_is_of_cases_and_defects_that_exist() {
    let names: Vec<String> = cases().iter().map(super::case::Case::name).collect();
    for (i, name) in names.iter().enumerate() {
        assert!(!names[..i].contains(name), "{name} is there twice");
    }
    for known in KNOWN {
        assert!(defects().any(|defect| defect.id == known.defect), "{}", known.defect);
        for case in known.cases {
            assert!(names.iter().any(|name| name == case), "{case} of {}", known.defect);
        }
    }
}

/// The witness itself: it sees what is planted.
mod witness {
    use candle_core::Tensor;

    use super::*;
    use crate::audit::{
        case::{Case, Operand, Table, exactly, signed},
        examine,
        verdict::{Condition, Outcome, Verdict},
    };

    fn leaf(operand: Operand, f: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Result<Outcome> {
        let mut table = Table::default();
        table.case("planted", "", [operand], move |x| f(&x[0]));
        let case: &Case = &table.cases[0];
        let examined = examine(case)?;
        let leaf = examined.into_iter().find(|(condition, _)| *condition == Condition::Leaf);
        Ok(leaf.expect("a gradient").1)
    }

    #[test]
    fn a_gradient_that_is_off_by_ten_millionths_is_wrong() -> Result<()> {
        let f = |factor: f64| {
            move |x: &Tensor| {
                // The value of x², the gradient of factor · x².
                let y = (x.sqr()? * factor)?;
                &y - (x.detach().sqr()? * (factor - 1.0))?
            }
        };
        assert_eq!(leaf(signed([4]), f(1.0))?.verdict, Verdict::Correct);
        let wrong = leaf(signed([4]), f(1.000_01))?;
        assert_eq!(wrong.verdict, Verdict::Wrong);
        assert!(
            wrong.detail.starts_with("operand: 4 of 4 differ, all by the factor 1"),
            "{wrong:?}"
        );
        Ok(())
    }

    #[test]
    fn a_gradient_that_does_not_arrive_is_cut() -> Result<()> {
        assert_eq!(leaf(signed([4]), |x| x.detach().sqr())?.verdict, Verdict::Cut);
        Ok(())
    }

    #[test]
    fn at_a_corner_any_slope_between_the_two_sides_is_right() -> Result<()> {
        let at_zero = || exactly([2], &[0.0, 1.0]);
        assert_eq!(leaf(at_zero(), Tensor::relu)?.verdict, Verdict::Correct);
        assert_eq!(leaf(at_zero(), Tensor::abs)?.verdict, Verdict::Correct);
        // The value of relu, twice its gradient.
        let twice = leaf(at_zero(), |x| (x.relu()? * 2.0)? - x.detach().relu()?)?;
        assert_eq!(twice.verdict, Verdict::Wrong);
        Ok(())
    }

    #[test]
    fn a_curve_is_no_corner() -> Result<()> {
        assert_eq!(leaf(exactly([1], &[9.0]), Tensor::exp)?.verdict, Verdict::Correct);
        Ok(())
    }
}
