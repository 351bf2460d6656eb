//! What holds for every policy and every call.

use std::sync::LazyLock;

use domain::{Answer, Confidentiality, Integrity, Labels, Origin};
use policy::{AgentPolicy, Arguments, Decision, Grant, Judged, Kind, Origins, Ranges, Role, Seen, decide};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::*;

const FORBIDS: &[&str] = &[
    "forbid (principal, action, resource);",
    "forbid (principal, action == Action::\"mail__send\", resource);",
    "forbid (principal, action == Action::\"mail__read\", resource) unless { context.granted };",
    "forbid (principal, action in Action::\"tool\", resource) when { context.labels.integrity >= 3 };",
    "forbid (principal in Team::\"sales\", action in Action::\"tool\", resource in Server::\"mail\") when { !context.own_words };",
    "forbid (principal, action == Action::\"mail__search\", resource) when { context.arguments has most && context.arguments.most > 5 };",
    "forbid (principal == Agent::\"somebody-else\", action, resource);",
];

/// The clerk, and the clerk with each forbid.
static POLICIES: LazyLock<(AgentPolicy, Vec<AgentPolicy>)> = LazyLock::new(|| {
    let with = FORBIDS.iter().map(|forbid| compile(CLERK, Some(forbid), &[]).unwrap()).collect();
    (clerk(), with)
});

fn labels() -> impl Strategy<Value = Labels> {
    (0_usize..4, 0_usize..4).prop_map(|(c, i)| Labels {
        confidentiality: [
            Confidentiality::Public,
            Confidentiality::Internal,
            Confidentiality::Confidential,
            Confidentiality::Secret,
        ][c],
        integrity: [Integrity::Person, Integrity::Organisation, Integrity::ThirdParty, Integrity::Web][i],
        ..Labels::default()
    })
}

fn role() -> impl Strategy<Value = Role> {
    let kind = prop_oneof![
        Just(Kind::Recipient),
        Just(Kind::Item("mail".to_owned())),
        Just(Kind::Amount),
        Just(Kind::Url)
    ];
    let origin = prop_oneof![
        Just(Origin::Person),
        Just(Origin::Named("a".to_owned())),
        Just(Origin::Organisation("a".to_owned())),
        Just(Origin::Stranger("a".to_owned())),
        Just(Origin::Unknown),
    ];
    prop_oneof![
        4 => (kind, origin).prop_map(|(kind, origin)| Role::Sensitive(kind, origin)),
        4 => any::<bool>().prop_map(Role::Content),
        1 => Just(Role::Refers),
    ]
}

fn origins() -> impl Strategy<Value = Origins> {
    (prop::collection::vec(role(), 0..4), any::<bool>()).prop_map(|(roles, asked_for)| Origins {
        arguments: roles
            .into_iter()
            .map(|role| Judged { place: "to".to_owned(), value: "x".to_owned(), role })
            .collect(),
        asked_for,
        by_verb: false,
    })
}

fn request() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        Just(("send", json!({"to": ["a@b.org"], "body": "x"}))),
        Just(("read", json!({"id": "1"}))),
        Just(("move", json!({"id": "1", "folder": "a"}))),
        Just(("delete", json!({"id": "1"}))),
        Just(("draft_create", json!({"body": "x"}))),
        (0_i64..10).prop_map(|most| ("search", json!({"query": "x", "most": most}))),
        Just(("new_tool", json!({}))),
        Just(("send_raw", json!({}))),
    ]
}

fn answer(policy: &AgentPolicy, request: &(&str, Value), labels: &Labels, origins: &Origins) -> Answer {
    match decide(policy, call(request.0, &request.1, labels.clone(), origins.clone())) {
        Decision::Allow(_) => Answer::Allow,
        Decision::Ask(_) => Answer::Ask,
        Decision::Deny(_) => Answer::Deny,
    }
}

