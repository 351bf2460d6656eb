//! Decisions. One request is asked twice of Cedar: as it is, and as it would be with a person's grant. Allowed at once is
//! *allow*; allowed only with the grant is *ask*; else, and on any error, *deny*.

use std::fmt;

use cedar_policy::{Authorizer, Context, Decision as Cedar, Request, Response, RestrictedExpression};
use domain::{ApprovalId, ApprovalRule, Digest, Effect, Effects, Labels, ModelName, Origin, ToolRef};
use serde_json::Value;

use crate::Arguments;
use crate::agent::{AgentPolicy, Held, Rule, Slice, ToolSlice, host_uid, seen_arguments};
use crate::canonical::digest_of;
use crate::origins::{Judged, Origins, Role};
use crate::ranges::{Ranges, RangesError, in_lists};
use sealed::Prepared;

/// A call of a tool: what is decided on, and what is executed.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The tool.
    pub tool: ToolRef,
    /// Its arguments.
    pub arguments: Arguments,
}

/// A request to a model. Its body is checked elsewhere; here it is decided whether the session may ask this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// The model.
    pub model: ModelName,
}

/// How often the agent did this already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In this session.
    pub session: u32,
    /// Today, in all sessions.
    pub today: u32,
}

/// What the gateway knows of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolFacts {
    /// The session's labels.
    pub labels: Labels,
    /// The arguments, as [`crate::origins::Seen::judge`] judged them.
    pub origins: Origins,
    /// The pin of the tool as its server lists it now.
    pub pin: Digest,
    /// How often the tool was called.
    pub calls: Counts,
}

/// What the gateway knows of a model call.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// The session's labels.
    pub labels: Labels,
    /// How often the model was asked.
    pub calls: Counts,
}

/// An act to decide on, with its facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Call<A: Act> {
    /// What is to be done.
    pub action: A,
    /// What is known.
    pub facts: A::Facts,
}

/// An act that can be decided on.
pub trait Act: Clone + sealed::Prepare {}

impl Act for ToolCall {}
impl Act for ModelCall {}

/// The answer to a call.
#[derive(Debug, Clone)]
#[must_use]
pub enum Decision<A: Act> {
    /// It may be done.
    Allow(Allowed<A>),
    /// It may be done if a person says so.
    Ask(Box<Question<A>>),
    /// It may not be done, and why.
    Deny(Vec<Reason>),
}

/// An act that may be done. Only a decision, or a granted question, makes one; a store's commit makes it a permit.
///
/// ```compile_fail
/// # use policy::{Allowed, ModelCall};
/// # fn forge(action: ModelCall) -> Allowed<ModelCall> {
/// Allowed { action, binding: domain::Digest::from_bytes([0; 32]), grant: None, labels: Default::default(), reasons: Vec::new() }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Allowed<A> {
    action: A,
    binding: Digest,
    grant: Option<ApprovalId>,
    labels: Labels,
    reasons: Vec<Reason>,
}

impl<A> Allowed<A> {
    /// What may be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// What may be done, to own.
    pub fn into_action(self) -> A {
        self.action
    }

    /// The digest of all that was decided on, for the ledger.
    pub fn binding(&self) -> Digest {
        self.binding
    }

    /// The approval whose right must be used up in the commit; none if none was needed.
    pub fn grant(&self) -> Option<ApprovalId> {
        self.grant
    }

    /// The session's labels when it was decided.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Why it may be done; where people approved it, why they were asked.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }
}

/// Why something was decided so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The rule: `allow`, `ask`, `deny`, a built-in rule's name, or the `@id` of a policy.
    pub rule: String,
    /// The file that it stands in.
    pub file: String,
    /// Its line, counted from 1; none for built-in rules.
    pub line: Option<usize>,
    /// What it says.
    pub says: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ", {}: {}", self.rule, self.says)
    }
}

impl Reason {
    pub(crate) fn own(rule: &str, says: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), file: "built-in".to_owned(), line: None, says: says.into() }
    }
}

impl From<&Rule> for Reason {
    fn from(rule: &Rule) -> Self {
        Self { rule: rule.name.clone(), file: rule.file.clone(), line: rule.line, says: rule.says.clone() }
    }
}

