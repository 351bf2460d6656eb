//! What the npm registry says of a package: its versions, what each needs, and the digest that pins it. All of it is an
//! outsider's word, and only what is understood is taken.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodejs_semver::{Range, Version};
use serde::Deserialize;
use serde_json::Value;

/// Most characters in a package's name, its scope included, as npm has it.
const MAX_NAME: usize = 214;
/// Most characters in a range or tag.
const MAX_RANGE: usize = 256;

/// A package and all its versions.
#[derive(Debug, Default)]
pub(super) struct Package {
    tags: HashMap<String, String>,
    versions: BTreeMap<Version, Release>,
}

/// One version of a package.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Release {
    /// What it can't run without.
    pub(super) dependencies: BTreeMap<String, String>,
    /// What it would like to have.
    pub(super) optional_dependencies: BTreeMap<String, String>,
    /// What it expects beside it.
    pub(super) peer_dependencies: BTreeMap<String, String>,
    peer_dependencies_meta: BTreeMap<String, PeerMeta>,
    #[serde(alias = "bundledDependencies")]
    bundle_dependencies: Value,
    os: Value,
    cpu: Value,
    libc: Value,
    bin: Value,
    deprecated: Value,
    dist: Dist,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PeerMeta {
    optional: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Dist {
    integrity: String,
}

/// What one package says that it needs of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// The folder that it looks for.
    pub(super) folder: String,
    /// The package that is to be there.
    pub(super) package: String,
    /// Which versions will do: a range, or a tag.
    pub(super) range: String,
}

impl Package {
    /// Reads the registry's document. A version that can't be understood is as if it were not there.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "dist-tags", default)]
            tags: HashMap<String, String>,
            #[serde(default)]
            versions: HashMap<String, Value>,
        }
        let document: Document = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        let versions = document.versions.into_iter().filter_map(|(version, release)| {
            Some((Version::parse(version).ok()?, serde_json::from_value(release).ok()?))
        });
        Ok(Self { tags: document.tags, versions: versions.collect() })
    }

    /// The version that npm would take for a range or a tag: the newest that is tagged `latest` where it will do, else the
    /// highest, and one that is deprecated only where there is no other.
    pub(super) fn pick(&self, range: &str) -> Option<(&Version, &Release)> {
        if let Some(tagged) = self.tags.get(range) {
            return self.exact(tagged);
        }
        let range = Range::parse(range).ok()?;
        let latest = self.newest().and_then(|latest| self.exact(latest));
        if let Some((version, release)) = latest.filter(|(version, _)| range.satisfies(version))
            && !release.is_deprecated()
        {
            return Some((version, release));
        }
        let fitting = || self.versions.iter().rev().filter(|(version, _)| range.satisfies(version));
        fitting().find(|(_, release)| !release.is_deprecated()).or_else(|| fitting().next())
    }

    /// The version of exactly this number.
    pub(super) fn exact(&self, version: &str) -> Option<(&Version, &Release)> {
        self.versions.get_key_value(&Version::parse(version).ok()?)
    }

    /// What is tagged `latest`.
    pub(super) fn newest(&self) -> Option<&str> {
        self.tags.get("latest").map(String::as_str)
    }
}

impl Release {
    /// Whether it runs in a cell: Linux, x86-64, glibc.
    pub(super) fn runs_here(&self) -> bool {
        fits(&self.os, "linux") && fits(&self.cpu, "x64") && fits(&self.libc, "glibc")
    }

