//! Masks in the graph of a forward pass: where a node is its operand, times 0 or times one number, element by element.
//!
//! candle keeps a mask where no one sees it, inside the operation that applied it. What shows is the node and its one
//! tracked operand: their ratio is the mask. Operands are read as [`graph`](super::graph) reads them, which candle does not
//! promise; a wrong operand could not have such a ratio in every element, so that at worst nothing is found.

mod draws;
mod products;

use candle_core::{Result, Tensor, Var};

pub(crate) use draws::Draws;
pub(crate) use products::{DROPPED, KEPT, Product, Products};

/// A mask at one place of the model, in several passes of the same graph.
pub(crate) struct Place {
    /// After which layer: `after fc1`.
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    /// What the values that stay are multiplied by, by the mask and by those constant factors next to it that evaluation
    /// does not have.
    pub(crate) scale: f64,
    /// How exactly the scale can be read in this dtype, relative.
    pub(crate) precision: f64,
    /// [`DROPPED`], [`KEPT`], or unseen since the operand is zero: of every element, in every pass.
    pub(crate) masks: Vec<Vec<u8>>,
    /// Whether the operand was computed from the input, and not from variables alone.
    pub(crate) of_input: bool,
    /// The mask is the same in every pass.
    pub(crate) is_fixed: bool,
}

/// A constant that values are multiplied by, and the layer it comes after.
pub(crate) type Factor<'m> = (f64, &'m str);

/// The masks of several passes.
pub(crate) struct Masks {
    passes: Vec<Products>,
    /// Passes whose graph is another than the first's: a layer was left out as a whole.
    pub(crate) other_graphs: usize,
}

impl Masks {
    pub(crate) fn new() -> Self {
        Self { passes: Vec::new(), other_graphs: 0 }
    }

    /// Reads one pass, from its result.
    pub(crate) fn add(
        &mut self,
        root: &Tensor,
        variables: &[(String, Var)],
        input: &[Tensor],
    ) -> Result<()> {
        let wanted = self.passes.first();
        let pass = Products::of(root, variables, input, wanted)?;
        match self.passes.first() {
            Some(first) if first.nodes != pass.nodes => self.other_graphs += 1,
            _ => self.passes.push(pass),
        }
        Ok(())
    }

    /// The variables that the graph of the first pass does not reach.
    pub(crate) fn unreached(&self) -> &[String] {
        self.passes.first().map_or(&[], |pass| pass.unreached.as_slice())
    }

    /// Whether the first pass has a gradient for the variable of that name.
    pub(crate) fn reaches(&self, name: &str) -> bool {
        !self.passes.is_empty() && !self.unreached().iter().any(|unreached| unreached == name)
    }

    /// Whether the first pass has a gradient for a variable of that layer, where it has variables with one.
    pub(crate) fn reaches_any(&self, layer: &str) -> bool {
        let Some(first) = self.passes.first() else { return false };
        let under = |name: &String| {
            name.strip_prefix(layer).is_some_and(|rest| layer.is_empty() || rest.starts_with('.'))
        };
        first.reached.iter().any(under) || !first.unreached.iter().any(under)
    }

    /// The factor of a node that is its operand times one number in every pass. A mask may drop nothing in one of them.
    fn constant(&self, node: usize) -> Option<f64> {
        for pass in &self.passes {
            if pass.at(node)?.mask.contains(&DROPPED) {
                return None;
            }
        }
        self.passes.first()?.at(node)?.factor
    }

