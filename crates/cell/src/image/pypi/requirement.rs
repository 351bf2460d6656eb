//! What one package says that it needs of another (PEP 508): a name, extras, versions, and a marker that says where it counts.
//! All of it is an outsider's word.

use std::fmt;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};
use pubgrub::Ranges;

use super::python::{Python, Variable};

/// Most characters in a package's name.
const MAX_NAME: usize = 214;
/// Most characters in one requirement.
const MAX_REQUIREMENT: usize = 4096;
/// Most parentheses of a marker in each other.
const MAX_DEPTH: u32 = 32;
/// Most digits of a number in a version: what can be counted on from.
const MAX_DIGITS: usize = 18;

/// The name of a package or an extra in its one form (PEP 503): lower case, words joined by `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(String);

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    /// The package.
    pub(super) name: Name,
    /// Which extras of it.
    pub(super) extras: Vec<Name>,
    /// Which versions will do; `None` where it is to come from elsewhere than the index.
    pub(super) versions: Option<Ranges<Version>>,
    /// Whether a version that it names is a prerelease.
    pub(super) prerelease: bool,
    marker: Option<Marker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Marker {
    Any(Vec<Marker>),
    All(Vec<Marker>),
    Test(Value, String, Value),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Variable(Variable),
    Extra,
}

impl Name {
    /// Reads a name in any of its forms.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let bytes = text.as_bytes();
        let sound = outer(bytes.first()) && outer(bytes.last()) && text.len() <= MAX_NAME;
        if !sound || !text.bytes().all(inner) {
            return None;
        }
        let words = text.split(['.', '_', '-']).filter(|word| !word.is_empty());
        Some(Self(words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")))
    }

    /// The name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Requirement {
    /// Reads a requirement.
    ///
    /// # Errors
    /// Why it can't be understood, for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            let shown: String = text.chars().take(200).collect();
            format!("`{}` can't be understood", shown.escape_debug())
        })
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_REQUIREMENT {
            return None;
        }
        let text = text.trim();
        let end =
            text.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        let (extras, rest) = match rest.trim_start().strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => ("", rest),
        };
        let extras = extras.split(',').map(str::trim).filter(|extra| !extra.is_empty());
        let extras = extras.map(Name::parse).collect::<Option<Vec<Name>>>()?;
        let rest = rest.trim_start();
        let is_elsewhere = rest.starts_with('@');
        // An address may hold a `;` itself.
        let (versions, marker) = if is_elsewhere {
            rest.split_once(" ;").map_or((rest, None), |(at, marker)| (at, Some(marker)))
        } else {
            rest.split_once(';').map_or((rest, None), |(versions, marker)| (versions, Some(marker)))
        };
        let marker = marker.map(|marker| Parser::new(marker).whole()).map_or(Some(None), |m| m.map(Some))?;
        let name = Name::parse(name)?;
        if is_elsewhere {
            return Some(Self { name, extras, versions: None, prerelease: false, marker });
        }
        let versions = versions.trim();
        let versions = versions.strip_prefix('(').map_or(Some(versions), |inner| inner.strip_suffix(')'))?;
        let specifiers = specifiers(versions)?;
        let named = specifiers.iter().any(|one| one.any_prerelease() && one.operator().to_string() != "!=");
        Some(Self { name, extras, versions: Some(specifiers.into()), prerelease: named, marker })
    }

    /// Whether it counts on this Python, for the package itself or for one of its extras.
    pub(super) fn counts(&self, python: &Python, extra: Option<&Name>) -> bool {
        self.marker.as_ref().is_none_or(|marker| marker.holds(python, extra))
    }
}

/// Reads a list of conditions on a version, such as `>=1.2,<2`.
pub(super) fn specifiers(text: &str) -> Option<VersionSpecifiers> {
    let longest = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    if text.len() > MAX_REQUIREMENT || longest > Some(MAX_DIGITS) {
        return None;
    }
    // A trailing comma is common, and means nothing.
    text.trim().trim_end_matches(',').parse().ok()
}