/// Content that an argument refers to, as it is shown to the person: a draft, a file, a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The place of the argument that refers to it.
    pub place: String,
    /// The digest of the content.
    pub digest: Digest,
}

/// A question for people: all that is to be shown, and what their answer is bound to.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Question<A: Act> {
    action: A,
    effects: Option<Effects>,
    arguments: Vec<Judged>,
    labels: Labels,
    reasons: Vec<Reason>,
    approvals: ApprovalRule,
    bound: Digest,
    /// The same, but for the free text that a yes for the session leaves open.
    bound_but_text: Option<Digest>,
    /// The same, but for all arguments.
    bound_but_arguments: Digest,
    shown: Vec<Shown>,
}

/// A right that people gave: to do once what was bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The approval, to be used up when the act is committed.
    pub approval: ApprovalId,
    /// What the approval is bound to: a question's [`Question::binding`].
    pub binding: Digest,
    /// The labels that were shown.
    pub ceiling: Labels,
}

/// Why a grant does nothing for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Something bound has changed.
    #[error(
        "the approval is for something else: the call, its tool, the content it refers to, or the policy is not what was shown"
    )]
    Other,
    /// The labels rose.
    #[error("the session has met more, or more confidential, data than when the approval was given")]
    Labels,
    /// Content that the call refers to was not shown.
    #[error("the content that the call refers to was not shown to anybody")]
    NotShown,
}

impl<A: Act> Question<A> {
    /// What would be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// What it does; none for a model call.
    #[must_use]
    pub fn effects(&self) -> Option<Effects> {
        self.effects
    }

    /// Each argument with where it came from.
    #[must_use]
    pub fn arguments(&self) -> &[Judged] {
        &self.arguments
    }

    /// The session's labels: what is bound is that they rise no further.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Why it is asked.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Who is asked.
    #[must_use]
    pub fn approvals(&self) -> &ApprovalRule {
        &self.approvals
    }

    /// The question with the content that its arguments refer to, as it is shown. To be fetched anew before each grant.
    pub fn showing(mut self, shown: Vec<Shown>) -> Self {
        self.shown = shown;
        self
    }

    /// The places of the arguments whose content must be shown.
    #[must_use]
    pub fn must_show(&self) -> Vec<&str> {
        self.arguments.iter().filter(|a| a.role == Role::Refers).map(|a| a.place.as_str()).collect()
    }

    /// What an answer is bound to: the exact arguments, the content shown, the tool's pin, the labels, the agent's slice
    /// of policy, and who answers.
    #[must_use]
    pub fn binding(&self) -> Digest {
        self.binding_under(&self.labels)
    }

    /// The act, if people granted it.
    ///
    /// # Errors
    /// Why the grant does nothing.
    pub fn granted(self, grant: &Grant) -> Result<Allowed<A>, GrantError> {
        self.may_be_granted(grant)?;
        if self.binding_under(&grant.ceiling) != grant.binding {
            return Err(GrantError::Other);
        }
        Ok(self.allowed_by(grant))
    }

    /// Whether all that must be was shown, and the labels are still within those that were.
    fn may_be_granted(&self, grant: &Grant) -> Result<(), GrantError> {
        let must_show = self.must_show();
        if must_show.iter().any(|place| !self.shown.iter().any(|shown| shown.place == **place)) {
            return Err(GrantError::NotShown);
        }
        if self.labels.within(&grant.ceiling) { Ok(()) } else { Err(GrantError::Labels) }
    }

    /// What a yes for the whole session is bound to: all of [`Question::binding`], but the tool's free text may be any.
    /// None where each call has its own question: what can't be undone, leaves or runs something, and what refers to
    /// content.
    #[must_use]
    pub fn session_binding(&self) -> Option<Digest> {
        self.session_binding_under(&self.labels)
    }

    /// The act, if people granted its like for the whole session.
    ///
    /// # Errors
    /// Why the grant does nothing.
    pub fn granted_for_session(self, grant: &Grant) -> Result<Allowed<A>, GrantError> {
        if !self.labels.within(&grant.ceiling) {
            return Err(GrantError::Labels);
        }
        if self.session_binding_under(&grant.ceiling) != Some(grant.binding) {
            return Err(GrantError::Other);
        }
        Ok(self.allowed_by(grant))
    }

