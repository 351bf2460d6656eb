//! Which packages an image needs, one version of each: the newest that fit together, found by PubGrub. Pure: what the index and
//! the wheels say is handed in, and asked for where it is missing.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::time::{Duration, Instant};

use pep440_rs::Version;
use pubgrub::{
    Dependencies, DependencyProvider, DerivationTree, External, NoSolutionError, PackageResolutionStatistics,
    PubGrubError, Ranges,
};

use super::metadata::Metadata;
use super::python::Python;
use super::release::{Project, Wheel};
use super::requirement::Name;

/// Most packages that the index is asked about, and most descriptions that are read.
const MAX_PACKAGES: usize = 2_000;
/// Most decisions in one search, which holds the depth of an explanation down.
const MAX_STEPS: u32 = 20_000;
/// How long one search may take. There are sets of needs over which no search comes to an end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of stack for a search: how it failed is a tree as deep as the search was long, and is taken down by recursion.
const STACK: usize = 64 << 20;
/// Most sentences of an explanation.
const MAX_REASONS: usize = 12;

type Versions = Ranges<Version>;

/// A package that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its name.
    pub(super) name: Name,
    /// Its version.
    pub(super) version: Version,
    /// Its wheel.
    pub(super) wheel: Wheel,
}

/// What the search has to know before it can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// What the index says of this package.
    Project(Name),
    /// What this wheel says of itself.
    Metadata(Placed),
}

/// How far a search came.
#[derive(Debug)]
pub(super) enum Step {
    /// It has to know all this.
    Ask(Vec<Question>),
    /// All that is needed, by name.
    Done(Vec<Placed>),
}

/// Grows from one package to all that it needs.
#[derive(Debug)]
pub(super) struct Resolver {
    python: Python,
    name: Name,
    version: Version,
    projects: BTreeMap<Name, Project>,
    metadata: BTreeMap<(Name, Version), Result<Metadata, String>>,
}

impl Resolver {
    /// Starts with one version of a package.
    pub(super) fn new(python: Python, name: Name, version: Version) -> Self {
        Self { python, name, version, projects: BTreeMap::new(), metadata: BTreeMap::new() }
    }

    /// Takes what the index says; an empty project where it knows none.
    pub(super) fn learn_project(&mut self, name: Name, project: Project) {
        self.projects.insert(name, project);
    }

    /// Takes what a wheel says of itself, or why it can't be used.
    pub(super) fn learn_metadata(&mut self, of: Placed, metadata: Result<Metadata, String>) {
        self.metadata.insert((of.name, of.version), metadata);
    }

    /// Searches with what is known so far. Long work: not for tasks.
    ///
    /// # Errors
    /// Why there is no such set of packages, for people.
    pub(super) fn step(&self) -> Result<Step, String> {
        let search = || self.search(Instant::now() + PATIENCE);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, search);
            let found = thread.map_err(|error| format!("no thread for the search: {error}"))?.join();
            found.unwrap_or_else(|_| Err("the search for what it needs broke off".to_owned()))
        })
    }

    fn search(&self, until: Instant) -> Result<Step, String> {
        let search = Search::new(self, until);
        let found = pubgrub::resolve(&search, Node::Package(self.name.clone()), self.version.clone());
        let questions = search.questions.into_inner();
        let known = self.projects.len().max(self.metadata.len());
        if known.saturating_add(questions.len()) > MAX_PACKAGES {
            return Err(format!("more than {MAX_PACKAGES} packages would have to be looked at"));
        }
        if !questions.is_empty() {
            return Ok(Step::Ask(questions.into_values().collect()));
        }
        match found {
            Ok(chosen) => {
                let placed = chosen.into_iter().filter_map(|(node, version)| self.placed(&node, version));
                let placed: BTreeMap<_, _> = placed.map(|placed| (placed.name.clone(), placed)).collect();
                Ok(Step::Done(placed.into_values().collect()))
            }
            Err(PubGrubError::NoSolution(why)) => Err(self.explain(&why)),
            Err(PubGrubError::ErrorInShouldCancel(why)) => Err(why.to_string()),
            Err(other) => Err(format!("what it needs was not found: {other}")),
        }
    }

    fn placed(&self, node: &Node, version: Version) -> Option<Placed> {
        let Node::Package(name) = node else { return None };
        let wheel = self.projects.get(name)?.exact(&version)?.1.clone();
        Some(Placed { name: name.clone(), version, wheel })
    }

    /// What a search came to grief over: the facts that its failure was derived from, without the derivation.
    fn explain(&self, why: &NoSolutionError<Search<'_>>) -> String {
        let (mut facts, mut open) = (BTreeSet::new(), vec![why]);
        while let Some(tree) = open.pop().filter(|_| facts.len() < MAX_REASONS) {
            match tree {
                DerivationTree::Derived(derived) => open.extend([&*derived.cause1, &*derived.cause2]),
                DerivationTree::External(fact) => facts.extend(self.sentence(fact)),
            }
        }
        format!("what it needs does not fit together: {}", facts.into_iter().collect::<Vec<_>>().join("; "))
    }

    fn sentence(&self, fact: &External<Node, Versions, String>) -> Option<String> {
        match fact {
            External::NotRoot(..) => None,
            External::FromDependencyOf(node, _, needed, _) if node.name() == needed.name() => None,
            External::FromDependencyOf(node, versions, needed, range) => {
                Some(format!("`{node}` {} needs `{needed}` {}", shown(versions), shown(range)))
            }
            External::Custom(node, versions, why) => Some(format!("`{node}` {} {why}", shown(versions))),
            External::NoVersions(node, versions) => {
                let project = self.projects.get(node.name())?;
                let why = project.why_not(|version| versions.contains(version));
                let why =
                    why.map(|(version, why)| format!(" (`{node}` {version} {why})")).unwrap_or_default();
                Some(format!("the index has no `{node}` {} that can be used{why}", shown(versions)))
            }
        }
    }
}

