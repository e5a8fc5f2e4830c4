//! Any seed.

use proptest::{
    arbitrary::{Arbitrary, StrategyFor, any},
    strategy::{MapInto, Strategy},
};

use crate::Seed;

impl From<u64> for Seed {
    fn from(seed: u64) -> Self {
        Self::new(seed)
    }
}

/// Any seed. A failing property shrinks to a small one; weights and inputs drawn from it stay cheap to make, where a
/// vector of elements would be drawn and shrunk one by one.
///
/// ```
/// use candling::{Seed, check::Close, prelude::*};
/// use proptest::prelude::*;
///
/// # /*
/// #[test]
/// # */
/// fn doubling_is_adding() {
///     proptest!(|(seed: Seed, rows in 1usize..8)| {
///         let x = seed.normal("x", (rows, 3), DType::F32, &Device::Cpu)?;
///         Close::new().check(&(&x + &x)?, &(&x * 2.0)?)?;
///     });
/// }
/// # doubling_is_adding();
/// ```
impl Arbitrary for Seed {
    type Parameters = ();
    type Strategy = MapInto<StrategyFor<u64>, Seed>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        any::<u64>().prop_map_into()
    }
}
