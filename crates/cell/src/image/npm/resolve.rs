//! Which packages an image needs, and where each goes. As npm lays them out: at the top, and where two versions of one are
//! wanted, the second below whoever wants it. Pure: what the registry says is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use nodejs_semver::Version;

use super::package::{Need, Package};

/// Most packages in one image.
const MAX_PACKAGES: usize = 2_000;
/// Most folders `node_modules` in each other.
const MAX_NESTING: usize = 16;
/// Most needs that wait to be looked at.
const MAX_OPEN: usize = 50_000;
const FOLDER: &str = "node_modules/";

/// A package that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its name at the registry.
    pub(super) package: String,
    /// Its version.
    pub(super) version: Version,
    /// The SHA-512 of its archive, in base64.
    pub(super) sha512: String,
    /// Its commands, and the files that they run.
    pub(super) commands: Vec<(String, String)>,
}

/// Grows from one package to all that it needs.
#[derive(Debug)]
pub(super) struct Resolver {
    known: HashMap<String, Package>,
    placed: BTreeMap<String, Placed>,
    open: VecDeque<Edge>,
}

/// A need that waits.
#[derive(Debug)]
struct Edge {
    /// Where the package lies that has it; empty for the image itself.
    from: String,
    need: Need,
    /// Whether it can do without.
    optional: bool,
}

impl Resolver {
    /// Starts with one package.
    pub(super) fn new(need: Need) -> Self {
        let open = VecDeque::from([Edge { from: String::new(), need, optional: false }]);
        Self { known: HashMap::new(), placed: BTreeMap::new(), open }
    }

    /// The packages that the registry is to be asked about before [`Self::step`].
    pub(super) fn missing(&self) -> BTreeSet<String> {
        let names = self.open.iter().map(|edge| &edge.need.package);
        names.filter(|name| !self.known.contains_key(*name)).cloned().collect()
    }

    /// Takes what the registry says; an empty package where it knows none.
    pub(super) fn learn(&mut self, name: String, package: Package) {
        self.known.insert(name, package);
    }

