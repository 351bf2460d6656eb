//! What models cost: a dated table of list prices, which the host's configuration adds to and overrides.

use std::collections::BTreeMap;

use domain::{ModelName, UsdMicros};

use crate::usage::Usage;

/// The day of the table.
pub(crate) const PRICES_OF: &str = "2026-11-28";

/// What a million tokens cost, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Read by the model and not cached.
    pub input: UsdMicros,
    /// Read from the provider's cache.
    pub cache_read: UsdMicros,
    /// Read and put into the provider's cache, for as long as it may be kept.
    pub cache_write: UsdMicros,
    /// Written by the model.
    pub output: UsdMicros,
    /// Prompts of more tokens than this cost more: twice as much to read, half as much again to write.
    pub dearer_above: Option<u64>,
}

/// The prices of this host.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    own: BTreeMap<ModelName, Price>,
}

impl Price {
    /// What a call cost. Where the provider doesn't say what it put into its cache, that may be all that wasn't there.
    pub(crate) fn of(&self, usage: &Usage) -> UsdMicros {
        let dear = self.dearer_above.is_some_and(|above| usage.prompt() > above);
        let (read, written) = if dear { (200, 150) } else { (100, 100) };
        let input = if usage.cache_write.is_some() { self.input } else { self.input.max(self.cache_write) };
        let parts = [
            (usage.input, input, read),
            (usage.cache_read, self.cache_read, read),
            (usage.cache_write.unwrap_or(0), self.cache_write, read),
            (usage.output, self.output, written),
        ];
        let cost = |(tokens, price, percent): (u64, UsdMicros, u64)| {
            u128::from(tokens).saturating_mul(u128::from(price.as_u64())).saturating_mul(u128::from(percent))
        };
        // A part of a millionth counts as one.
        let sum = parts.into_iter().map(cost).fold(0_u128, u128::saturating_add);
        UsdMicros::micros(u64::try_from(sum.div_ceil(100 * 1_000_000)).unwrap_or(u64::MAX))
    }

    /// What a call can cost that reads and writes so many tokens, whatever the provider's cache does.
    pub(crate) fn at_worst(&self, prompt: u64, output: u64) -> UsdMicros {
        let dearest = self.input.max(self.cache_read).max(self.cache_write);
        Self { input: dearest, ..*self }.of(&Usage { input: prompt, output, ..Usage::default() })
    }
}

impl Prices {
    /// These prices, before those of the table.
    #[must_use]
    pub fn new(own: BTreeMap<ModelName, Price>) -> Self {
        Self { own }
    }

    /// What a model costs, if that is known. Names that end in a date are the models of that day.
    pub(crate) fn of(&self, model: &ModelName) -> Option<Price> {
        self.own.get(model).copied().or_else(|| listed(model))
    }
}

/// Cents for a million tokens: read, read from the cache, put into it, written; and above which prompts it is dearer.
type Row = (&'static str, &'static str, [u64; 4], Option<u64>);

/// Anthropic's prices for the cache are those of an hour, the dearest. From
/// <https://platform.claude.com/docs/en/about-claude/pricing> and <https://developers.openai.com/api/docs/pricing>.
const LISTED: &[Row] = &[
    ("anthropic", "claude-fable-5", [1000, 100, 2000, 5000], None),
    ("anthropic", "claude-opus-5-5", [400, 20, 800, 2000], None),
    ("anthropic", "claude-opus-5", [500, 50, 1000, 2500], None),
    ("anthropic", "claude-opus-4-8", [500, 50, 1000, 2500], None),
    ("anthropic", "claude-opus-4-7", [500, 50, 1000, 2500], None),
    ("anthropic", "claude-opus-4-6", [500, 50, 1000, 2500], None),
    ("anthropic", "claude-opus-4-5", [500, 50, 1000, 2500], None),
    ("anthropic", "claude-opus-4-1", [1500, 150, 3000, 7500], None),
    ("anthropic", "claude-sonnet-5-5", [200, 20, 400, 1000], None),
    ("anthropic", "claude-sonnet-5", [200, 20, 400, 1000], None),
    ("anthropic", "claude-sonnet-4-6", [300, 30, 600, 1500], None),
    ("anthropic", "claude-sonnet-4-5", [300, 30, 600, 1500], Some(200_000)),
    ("anthropic", "claude-haiku-4-5", [100, 10, 200, 500], None),
    ("openai", "gpt-6-astra", [1000, 100, 1250, 5000], Some(272_000)),
    ("openai", "gpt-6-sol", [200, 20, 250, 1000], Some(272_000)),
    ("openai", "gpt-5.5", [500, 50, 500, 3000], Some(272_000)),
    ("openai", "gpt-5.4", [250, 25, 250, 1500], Some(272_000)),
    ("openai", "gpt-5", [125, 13, 125, 1000], None),
    ("openai", "gpt-5-mini", [25, 3, 25, 200], None),
];