/// Versions for people.
fn shown(versions: &Versions) -> String {
    let text = if *versions == Ranges::full() { "of any version".to_owned() } else { versions.to_string() };
    text.chars().take(200).collect()
}

/// What is searched for: a package, or an extra of one, which needs the package itself and then some.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Node {
    Package(Name),
    Extra(Name, Name),
}

impl Node {
    fn name(&self) -> &Name {
        match self {
            Self::Package(name) | Self::Extra(name, _) => name,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(f, "{name}"),
            Self::Extra(name, extra) => write!(f, "{name}[{extra}]"),
        }
    }
}

/// One search, and what it found missing.
struct Search<'a> {
    known: &'a Resolver,
    /// Packages of which somebody named a prerelease. Whoever was looked at counts, chosen or not.
    prereleases: BTreeSet<&'a Name>,
    questions: RefCell<BTreeMap<(Name, Option<Version>), Question>>,
    steps: Cell<u32>,
    until: Instant,
}

/// Why a search can't go on.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The index has to be asked first.
    #[error("the index has to be asked")]
    Unknown,
    /// It takes too long.
    #[error("the search for what it needs takes too long")]
    TooLong,
}

impl<'a> Search<'a> {
    fn new(known: &'a Resolver, until: Instant) -> Self {
        let needs = known.metadata.values().flatten().flat_map(Metadata::needs);
        let prereleases = needs.filter(|need| need.prerelease).map(|need| &need.name).collect();
        Self { known, prereleases, questions: RefCell::default(), steps: Cell::new(0), until }
    }

    fn ask(&self, name: &Name, version: Option<&Version>, question: Question) {
        self.questions.borrow_mut().insert((name.clone(), version.cloned()), question);
    }

    /// The newest version that will do.
    fn pick(&self, name: &Name, project: &'a Project, range: &Versions) -> Option<&'a Version> {
        let has_others = project.usable.keys().any(Version::is_stable);
        let is_root = *name == self.known.name;
        let prereleases = is_root || !has_others || self.prereleases.contains(name);
        let fits = |version: &Version, wheel: &Wheel| {
            range.contains(version)
                && (prereleases || version.is_stable())
                && (!wheel.yanked || is_exactly(range, version))
        };
        project.usable.iter().rev().find(|(version, wheel)| fits(version, wheel)).map(|(version, _)| version)
    }

    /// What a version of a package, or of its extra, needs.
    fn needs(
        &self,
        node: &Node,
        version: &Version,
        metadata: &Metadata,
    ) -> Result<BTreeMap<Node, Versions>, String> {
        let mut needs = BTreeMap::new();
        let mut add = |needed: Node, range: Versions| {
            let all = needs.entry(needed).or_insert_with(Ranges::full);
            *all = all.intersection(&range);
        };
        let extra = match node {
            Node::Package(_) => None,
            Node::Extra(name, extra) => {
                add(Node::Package(name.clone()), Ranges::singleton(version.clone()));
                Some(extra)
            }
        };
        let counting = metadata.needs().iter().filter(|need| need.counts(&self.known.python, extra));
        for need in counting {
            let Some(range) = &need.versions else {
                return Err(format!(
                    "needs `{}` from elsewhere, and nothing but the index is asked",
                    need.name
                ));
            };
            let extras = need.extras.iter().map(|extra| Node::Extra(need.name.clone(), extra.clone()));
            for needed in extras.chain([Node::Package(need.name.clone())]) {
                match needed == *node {
                    true if range.contains(version) => {}
                    true => return Err("needs another version of itself".to_owned()),
                    false => add(needed, range.clone()),
                }
            }
        }
        Ok(needs)
    }
}

impl DependencyProvider for Search<'_> {
    type P = Node;
    type V = Version;
    type VS = Versions;
    type Priority = (bool, bool, u32, Reverse<Node>);
    type M = String;
    type Err = Stop;

