//! What the index says of a package (PEP 691): its versions, the wheel of each that fits `base` best, and the digest that pins
//! it. All of it is an outsider's word, and only what is understood is taken.

use std::collections::{BTreeMap, HashMap, HashSet};

use pep440_rs::Version;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::super::digest::Digest;
use super::python::Python;
use super::requirement::{Name, specifiers};
use super::tags::{Fit, WheelName};

const ONLY_SOURCE: &str = "has no wheel, and nothing is built of sources, whose scripts would run";

/// A package and all its versions.
#[derive(Debug, Default)]
pub(super) struct Project {
    /// Those that can be had, each with its best wheel.
    pub(super) usable: BTreeMap<Version, Wheel>,
    /// Those that can't, and why.
    unusable: BTreeMap<Version, &'static str>,
}

/// The wheel of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wheel {
    /// Where it is.
    pub(super) url: Url,
    /// What pins it.
    pub(super) digest: Digest,
    /// What pins its description, where that can be asked for by itself.
    pub(super) metadata: Option<Digest>,
    /// Whether it was taken back: it is only for who asks for exactly this version.
    pub(super) yanked: bool,
    fit: Fit,
}

#[derive(Deserialize)]
struct Document {
    meta: Meta,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "api-version")]
    api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: HashMap<String, String>,
    requires_python: Option<String>,
    #[serde(default)]
    yanked: Value,
    #[serde(default)]
    core_metadata: Value,
}

impl Project {
    /// Reads the index's document about `name`, which came from `at`.
    ///
    /// # Errors
    /// Why it can't be used, for people.
    pub(super) fn parse(document: &[u8], name: &Name, at: &Url, python: &Python) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        if !document.meta.api_version.starts_with("1.") {
            return Err("the index speaks another version of its language (PEP 691) than 1".to_owned());
        }
        let mut project = Self::default();
        let mut names = HashSet::new();
        for file in &document.files {
            if !names.insert(&file.filename) {
                let shown: String = file.filename.chars().take(200).collect();
                return Err(format!("the index has two files `{}`", shown.escape_debug()));
            }
            let Some(wheel) = WheelName::parse(&file.filename).filter(|wheel| wheel.package == *name) else {
                if let Some(version) = version_of_source(&file.filename) {
                    project.unusable.entry(version).or_insert(ONLY_SOURCE);
                }
                continue;
            };
            match file.wheel(&wheel, at, python) {
                Ok(found) => project.add(wheel.version, found),
                Err(why) => drop(project.unusable.insert(wheel.version, why)),
            }
        }
        project.unusable.retain(|version, _| !project.usable.contains_key(version));
        Ok(project)
    }

    /// The version of exactly this number.
    pub(super) fn exact(&self, version: &Version) -> Option<(&Version, &Wheel)> {
        self.usable.get_key_value(version)
    }

    /// The newest that is neither a prerelease nor taken back, else the newest.
    pub(super) fn newest(&self) -> Option<&Version> {
        let settled = self.usable.iter().rev().find(|(version, wheel)| version.is_stable() && !wheel.yanked);
        settled.or_else(|| self.usable.iter().next_back()).map(|(version, _)| version)
    }

    /// Why the newest that can't be had of these versions can't.
    pub(super) fn why_not(
        &self,
        mut among: impl FnMut(&Version) -> bool,
    ) -> Option<(&Version, &'static str)> {
        self.unusable.iter().rev().find(|(version, _)| among(version)).map(|(version, why)| (version, *why))
    }

    fn add(&mut self, version: Version, wheel: Wheel) {
        let better =
            self.usable.get(&version).is_none_or(|old| (wheel.fit, &old.url) > (old.fit, &wheel.url));
        if better {
            self.usable.insert(version, wheel);
        }
    }
}