fn worse(role: &Role) -> Role {
    match role {
        Role::Sensitive(kind, Origin::Person) => Role::Sensitive(kind.clone(), Origin::Named("b".to_owned())),
        Role::Sensitive(kind, Origin::Named(_)) => {
            Role::Sensitive(kind.clone(), Origin::Organisation("b".to_owned()))
        }
        Role::Sensitive(kind, Origin::Organisation(_)) => {
            Role::Sensitive(kind.clone(), Origin::Stranger("b".to_owned()))
        }
        Role::Sensitive(kind, _) => Role::Sensitive(kind.clone(), Origin::Unknown),
        Role::Content(_) => Role::Content(false),
        Role::Refers => Role::Refers,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn adding_a_forbid_never_allows_more(request in request(), labels in labels(), origins in origins()) {
        let (without, with) = &*POLICIES;
        let before = answer(without, &request, &labels, &origins);
        for policy in with {
            prop_assert!(answer(policy, &request, &labels, &origins) >= before);
        }
    }

    #[test]
    fn labels_only_add_restrictions(
        request in request(), labels in labels(), more in labels(), origins in origins(), which in 0..FORBIDS.len(),
    ) {
        let policy = &POLICIES.1[which];
        let before = answer(policy, &request, &labels, &origins);
        prop_assert!(answer(policy, &request, &labels.join(&more), &origins) >= before);
    }

    #[test]
    fn worse_origins_only_add_restrictions(
        request in request(), labels in labels(), origins in origins(), at in 0_usize..4, which in 0..FORBIDS.len(),
    ) {
        let policy = &POLICIES.1[which];
        let mut after = origins.clone();
        if let Some(argument) = after.arguments.get_mut(at) {
            argument.role = worse(&argument.role);
        } else {
            after.asked_for = false;
        }
        prop_assert!(
            answer(policy, &request, &labels, &after) >= answer(policy, &request, &labels, &origins)
        );
    }

    #[test]
    fn an_effect_is_never_free_in_words_that_are_not_the_persons(labels in labels(), origins in origins()) {
        let own = origins.arguments.iter().all(|argument| argument.role != Role::Content(false));
        let free = answer(&POLICIES.0, &("send", json!({"to": ["a@b.org"]})), &labels, &origins) == Answer::Allow;
        prop_assert!(!free || own);
    }

    #[test]
    fn own_words_stand_in_the_prompt_letter_for_letter(prompt in "[ab .:'\"\n]{0,24}", text in "[ab .:'\"\n]{0,8}") {
        let mut seen = Seen::new([5; 32]);
        seen.person(&prompt);
        prop_assert!(!seen.own_words(&text) || prompt.contains(&text));
    }

    #[test]
    fn a_strangers_text_never_betters_an_origin(prompt in "[ab@.: 1-3]{0,24}", text in "[ab@.1-3]{1,8}") {
        let kinds = [Kind::Recipient, Kind::Item("mail".to_owned()), Kind::Amount, Kind::Path, Kind::Time, Kind::Url];
        let mut seen = Seen::new([5; 32]);
        seen.person(&prompt);
        let before = kinds.each_ref().map(|kind| seen.origin_of(&text, kind).is_ok_and(|origin| origin.is_trusted()));
        seen.result_text(&tool("read"), &policy::Row::unknown(), &text);
        let after = kinds.each_ref().map(|kind| seen.origin_of(&text, kind).is_ok_and(|origin| origin.is_trusted()));
        prop_assert_eq!(before, after);
    }

    #[test]
    fn no_text_makes_origins_panic(prompt in "\\PC{0,60}", text in "\\PC{0,60}") {
        let mut seen = Seen::new([5; 32]);
        seen.person(&prompt);
        seen.result_text(&tool("read"), &policy::Row::unknown(), &text);
        let kinds = [Kind::Recipient, Kind::Host, Kind::Amount, Kind::Path, Kind::Time, Kind::Url];
        let known = kinds.each_ref().map(|kind| seen.origin_of(&text, kind));
        prop_assert_eq!(known, kinds.each_ref().map(|kind| seen.origin_of(&text, kind)));
        prop_assert_eq!(seen.own_words(&text), seen.own_words(&text));
    }

    #[test]
    fn a_range_is_granted_from_its_least_to_its_most_and_for_nothing_else(
        from in -50_i32..50, width in 0_i32..50, planned in 0_i32..50, made in -120_i32..120, text in "[ab]{1}",
    ) {
        let send = |n: i32, body: &str| {
            let arguments = json!({"to": ["eve@x.org"], "body": body, "parts": [{"n": n}]});
            let policy = &POLICIES.0;
            let row = policy.row(&tool("send")).unwrap();
            let origins = Seen::new([1; 32]).judge(row, &Arguments::new(&arguments).unwrap()).unwrap();
            let decision = decide(policy, call("send", &arguments, labelled(), origins));
            let Decision::Ask(question) = decision else { panic!("no question") };
            question
        };
        let to = from.saturating_add(width);
        let ranges = json!({"parts/0/n": {"from": from, "to": to}});
        let ranges: Ranges = serde_json::from_value(ranges).unwrap();
        let question = send(from.saturating_add(planned.min(width)), "a");
        let binding = question.binding_within(&ranges).unwrap();
        let approval = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let grant = Grant { approval, binding, ceiling: question.labels().clone() };
        let within = (from..=to).contains(&made) && text == "a";
        prop_assert_eq!(send(made, &text).granted_within(&ranges, &grant).is_ok(), within);
        prop_assert!(send(made, &text).granted(&grant).is_err());
        let wider: Ranges = serde_json::from_value(json!({"parts/0/n": {"from": from, "to": to + 1}})).unwrap();
        prop_assert!(send(made, &text).granted_within(&wider, &grant).is_err());
    }
}