    /// Places what is needed so far. What that needs comes next.
    ///
    /// # Errors
    /// Why it can't be done, for people.
    pub(super) fn step(&mut self) -> Result<(), String> {
        for edge in std::mem::take(&mut self.open) {
            let optional = edge.optional;
            match self.place(&edge) {
                Err(Cannot::Here(why)) if optional => {
                    tracing::debug!(why, "an optional package is left out");
                }
                Err(Cannot::Here(why) | Cannot::Anyhow(why)) => return Err(why),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Whether all that is needed has its place.
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Every package by its place.
    pub(super) fn finish(self) -> BTreeMap<String, Placed> {
        self.placed
    }

    fn place(&mut self, edge: &Edge) -> Result<(), Cannot> {
        let Edge { from, need, optional: _ } = edge;
        let here = |why: String| Err(Cannot::Here(why));
        let found = chain(from, &need.folder).find_map(|at| self.placed.get(&at));
        let at = match found {
            Some(placed) if need.is_met_by(&placed.package, &placed.version) => return Ok(()),
            // Nothing below `from` has looked anything up yet, so this hides nothing from anybody.
            Some(_) => join(from, &need.folder),
            None => join("", &need.folder),
        };
        let by = if from.is_empty() { "the image".to_owned() } else { shown(from).to_owned() };
        let what = format!("`{}@{}`, which {by} needs,", need.package, need.range);
        let Some((version, release)) =
            self.known.get(&need.package).and_then(|known| known.pick(&need.range))
        else {
            return here(format!("{what} is not in the registry"));
        };
        if !release.runs_here() {
            return here(format!("{what} does not run on 64-bit Linux"));
        }
        let Some(sha512) = release.sha512() else {
            return here(format!("{what} has no SHA-512 in the registry, so nobody can tell what it is"));
        };
        if self.placed.contains_key(&at) || at.matches(FOLDER).count() > MAX_NESTING {
            return Err(Cannot::Anyhow(format!("{what} has no place: its needs go in circles")));
        }
        if self.placed.len() >= MAX_PACKAGES || self.open.len() > MAX_OPEN {
            return Err(Cannot::Anyhow(format!("it needs more than {MAX_PACKAGES} packages")));
        }
        let mut next = Vec::new();
        for (folder, range, optional) in release.needs() {
            match Need::read(folder, range) {
                Ok(need) => next.push(Edge { from: at.clone(), need, optional }),
                Err(why) if optional => tracing::debug!(why, "an optional package is left out"),
                Err(why) => return Err(Cannot::Anyhow(format!("{what} needs {why}"))),
            }
        }
        let placed = Placed {
            package: need.package.clone(),
            version: version.clone(),
            sha512: sha512.to_owned(),
            commands: release.commands(&need.package),
        };
        self.placed.insert(at, placed);
        self.open.extend(next);
        Ok(())
    }
}

/// Why a package was not placed.
enum Cannot {
    /// It is not to be had; who can do without it does.
    Here(String),
    /// The whole can't be made.
    Anyhow(String),
}

/// Where a package at `from` looks for another, as Node does: below itself, then up to the top.
fn chain<'a>(from: &'a str, folder: &'a str) -> impl Iterator<Item = String> + 'a {
    let above = |at: &&'a str| at.rsplit_once(FOLDER).map(|(above, _)| above.trim_end_matches('/'));
    std::iter::successors(Some(from), above).map(move |at| join(at, folder))
}

fn join(from: &str, folder: &str) -> String {
    if from.is_empty() { format!("{FOLDER}{folder}") } else { format!("{from}/{FOLDER}{folder}") }
}

/// The name of what lies there.
fn shown(at: &str) -> &str {
    at.rsplit_once(FOLDER).map_or(at, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SHA512: &str =
        "sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

    /// The places of all that `a` needs, from a registry of `[name, version, release]`.
    fn resolve(registry: &[(&str, &str, Value)]) -> Result<Vec<String>, String> {
        let mut resolver = Resolver::new(Need::read("a", "*").unwrap());
        loop {
            let missing = resolver.missing();
            for name in missing {
                let of = registry.iter().filter(|(known, _, _)| *known == name);
                let versions: serde_json::Map<String, Value> = of
                    .map(|(_, version, release)| {
                        let mut release = release.clone();
                        if release.get("dist").is_none() {
                            release["dist"] = json!({"integrity": SHA512});
                        }
                        ((*version).to_owned(), release)
                    })
                    .collect();
                let document = json!({"versions": versions}).to_string();
                resolver.learn(name, Package::parse(document.as_bytes()).unwrap());
            }
            resolver.step()?;
            if resolver.is_done() {
                let placed = resolver.finish();
                return Ok(placed
                    .iter()
                    .map(|(at, p)| format!("{at} {}@{}", p.package, p.version))
                    .collect());
            }
        }
    }

    #[test]
    fn a_second_version_goes_below_whoever_wants_it() {
        let placed = resolve(&[
            ("a", "1.0.0", json!({"dependencies": {"b": "^1", "c": "^2"}})),
            ("b", "1.1.0", json!({"dependencies": {"c": "^1", "d-cjs": "npm:d@^1"}})),
            ("c", "1.0.0", json!({"dependencies": {"e": "*"}})),
            ("c", "2.3.0", json!({})),
            ("d", "1.0.0", json!({"dependencies": {"c": ">=1"}, "peerDependencies": {"e": "1"}})),
            ("e", "1.0.0", json!({"dependencies": {"a": "*"}})),
        ]);
        assert_eq!(
            placed.unwrap(),
            [
                "node_modules/a a@1.0.0",
                "node_modules/b b@1.1.0",
                "node_modules/b/node_modules/c c@1.0.0",
                "node_modules/c c@2.3.0",
                "node_modules/d-cjs d@1.0.0",
                "node_modules/e e@1.0.0",
            ]
        );
    }

    #[test]
    fn what_can_be_done_without_is_left_out_and_what_can_not_is_told() {
        let placed = resolve(&[
            (
                "a",
                "1.0.0",
                json!({"optionalDependencies": {"b": "1", "gone": "1", "x": "git://x", "w": "1", "n": "1"}}),
            ),
            ("b", "1.0.0", json!({"os": ["linux"], "cpu": ["x64"]})),
            ("w", "1.0.0", json!({"os": ["win32"]})),
            ("n", "1.0.0", json!({"dist": {"shasum": "0"}})),
        ]);
        assert_eq!(placed.unwrap(), ["node_modules/a a@1.0.0", "node_modules/b b@1.0.0"]);
        for (release, why) in [
            (json!({"dependencies": {"gone": "^3"}}), "`gone@^3`, which a needs, is not in the registry"),
            (
                json!({"dependencies": {"x": "git+https://x"}}),
                "needs `x@git+https://x` is not in the registry",
            ),
            (json!({"dependencies": {"../x": "1"}}), "names no package of npm"),
            (json!({"os": ["win32"]}), "does not run on 64-bit Linux"),
            (json!({"dist": {"shasum": "0"}}), "has no SHA-512"),
        ] {
            let told = resolve(&[("a", "1.0.0", release)]).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_goes_in_circles_or_has_no_end_is_refused() {
        let circle = resolve(&[
            ("a", "2.0.0", json!({"dependencies": {"b": "1"}})),
            ("a", "1.0.0", json!({"dependencies": {"b": "2"}})),
            ("b", "1.0.0", json!({"dependencies": {"a": "1"}})),
            ("b", "2.0.0", json!({"dependencies": {"a": "2"}})),
        ]);
        assert!(circle.unwrap_err().contains("go in circles"));
        let names: Vec<String> = (0..=MAX_PACKAGES).map(|n| format!("p{n}")).collect();
        let needs: serde_json::Map<String, Value> = names.iter().map(|n| (n.clone(), json!("*"))).collect();
        let mut registry = vec![("a", "1.0.0", json!({"dependencies": needs}))];
        registry.extend(names.iter().map(|name| (name.as_str(), "1.0.0", json!({}))));
        assert!(resolve(&registry).unwrap_err().contains("more than 2000 packages"));
    }
}
