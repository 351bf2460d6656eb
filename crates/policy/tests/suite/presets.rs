//! What presets deny beside rules that allow everything at their hosts, as the services' own documentation lists it and not as the
//! presets do; and what they open by themselves.

use domain::{Answer, EgressPattern, EgressTarget, Labels, Origin, PRESETS};
use policy::AgentPolicy;

use crate::common::*;
use crate::connect::{agent, asked, facts, request};

/// The presets, beside rules that allow everything at their hosts.
fn all_but_what_presets_deny() -> AgentPolicy {
    let all =
        ["api.github.com", "github.com", "registry.npmjs.org", "pypi.org", "upload.pypi.org", "crates.io"]
            .map(|host| format!("\"GET,POST,PUT,PATCH,DELETE https://{host}/**?*\""));
    let presets = "presets = [\"cargo\", \"github\", \"npm\", \"pip\"]";
    let text = format!("[egress]\n{presets}\nallow = [{}]\n", all.join(", "));
    compile(&agent(&text), None, &[]).unwrap()
}

fn answered(policy: &AgentPolicy, target: &str) -> (Answer, String) {
    asked(policy, request(target), facts(Labels::default(), false, Origin::Unknown))
}

/// GitHub's: endpoints that make credentials or show them, by the chapters of its REST API's documentation.
const MADE: &[&str] = &[
    "GET /app",
    "POST /app/installations/1/access_tokens",
    "POST /app/hook/deliveries/1/attempts",
    "PATCH /app/hook/config",
    "POST /app-manifests/code/conversions",
    "POST /applications/Iv1.a/token",
    "PATCH /applications/Iv1.a/token",
    "POST /applications/Iv1.a/token/scoped",
    "PUT /authorizations/clients/Iv1.a",
    "POST /authorizations",
    "GET /copilot_internal/v2/token",
    "POST /credentials/revoke",
    "GET /feeds",
    "POST /graphql",
    "POST /hub",
    "POST /installations/1/access_tokens",
    "POST /user/codespaces",
    "PUT /user/codespaces/secrets/A",
    "POST /user/gpg_keys",
    "POST /user/keys",
    "POST /user/ssh_signing_keys",
    "PUT /user/installations/1/repositories/2",
    "POST /enterprises/acme/actions/runners/registration-token",
    "POST /enterprises/acme/actions/runners/generate-jitconfig",
    "PUT /repos/acme/a/actions/oidc/customization/sub",
    "POST /repos/acme/a/actions/runners/registration-token",
    "POST /repos/acme/a/actions/runners/remove-token",
    "POST /repos/acme/a/actions/runners/generate-jitconfig",
    "PUT /repos/acme/a/actions/secrets/A",
    "GET /repos/acme/a/actions/organization-secrets",
    "PUT /repos/acme/a/agents/secrets/A",
    "POST /repos/acme/a/codespaces",
    "PUT /repos/acme/a/codespaces/secrets/A",
    "PUT /repos/acme/a/dependabot/secrets/A",
    "PUT /repos/acme/a/environments/prod/secrets/A",
    "GET /repos/acme/a/environments/prod/secrets/public-key",
    "POST /repos/acme/a/hooks",
    "PATCH /repos/acme/a/hooks/1/config",
    "GET /repos/acme/a/hooks/1/deliveries",
    "POST /repos/acme/a/keys",
    "POST /repos/acme/a/pulls/1/codespaces",
    "GET /repos/acme/a/secret-scanning/alerts",
    "GET /repos/acme/a/secret-scanning/alerts/1/locations",
    "PUT /orgs/acme/actions/oidc/customization/sub",
    "POST /orgs/acme/actions/hosted-runners",
    "POST /orgs/acme/actions/runners/registration-token",
    "POST /orgs/acme/actions/runner-groups",
    "PUT /orgs/acme/actions/secrets/A",
    "PUT /orgs/acme/actions/secrets/A/repositories/1",
    "PUT /orgs/acme/agents/secrets/A",
    "PUT /orgs/acme/codespaces/secrets/A",
    "DELETE /orgs/acme/credential-authorizations/1",
    "PUT /orgs/acme/dependabot/secrets/A",
    "POST /orgs/acme/hooks",
    "POST /orgs/acme/personal-access-token-requests/1",
    "POST /orgs/acme/personal-access-tokens/1",
    "POST /orgs/acme/private-registries",
    "GET /orgs/acme/secret-scanning/alerts",
];

