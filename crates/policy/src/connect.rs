//! Requests that leave a cell: what is decided on, what policies see of it, and what it does.

use std::collections::BTreeSet;

use cedar_policy::RestrictedExpression;
use domain::{
    Answer, Confidentiality, Digest, Effect, Effects, EgressRule, EgressTarget, Integrity, Labels, Origin,
};

use crate::agent::AgentPolicy;
use crate::canonical::digest_of;
use crate::decide::sealed::{Prepare, Prepared};
use crate::decide::{Act, Call, Counts, Decision, Reason, counts, decide, labels, set};
use crate::explain::Explanation;
use crate::origins::{Judged, Role};
use crate::table::Kind;

/// A request that is to leave: what is decided on, and what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Where it goes, and how.
    pub target: EgressTarget,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What it pushes, if it is a `git push`: the start of its body.
    pub push: Option<Push>,
    /// Its body, or the rest of it.
    pub body: Body,
}

/// What a `git push` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Each change of a ref, for people.
    pub changes: Vec<String>,
    /// Whether it deletes a ref.
    pub deletes: bool,
    /// The bytes that say so to the server.
    pub bytes: Vec<u8>,
}

/// The body of a request that is to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// At most so many bytes, which nobody has seen yet.
    Upto(u64),
    /// Exactly these bytes.
    Whole(Vec<u8>),
}

/// What the gateway knows of a request that is to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectFacts {
    /// The session's labels.
    pub labels: Labels,
    /// Where its URL came from.
    pub origin: Origin,
    /// Whether the host is the organisation's own.
    pub own: bool,
    /// How often the agent asked this host for something.
    pub calls: Counts,
}

/// Most bytes of a `git fetch` that only says what it wants and has. Commits by the thousand, or what is made to look like
/// them, tell the host something.
const NEGOTIATION: u64 = 16 << 10;

/// Headers that carry nothing of an agent's, with their only value.
pub const PLAIN_HEADERS: [(&str, &str); 2] = [("accept", "*/*"), ("user-agent", "lazaret")];

impl Act for Connect {}

impl Connect {
    /// A request as a person tells of one: without headers, and of a push with its refs alone.
    #[must_use]
    pub fn told(target: EgressTarget, body: Body) -> Self {
        let changes = target.refs.clone();
        let push = target.pushes().then(|| Push { changes, deletes: false, bytes: Vec::new() });
        Self { target, headers: Vec::new(), push, body }
    }

    /// The same without what an agent could say in it beside its URL, if nothing else than its headers says it.
    #[must_use]
    pub fn plain(self) -> Self {
        let headers = PLAIN_HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { headers, ..self }
    }

    /// Whether it says anything of the agent's beside its URL.
    fn says_more(&self) -> bool {
        !self.is_plain() || self.body != Body::None
    }

    /// Most bytes that its body may have.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        match &self.body {
            Body::None => 0,
            Body::Upto(bytes) => *bytes,
            Body::Whole(bytes) => bytes.len() as u64,
        }
    }

    /// Whether its headers say nothing of the agent's.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.headers.iter().all(|(name, value)| PLAIN_HEADERS.contains(&(name.as_str(), value.as_str())))
    }

    /// What it does. A push can be undone by another one, unless it deletes.
    #[must_use]
    pub fn effects(&self, own: bool) -> Effects {
        let fetches = self.target.fetches();
        let does = !self.target.reads() || (self.body != Body::None && !fetches);
        let asks = self.target.query.is_some() && !self.target.begins_git();
        let tells = fetches && self.most_bytes() > NEGOTIATION;
        let done = match &self.push {
            Some(Push { deletes: false, .. }) => Effect::Write,
            Some(Push { deletes: true, .. }) | None => Effect::Irreversible,
        };
        let mut effects = vec![Effect::Read];
        effects.extend(does.then_some(done));
        effects.extend(((does || asks || tells) && !own).then_some(Effect::Communicate));
        Effects::of(&effects).unwrap_or(Effects::UNKNOWN)
    }

    /// The same by the rules that are about it. A push may make something run, such as the host's tests: nobody here can see
    /// what a pack changes. Only a rule that allows all of it, and says that nothing runs there, makes it one that doesn't.
    fn effects_by(&self, rules: &[&EgressRule], own: bool) -> Effects {
        let said = |rule: &&EgressRule| rule.answer == Answer::Allow && rule.pattern.runs_nothing();
        let asks = rules.iter().any(|rule| rule.answer == Answer::Ask);
        let runs = self.push.is_some() && !self.target.refs.is_empty() && (asks || !rules.iter().any(said));
        let runs = runs.then(|| Effects::of(&[Effect::Execute])).flatten();
        runs.map_or(self.effects(own), |runs| self.effects(own).and(runs))
    }
}

/// Whether a session is under the rule of two: it holds confidential data and has met a stranger's text.
#[must_use]
pub fn under_rule_of_two(labels: &Labels) -> bool {
    labels.confidentiality >= Confidentiality::Confidential && labels.integrity >= Integrity::ThirdParty
}

impl Prepare for Connect {
    type Facts = ConnectFacts;