    /// The act by a grant that was found to be for it.
    fn allowed_by(self, grant: &Grant) -> Allowed<A> {
        Allowed {
            action: self.action,
            binding: grant.binding,
            grant: Some(grant.approval),
            labels: self.labels,
            reasons: self.reasons,
        }
    }

    fn shown_digest(&self) -> Digest {
        let mut shown: Vec<String> = self.shown.iter().map(|s| format!("{}={}", s.place, s.digest)).collect();
        shown.sort();
        let shown: Vec<&[u8]> = shown.iter().map(String::as_bytes).collect();
        digest_of(&shown)
    }

    fn session_binding_under(&self, ceiling: &Labels) -> Option<Digest> {
        let bound = self.bound_but_text?;
        Some(digest_of(&[b"lazaret session 1", bound.as_bytes(), ceiling.to_string().as_bytes()]))
    }

    fn binding_under(&self, ceiling: &Labels) -> Digest {
        digest_of(&[
            b"lazaret question 1",
            self.bound.as_bytes(),
            self.shown_digest().as_bytes(),
            ceiling.to_string().as_bytes(),
        ])
    }
}

impl Question<ToolCall> {
    /// What a yes to a planned call is bound to: all of [`Question::binding`], but the numbers at these places may be
    /// any within their ranges.
    ///
    /// # Errors
    /// The call has no number there or one outside of its range, or the place refers to content, which was shown for one
    /// value alone.
    pub fn binding_within(&self, ranges: &Ranges) -> Result<Digest, RangesError> {
        self.binding_within_under(ranges, &self.labels)
    }

    /// The act, if people granted it as part of a plan.
    ///
    /// # Errors
    /// Why the grant does nothing.
    pub fn granted_within(self, ranges: &Ranges, grant: &Grant) -> Result<Allowed<ToolCall>, GrantError> {
        if ranges.is_empty() {
            return self.granted(grant);
        }
        self.may_be_granted(grant)?;
        if self.binding_within_under(ranges, &grant.ceiling) != Ok(grant.binding) {
            return Err(GrantError::Other);
        }
        Ok(self.allowed_by(grant))
    }

    fn binding_within_under(&self, ranges: &Ranges, ceiling: &Labels) -> Result<Digest, RangesError> {
        if ranges.is_empty() {
            return Ok(self.binding_under(ceiling));
        }
        if let Some((place, _)) = ranges.iter().find(|(place, _)| self.refers(place)) {
            return Err(RangesError::Refers(place.to_owned()));
        }
        Ok(digest_of(&[
            b"lazaret range 1",
            self.bound_but_arguments.as_bytes(),
            ranges.digest(&self.action.arguments)?.as_bytes(),
            self.shown_digest().as_bytes(),
            ceiling.to_string().as_bytes(),
        ]))
    }

    fn refers(&self, place: &str) -> bool {
        self.must_show().into_iter().any(|refers| refers == place || refers == in_lists(place))
    }
}

/// Decides on a call. Where the policy is held within another, the stricter of both answers counts.
pub fn decide<A: Act>(policy: &AgentPolicy, call: Call<A>) -> Decision<A> {
    let bound = match policy.held() {
        Held::No => return decide_by(policy, call),
        Held::Closed(why) => return Decision::Deny(vec![Reason::own("closed", why.as_str())]),
        Held::Within(bound) => bound,
    };
    let facts = call.facts.clone();
    match decide_by(policy, call) {
        Decision::Deny(reasons) => Decision::Deny(reasons),
        Decision::Allow(allowed) => decide(bound, Call { action: allowed.into_action(), facts }),
        Decision::Ask(question) => match decide(bound, Call { action: question.action.clone(), facts }) {
            Decision::Allow(_) => Decision::Ask(question),
            Decision::Deny(reasons) => Decision::Deny(reasons),
            // Both ask: the people whom the stricter of them names.
            Decision::Ask(other) if question.approvals.asks_as_much_as(&other.approvals) => {
                Decision::Ask(question)
            }
            Decision::Ask(other) if other.approvals.asks_as_much_as(&question.approvals) => {
                Decision::Ask(other)
            }
            Decision::Ask(_) => {
                let says = "who is asked about this was changed, and nobody has applied that";
                Decision::Deny(vec![Reason::own("approvals", says)])
            }
        },
    }
}

