//! Rules that would let leave what was refused, as narrow as they can be: whoever reads them decides.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Answer, Egress, EgressTarget};

/// A rule that could be added, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proposal {
    /// As `[egress]` says it: `GET https://host/path`.
    pub rule: String,
    /// How often it was refused.
    pub times: u32,
    /// Whether it lets the agent say anything: with a method that does more than read, any query, or a `*`.
    pub speaks: bool,
}

/// What was learned from refusals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Rules that would let leave what was refused.
    pub proposals: Vec<Proposal>,
    /// What no rule could name without naming more: requests whose URL has a `*`, which rules take for anything.
    pub left_out: Vec<EgressTarget>,
}

/// So many names in one place are taken for any name.
const MANY: usize = 3;

/// What was asked for below one place: the next segments of the path, and whether the path may end here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    ends: bool,
    below: BTreeMap<String, Place>,
}

impl Place {
    fn add(&mut self, path: &str) {
        let mut place = self;
        for segment in path.split('/').skip(1) {
            place = place.below.entry(segment.to_owned()).or_default();
        }
        place.ends = true;
    }

    /// The narrowest patterns that name what is here.
    fn patterns(&self, before: &str) -> Vec<String> {
        let mut patterns: Vec<String> = self.ends.then(|| before.to_owned()).into_iter().collect();
        let first = self.below.values().next();
        match first {
            Some(first) if self.below.len() >= MANY && self.below.values().all(|place| place == first) => {
                patterns.extend(first.patterns(&format!("{before}/*")));
            }
            Some(_) if self.below.len() >= MANY => patterns.push(format!("{before}/**")),
            Some(_) | None => {
                for (segment, place) in &self.below {
                    patterns.extend(place.patterns(&format!("{before}/{segment}")));
                }
            }
        }
        patterns
    }
}

/// Rules for what was refused and no rule of the agent names yet. A rule that denies stays as it is. The agent chose what
/// was refused: nothing that it wrote is taken for a wildcard, or for a word of rules.
#[must_use]
pub fn propose(refused: &[EgressTarget], egress: Option<&Egress>) -> Learned {
    let named = |target: &EgressTarget| {
        egress.is_some_and(|egress| egress.rules.iter().any(|rule| rule.names(target)))
    };
    let mut places: BTreeMap<(&str, String, bool), Vec<&EgressTarget>> = BTreeMap::new();
    let mut git: BTreeMap<String, u32> = BTreeMap::new();
    let mut left_out: BTreeSet<&EgressTarget> = BTreeSet::new();
    for target in refused.iter().filter(|target| !named(target)) {
        if target.url().contains('*') || RULES_OF_GIT.contains(&target.method.as_str()) {
            left_out.insert(target);
            continue;
        }
        if let Some(rules) = of_git(target) {
            for rule in rules {
                let times = git.entry(rule).or_default();
                *times = times.saturating_add(1);
            }
            continue;
        }
        let place = (target.method.as_str(), target.site(), target.query.is_some());
        places.entry(place).or_default().push(target);
    }
    let proposal = |(rule, times): (String, u32)| {
        let speaks = rule.starts_with("PUSH");
        Proposal { rule, times, speaks }
    };
    let mut proposals: Vec<Proposal> = git.into_iter().map(proposal).collect();
    for ((method, site, asks), targets) in places {
        let mut root = Place::default();
        targets.iter().for_each(|target| root.add(&target.path));
        for path in root.patterns("") {
            proposals.push(at(&format!("{method} {site}"), &path, asks, &targets));
        }
    }
    Learned { proposals, left_out: left_out.into_iter().cloned().collect() }
}

/// Words that begin a rule about git, and are no methods of HTTP.
const RULES_OF_GIT: [&str; 2] = ["FETCH", "PUSH"];