    /// What is unknown comes last, so that all that has to be asked is asked at once; what leaves no choice comes first.
    fn prioritize(
        &self,
        node: &Node,
        range: &Versions,
        conflicts: &PackageResolutionStatistics,
    ) -> Self::Priority {
        let name = node.name();
        let known = self.known.projects.contains_key(name);
        if !known {
            self.ask(name, None, Question::Project(name.clone()));
        }
        (known, range.as_singleton().is_some(), conflicts.conflict_count(), Reverse(node.clone()))
    }

    fn choose_version(&self, node: &Node, range: &Versions) -> Result<Option<Version>, Stop> {
        let project = self.known.projects.get(node.name()).ok_or(Stop::Unknown)?;
        Ok(self.pick(node.name(), project, range).cloned())
    }

    fn get_dependencies(
        &self,
        node: &Node,
        version: &Version,
    ) -> Result<Dependencies<Node, Versions, String>, Stop> {
        let name = node.name();
        let metadata = match self.known.metadata.get(&(name.clone(), version.clone())) {
            Some(Ok(metadata)) if metadata.runs_on(&self.known.python) => metadata,
            Some(Ok(_)) => {
                return Ok(Dependencies::Unavailable("does not run on the Python of `base`".to_owned()));
            }
            Some(Err(why)) => return Ok(Dependencies::Unavailable(format!("can't be used: {why}"))),
            None => {
                // For now as if it needed nothing: the search goes on to what else has to be asked, and is done anew then.
                let placed = self.known.placed(&Node::Package(name.clone()), version.clone());
                self.ask(name, Some(version), Question::Metadata(placed.ok_or(Stop::Unknown)?));
                &Metadata::default()
            }
        };
        Ok(match self.needs(node, version, metadata) {
            Ok(needs) => Dependencies::Available(needs.into_iter().collect()),
            Err(why) => Dependencies::Unavailable(why),
        })
    }

    fn should_cancel(&self) -> Result<(), Stop> {
        self.steps.set(self.steps.get().saturating_add(1));
        if self.steps.get() > MAX_STEPS || Instant::now() > self.until { Err(Stop::TooLong) } else { Ok(()) }
    }
}