impl File {
    fn wheel(&self, name: &WheelName, at: &Url, python: &Python) -> Result<Wheel, &'static str> {
        let fit = name
            .fit(python)
            .ok_or("has no wheel for this Python, 64-bit Linux and the C library of `base`")?;
        let runs = |text: &String| specifiers(text).is_some_and(|versions| versions.contains(&python.full));
        if !self.requires_python.as_ref().is_none_or(runs) {
            return Err("does not run on the Python of `base`");
        }
        let digest = self.hashes.get("sha256").map(String::as_str).and_then(digest_of);
        let digest = digest.ok_or("has no SHA-256 in the index, so nobody can tell what it is")?;
        let url = at.join(&self.url).map_err(|_| "has no address in the index")?;
        let metadata = self.core_metadata.get("sha256").and_then(Value::as_str).and_then(digest_of);
        let yanked = !matches!(self.yanked, Value::Null | Value::Bool(false));
        Ok(Wheel { url, digest, metadata, yanked, fit })
    }
}

/// The version in the name of an archive of sources, which is told to people.
fn version_of_source(file: &str) -> Option<Version> {
    let stem = [".tar.gz", ".zip"].iter().find_map(|end| file.strip_suffix(end))?;
    stem.rsplit_once('-')?.1.parse().ok()
}

fn digest_of(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn parse(document: &Value) -> Result<Project, String> {
        let (name, at) = (Name::parse("x").unwrap(), "https://index.example/simple/x/".parse().unwrap());
        Project::parse(document.to_string().as_bytes(), &name, &at, &Python::debian_12())
    }

    fn file(name: &str) -> Value {
        json!({"filename": name, "url": format!("../../files/{name}"), "hashes": {"sha256": HEX}})
    }

    fn with(name: &str, key: &str, value: Value) -> Value {
        let mut file = file(name);
        file[key] = value;
        file
    }

    #[test]
    fn each_version_has_its_best_wheel_or_a_reason() {
        let project = parse(&json!({
            "meta": {"api-version": "1.4"},
            "files": [
                file("x-1.0-py3-none-any.whl"),
                file("x-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"),
                file("x-1.0.tar.gz"),
                file("x-1.1.tar.gz"),
                file("x-1.2.tar.gz"),
                file("x-1.2-cp312-cp312-manylinux_2_17_x86_64.whl"),
                with("x-1.3-py3-none-any.whl", "requires-python", json!(">=3.12")),
                with("x-1.4-py3-none-any.whl", "hashes", json!({"md5": HEX})),
                with("x-1.5-py3-none-any.whl", "hashes", json!({"sha256": "AA"})),
                with("x-0.9-py3-none-any.whl", "yanked", json!("broken")),
                with("x-0.8-py3-none-any.whl", "core-metadata", json!({"sha256": HEX})),
                with("x-0.7-py3-none-any.whl", "core-metadata", json!(true)),
                file("other-9.9-py3-none-any.whl"),
            ],
        }))
        .unwrap();
        let usable: Vec<String> = project.usable.keys().map(Version::to_string).collect();
        assert_eq!(usable, ["0.7", "0.8", "0.9", "1.0"]);
        let of = |version: &str| project.exact(&version.parse().unwrap()).unwrap().1;
        assert_eq!(
            of("1.0.0").url.as_str(),
            "https://index.example/files/x-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
        );
        assert!(of("0.9").yanked && !of("1.0").yanked);
        assert!(of("0.8").metadata.is_some() && of("0.7").metadata.is_none());
        assert_eq!(project.newest().unwrap().to_string(), "1.0");
        for (version, why) in [
            ("1.1", "nothing is built of sources"),
            ("1.2", "no wheel for this Python"),
            ("1.3", "does not run on the Python"),
            ("1.4", "has no SHA-256"),
            ("1.5", "has no SHA-256"),
        ] {
            let version: Version = version.parse().unwrap();
            let told = project.why_not(|other| *other == version).unwrap().1;
            assert!(told.contains(why), "{version}: {told}");
        }
    }

    #[test]
    fn documents_that_contradict_themselves_are_refused() {
        let twice = [file("x-1.0-py3-none-any.whl"), file("x-1.0-py3-none-any.whl")];
        let meta = json!({"api-version": "1.0"});
        for (document, why) in [
            (json!({"meta": meta, "files": twice}), "two files"),
            (json!({"meta": {"api-version": "2.0"}, "files": []}), "another version"),
            (json!({"files": []}), "meta"),
            (json!({"meta": meta, "files": [{"filename": 7, "url": ""}]}), "invalid type"),
            (json!("<html>"), "invalid type"),
        ] {
            let told = parse(&document).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
