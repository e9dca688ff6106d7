//! What the shop sells, and what goes with what. Data alone.

/// One thing to sell.
pub(super) struct Good {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) price_cents: u32,
    /// The ids of what customers also like.
    pub(super) goes_with: &'static [&'static str],
}

/// Everything, cheapest first.
pub(super) const GOODS: &[Good] = &[
    Good { id: "spoon", name: "Tea spoon", price_cents: 290, goes_with: &["mug", "tin"] },
    Good { id: "strainer", name: "Strainer", price_cents: 650, goes_with: &["teapot", "assam"] },
    Good { id: "tin", name: "Tea tin", price_cents: 890, goes_with: &["assam", "sencha"] },
    Good { id: "mug", name: "Mug", price_cents: 1_200, goes_with: &["spoon", "assam"] },
    Good { id: "assam", name: "Assam, 250 g", price_cents: 1_450, goes_with: &["strainer", "mug"] },
    Good { id: "sencha", name: "Sencha, 100 g", price_cents: 1_690, goes_with: &["kettle", "tin"] },
    Good { id: "teapot", name: "Teapot", price_cents: 3_900, goes_with: &["strainer", "mug"] },
    Good { id: "kettle", name: "Kettle", price_cents: 7_900, goes_with: &["teapot", "sencha"] },
];

/// The good of this id.
pub(super) fn find(id: &str) -> Option<&'static Good> {
    GOODS.iter().find(|good| good.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goods_are_sorted_and_what_goes_with_them_exists() {
        assert!(GOODS.is_sorted_by_key(|good| good.price_cents));
        assert!(GOODS.iter().flat_map(|good| good.goes_with).all(|id| find(id).is_some()));
    }
}