    /// Constant factors other than 1, with the layer they come after.
    pub(crate) fn factors(&self) -> Vec<Factor<'_>> {
        let Some(first) = self.passes.first() else { return Vec::new() };
        let constant = |product: &Product| Some((self.constant(product.node)?, product.precision));
        let factors = first.products.iter().filter_map(|product| {
            let (factor, precision) = constant(product)?;
            // A view, a copy or a cast is no factor.
            ((factor - 1.0).abs() > precision).then_some((factor, product.place.as_str()))
        });
        factors.collect()
    }

    /// Every place with a mask that drops something. `evaluation` has the factors that belong to the model in both modes.
    pub(crate) fn places(&self, evaluation: &Masks) -> Vec<Place> {
        let Some((first, rest)) = self.passes.split_first() else { return Vec::new() };
        // Of passes with many graphs those of one are not a fair sample.
        if self.other_graphs > self.passes.len() {
            return Vec::new();
        }
        let (own, of_evaluation) = (self.factors(), evaluation.factors());
        let mut places: Vec<Place> = Vec::new();
        for product in &first.products {
            let others = rest.iter().map(|pass| pass.at(product.node));
            let Some(others) = others.collect::<Option<Vec<&Product>>>() else { continue };
            if let Some(mut place) = self.place(product, &others, [&own, &of_evaluation]) {
                let same = |other: &&Place| {
                    let end = other.name.find(" (").unwrap_or(other.name.len());
                    other.name[..end] == place.name
                };
                let before = places.iter().filter(same).count();
                if before > 0 {
                    place.name = format!("{} ({})", place.name, before + 1);
                }
                places.push(place);
            }
        }
        places
    }

    fn place(
        &self,
        first: &Product,
        others: &[&Product],
        [own, of_evaluation]: [&[Factor<'_>]; 2],
    ) -> Option<Place> {
        let all = || std::iter::once(first).chain(others.iter().copied());
        let mut factors = all().filter_map(|product| product.factor);
        let factor = factors.next()?;
        let agree = |other: f64| (other / factor - 1.0).abs() <= first.precision;
        if !factors.all(agree) || !all().any(|product| product.mask.contains(&DROPPED)) {
            return None;
        }
        // An activation, or another function of the value itself, has a threshold.
        if all().all(|product| product.is_threshold) {
            return None;
        }
        let is_fixed = others.iter().all(|other| !disagree(&first.mask, &other.mask));
        let among = |factors: &[Factor<'_>], c: f64| {
            factors.iter().filter(|(f, _)| (f / c - 1.0).abs() <= first.precision).count()
        };
        let mut scale = factor;
        for side in &first.neighbours {
            for constant in side.iter().map_while(|node| self.constant(*node)) {
                if among(own, constant) > among(of_evaluation, constant) {
                    scale *= constant;
                }
            }
        }
        Some(Place {
            name: first.place.clone(),
            dims: first.dims.clone(),
            scale,
            precision: first.precision,
            masks: all().map(|product| product.mask.clone()).collect(),
            of_input: first.of_input,
            is_fixed,
        })
    }
}

/// Whether an element that both see is dropped in one and kept in the other.
fn disagree(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).any(|pair| matches!(pair, (&DROPPED, &KEPT) | (&KEPT, &DROPPED)))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::Seed;

    const CPU: &Device = &Device::Cpu;

    /// The places in passes of a function of one variable, and in none of evaluation.
    fn places(f: impl Fn(&Tensor, u64) -> Result<Tensor>) -> Result<Vec<Place>> {
        let x = Seed::new(1).normal("x", (8, 16), DType::F32, CPU)?;
        let variables = vec![("l.w".to_owned(), Var::from_tensor(&x)?)];
        let mut masks = Masks::new();
        for pass in 0..8 {
            masks.add(&f(variables[0].1.as_tensor(), pass)?, &variables, &[])?;
        }
        Ok(masks.places(&Masks::new()))
    }

    fn mask(pass: u64, rate: f64) -> Result<Tensor> {
        let label = format!("pass {pass}");
        Seed::new(2)
            .uniform(&label, 0.0..1.0, (8, 16), DType::F32, CPU)?
            .ge(rate)?
            .to_dtype(DType::F32)
    }

    #[test]
    fn a_product_with_a_mask_is_found_by_its_ratio() -> Result<()> {
        let found = places(|x, pass| (x * (mask(pass, 0.25)? / 0.75)?)?.tanh())?;
        let [place] = &found[..] else { panic!("{} places", found.len()) };
        assert!((place.scale - 4.0 / 3.0).abs() < 1e-6 && !place.is_fixed);
        let draws = Draws::of(place);
        assert_eq!((draws.count, draws.shared.len()), (8 * 8 * 16, 0));
        assert!((draws.rate() - 0.25).abs() < 0.06, "{}", draws.rate());
        Ok(())
    }

    #[test]
    fn constants_next_to_a_mask_are_part_of_its_scale() -> Result<()> {
        let found = places(|x, pass| (((x * mask(pass, 0.25)?)? / 0.75)? * 2.0)?.sin())?;
        assert!((found[0].scale - 8.0 / 3.0).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn a_mask_that_drops_nothing_at_first_is_no_constant() -> Result<()> {
        let found = places(|x, pass| {
            let seldom = if pass == 0 { x.ones_like()? } else { mask(pass + 10, 0.1)? };
            (x * (seldom / 0.9)?)? * (mask(pass, 0.25)? / 0.75)?
        })?;
        let scales: Vec<f64> = found.iter().map(|place| (place.scale * 100.0).round()).collect();
        assert_eq!(scales, [111.0, 133.0]);
        Ok(())
    }

    #[test]
    fn activations_and_fixed_masks_are_told_apart() -> Result<()> {
        assert!(places(|x, pass| (x + pass as f64 * 0.1)?.relu())?.is_empty());
        let fixed = places(|x, _| x * mask(0, 0.5)?)?;
        assert!(fixed.len() == 1 && fixed[0].is_fixed);
        Ok(())
    }
}
