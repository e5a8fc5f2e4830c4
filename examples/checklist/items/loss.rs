use super::Item;

pub(crate) const ITEMS: &[Item] = &[];
