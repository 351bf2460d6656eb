//! The Cedar schema that an agent's policies are held against: one action per tool, with the arguments that its input
//! schema declares, in the group `Action::"tool"`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Value};

use super::KnownTool;

/// The type of an argument as policies see it. What isn't one of these, policies don't see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Whole,
    /// Up to four decimals.
    Decimal,
    Truth,
    Texts,
}

/// The arguments of a tool that policies see.
pub(crate) type Types = BTreeMap<String, Type>;

const HEAD: &str = r#"entity Team;
entity Agent in [Team];
entity Server;
entity Tool in [Server] = { name: String, server: String };
entity Provider;
entity Host;
entity Model in [Provider] = { name: String, provider: String, clearance: Long };

// Confidentiality: 0 public, 1 internal, 2 confidential, 3 secret. Integrity: 0 person, 1 organisation, 2 third party, 3 web.
type Labels = { confidentiality: Long, integrity: Long, compartments: Set<String> };

action "tool";
action "model" appliesTo {
  principal: Agent, resource: Model,
  context: { granted: Bool, labels: Labels, calls: Long, calls_today: Long },
};
action "connect" appliesTo {
  principal: Agent, resource: Host,
  context: {
    granted: Bool, effects: Set<String>, labels: Labels, rules: Set<String>,
    method: String, secure: Bool, host: String, port: Long, path: String, query: Bool, body: Bool,
    own_host: Bool, own_url: Bool, says_more: Bool, deletes: Bool, calls: Long, calls_today: Long,
  },
};
"#;

/// The schema for these tools, as Cedar writes it.
pub(crate) fn schema(tools: &[KnownTool]) -> String {
    let mut text = HEAD.to_owned();
    for known in tools {
        let arguments =
            record(types(&known.input_schema).iter().map(|(name, kind)| (name.clone(), kind.name())));
        let row = known.row();
        let mut names: Vec<String> =
            row.sensitive.keys().filter_map(|place| place.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        let origins = record(names.into_iter().filter(|name| is_name(name)).map(|name| (name, "String")));
        let written = writeln!(
            text,
            "\naction \"{tool}\" in [\"tool\"] appliesTo {{\n  principal: Agent, resource: Tool,\n  context: {{\n    \
             granted: Bool, effects: Set<String>, labels: Labels,\n    arguments: {arguments},\n    origins: {origins},\n    \
             trusted: Bool, own_values: Bool, own_words: Bool,\n    classified: Bool, pinned: Bool, staged: Bool,\n    \
             calls: Long, calls_today: Long,\n  }},\n}};",
            tool = known.tool,
        );
        if written.is_err() {
            break; // writing to a string doesn't fail; a schema that ends early refuses what it lacks
        }
    }
    text
}

fn record(fields: impl Iterator<Item = (String, &'static str)>) -> String {
    let fields: BTreeMap<String, &str> = fields.collect();
    let fields: Vec<String> = fields.iter().map(|(name, kind)| format!("\"{name}\"?: {kind}")).collect();
    if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
}

/// The arguments that a tool's input schema declares with a type that policies can see.
pub(crate) fn types(input_schema: &Value) -> Types {
    let properties = input_schema.get("properties").and_then(Value::as_object);
    let typed = |(name, schema): (&String, &Value)| {
        let kind = Type::of(schema)?;
        is_name(name).then(|| (name.clone(), kind))
    };
    properties.into_iter().flatten().filter_map(typed).collect()
}

/// Whether policies can name an argument.
pub(crate) fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= 64 && name.chars().all(sound)
}

impl Type {
    fn of(schema: &Value) -> Option<Self> {
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
                let mut real = choices.iter().filter(|s| s.get("type").is_none_or(|t| t != "null"));
                return real.next().filter(|_| real.next().is_none()).and_then(Self::of);
            }
        }
        let name = match schema.get("type")? {
            Value::String(name) => name.as_str(),
            Value::Array(names) => {
                let mut real = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
                real.next().filter(|_| real.next().is_none())?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
        };
        match name {
            "string" => Some(Self::Text),
            "integer" => Some(Self::Whole),
            "number" => Some(Self::Decimal),
            "boolean" => Some(Self::Truth),
            "array" => (Self::of(schema.get("items")?)? == Self::Text).then_some(Self::Texts),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Whole => "Long",
            Self::Decimal => "decimal",
            Self::Truth => "Bool",
            Self::Texts => "Set<String>",
        }
    }

    fn expression(self, value: &Value) -> Option<RestrictedExpression> {
        match self {
            Self::Text => value.as_str().map(|text| RestrictedExpression::new_string(text.to_owned())),
            Self::Whole => value.as_i64().map(RestrictedExpression::new_long),
            Self::Decimal => decimal(value).map(RestrictedExpression::new_decimal),
            Self::Truth => value.as_bool().map(RestrictedExpression::new_bool),
            Self::Texts => {
                let texts: Option<Vec<_>> = value
                    .as_array()?
                    .iter()
                    .map(|item| item.as_str().map(|text| RestrictedExpression::new_string(text.to_owned())))
                    .collect();
                texts.map(RestrictedExpression::new_set)
            }
        }
    }
}

/// A number as Cedar's decimal: with one to four places.
fn decimal(value: &Value) -> Option<String> {
    let text = value.is_number().then(|| value.to_string())?;
    match text.split_once('.') {
        None => Some(format!("{text}.0")),
        Some((_, places)) if places.len() <= 4 => Some(text),
        Some(_) => None,
    }
}

/// The arguments as policies see them; the name of the first that doesn't fit its type.
pub(crate) fn arguments(
    types: &Types,
    arguments: &Map<String, Value>,
) -> Result<Vec<(String, RestrictedExpression)>, String> {
    let present = arguments.iter().filter(|(_, value)| !value.is_null());
    present
        .filter_map(|(name, value)| types.get(name).map(|kind| (name, kind, value)))
        .map(|(name, kind, value)| {
            kind.expression(value).map(|seen| (name.clone(), seen)).ok_or_else(|| name.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_see_arguments_of_plain_types() {
        let schema = json!({"properties": {
            "to": {"type": "array", "items": {"type": "string"}}, "n": {"type": "integer"}, "x": {"type": ["number", "null"]},
            "b": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "o": {"type": "object"}, "bad name": {"type": "string"},
        }});
        let types = types(&schema);
        assert_eq!(types.keys().collect::<Vec<_>>(), ["b", "n", "to", "x"]);
        let seen = |value: Value| arguments(&types, value.as_object().unwrap()).map(|seen| seen.len());
        assert_eq!(seen(json!({"to": ["a"], "n": 3, "x": 1.25, "b": null, "o": {}})), Ok(3));
        for (name, value) in
            [("n", json!({"n": 1.5})), ("x", json!({"x": 0.00001})), ("to", json!({"to": [1]}))]
        {
            assert_eq!(seen(value), Err(name.to_owned()));
        }
    }
}