/// The rule for those of the targets that a pattern of paths names.
fn at(before: &str, path: &str, asks: bool, targets: &[&EgressTarget]) -> Proposal {
    let pattern = format!("{before}{path}{}", if asks { "?*" } else { "" }).parse::<domain::EgressPattern>();
    let of_it =
        |target: &&&EgressTarget| pattern.as_ref().is_ok_and(|pattern| pattern.names(target, Answer::Allow));
    let mine: Vec<&&EgressTarget> = targets.iter().filter(of_it).collect();
    let queries: BTreeSet<&str> = mine.iter().filter_map(|target| target.query.as_deref()).collect();
    let mut queries = queries.into_iter();
    let query = match (queries.next(), queries.next()) {
        (None, _) => String::new(),
        (Some(one), None) if !path.contains('*') => format!("?{one}"),
        (Some(_), _) => "?*".to_owned(),
    };
    let rule = format!("{before}{path}{query}");
    let speaks = rule.contains('*') || mine.first().is_some_and(|target| !target.reads());
    Proposal { rule, times: u32::try_from(mine.len()).unwrap_or(u32::MAX), speaks }
}

/// The rules that would let git do what it tried; none if it isn't git's request. Where git was refused before it said
/// which refs it would change, they are those that are an agent's by custom.
fn of_git(target: &EgressTarget) -> Option<Vec<String>> {
    let repository = |end: &str| {
        let path = target.path.strip_suffix(end)?;
        Some(format!("{}{}", target.site(), path.strip_suffix(".git").unwrap_or(path)))
    };
    let fetch = |repository: String| vec![format!("FETCH {repository}")];
    let push = |repository: &str, name: &str| format!("PUSH {repository} {name}");
    if target.begins_git() {
        let repository = repository("/info/refs")?;
        let pushes = target.query.as_deref().is_some_and(|query| query.ends_with("receive-pack"));
        return Some(if pushes { vec![push(&repository, "refs/heads/agent/*")] } else { fetch(repository) });
    }
    if target.fetches() {
        return repository("/git-upload-pack").map(fetch);
    }
    let repository = repository("/git-receive-pack").filter(|_| target.pushes())?;
    Some(target.refs.iter().map(|name| push(&repository, name)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(refused: &[&str]) -> Vec<String> {
        let refused: Vec<EgressTarget> = refused.iter().map(|text| text.parse().unwrap()).collect();
        propose(&refused, None).proposals.into_iter().map(|proposal| proposal.rule).collect()
    }

    #[test]
    fn rules_are_as_narrow_as_what_was_refused() {
        assert_eq!(
            rules(&["GET https://pypi.org/simple/idna/", "GET https://pypi.org/simple/idna/"]),
            ["GET https://pypi.org/simple/idna/"]
        );
        assert_eq!(
            rules(&["GET https://a.example/x/1", "GET https://a.example/x/2"]),
            ["GET https://a.example/x/1", "GET https://a.example/x/2"]
        );
        assert_eq!(
            rules(&[
                "GET https://pypi.org/simple/idna/",
                "GET https://pypi.org/simple/requests/",
                "GET https://pypi.org/simple/urllib3/",
            ]),
            ["GET https://pypi.org/simple/*/"]
        );
        assert_eq!(
            rules(&["GET https://a.example/p/1", "GET https://a.example/p/2/x", "GET https://a.example/p/3"]),
            ["GET https://a.example/p/**"]
        );
        assert_eq!(
            rules(&["GET https://a.example/s?q=1", "POST https://a.example/s", "GET https://a.example/s"]),
            ["GET https://a.example/s", "GET https://a.example/s?q=1", "POST https://a.example/s"]
        );
        assert_eq!(
            rules(&["GET https://a.example/s?q=1", "GET https://a.example/s?q=2"]),
            ["GET https://a.example/s?*"]
        );
    }

    #[test]
    fn what_git_tried_is_proposed_as_rules_about_git() {
        let of = "https://g.example/acme/app";
        assert_eq!(
            rules(&[
                &format!("GET {of}.git/info/refs?service=git-upload-pack"),
                &format!("POST {of}/git-upload-pack"),
                &format!("GET {of}/info/refs?service=git-receive-pack"),
                &format!("POST {of}/git-receive-pack refs/heads/main"),
            ]),
            [
                format!("FETCH {of}"),
                format!("PUSH {of} refs/heads/agent/*"),
                format!("PUSH {of} refs/heads/main")
            ]
        );
    }

    #[test]
    fn what_a_rule_names_already_is_not_proposed() {
        let text = "name = \"a\"\nharness = { command = [\"x\"] }\n[egress]\ndeny = [\"* https://a.example/no/**\"]\n";
        let egress = domain::AgentFile::parse(text).unwrap().egress.unwrap();
        let refused = ["GET https://a.example/no/x", "PUT https://a.example/yes"].map(|t| t.parse().unwrap());
        let found = propose(&refused, Some(&egress)).proposals;
        assert_eq!(
            found,
            [Proposal { rule: "PUT https://a.example/yes".to_owned(), times: 1, speaks: true }]
        );
    }

    #[test]
    fn what_the_agent_wrote_is_no_wildcard_and_no_word_of_rules() {
        let refused: Vec<EgressTarget> = [
            "GET https://github.com/**",
            "GET https://github.com/a***b",
            "GET https://github.com/s?q=*",
            "GET https://g.example/*/app/info/refs?service=git-upload-pack",
            "FETCH https://g.example/acme/app",
            "PUSH https://g.example/acme/app",
            "GET https://github.com/a",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        let found = propose(&refused, None);
        assert_eq!(found.left_out.len(), 6, "{found:?}");
        let only = Proposal { rule: "GET https://github.com/a".to_owned(), times: 1, speaks: false };
        assert_eq!(found.proposals, [only]);
    }

    #[test]
    fn a_rule_by_which_the_agent_may_speak_says_so() {
        let speaks = |refused: &[&str]| {
            let refused: Vec<EgressTarget> = refused.iter().map(|text| text.parse().unwrap()).collect();
            propose(&refused, None).proposals.iter().any(|proposal| proposal.speaks)
        };
        let three = ["GET https://a.example/x/1", "GET https://a.example/x/2", "GET https://a.example/x/3"];
        assert!(speaks(&three), "by which of all paths it reads");
        assert!(!speaks(&three[..2]) && !speaks(&["GET https://a.example/s?q=1"]));
        assert!(speaks(&["PUT https://a.example/x"]));
        assert!(speaks(&["GET https://a.example/s?q=1", "GET https://a.example/s?q=2"]));
        assert!(speaks(&["POST https://g.example/a/git-receive-pack refs/heads/main"]));
    }

    proptest! {
        #[test]
        fn every_refused_request_is_named_by_a_proposal(
            refused in proptest::collection::vec("(GET|PUT) https://(a|b)\\.example(/[xyz*]{1,2}){1,3}/?(\\?[pq*])?", 1..12),
        ) {
            let targets: Vec<EgressTarget> = refused.iter().map(|text| text.parse().unwrap()).collect();
            let found = propose(&targets, None);
            let patterns: Vec<domain::EgressPattern> =
                found.proposals.iter().map(|proposal| proposal.rule.parse().unwrap()).collect();
            for target in &targets {
                let named = patterns.iter().any(|pattern| pattern.names(target, Answer::Allow));
                let left_out = found.left_out.contains(target);
                prop_assert_eq!(left_out, target.url().contains('*'), "{}", target);
                prop_assert!(left_out || named, "{}", target);
            }
            for Proposal { rule, speaks, .. } in &found.proposals {
                prop_assert!(*speaks || (rule.starts_with("GET ") && !rule.contains('*')), "{}", rule);
                prop_assert!(targets.len() >= MANY || !rule.trim_end_matches("?*").contains('*'), "{}", rule);
            }
        }
    }
}