/// Whether a range is this version and no other.
fn is_exactly(range: &Versions, version: &Version) -> bool {
    let only = (Bound::Included(version), Bound::Included(version));
    range.bounding_range() == Some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A version of a package: its name, the end of its wheel's name, and what it needs.
    type Release<'a> = (&'a str, &'a str, &'a [&'a str]);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn project(releases: &[Release<'_>], of: &Name) -> Project {
        let files =
            releases.iter().filter(|(package, _, _)| *package == of.as_str()).map(|(package, end, _)| {
                let yanked = end.ends_with('!');
                let end = end.trim_end_matches('!');
                let (version, tag) = end.split_once(' ').unwrap_or((end, "py3-none-any"));
                let file = match tag {
                    "source" => format!("{package}-{version}.tar.gz"),
                    tag => format!("{package}-{version}-{tag}.whl"),
                };
                json!({"filename": file, "url": "x", "hashes": {"sha256": "0".repeat(64)}, "yanked": yanked})
            });
        let document =
            json!({"meta": {"api-version": "1.1"}, "files": files.collect::<Vec<_>>()}).to_string();
        let at = "https://index.example/x/".parse().unwrap();
        Project::parse(document.as_bytes(), of, &at, &Python::debian_12()).unwrap()
    }

    fn metadata(releases: &[Release<'_>], of: &Placed) -> Result<Metadata, String> {
        let version = of.version.to_string();
        let is_it = |(package, end, _): &&Release<'_>| {
            *package == of.name.as_str() && end.trim_end_matches('!').split(' ').next() == Some(&version)
        };
        let (_, _, needs) = releases.iter().find(is_it).unwrap();
        let lines: Vec<String> = needs
            .iter()
            .map(|need| match need.strip_prefix("python ") {
                Some(python) => format!("Requires-Python: {python}"),
                None => format!("Requires-Dist: {need}"),
            })
            .collect();
        let text = format!("Name: {}\nVersion: {version}\n{}\n", of.name, lines.join("\n"));
        Metadata::parse(text.as_bytes(), &of.name, &of.version)
    }

    /// All that `a` 1 needs, and how often had to be asked for it.
    fn resolve(releases: &[Release<'_>]) -> Result<(Vec<String>, usize), String> {
        let mut resolver = Resolver::new(Python::debian_12(), name("a"), "1".parse().unwrap());
        for round in 0.. {
            match resolver.step()? {
                Step::Done(placed) => {
                    let shown = placed.iter().map(|placed| format!("{} {}", placed.name, placed.version));
                    return Ok((shown.collect(), round));
                }
                Step::Ask(questions) => {
                    for question in questions {
                        match question {
                            Question::Project(of) => {
                                resolver.learn_project(of.clone(), project(releases, &of))
                            }
                            Question::Metadata(of) => {
                                resolver.learn_metadata(of.clone(), metadata(releases, &of));
                            }
                        }
                    }
                }
            }
        }
        unreachable!()
    }

    /// Releases, and what is chosen of them or said.
    type Table<'a> = &'a [(&'a [Release<'a>], &'a [&'a str])];

    fn check(table: Table<'_>) {
        for (releases, expected) in table {
            let (placed, rounds) = resolve(releases).unwrap_or_else(|why| panic!("{releases:?}: {why}"));
            assert_eq!(placed, *expected, "{releases:?}");
            assert!(rounds < 12, "{rounds} rounds for {releases:?}");
        }
    }

    #[test]
    fn the_newest_that_fit_together_are_chosen() {
        check(&[
            // The newest that will do, whoever else wants less.
            (
                &[
                    ("a", "1", &["b", "c<2"]),
                    ("b", "1", &["c>=1"]),
                    ("b", "1.5", &["c>=1"]),
                    ("c", "1.9", &[]),
                    ("c", "2", &[]),
                ],
                &["a 1", "b 1.5", "c 1.9"],
            ),
            // An older one, where the newest contradicts what is needed anyway.
            (
                &[
                    ("a", "1", &["b", "c<2"]),
                    ("b", "1", &[]),
                    ("b", "2", &["c>=2"]),
                    ("c", "1", &[]),
                    ("c", "2", &[]),
                ],
                &["a 1", "b 1", "c 1"],
            ),
            // Circles are no matter.
            (&[("a", "1", &["b"]), ("b", "1", &["a"])], &["a 1", "b 1"]),
        ]);
    }

    #[test]
    fn extras_markers_prereleases_and_what_was_taken_back_count_as_pip_says() {
        check(&[
            // Extras bring what they say, also through others and of oneself.
            (
                &[
                    ("a", "1", &["b[x]", "a[self]", "e; extra == 'self'", "never; extra == 'other'"]),
                    ("b", "1", &["c; extra == 'x'", "b[y]; extra == 'x'", "d; extra == 'y'"]),
                    ("c", "1", &[]),
                    ("d", "1", &[]),
                    ("e", "1", &[]),
                ],
                &["a 1", "b 1", "c 1", "d 1", "e 1"],
            ),
            // Markers are those of the base.
            (
                &[("a", "1", &["b; sys_platform == 'win32'", "c; python_version < '3.12'"]), ("c", "1", &[])],
                &["a 1", "c 1"],
            ),
            // Prereleases only where somebody names one, or where there is nothing else.
            (
                &[
                    ("a", "1", &["b", "c>=2b1", "d"]),
                    ("b", "1", &[]),
                    ("b", "2rc1", &[]),
                    ("c", "2b2", &[]),
                    ("c", "1", &[]),
                    ("d", "1a1", &[]),
                ],
                &["a 1", "b 1", "c 2b2", "d 1a1"],
            ),
            // What was taken back, only for who asks for exactly that.
            (
                &[
                    ("a", "1", &["b", "c==2"]),
                    ("b", "1", &[]),
                    ("b", "2!", &[]),
                    ("c", "1", &[]),
                    ("c", "2!", &[]),
                ],
                &["a 1", "b 1", "c 2"],
            ),
            // What has no wheel for this system, wants another Python, or can't be understood is passed over.
            (
                &[
                    ("a", "1", &["b", "c", "d", "e"]),
                    ("b", "1", &[]),
                    ("b", "2 cp312-cp312-linux_x86_64", &[]),
                    ("c", "1", &[]),
                    ("c", "2", &["python >=3.12"]),
                    ("d", "1", &[]),
                    ("d", "2", &["x @ https://evil.example/x.whl"]),
                    ("e", "1", &[]),
                    ("e", "2", &["what is this"]),
                ],
                &["a 1", "b 1", "c 1", "d 1", "e 1"],
            ),
        ]);
    }

    #[test]
    fn what_can_not_be_had_is_told_with_its_reason() {
        let table: Table<'_> = &[
            (
                &[("a", "1", &["b>=2"]), ("b", "1", &[])],
                &["`a` 1 needs `b` >=2", "the index has no `b` >=2 that can be used"],
            ),
            (&[("a", "1", &["gone"])], &["the index has no `gone` of any version that can be used"]),
            (
                &[("a", "1", &["b"]), ("b", "1 source", &[])],
                &["`b` 1 has no wheel, and nothing is built of sources"],
            ),
            (
                &[("a", "1", &["b"]), ("b", "1 cp312-cp312-linux_x86_64", &[])],
                &["`b` 1 has no wheel for this Python"],
            ),
            (&[("a", "1", &["x @ https://evil.example/x.whl"])], &["`a` 1 needs `x` from elsewhere"]),
            (&[("a", "1", &["a==2"]), ("a", "2", &[])], &["`a` 1 needs another version of itself"]),
            (&[("a", "1", &["python <3"])], &["`a` 1 does not run on the Python of `base`"]),
            (
                &[
                    ("a", "1", &["b", "c"]),
                    ("b", "1", &["d<2"]),
                    ("c", "1", &["d>=2"]),
                    ("d", "1", &[]),
                    ("d", "2", &[]),
                ],
                &["`b` 1 needs `d` <2", "`c` 1 needs `d` >=2"],
            ),
        ];
        for (releases, reasons) in table {
            let told = resolve(releases).unwrap_err();
            for reason in *reasons {
                assert!(told.contains(reason), "{reason}: {told}");
            }
        }
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let names: Vec<String> = (0..=MAX_PACKAGES).map(|n| format!("p{n}")).collect();
        let needs: Vec<&str> = names.iter().map(String::as_str).collect();
        let told = resolve(&[("a", "1", needs.as_slice())]).unwrap_err();
        assert!(told.contains("more than 2000 packages"), "{told}");

        // No two of these fit together, which takes longer to find out than anybody has.
        let numbers = || (1..=12_u32).map(|n| n.to_string());
        let pairs: Vec<(String, String, Vec<String>)> = (0..13)
            .flat_map(|hole| {
                numbers().map(move |number| {
                    let others = (0..13).filter(move |other| *other != hole);
                    let needs = others.map(|other| format!("h{other}!={number}")).collect();
                    (format!("h{hole}"), number.clone(), needs)
                })
            })
            .collect();
        let needs: Vec<Vec<&str>> =
            pairs.iter().map(|(_, _, needs)| needs.iter().map(String::as_str).collect()).collect();
        let all: Vec<String> = (0..13).map(|hole| format!("h{hole}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut releases: Vec<Release<'_>> = vec![("a", "1", &all)];
        releases.extend(
            pairs
                .iter()
                .zip(&needs)
                .map(|((package, number, _), needs)| (package.as_str(), number.as_str(), needs.as_slice())),
        );
        let mut resolver = Resolver::new(Python::debian_12(), name("a"), "1".parse().unwrap());
        for package in all.iter().chain(&["a"]) {
            resolver.learn_project(name(package), project(&releases, &name(package)));
        }
        for (package, version, _) in &releases {
            let placed = resolver.placed(&Node::Package(name(package)), version.parse().unwrap()).unwrap();
            resolver.learn_metadata(placed.clone(), metadata(&releases, &placed));
        }
        let told = resolver.search(Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert!(told.contains("takes too long"), "{told}");
    }
}