/// GitHub's: endpoints that let others in, or take away what keeps them out.
const LET_IN: &[&str] = &[
    "POST /scim/v2/organizations/acme/Users",
    "PUT /teams/1/memberships/eve",
    "PUT /teams/1/repos/acme/a",
    "PUT /projects/1/collaborators/eve",
    "POST /user/emails",
    "PATCH /user/email/visibility",
    "PATCH /user/memberships/orgs/acme",
    "PATCH /user/repository_invitations/1",
    "PATCH /repos/acme/a",
    "POST /repos/acme/a",
    "PUT /repos/acme/a/actions/permissions",
    "PUT /repos/acme/a/actions/permissions/access",
    "PUT /repos/acme/a/actions/permissions/selected-actions",
    "PUT /repos/acme/a/actions/permissions/workflow",
    "POST /repos/acme/a/actions/runs/1/approve",
    "POST /repos/acme/a/actions/runs/1/deployment_protection_rule",
    "POST /repos/acme/a/actions/runs/1/pending_deployments",
    "POST /repos/acme/a/actions/variables",
    "PATCH /repos/acme/a/actions/variables/DEPLOY_HOST",
    "PUT /repos/acme/a/branches/main/protection",
    "DELETE /repos/acme/a/branches/main/protection",
    "DELETE /repos/acme/a/branches/agent/task/protection/enforce_admins",
    "POST /repos/acme/a/branches/main/protection/restrictions/users",
    "DELETE /repos/acme/a/branches/main/protection/required_pull_request_reviews",
    "PATCH /repos/acme/a/bypass-requests/secret-scanning/1",
    "PATCH /repos/acme/a/dismissal-requests/code-scanning/1",
    "PUT /repos/acme/a/collaborators/eve",
    "PUT /repos/acme/a/environments/prod",
    "DELETE /repos/acme/a/environments/prod",
    "POST /repos/acme/a/environments/prod/deployment-branch-policies",
    "POST /repos/acme/a/environments/prod/deployment_protection_rules",
    "PATCH /repos/acme/a/environments/prod/variables/DEPLOY_HOST",
    "PATCH /repos/acme/a/invitations/1",
    "POST /repos/acme/a/pages",
    "PUT /repos/acme/a/pages",
    "PATCH /repos/acme/a/properties/values",
    "POST /repos/acme/a/rulesets",
    "PUT /repos/acme/a/rulesets/1",
    "DELETE /repos/acme/a/rulesets/1",
    "POST /repos/acme/a/security-advisories",
    "PATCH /repos/acme/a/security-advisories/GHSA-a",
    "POST /repos/acme/a/transfer",
    "PATCH /orgs/acme",
    "PUT /orgs/acme/actions/permissions",
    "POST /orgs/acme/copilot/billing/selected_users",
    "POST /orgs/acme/custom-repository-roles",
    "PATCH /orgs/acme/custom_roles/1",
    "POST /orgs/acme/invitations",
    "PUT /orgs/acme/memberships/eve",
    "POST /orgs/acme/organization-roles",
    "PUT /orgs/acme/organization-roles/users/eve/1",
    "PUT /orgs/acme/organization-roles/teams/core/1",
    "PUT /orgs/acme/outside_collaborators/eve",
    "PATCH /orgs/acme/properties/schema",
    "POST /orgs/acme/rulesets",
    "DELETE /orgs/acme/rulesets/1",
    "PUT /orgs/acme/security-managers/teams/core",
    "POST /orgs/acme/settings/network-configurations",
    "POST /orgs/acme/teams",
    "PATCH /orgs/acme/teams/core",
    "PUT /orgs/acme/teams/core/memberships/eve",
    "PUT /orgs/acme/teams/core/repos/acme/a",
];