    /// What it needs, each with whether it can do without. What its own archive brings is not among it.
    pub(super) fn needs(&self) -> impl Iterator<Item = (&String, &String, bool)> {
        let bundled: Vec<&str> = match &self.bundle_dependencies {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::Bool(true) => self.dependencies.keys().map(String::as_str).collect(),
            Value::Null | Value::Bool(false) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Vec::new()
            }
        };
        let hard =
            self.dependencies.iter().filter(|(name, _)| !self.optional_dependencies.contains_key(*name));
        let peers = self.peer_dependencies.iter().filter(|(name, _)| {
            let known =
                self.dependencies.contains_key(*name) || self.optional_dependencies.contains_key(*name);
            let optional = self.peer_dependencies_meta.get(*name).is_some_and(|meta| meta.optional);
            !known && !optional
        });
        let hard = hard.chain(peers).map(|(name, range)| (name, range, false));
        let soft = self.optional_dependencies.iter().map(|(name, range)| (name, range, true));
        hard.chain(soft).filter(move |(name, _, _)| !bundled.contains(&name.as_str()))
    }

    /// The SHA-512 of its archive, in base64.
    pub(super) fn sha512(&self) -> Option<&str> {
        let digest =
            self.dist.integrity.split_ascii_whitespace().find_map(|one| one.strip_prefix("sha512-"))?;
        let digest = digest.split('?').next()?;
        (STANDARD.decode(digest).ok()?.len() == 64).then_some(digest)
    }

    /// Its commands: names, and the files that they run, in the package called `name`.
    pub(super) fn commands(&self, name: &str) -> Vec<(String, String)> {
        let last = name.rsplit('/').next().unwrap_or(name);
        let all: Vec<(&str, &str)> = match &self.bin {
            Value::String(file) => vec![(last, file.as_str())],
            Value::Object(files) => {
                files.iter().filter_map(|(name, file)| Some((name.as_str(), file.as_str()?))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Vec::new(),
        };
        let sound = all.into_iter().filter(|(command, file)| {
            component_is_sound(command) && file.split('/').all(|part| part != "..") && !file.is_empty()
        });
        sound.map(|(command, file)| (command.to_owned(), file.to_owned())).collect()
    }

    fn is_deprecated(&self) -> bool {
        !matches!(self.deprecated, Value::Null | Value::Bool(false))
    }
}

impl Need {
    /// Reads `"folder": "range"` of a package's description. Only what a registry answers is taken.
    pub(super) fn read(folder: &str, range: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            let text: String = format!("{folder}@{range}").chars().take(200).collect();
            Err(format!("`{text}` {why}"))
        };
        if !name_is_sound(folder) {
            return refuse("names no package of npm");
        }
        let (package, range) = match range.strip_prefix("npm:") {
            Some(alias) => match alias.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
                Some((name, range)) => (name, range),
                None => (alias, "*"),
            },
            None => (folder, range),
        };
        if !name_is_sound(package) {
            return refuse("names no package of npm");
        }
        let is_elsewhere = range.contains(['/', ':']) || range.len() > MAX_RANGE;
        if is_elsewhere {
            return refuse("is not in the registry, and nothing else is asked");
        }
        let range = if range.trim().is_empty() { "*" } else { range.trim() };
        Ok(Self { folder: folder.to_owned(), package: package.to_owned(), range: range.to_owned() })
    }

    /// Whether a version will do. A tag is met by whatever it meant when it was first looked up.
    pub(super) fn is_met_by(&self, package: &str, version: &Version) -> bool {
        package == self.package && Range::parse(&self.range).map_or(true, |range| range.satisfies(version))
    }
}

/// Whether this can be a package's name, with or without a scope. What is one can be a path below `node_modules`.
pub(super) fn name_is_sound(name: &str) -> bool {
    let (scope, bare) = match name.strip_prefix('@').map(|rest| rest.split_once('/')) {
        Some(Some((scope, bare))) => (Some(scope), bare),
        Some(None) => return false,
        None => (None, name),
    };
    name.len() <= MAX_NAME && scope.is_none_or(component_is_sound) && component_is_sound(bare)
}

fn component_is_sound(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~');
    !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.starts_with(['.', '-'])
        && text != "node_modules"
        && text.bytes().all(inner)
}