fn decide_by<A: Act>(policy: &AgentPolicy, call: Call<A>) -> Decision<A> {
    let prepared = match call.action.prepare(policy, &call.facts) {
        Ok(prepared) => prepared,
        Err(reason) => return Decision::Deny(vec![reason]),
    };
    let labels = prepared.labels.clone();
    let at_once = match ask(&prepared, false) {
        Ok(response) => response,
        Err(reason) => return Decision::Deny(vec![reason]),
    };
    if at_once.decision() == Cedar::Allow {
        return Decision::Allow(Allowed {
            action: call.action,
            binding: prepared.bound,
            grant: None,
            labels,
            reasons: reasons(policy, &prepared, &at_once),
        });
    }
    let with_grant = match ask(&prepared, true) {
        Ok(response) => response,
        Err(reason) => return Decision::Deny(vec![reason]),
    };
    if with_grant.decision() != Cedar::Allow {
        return Decision::Deny(reasons(policy, &prepared, &with_grant));
    }
    let reasons = reasons(policy, &prepared, &at_once);
    let bound_but_text = call.action.bound_but_text(&prepared, &call.facts);
    let bound_but_arguments = call.action.bound_but_arguments(&prepared, &call.facts);
    let (effects, arguments) = (prepared.effects, call.action.shown(call.facts));
    Decision::Ask(Box::new(Question {
        action: call.action,
        effects,
        arguments,
        labels,
        reasons,
        approvals: prepared.slice.approvals.clone(),
        bound: prepared.bound,
        bound_but_text,
        bound_but_arguments,
        shown: Vec::new(),
    }))
}

fn ask(prepared: &Prepared<'_>, granted: bool) -> Result<Response, Reason> {
    let failed = |e: &dyn fmt::Display| Reason::own("error", format!("the request can't be decided: {e}"));
    let mut context = prepared.context.clone();
    context.push(("granted".to_owned(), RestrictedExpression::new_bool(granted)));
    let context = Context::from_pairs(context).map_err(|e| failed(&e))?;
    let (principal, action, resource) = prepared.slice.request.clone();
    let resource = match &prepared.host {
        Some(host) => host_uid(host).map_err(|e| failed(&e))?,
        None => resource,
    };
    let request = Request::new(principal, action, resource, context, None).map_err(|e| failed(&e))?;
    let slice = prepared.slice;
    let response = Authorizer::new().is_authorized(&request, &slice.policies, &slice.entities);
    // A forbid that fails is left out by Cedar: here it denies.
    if let Some(error) = response.diagnostics().errors().next() {
        return Err(failed(error));
    }
    Ok(response)
}

/// The rules behind an answer, in an order that doesn't change.
fn reasons(policy: &AgentPolicy, prepared: &Prepared<'_>, response: &Response) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = response
        .diagnostics()
        .reason()
        .filter_map(|id| prepared.slice.rules.get(id))
        .map(Reason::from)
        .collect();
    reasons.sort_by(|a, b| (&a.file, a.line, &a.rule).cmp(&(&b.file, b.line, &b.rule)));
    if reasons.is_empty() {
        reasons.push(Reason {
            rule: "unlisted".to_owned(),
            file: policy.file().to_owned(),
            line: None,
            says: format!("no rule allows {}", prepared.name),
        });
    }
    reasons
}

/// Keeps acts ours: only what is prepared here can be decided on.
pub(crate) mod sealed {
    use cedar_policy::RestrictedExpression;
    use domain::{Digest, Labels};

    use super::{AgentPolicy, Effects, Judged, Reason, Slice};

    /// A call, made ready to be asked.
    pub struct Prepared<'p> {
        pub(crate) slice: &'p Slice,
        /// The host that it is about, where the slice is about all of them.
        pub(crate) host: Option<String>,
        /// What it is called in reasons.
        pub(crate) name: String,
        pub(crate) context: Vec<(String, RestrictedExpression)>,
        pub(crate) labels: Labels,
        /// What it does; none for a model call.
        pub(crate) effects: Option<Effects>,
        pub(crate) bound: Digest,
    }

    /// Makes a call ready to be asked.
    pub trait Prepare: Sized {
        /// What is known of it.
        type Facts: Clone;

        #[doc(hidden)]
        fn prepare<'p>(&self, policy: &'p AgentPolicy, facts: &Self::Facts) -> Result<Prepared<'p>, Reason>;

        #[doc(hidden)]
        fn bound_but_text(&self, prepared: &Prepared<'_>, facts: &Self::Facts) -> Option<Digest>;

        #[doc(hidden)]
        fn bound_but_arguments(&self, prepared: &Prepared<'_>, _: &Self::Facts) -> Digest {
            prepared.bound
        }

        #[doc(hidden)]
        fn shown(&self, facts: Self::Facts) -> Vec<Judged>;
    }
}