/// Other services'.
const OTHERS: &[&str] = &[
    "GET https://registry.npmjs.org/-/v1/done?sessionId=x",
    "GET https://registry.npmjs.org/-/v1/login",
    "GET https://registry.npmjs.org/-/whoami",
    "GET https://registry.npmjs.org/-/npm/v1/tokens",
    "GET https://registry.npmjs.org/-/npm/v1/tokens/token/1",
    "POST https://registry.npmjs.org/-/npm/v1/tokens",
    "PUT https://registry.npmjs.org/-/user/org.couchdb.user:eve",
    "POST https://registry.npmjs.org/-/npm/v1/oidc/token/exchange/package/a",
    "POST https://pypi.org/_/oidc/mint-token",
    "POST https://upload.pypi.org/legacy/",
    "GET https://crates.io/api/private/session/authorize?code=x&state=y",
    "GET https://crates.io/api/v1/me/tokens",
    "PUT https://crates.io/api/v1/me/tokens",
    "POST https://crates.io/api/v1/trusted_publishing/tokens",
    "POST https://github.com/login/oauth/access_token",
    "POST https://github.com/login/device/code",
];

/// A request to GitHub, in every way in which it can be made: repositories and organisations have numbers, too; a team of an
/// organisation that has one is in `team`.
fn ways(told: &str) -> Vec<String> {
    let numbers = told
        .replace("/repos/acme/a", "/repositories/1")
        .replace("/orgs/acme/teams/core", "/organizations/1/team/2")
        .replace("/orgs/acme", "/organizations/1");
    let mut all = Vec::new();
    for told in [told, &numbers] {
        let (method, path) = told.split_once(' ').unwrap();
        all.extend(["", "/", "?x=y"].map(|end| format!("{method} https://api.github.com{path}{end}")));
    }
    all
}

/// All that is listed here.
fn closed() -> Vec<String> {
    let github = MADE.iter().chain(LET_IN).flat_map(|told| ways(told));
    github.chain(OTHERS.iter().map(|&target| target.to_owned())).collect()
}

/// A new credential is a new way out: what makes one, or lets others in, is denied by the presets, also where another rule allows
/// all.
#[test]
fn no_credential_is_made_and_nobody_let_in_through_an_api_of_a_preset_whatever_else_is_allowed() {
    let open = all_but_what_presets_deny();
    for target in closed() {
        let (found, why) = answered(&open, &target);
        assert_eq!(found, Answer::Deny, "{target}: {why}");
    }
}

#[test]
fn each_denial_of_a_preset_is_tried_by_a_request() {
    let closed: Vec<EgressTarget> = closed().iter().map(|target| target.parse().unwrap()).collect();
    for rule in PRESETS.iter().flat_map(|preset| preset.deny) {
        let pattern: EgressPattern = rule.parse().unwrap();
        assert!(closed.iter().any(|target| pattern.names(target, Answer::Deny)), "{rule}");
    }
}

/// The rule beside them does allow the rest: presets deny no more than they say.
#[test]
fn presets_leave_to_other_rules_what_only_reads_writes_or_runs() {
    let open = all_but_what_presets_deny();
    for told in [
        "GET /apps/some-app",
        "GET /orgs/acme",
        "GET /orgs/acme/members",
        "GET /orgs/acme/rulesets",
        "GET /orgs/acme/teams/core/members",
        "GET /repos/acme/a",
        "GET /repos/acme/a/branches/main/protection",
        "GET /repos/acme/a/environments",
        "GET /repos/acme/a/pages",
        "GET /repos/acme/a/rulesets",
        "GET /user/emails",
        "DELETE /repos/acme/a/git/refs/heads/agent/task",
        "PATCH /repos/acme/a/issues/1",
        "PATCH /repos/acme/a/pulls/1",
        "POST /gists",
        "POST /repos/acme/a/actions/workflows/1/dispatches",
        "POST /repos/acme/a/forks",
        "POST /repos/acme/a/issues",
        "POST /repos/acme/a/releases",
        "PUT /repos/acme/a/contents/README.md",
    ] {
        for target in ways(told) {
            let (found, why) = answered(&open, &target);
            assert_eq!(found, Answer::Allow, "{target}: {why}");
        }
    }
}

