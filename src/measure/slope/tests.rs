use candle_core::{DType, Device};

use super::*;

/// `f` of one tensor, with a gradient that is claimed for it.
struct Claimed<F> {
    slots: Vec<Slot>,
    f: F,
}

impl<F: Fn(&[f64]) -> f64> Claimed<F> {
    fn new(x: Vec<f64>, gradient: Vec<f64>, f: F) -> Self {
        let value = Tensor::from_vec(x.clone(), x.len(), &Device::Cpu).unwrap();
        let slots = vec![Slot { name: "x".to_owned(), value, gradient: Some(gradient) }];
        Self { slots, f }
    }
}

impl<F: Fn(&[f64]) -> f64> Objective for Claimed<F> {
    fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn value(&mut self, _: usize, replaced: &Tensor) -> Result<f64> {
        Ok((self.f)(&to_f64_vec(replaced)?))
    }

    fn dtype(&self) -> DType {
        DType::F64
    }

    fn go_elsewhere(&mut self, _: Seed) -> Result<()> {
        Ok(())
    }
}

fn compare(
    objective: &mut dyn Objective,
    direction: fn(&Slot, Seed) -> Result<Direction>,
) -> Result<Comparison> {
    let direction = direction(&objective.slots()[0], Seed::new(1))?;
    let fineness = Fineness::of(DType::F64).unwrap();
    Slopes::new(objective, fineness)?.compare(0, &direction)
}

fn cubes(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v * v).sum()
}

fn points(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.3 + (i as f64 * 0.77).sin()).collect()
}

#[test]
fn a_right_gradient_agrees_and_one_off_by_a_part_in_100_000_differs() -> Result<()> {
    let x = points(50);
    for (factor, agreement) in
        [(1.0, Agreement::Agrees), (1.0 + 1e-5, Agreement::Differs), (-1.0, Agreement::Differs)]
    {
        let gradient = x.iter().map(|v| factor * 3.0 * v * v).collect();
        let mut claimed = Claimed::new(x.clone(), gradient, cubes);
        assert_eq!(compare(&mut claimed, Direction::uphill)?.agreement, agreement, "{factor}");
    }
    Ok(())
}

#[test]
fn one_wrong_entry_of_many_is_found_and_named() -> Result<()> {
    let x = points(3000);
    let mut gradient: Vec<f64> = x.iter().map(|v| 3.0 * v * v).collect();
    gradient[1234] *= 1.01;
    let mut claimed = Claimed::new(x.clone(), gradient, cubes);
    let direction = Direction::random(&claimed.slots[0], Seed::new(1))?;
    let fineness = Fineness::of(DType::F64).unwrap();
    let mut slopes = Slopes::new(&mut claimed, fineness)?;
    let found = slopes.compare(0, &direction)?;
    assert_eq!(found.agreement, Agreement::Differs);
    let entry = bisect(&mut slopes, 0, &direction, found.step)?.unwrap();
    assert_eq!(entry.at, 1234);
    assert!((entry.analytic / entry.numeric - 1.01).abs() < 1e-4);
    Ok(())
}

#[test]
fn a_kink_at_the_point_is_no_wrong_gradient_but_a_slope_outside_it_is() -> Result<()> {
    let relu = |x: &[f64]| x.iter().map(|v| v.max(0.0)).sum();
    for (claim, agreement) in [
        (1.0, Agreement::Kink),
        (0.0, Agreement::Kink),
        (0.5, Agreement::Agrees),
        (1.5, Agreement::Unclear),
    ] {
        let mut claimed = Claimed::new(vec![0.0; 5], vec![claim; 5], relu);
        assert_eq!(compare(&mut claimed, Direction::uphill)?.agreement, agreement, "{claim}");
    }
    Ok(())
}

#[test]
fn kinks_near_the_point_are_passed_by_on_a_shorter_step() -> Result<()> {
    let relu = |x: &[f64]| x.iter().map(|v| (v - 1.0).max(0.0) + v * v).sum();
    let x: Vec<f64> = (0..40).map(|i| 1.0 + (i as f64 - 19.5) * 1e-6).collect();
    let gradient = x.iter().map(|v| 2.0 * v + f64::from(u8::from(*v > 1.0))).collect();
    let mut claimed = Claimed::new(x, gradient, relu);
    assert_eq!(compare(&mut claimed, Direction::uphill)?.agreement, Agreement::Agrees);
    Ok(())
}

/// Where one number is, and what it gives.
type Term = (f64, fn(f64) -> f64);

/// A sum of functions of one number each, with gradients that are claimed for them.
struct Separate {
    slots: Vec<Slot>,
    functions: Vec<fn(f64) -> f64>,
}

impl Separate {
    fn new(of: &[Term]) -> Self {
        let slot = |at: usize, x: f64| Slot {
            name: at.to_string(),
            value: Tensor::new(&[x], &Device::Cpu).unwrap(),
            gradient: Some(vec![2.0]),
        };
        let slots = of.iter().enumerate().map(|(at, (x, _))| slot(at, *x)).collect();
        Self { slots, functions: of.iter().map(|(_, f)| *f).collect() }
    }
}

impl Objective for Separate {
    fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn value(&mut self, slot: usize, replaced: &Tensor) -> Result<f64> {
        let mut sum = 0.0;
        for (at, (own, f)) in self.slots.iter().zip(&self.functions).enumerate() {
            sum += f(to_f64_vec(if at == slot { replaced } else { &own.value })?[0]);
        }
        Ok(sum)
    }

    fn dtype(&self) -> DType {
        DType::F64
    }

    fn go_elsewhere(&mut self, _: Seed) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_made_up_gradient_before_a_jump_is_not_judged_however_far_the_jump_is() -> Result<()> {
    let near: Term = (1.0, |x| x + f64::from(u8::from(x > 1.3)));
    let far: Term = (0.01, |x| x + f64::from(u8::from(x > 0.3)));
    let wrong: Term = (1.0, |x| x);
    let agreements = |of: &[Term]| -> Result<Vec<Agreement>> {
        let fineness = Fineness::of(DType::F64).unwrap();
        let (compared, _) = verify(&mut Separate::new(of), fineness)?;
        Ok(compared.into_iter().map(|slot| slot.agreement).collect())
    };
    use Agreement::{Differs, Staircase};
    assert_eq!(agreements(&[near, far, wrong])?, [Staircase, Staircase, Differs]);
    // Where nothing near jumps, no made-up gradient is to be expected.
    assert_eq!(agreements(&[far, wrong])?, [Differs, Differs]);
    Ok(())
}
