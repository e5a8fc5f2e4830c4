//! What is said of a layout that gives another result.

use candle_core::Tensor;

use super::layouts::{Differing, Found, Layout, Layouts};
use crate::{
    Cause, Failure, Finding, Result,
    diagnose::engine::strided::{changed_by_linear, has_strided_product, tracked},
    measure::{compare, values::is_floating},
    verdict::{all, count, listed, number, told_apart},
};

impl Layouts<'_, '_> {
    /// What differs, by how much, and whether it is candle's own doing.
    pub(super) fn told(
        &mut self,
        worst: &Differing,
        agreed: &[(String, f64)],
        refused: &[(String, String)],
        differing: &[Differing],
    ) -> Result<Failure> {
        let culprit = self.culprit(worst)?;
        let view = match culprit {
            Some(i) => format!("{} as input {i}", worst.layout),
            None => worst.layout.clone(),
        };
        let differs = match &worst.found {
            Found::Dims(dims, dtype) if *dtype == self.expected.dtype() => {
                format!("the output has dims {dims:?}, not {:?}", self.expected.dims())
            }
            Found::Dims(_, dtype) => {
                let expected = self.expected.dtype().as_str();
                format!("the output has dtype {}, not {expected}", dtype.as_str())
            }
            Found::Values { elements, largest, mismatches } => {
                let verb = if mismatches.count == 1 { "differs" } else { "differ" };
                let of = format!("{} of {}", mismatches.count, count(*elements, "output value"));
                match (largest.is_nan(), is_floating(self.expected.dtype())) {
                    (true, _) => format!("{of} {verb}, {} of them NaN", mismatches.nan_in_actual),
                    (_, false) => format!("{of} {verb}"),
                    _ => format!(
                        "{of} {verb}, by up to {}, where rounding makes up to {}",
                        number(*largest),
                        number(self.bound),
                    ),
                }
            }
        };
        let mut failure = Failure::violated(format!(
            "the result depends on how the input lies in memory: {view}"
        ));
        if let Found::Values { mismatches, .. } = &worst.found
            && let Some(place) = &mismatches.greatest_absolute
        {
            let of = |n: &compare::Number| n.to_string().parse().unwrap_or(f64::NAN);
            let (got, expected) = told_apart(of(&place.actual), of(&place.expected));
            let index = &place.index;
            failure = failure.fact(
                "worst",
                format!("{index:?}: {got} from the view, {expected} from a contiguous copy of it"),
            );
        }
        let names = |layouts: Vec<&str>| match layouts.is_empty() {
            true => "none".to_owned(),
            false => listed(&layouts),
        };
        failure = failure
            .fact("differ", names(differing.iter().map(|d| d.layout.as_str()).collect()))
            .fact("agree", names(agreed.iter().map(|(layout, _)| layout.as_str()).collect()));
        if !refused.is_empty() {
            let layouts = refused.iter().map(|(layout, _)| layout.as_str()).collect();
            failure = failure.fact("refused", names(layouts));
        }
        let mut evidence = differs;
        let mut advice =
            "call `.contiguous()?` on the input, before the first operation that minds";
        if let Some(engine) = self.engine(worst, culprit)? {
            evidence = format!("{evidence}; {engine}");
            advice = "call `.contiguous()?` on what goes into the `Linear` or `matmul`; candle's product of a strided batch is wrong";
        }
        let finding = Finding::confirmed(Cause::LayoutDependent, evidence);
        Ok(failure.finding(finding.at(view).advice_is(advice)))
    }

    /// The one member whose layout alone makes a difference.
    fn culprit(&mut self, worst: &Differing) -> Result<Option<usize>> {
        if self.base.len() == 1 {
            return Ok(None);
        }
        let mut alone = Vec::new();
        for i in 0..self.base.len() {
            let Some((members, expected)) = self.laid_out(worst.kind, &|at| at == i)? else {
                continue;
            };
            let Ok(output) = (self.traced)(&members) else { continue };
            if self.compare(&output.detach(), &expected)?.1.is_some() {
                alone.push(i);
            }
        }
        Ok(match alone[..] {
            [only] => Some(only),
            _ => None,
        })
    }

    /// Whether candle's own product is at work: found in the function's graph, or by trying `Linear` on such a view.
    fn engine(&mut self, worst: &Differing, culprit: Option<usize>) -> Result<Option<String>> {
        let Layout::Seen(view) = worst.kind else { return Ok(None) };
        let takes_part = |i: usize| culprit.is_none_or(|only| only == i);
        let mut members = self.base.clone();
        let (mut changed, mut of) = (0, 0);
        // Variables live as long as the graph is read.
        let mut variables = Vec::new();
        for i in (0..members.len()).filter(|i| takes_part(*i)) {
            let Some(stored) = view.stored(&self.base[i], &self.around[i])? else { continue };
            let here = changed_by_linear(&view.seen(&stored)?)?;
            if here > changed {
                (changed, of) = (here, self.base[i].elem_count());
            }
            members[i] = match tracked(&stored)? {
                Some(variable) => {
                    variables.push(variable.clone());
                    view.seen(variable.as_tensor())?
                }
                None => view.seen(&stored)?,
            };
        }
        if changed == 0 {
            return Ok(None);
        }
        let in_graph = match (self.traced)(&members) {
            Ok(output) => has_strided_product(&output)?,
            Err(_) => false,
        };
        let changes = format!(
            "candle's own `Linear` is wrong on this view: with the identity as its weight it changes {changed} of {}",
            count(of, "value"),
        );
        Ok(Some(match in_graph {
            true => format!("{changes}; the function's graph has such a product"),
            false => changes,
        }))
    }
}

/// A function that cannot be told by its input's values cannot be told by where they lie.
pub(super) fn ignores(output: &Tensor) -> Failure {
    let verb = if output.elem_count() == 1 { "has" } else { "have" };
    let evidence = format!(
        "{} {verb} the same bits for inputs that differ everywhere",
        all(output.elem_count(), "output value"),
    );
    Failure::vacuous("the output does not depend on the input, however that lies in memory")
        .finding(Finding::confirmed(Cause::OutputConstant, evidence))
}