fn listed(model: &ModelName) -> Option<Price> {
    // A subscription's calls count as if they were paid for.
    let sold_by = if model.provider() == "chatgpt" { "openai" } else { model.provider() };
    let is = |(provider, name, ..): &&Row| {
        let rest = (sold_by == *provider).then(|| model.model().strip_prefix(name)).flatten();
        rest.is_some_and(|rest| rest.is_empty() || is_date(rest))
    };
    let (_, _, cents, dearer_above) = LISTED.iter().find(is)?;
    let [input, cache_read, cache_write, output] = cents.map(|cents| UsdMicros::micros(cents * 10_000));
    Some(Price { input, cache_read, cache_write, output, dearer_above: *dearer_above })
}

/// `-20250929` or `-2025-09-29`.
fn is_date(rest: &str) -> bool {
    let digits = rest.bytes().filter(u8::is_ascii_digit).count();
    rest.starts_with('-') && digits == 8 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(model: &str) -> Option<Price> {
        Prices::default().of(&model.parse().unwrap())
    }

    #[test]
    fn a_call_costs_what_the_table_says() {
        let sonnet = price("anthropic/claude-sonnet-4-5").unwrap();
        let usage = Usage { input: 1_000, cache_read: 10_000, cache_write: Some(2_000), output: 500 };
        // $0.003 + $0.003 + $0.012 + $0.0075.
        assert_eq!(sonnet.of(&usage), UsdMicros::micros(25_500));
        let long = Usage { input: 200_001, cache_write: Some(0), output: 1_000, ..Usage::default() };
        assert_eq!(sonnet.of(&long), UsdMicros::micros(1_200_006 + 22_500));
        assert_eq!(sonnet.of(&Usage { output: 1, ..Usage::default() }), UsdMicros::micros(15));
        // What is put into the cache is told, or could be all of it.
        let astra = price("openai/gpt-6-astra").unwrap();
        let cost = |input, cache_write| astra.of(&Usage { input, cache_write, ..Usage::default() });
        assert_eq!(cost(1_000, Some(0)), UsdMicros::micros(10_000));
        assert_eq!(cost(600, Some(400)), UsdMicros::micros(11_000));
        assert_eq!(cost(1_000, None), UsdMicros::micros(12_500));
        let mini = price("openai/gpt-5-mini").unwrap();
        assert_eq!(
            mini.of(&Usage { input: 1, ..Usage::default() }),
            UsdMicros::micros(1),
            "never for nothing"
        );
    }

    #[test]
    fn models_are_known_by_their_names_and_dates() {
        assert_eq!(price("anthropic/claude-sonnet-4-5-20250929"), price("anthropic/claude-sonnet-4-5"));
        assert_eq!(price("openai/gpt-5-2025-08-07"), price("openai/gpt-5"));
        assert_eq!(price("chatgpt/gpt-5.5"), price("openai/gpt-5.5"));
        assert_ne!(price("anthropic/claude-sonnet-5-5"), price("anthropic/claude-sonnet-4-5"));
        for unknown in ["openai/gpt-5-pro", "other/gpt-5", "anthropic/claude-sonnet-5-9", "openai/gpt-5x"] {
            assert_eq!(price(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_hosts_own_prices_come_first() {
        let model: ModelName = "openai/gpt-5".parse().unwrap();
        let free = UsdMicros::micros(0);
        let own =
            Price { input: free, cache_read: free, cache_write: free, output: free, dearer_above: None };
        let prices = Prices::new(BTreeMap::from([(model.clone(), own)]));
        assert_eq!(prices.of(&model), Some(own));
    }

    proptest! {
        #[test]
        fn no_call_costs_more_than_its_worst(
            row in 0..LISTED.len(), parts in proptest::array::uniform4(0..300_000_u64), cached in any::<bool>(),
        ) {
            let price = price(&format!("{}/{}", LISTED[row].0, LISTED[row].1)).unwrap();
            let [input, cache_read, cache_write, output] = parts;
            let cache_write = cached.then_some(cache_write);
            let usage = Usage { input, cache_read, cache_write, output };
            prop_assert!(price.of(&usage) <= price.at_worst(usage.prompt(), output));
        }
    }
}