impl Marker {
    fn holds(&self, python: &Python, extra: Option<&Name>) -> bool {
        match self {
            Self::Any(all) => all.iter().any(|one| one.holds(python, extra)),
            Self::All(all) => all.iter().all(|one| one.holds(python, extra)),
            Self::Test(left, operator, right) => {
                let (Some(left_text), Some(right_text)) = (left.of(python), right.of(python)) else {
                    return is_extra(left, right, extra) == (operator != "!=");
                };
                compare(&left_text, operator, &right_text)
            }
        }
    }
}

impl Value {
    /// Its text on this Python; `None` for the extra, which is compared as a name.
    fn of(&self, python: &Python) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Variable(variable) => Some(python.value(*variable)),
            Self::Extra => None,
        }
    }
}

/// Whether the extra that is asked for is the one that a test names.
fn is_extra(left: &Value, right: &Value, asked: Option<&Name>) -> bool {
    let named = [left, right].into_iter().find_map(|value| match value {
        Value::Text(text) => Name::parse(text),
        Value::Variable(_) | Value::Extra => None,
    });
    asked.is_some() && named.as_ref() == asked
}

/// Compares as versions where both are, else as texts.
fn compare(left: &str, operator: &str, right: &str) -> bool {
    let specifier = specifiers(&format!("{operator}{right}"));
    let specifier: Option<VersionSpecifier> = specifier.and_then(|all| all.iter().next().cloned());
    if let (Some(specifier), Ok(version)) = (specifier, left.parse::<Version>()) {
        return specifier.contains(&version);
    }
    match operator {
        "==" | "===" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        "in" => right.contains(left),
        "not in" => !right.contains(left),
        _ => false,
    }
}