    fn prepare<'p>(&self, policy: &'p AgentPolicy, facts: &ConnectFacts) -> Result<Prepared<'p>, Reason> {
        let Some((slice, egress)) = policy.connect() else {
            let says = format!("the agent's file has no [egress], so nothing leaves: not {}", self.target);
            let (rule, file) = ("egress".to_owned(), policy.file().to_owned());
            return Err(Reason { rule, file, line: None, says });
        };
        let rules = egress.about(&self.target);
        // What a reviewed preset leaves open carries nothing away to others than its host.
        let exact = rules.iter().any(|rule| rule.pattern.is_exact() || rule.preset.is_some());
        let own_url = matches!(facts.origin, Origin::Person | Origin::Named(_));
        let effects = self.effects_by(&rules, facts.own);
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
        let truth = |name: &str, value| (name.to_owned(), RestrictedExpression::new_bool(value));
        let text =
            |name: &str, value: &str| (name.to_owned(), RestrictedExpression::new_string(value.to_owned()));
        let mut context = vec![
            labels(&facts.labels)?,
            set("effects", effects.iter().map(Effect::as_str)),
            set("rules", names.into_iter()),
            text("method", &self.target.method),
            text("host", &self.target.host),
            text("path", &self.target.path),
            ("port".to_owned(), RestrictedExpression::new_long(i64::from(self.target.port))),
            truth("secure", self.target.secure),
            truth("query", self.target.query.is_some()),
            truth("body", self.body != Body::None),
            truth("own_host", facts.own),
            truth("own_url", own_url),
            truth("says_more", self.says_more() || (!exact && !own_url)),
            truth("deletes", self.push.as_ref().is_some_and(|push| push.deletes)),
        ];
        context.extend(counts(facts.calls));
        let bound = self.bound(slice.digest);
        let name = self.target.to_string();
        Ok(Prepared {
            slice,
            host: Some(self.target.host.clone()),
            name,
            context,
            labels: facts.labels.clone(),
            effects: Some(effects),
            bound,
        })
    }

    fn bound_but_text(&self, _: &Prepared<'_>, _: &ConnectFacts) -> Option<Digest> {
        None
    }

    fn shown(&self, facts: ConnectFacts) -> Vec<Judged> {
        let judged = |place: &str, value: String, role| Judged { place: place.to_owned(), value, role };
        let mut all = vec![judged("url", self.target.url(), Role::Sensitive(Kind::Url, facts.origin))];
        let plain =
            |(name, value): &&(String, String)| !PLAIN_HEADERS.contains(&(name.as_str(), value.as_str()));
        for (name, value) in self.headers.iter().filter(plain) {
            all.push(judged(&format!("headers/{name}"), value.clone(), Role::Content(false)));
        }
        for (number, change) in self.push.iter().flat_map(|push| &push.changes).enumerate() {
            all.push(judged(&format!("push/{number}"), change.clone(), Role::Content(false)));
        }
        if let (Body::Whole(bytes), None) = (&self.body, &self.push) {
            all.push(judged("body", String::from_utf8_lossy(bytes).into_owned(), Role::Content(false)));
        }
        all
    }
}

impl Connect {
    /// The digest of every byte that is sent, as far as it is known, and of the policy.
    fn bound(&self, slice: Digest) -> Digest {
        let headers: Vec<&[u8]> =
            self.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        let most;
        let (kind, body): (&[u8], &[u8]) = match &self.body {
            Body::None => (b"none", b""),
            Body::Upto(bytes) => {
                most = bytes.to_be_bytes();
                (b"upto", &most)
            }
            Body::Whole(bytes) => (b"whole", bytes),
        };
        digest_of(&[
            b"connect",
            self.target.to_string().as_bytes(),
            digest_of(&headers).as_bytes(),
            self.push.as_ref().map_or(&[][..], |push| &push.bytes),
            kind,
            body,
            slice.as_bytes(),
        ])
    }
}

/// Explains what is decided on a request that is to leave.
#[must_use]
pub fn explain_connect(policy: &AgentPolicy, call: &Call<Connect>) -> Explanation {
    let (answer, reasons) = match decide(policy, call.clone()) {
        Decision::Allow(allowed) => (domain::Answer::Allow, allowed.reasons().to_vec()),
        Decision::Ask(question) => (domain::Answer::Ask, question.reasons().to_vec()),
        Decision::Deny(reasons) => (domain::Answer::Deny, reasons),
    };
    let url = Judged {
        place: "url".to_owned(),
        value: call.action.target.url(),
        role: Role::Sensitive(Kind::Url, call.facts.origin.clone()),
    };
    let rules = policy.connect().map(|(_, egress)| egress.about(&call.action.target)).unwrap_or_default();
    let whose = if call.facts.own {
        "the host is the organisation's own"
    } else {
        "the host is another organisation's"
    };
    Explanation {
        answer,
        reasons,
        effects: Some(call.action.effects_by(&rules, call.facts.own)),
        labels: call.facts.labels.clone(),
        arguments: vec![url],
        own: whose.to_owned(),
        call: call.action.target.to_string(),
    }
}