/// Whether npm's list of systems, such as `["linux", "!win32"]`, admits `ours`.
fn fits(list: &Value, ours: &str) -> bool {
    let words: Vec<&str> = match list {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let denied = words.iter().any(|word| word.strip_prefix('!') == Some(ours));
    let mut named = words.iter().filter(|word| !word.starts_with('!')).peekable();
    !denied && (named.peek().is_none() || named.any(|word| *word == ours || *word == "any"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(document: &Value) -> Package {
        Package::parse(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_version_is_picked_as_npm_does() {
        let package = package(&json!({
            "dist-tags": {"latest": "1.4.0", "next": "2.0.0-rc.1", "evil": "../x"},
            "versions": {
                "1.2.0": {}, "1.4.0": {}, "1.5.0": {}, "1.6.0": {"deprecated": "broken"}, "2.0.0-rc.1": {},
                "0.9.0": {"deprecated": "old"}, "no version": {}, "1.7.0": {"dependencies": 7},
            },
        }));
        let picked = |range: &str| package.pick(range).map(|(version, _)| version.to_string());
        for (range, version) in [
            ("^1.2.0", "1.4.0"),
            ("*", "1.4.0"),
            (">=1.5", "1.5.0"),
            ("~1.2 || ^3", "1.2.0"),
            ("1.2.x", "1.2.0"),
            ("next", "2.0.0-rc.1"),
            ("=1.6.0", "1.6.0"),
            ("<1", "0.9.0"),
            (">1.0.0 <1.4.0", "1.2.0"),
            ("1.0.0 - 1.3.0", "1.2.0"),
        ] {
            assert_eq!(picked(range).as_deref(), Some(version), "{range}");
        }
        for none in ["^2.0.0", "evil", "1.7.0", "nonsense", "3"] {
            assert_eq!(picked(none), None, "{none}");
        }
    }

    #[test]
    fn only_what_the_registry_has_is_needed() {
        let need = |folder: &str, range: &str| {
            Need::read(folder, range).map(|need| (need.package, need.range)).map_err(drop)
        };
        let ok = |package: &str, range: &str| Ok((package.to_owned(), range.to_owned()));
        assert_eq!(need("@a/b", "^1"), ok("@a/b", "^1"));
        assert_eq!(need("x-cjs", "npm:@a/x@^4.2.0"), ok("@a/x", "^4.2.0"));
        assert_eq!(need("x-cjs", "npm:x"), ok("x", "*"));
        assert_eq!(need("x", ""), ok("x", "*"));
        for (folder, range) in [
            ("x", "git+ssh://git@host/x.git"),
            ("x", "file:../x"),
            ("x", "https://evil.example/x.tgz"),
            ("x", "someone/x"),
            ("../x", "1"),
            ("@a", "1"),
            ("@a/../b", "1"),
            ("a/b", "1"),
            (".bin", "1"),
            ("node_modules", "1"),
            ("x", "npm:../y@1"),
            ("x", &"1 ".repeat(200)),
        ] {
            assert!(Need::read(folder, range).is_err(), "{folder} {range}");
        }
    }

    #[test]
    fn a_release_says_what_it_needs_and_runs() {
        let release: Release = serde_json::from_value(json!({
            "dependencies": {"a": "1", "b": "1", "inside": "1"},
            "optionalDependencies": {"b": "2"},
            "peerDependencies": {"p": "1", "q": "1"},
            "peerDependenciesMeta": {"q": {"optional": true}},
            "bundleDependencies": ["inside"],
            "bin": {"good": "./dist/x.js", "../bad": "x.js", "worse": "../../x"},
            "os": ["!win32"], "cpu": ["x64", "arm64"], "libc": ["musl"],
            "dist": {"integrity": "sha1-x sha512-AAAA"},
        }))
        .unwrap();
        let needs: Vec<(&str, bool)> = release.needs().map(|(name, _, soft)| (name.as_str(), soft)).collect();
        assert_eq!(needs, [("a", false), ("p", false), ("b", true)]);
        assert_eq!(release.commands("@s/x"), [("good".to_owned(), "./dist/x.js".to_owned())]);
        assert!(!release.runs_here(), "it wants musl");
        assert_eq!(release.sha512(), None, "that is no digest");
    }
}
