//! Cedar text, cut into its policies, each with the line that it begins on, so that reasons can name it.

use std::collections::BTreeMap;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use domain::ToolPattern;
use miette::Diagnostic;

use super::{PolicyError, Text};

/// One policy, and what people are told of it.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) policy: Policy,
    pub(crate) rule: Rule,
    /// The policy as it was written.
    pub(crate) text: String,
    /// For a rule of an agent file: the tools that it names.
    pub(crate) pattern: Option<ToolPattern>,
    /// Where in its file the text begins, in bytes.
    at: usize,
}

impl Statement {
    /// A policy that was made from a rule of an agent file.
    pub(super) fn generated(policy: Policy, rule: Rule, text: String, pattern: Option<ToolPattern>) -> Self {
        Self { policy, rule, text, pattern, at: 0 }
    }

    /// Whether it could look at this attribute, or one whose name begins so: as Cedar reads it, however it is spelled.
    pub(super) fn looks_at(&self, attribute: &str) -> bool {
        let named = format!("\"{attribute}");
        self.policy.to_json().map_or(true, |policy| policy.to_string().contains(&named))
    }
}

/// Where a rule stands and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) file: String,
    /// Counted from 1; none for built-in rules.
    pub(crate) line: Option<usize>,
    pub(crate) says: String,
}

/// Most bytes of a file of Cedar policies.
pub const MAX_CEDAR: usize = 256 * 1024;
/// Most policies in one.
const MAX_POLICIES: usize = 1000;

/// The policies of a file.
pub(super) fn parse(file: Text<'_>, built_in: bool) -> Result<Vec<Statement>, PolicyError> {
    let error = |at, message| PolicyError { file: file.name.to_owned(), line: line(file.text, at), message };
    if file.text.len() > MAX_CEDAR {
        return Err(error(0, format!("the file has more than {MAX_CEDAR} bytes")));
    }
    let pieces = cut(file.text);
    if pieces.len() > MAX_POLICIES {
        return Err(error(0, format!("the file has more than {MAX_POLICIES} policies")));
    }
    pieces
        .into_iter()
        .map(|(at, text)| {
            let line = line(file.text, at);
            let id = PolicyId::new(format!("{}:{line}:{at}", file.name));
            let policy = Policy::parse(Some(id), text).map_err(|errors| {
                let inside = errors.iter().find_map(first_label).unwrap_or_default();
                error(at.saturating_add(inside), errors.to_string())
            })?;
            let name = policy.annotation("id").unwrap_or("a policy").to_owned();
            let says = policy.annotation("reason").unwrap_or(text).to_owned();
            let rule = Rule { name, file: file.name.to_owned(), line: (!built_in).then_some(line), says };
            Ok(Statement { policy, rule, text: text.to_owned(), pattern: None, at })
        })
        .collect()
}

/// Holds policies against the schema, strictly.
pub(super) fn validate(file: Text<'_>, statements: &[Statement], schema: &Schema) -> Result<(), PolicyError> {
    let error = |at, message| PolicyError { file: file.name.to_owned(), line: line(file.text, at), message };
    let set = PolicySet::from_policies(statements.iter().map(|s| s.policy.clone()))
        .map_err(|e| error(0, e.to_string()))?;
    let places: BTreeMap<&PolicyId, usize> = statements.iter().map(|s| (s.policy.id(), s.at)).collect();
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let first = result.validation_errors().map(|found| {
        let inside = first_label(found).unwrap_or_default();
        let at = statements
            .iter()
            .find(|s| found.to_string().contains(&format!("`{}`", s.policy.id())))
            .map_or(0, |s| s.at);
        (at.saturating_add(inside), found.to_string())
    });
    match first.min() {
        Some((at, message)) => {
            let message = places.keys().fold(message, |m, id| m.replace(&format!("for policy `{id}`, "), ""));
            Err(error(at, message))
        }
        None => Ok(()),
    }
}

fn first_label<D: Diagnostic + ?Sized>(found: &D) -> Option<usize> {
    found.labels().and_then(|mut labels| labels.next()).map(|label| label.offset())
}

/// The policies of a text with their offsets: each ends with a `;` outside of strings, comments and brackets. What is
/// left over after the last is one, too, and its parser will say what is wrong with it.
fn cut(text: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let (mut start, mut depth, mut at) = (None, 0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = token(rest);
        let blank = rest.starts_with("//") || rest.starts_with(char::is_whitespace);
        if !blank && start.is_none() {
            start = Some(at);
        }
        match rest.as_bytes().first() {
            Some(b'(' | b'{' | b'[') => depth = depth.saturating_add(1),
            Some(b')' | b'}' | b']') => depth = depth.saturating_sub(1),
            Some(b';') if depth == 0 => {
                let from = start.take().unwrap_or(at);
                pieces.extend(text.get(from..at.saturating_add(1)).map(|piece| (from, piece)));
            }
            Some(_) | None => (),
        }
        at = at.saturating_add(length);
    }
    pieces.extend(start.and_then(|from| text.get(from..).map(|piece| (from, piece))));
    pieces
}

/// The bytes of a comment, of a string, or of one character.
fn token(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    let mut chars = rest.char_indices();
    let Some((_, first)) = chars.next() else { return 1 };
    if first != '"' {
        return first.len_utf8();
    }
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at.saturating_add(1),
            _ => escaped = false,
        }
    }
    rest.len()
}

fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_cut_apart_with_their_lines() {
        let text = "// one; two\npermit (principal, action, resource);\n\n@id(\"a;b\")\nforbid (principal, action, resource)\nwhen { context.x == \"};\" };\n";
        let found = parse(Text { name: "policy.cedar", text }, false).unwrap();
        let lines: Vec<(&str, Option<usize>)> =
            found.iter().map(|s| (s.rule.name.as_str(), s.rule.line)).collect();
        assert_eq!(lines, [("a policy", Some(2)), ("a;b", Some(4))]);
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        for (text, line) in [
            ("permit (principal, action, resource);\npermit (principal);", 2),
            ("\n\npermit (principal, action, resource)\nwhen { context. };", 4),
            ("permit (principal, action, resource)", 1),
            ("permit (principal, action, resource) when { \"x };", 1),
            ("permit (principal == ?principal, action, resource);", 1),
        ] {
            let error = parse(Text { name: "policy.cedar", text }, false).unwrap_err();
            assert_eq!((error.file.as_str(), error.line), ("policy.cedar", line), "{text}: {error}");
        }
    }
}