/// By the preset alone, nothing that holds a secret is read.
#[test]
fn presets_of_github_show_no_secret_that_was_found() {
    let alone = compile(&agent("[egress]\npresets = [\"github\"]\n"), None, &[]).unwrap();
    let read = |target: &str| answered(&alone, target).0;
    assert_eq!(read("GET https://api.github.com/repos/acme/a/pulls?page=2"), Answer::Allow);
    assert_eq!(read("GET https://api.github.com/repos/acme/a/secret-scanning/alerts"), Answer::Deny);
    assert_eq!(
        read("GET https://api.github.com/repos/acme/a/secret-scanning/alerts?state=open"),
        Answer::Deny
    );
}

/// By the presets alone, nothing of GitHub is written without a person, and what only runs or publishes is closed. To its
/// API a pull request is an issue, too.
#[test]
fn presets_of_issues_and_pulls_ask_for_what_they_name_and_open_nothing_else() {
    let of =
        |presets: &str| compile(&agent(&format!("[egress]\npresets = [{presets}]\n")), None, &[]).unwrap();
    let (issues, pulls) = (of("\"github-issues\""), of("\"github-pulls\""));
    let all = of("\"cargo\", \"github\", \"github-issues\", \"github-pulls\", \"npm\", \"pip\"");
    let (ask, deny, allow) = (Answer::Ask, Answer::Deny, Answer::Allow);
    for (target, by_issues, by_pulls, by_all) in [
        ("GET https://api.github.com/repos/a/b/issues?page=2", allow, deny, allow),
        ("GET https://api.github.com/repos/a/b/pulls?page=2", deny, allow, allow),
        ("POST https://api.github.com/repos/a/b/issues", ask, deny, ask),
        ("PATCH https://api.github.com/repos/a/b/issues/1", ask, deny, ask),
        ("POST https://api.github.com/repos/a/b/issues/1/comments", ask, deny, ask),
        ("PATCH https://api.github.com/repos/a/b/pulls/1", deny, ask, ask),
        ("POST https://api.github.com/repos/a/b/pulls/1/reviews", deny, ask, ask),
        ("PUT https://api.github.com/repos/a/b/pulls/1/merge", deny, deny, deny),
        ("PUT https://api.github.com/repos/a/b/issues/1/lock", deny, deny, deny),
        ("POST https://api.github.com/repos/a/b/dispatches", deny, deny, deny),
        ("POST https://api.github.com/repos/a/b/actions/workflows/1/dispatches", deny, deny, deny),
        ("POST https://api.github.com/repos/a/b/forks", deny, deny, deny),
        ("POST https://api.github.com/gists", deny, deny, deny),
        ("POST https://api.github.com/markdown", deny, deny, deny),
        ("GET https://api.github.com/repositories/1/issues?page=2", deny, deny, deny),
        ("GET https://api.github.com/user", deny, deny, deny),
    ] {
        for (policy, answer) in [(&issues, by_issues), (&pulls, by_pulls), (&all, by_all)] {
            let facts = facts(Labels::default(), false, Origin::Unknown);
            let (found, why) = asked(policy, request(target), facts);
            assert_eq!(found, answer, "{target}: {why}");
        }
    }
    assert!(domain::Preset::named("github-issues").unwrap().about.contains("pull requests"));
}