impl sealed::Prepare for ToolCall {
    type Facts = ToolFacts;

    fn prepare<'p>(&self, policy: &'p AgentPolicy, facts: &ToolFacts) -> Result<Prepared<'p>, Reason> {
        let slice = policy.tool(&self.tool).filter(|slice| slice.tool.is_some());
        let Some((slice, about)) = slice.and_then(|slice| slice.tool.as_ref().map(|about| (slice, about)))
        else {
            return Err(Reason::own("unknown", format!("there is no tool {}", self.tool)));
        };
        let pin = facts.pin;
        let bound = digest_of(&[
            b"tool",
            self.tool.to_string().as_bytes(),
            self.arguments.text().as_bytes(),
            pin.as_bytes(),
            slice.digest.as_bytes(),
        ]);
        let context = tool_context(about, self, facts)?;
        let (name, labels) = (self.tool.to_string(), facts.labels.clone());
        Ok(Prepared { slice, host: None, name, context, labels, effects: Some(about.row.effects), bound })
    }

    fn bound_but_text(&self, prepared: &Prepared<'_>, facts: &ToolFacts) -> Option<Digest> {
        let row = &prepared.slice.tool.as_ref()?.row;
        if !row.effects.can_be_undone() || !row.refers.is_empty() {
            return None;
        }
        let mut arguments = self.arguments.value().clone();
        for (name, value) in &mut arguments {
            if row.content.contains(name) {
                *value = Value::Null;
            }
        }
        let arguments = crate::canonical::text(&Value::Object(arguments)).ok()?;
        Some(digest_of(&[
            b"tool",
            self.tool.to_string().as_bytes(),
            arguments.as_bytes(),
            facts.pin.as_bytes(),
            prepared.slice.digest.as_bytes(),
        ]))
    }

    fn bound_but_arguments(&self, prepared: &Prepared<'_>, facts: &ToolFacts) -> Digest {
        let (tool, slice) = (self.tool.to_string(), prepared.slice.digest);
        digest_of(&[b"tool, any arguments", tool.as_bytes(), facts.pin.as_bytes(), slice.as_bytes()])
    }

    fn shown(&self, facts: ToolFacts) -> Vec<Judged> {
        facts.origins.arguments
    }
}

impl sealed::Prepare for ModelCall {
    type Facts = ModelFacts;

    fn prepare<'p>(&self, policy: &'p AgentPolicy, facts: &ModelFacts) -> Result<Prepared<'p>, Reason> {
        let Some(slice) = policy.model(&self.model) else {
            let says = format!("`models` doesn't name {}", self.model);
            let (rule, file) = ("models".to_owned(), policy.file().to_owned());
            return Err(Reason { rule, file, line: None, says });
        };
        let name = self.model.to_string();
        let bound = digest_of(&[b"model", name.as_bytes(), slice.digest.as_bytes()]);
        let mut context = vec![labels(&facts.labels)?];
        context.extend(counts(facts.calls));
        let labels = facts.labels.clone();
        Ok(Prepared { slice, host: None, name, context, labels, effects: None, bound })
    }

    fn bound_but_text(&self, _: &Prepared<'_>, _: &ModelFacts) -> Option<Digest> {
        None
    }

    fn shown(&self, _: ModelFacts) -> Vec<Judged> {
        Vec::new()
    }
}