/// Reads a marker from its start to its end.
struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, depth: 0 }
    }

    fn whole(mut self) -> Option<Marker> {
        let marker = self.any()?;
        self.rest.trim().is_empty().then_some(marker)
    }

    fn any(&mut self) -> Option<Marker> {
        let mut all = vec![self.all()?];
        while self.takes_word("or") {
            all.push(self.all()?);
        }
        Some(Marker::Any(all))
    }

    fn all(&mut self) -> Option<Marker> {
        let mut all = vec![self.one()?];
        while self.takes_word("and") {
            all.push(self.one()?);
        }
        Some(Marker::All(all))
    }

    fn one(&mut self) -> Option<Marker> {
        if !self.takes("(") {
            let (left, operator, right) = (self.value()?, self.operator()?, self.value()?);
            return Some(Marker::Test(left, operator, right));
        }
        self.depth = self.depth.checked_add(1).filter(|depth| *depth <= MAX_DEPTH)?;
        let inner = self.any()?;
        self.depth = self.depth.saturating_sub(1);
        self.takes(")").then_some(inner)
    }

    fn value(&mut self) -> Option<Value> {
        self.rest = self.rest.trim_start();
        for quote in ['"', '\''] {
            if let Some(inner) = self.rest.strip_prefix(quote) {
                let (text, rest) = inner.split_once(quote)?;
                self.rest = rest;
                return Some(Value::Text(text.to_owned()));
            }
        }
        let name = self.word();
        self.rest = self.rest.get(name.len()..)?;
        if name == "extra" {
            return Some(Value::Extra);
        }
        Variable::named(name).map(Value::Variable)
    }

    fn operator(&mut self) -> Option<String> {
        if self.takes_word("not") {
            return self.takes_word("in").then(|| "not in".to_owned());
        }
        if self.takes_word("in") {
            return Some("in".to_owned());
        }
        // The longest first.
        ["===", "<=", "!=", "==", ">=", "~=", "<", ">"]
            .into_iter()
            .find(|operator| self.takes(operator))
            .map(str::to_owned)
    }

    fn word(&self) -> &'a str {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
        self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default()
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.word() == word && self.takes(word)
    }

    fn takes(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(marker: &str, extra: Option<&str>) -> bool {
        let requirement = Requirement::parse(&format!("x ; {marker}")).unwrap();
        requirement.counts(&Python::debian_12(), extra.and_then(Name::parse).as_ref())
    }

    #[test]
    fn names_have_one_form() {
        for (text, name) in
            [("Foo", "foo"), ("a.B_-c", "a-b-c"), ("x9", "x9"), ("ruamel.yaml", "ruamel-yaml")]
        {
            assert_eq!(Name::parse(text).unwrap().as_str(), name);
        }
        for bad in ["", "-a", "a-", "a b", "../x", "é", "a/b", &"a".repeat(215)] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn markers_count_as_pip_says() {
        for (marker, expected) in [
            ("python_version >= '3.10'", true),
            ("python_version<'3.9'", false),
            ("python_full_version < \"3.11.3\"", true),
            ("python_version == '3.11'", true),
            ("python_version == '3.*'", true),
            ("python_version ~= '3.11'", true),
            ("python_version not in '2.7 3.6'", true),
            ("'3.12' <= python_version", false),
            ("sys_platform == 'win32'", false),
            ("sys_platform != 'win32' and platform_machine == 'x86_64'", true),
            ("os_name=='nt' or (implementation_name=='cpython' and platform_system=='Linux')", true),
            ("platform_python_implementation == 'PyPy'", false),
            ("'linux' in sys_platform", true),
            ("platform_release >= '5.0'", false),
            ("extra == 'dev'", false),
            ("extra != 'dev'", true),
            ("python_version > '3' and (extra == 'a' or extra == 'Dev_Tools')", false),
        ] {
            assert_eq!(counts(marker, None), expected, "{marker}");
        }
        assert!(counts("python_version > '3' and (extra == 'a' or extra == 'Dev_Tools')", Some("dev-tools")));
        assert!(!counts("extra == 'dev'", Some("docs")));
    }

    #[test]
    fn requirements_are_read_as_pip_does() {
        let read = |text: &str| Requirement::parse(text).unwrap();
        let version = |text: &str| text.parse::<Version>().unwrap();
        let one = read("Requests[Security, socks] (>=2.8.1,<3,) ; python_version > '3'");
        assert_eq!(one.name.as_str(), "requests");
        assert_eq!(one.extras.iter().map(Name::as_str).collect::<Vec<_>>(), ["security", "socks"]);
        let versions = one.versions.unwrap();
        assert!(versions.contains(&version("2.9")) && !versions.contains(&version("3.0")));
        assert!(!one.prerelease && read("x>=2.0rc1").prerelease && !read("x!=2.0rc1").prerelease);
        for any in ["x", "x ", "x[]", "x;os_name=='posix'"] {
            assert!(read(any).versions.unwrap().contains(&version("1")), "{any}");
        }
        for elsewhere in ["x @ https://evil.example/x.whl", "x@file:///etc/passwd ; os_name == 'nt'"] {
            assert_eq!(read(elsewhere).versions, None);
        }
        let deep = format!("x;{}os_name=='posix'{}", "(".repeat(40), ")".repeat(40));
        for bad in [
            "",
            "-e .",
            "x y",
            "x>=",
            "x>1;",
            "x;nonsense == '1'",
            "x;os_name",
            "x; os_name == 'posix' posix",
            "x[a",
            "https://evil.example/x.whl",
            "x>=1.99999999999999999999",
            "x~=1",
            &deep,
            &"x".repeat(5000),
        ] {
            assert!(Requirement::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_fail_badly(
            text in "[a-z]{1,3}(\\[[a-z,]{0,4}\\])? ?(([<>=!~]{1,3}[0-9.*abrcdev+]{0,9},?){0,3}|@ .{0,9})(;.{0,30})?"
        ) {
            if let Ok(requirement) = Requirement::parse(&text) {
                requirement.counts(&Python::debian_12(), Some(&requirement.name));
            }
        }
    }
}