/// What Cedar is told of a tool call, but whether it is granted.
fn tool_context(
    about: &ToolSlice,
    call: &ToolCall,
    facts: &ToolFacts,
) -> Result<Vec<(String, RestrictedExpression)>, Reason> {
    let arguments = seen_arguments(&about.types, call.arguments.value()).map_err(|name| {
        Reason::own("arguments", format!("`{name}` doesn't fit the type that its tool declares"))
    })?;
    let truth = |name: &str, value| (name.to_owned(), RestrictedExpression::new_bool(value));
    let trust = Trust::of(&facts.origins);
    let mut context = vec![
        set("effects", about.row.effects.iter().map(Effect::as_str)),
        labels(&facts.labels)?,
        record("arguments", arguments)?,
        record("origins", origins(&facts.origins))?,
        truth("trusted", trust.trusted),
        truth("own_values", trust.own_values),
        truth("own_words", trust.own_words),
        truth("classified", about.classified),
        truth("pinned", about.pin == Some(facts.pin)),
        truth("staged", about.row.staged),
    ];
    context.extend(counts(facts.calls));
    Ok(context)
}

/// What a call's origins come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Every sensitive argument has an origin that may say it.
    pub(crate) trusted: bool,
    /// Every sensitive argument is the person's own, or of a record that the person named.
    pub(crate) own_values: bool,
    /// All free text is the person's own words.
    pub(crate) own_words: bool,
}

impl Trust {
    pub(crate) fn of(origins: &Origins) -> Self {
        // A call without any argument says nothing that the person could have said.
        let mut says_something = origins.by_verb;
        let mut trust = Self { trusted: origins.asked_for, own_values: origins.asked_for, own_words: true };
        for argument in &origins.arguments {
            match &argument.role {
                Role::Sensitive(kind, origin) => {
                    says_something = true;
                    let (trusted, own) = match origin {
                        Origin::Person | Origin::Named(_) => (true, true),
                        Origin::Organisation(_) => (kind.organisation_may_say(), false),
                        Origin::Stranger(_) | Origin::Unknown => (false, false),
                    };
                    trust.trusted &= trusted;
                    trust.own_values &= own;
                }
                Role::Content(own) => {
                    says_something |= !argument.value.is_empty();
                    trust.own_words &= own;
                }
                Role::Refers => trust = Self { trusted: false, own_values: false, own_words: false },
            }
        }
        trust.trusted &= says_something;
        trust.own_values &= says_something;
        trust
    }
}

/// The worst origin per argument at the top.
fn origins(origins: &Origins) -> Vec<(String, RestrictedExpression)> {
    let mut worst: std::collections::BTreeMap<&str, &Origin> = std::collections::BTreeMap::new();
    for argument in &origins.arguments {
        let Role::Sensitive(_, origin) = &argument.role else { continue };
        let name = argument.place.split('/').next().unwrap_or_default();
        let entry = worst.entry(name).or_insert(origin);
        *entry = (*entry).max(origin);
    }
    let text = |origin: &Origin| RestrictedExpression::new_string(origin.kind().to_owned());
    worst.into_iter().map(|(name, origin)| (name.to_owned(), text(origin))).collect()
}

pub(crate) fn labels(labels: &Labels) -> Result<(String, RestrictedExpression), Reason> {
    let level = |level: u8| RestrictedExpression::new_long(i64::from(level));
    let teams = labels.compartments.iter().map(|team| team.as_str());
    record(
        "labels",
        vec![
            ("confidentiality".to_owned(), level(labels.confidentiality as u8)),
            ("integrity".to_owned(), level(labels.integrity as u8)),
            set("compartments", teams),
        ],
    )
}

pub(crate) fn counts(calls: Counts) -> [(String, RestrictedExpression); 2] {
    let number = |n: u32| RestrictedExpression::new_long(i64::from(n));
    [("calls".to_owned(), number(calls.session)), ("calls_today".to_owned(), number(calls.today))]
}

pub(crate) fn set<'t>(name: &str, texts: impl Iterator<Item = &'t str>) -> (String, RestrictedExpression) {
    let texts = texts.map(|text| RestrictedExpression::new_string(text.to_owned()));
    (name.to_owned(), RestrictedExpression::new_set(texts))
}

fn record(
    name: &str,
    fields: Vec<(String, RestrictedExpression)>,
) -> Result<(String, RestrictedExpression), Reason> {
    let record = RestrictedExpression::new_record(fields).map_err(|e| Reason::own("error", e.to_string()))?;
    Ok((name.to_owned(), record))
}
