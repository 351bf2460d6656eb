//! Presets: named sets of egress rules for well-known services, reviewed here. An agent file names them in `[egress]`.
//!
//! They only ever read, but for those whose name says more; what publishes, spends or makes new credentials is denied
//! in them, so that a wider rule beside them doesn't let it pass by accident.

/// A named set of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name in agent files.
    pub name: &'static str,
    /// What it is for, for people.
    pub about: &'static str,
    /// What it allows.
    pub allow: &'static [&'static str],
    /// What it asks a person for.
    pub ask: &'static [&'static str],
    /// What it denies, whatever other rules allow.
    pub deny: &'static [&'static str],
}

/// All of them, by name.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "cargo",
        about: "crates of the public registry: reading",
        allow: &[
            "GET,HEAD https://index.crates.io/**",
            "GET,HEAD https://static.crates.io/crates/**",
            "GET,HEAD https://crates.io/api/v1/crates/*/*/download",
        ],
        ask: &[],
        deny: &[
            "PUT,DELETE,POST,PATCH https://crates.io/api/**",
            "GET,POST,PUT,DELETE https://crates.io/api/v1/me/**",
            "* https://crates.io/api/private/**",
        ],
    },
    Preset {
        name: "debian",
        about: "packages of Debian's archives: reading, with apt's own signatures",
        allow: &[
            "GET,HEAD http://deb.debian.org/debian/**",
            "GET,HEAD https://deb.debian.org/debian/**",
            "GET,HEAD http://deb.debian.org/debian-security/**",
            "GET,HEAD https://deb.debian.org/debian-security/**",
            "GET,HEAD http://security.debian.org/**",
            "GET,HEAD https://security.debian.org/**",
        ],
        ask: &[],
        deny: &[],
    },
    Preset {
        name: "github",
        about: "GitHub's API: reading repositories, with queries; nothing is written, and no credentials are made",
        allow: &[
            "GET,HEAD https://api.github.com/repos/*/*",
            "GET,HEAD https://api.github.com/repos/*/*/**?*",
            "GET,HEAD https://raw.githubusercontent.com/**",
            "GET,HEAD https://codeload.github.com/**",
        ],
        ask: &[],
        deny: GITHUB_CREDENTIALS,
    },
    Preset {
        name: "github-issues",
        about: "GitHub's API: opening, changing and answering issues, and pull requests with them, which are issues to it: \
                commenting, renaming, closing; each is asked for",
        allow: &[
            "GET,HEAD https://api.github.com/repos/*/*/issues/**?*",
            "GET,HEAD https://api.github.com/repos/*/*/issues?*",
        ],
        ask: &[
            "POST https://api.github.com/repos/*/*/issues",
            "PATCH https://api.github.com/repos/*/*/issues/*",
            "POST https://api.github.com/repos/*/*/issues/*/comments",
            "POST https://api.github.com/repos/*/*/issues/*/labels",
        ],
        deny: GITHUB_CREDENTIALS,
    },
    Preset {
        name: "github-pulls",
        about: "GitHub's API: opening, changing and reviewing pull requests, not merging them; each is asked for",
        allow: &[
            "GET,HEAD https://api.github.com/repos/*/*/pulls/**?*",
            "GET,HEAD https://api.github.com/repos/*/*/pulls?*",
        ],
        ask: &[
            "POST https://api.github.com/repos/*/*/pulls",
            "PATCH https://api.github.com/repos/*/*/pulls/*",
            "POST https://api.github.com/repos/*/*/pulls/*/comments",
            "POST https://api.github.com/repos/*/*/pulls/*/reviews",
            "POST https://api.github.com/repos/*/*/pulls/*/requested_reviewers",
        ],
        deny: GITHUB_CREDENTIALS,
    },
    Preset {
        name: "npm",
        about: "packages of the public registry: reading; no publishing, no tokens",
        allow: &[
            "GET,HEAD https://registry.npmjs.org/*",
            "GET,HEAD https://registry.npmjs.org/@*/*",
            "GET,HEAD https://registry.npmjs.org/*/-/*",
            "GET,HEAD https://registry.npmjs.org/@*/*/-/*",
        ],
        ask: &[],
        deny: &[
            "PUT,DELETE,POST,PATCH https://registry.npmjs.org/**",
            "GET,HEAD https://registry.npmjs.org/-/npm/v1/tokens/**",
            "GET,HEAD https://registry.npmjs.org/-/npm/v1/tokens",
            "GET,HEAD https://registry.npmjs.org/-/whoami",
            "* https://registry.npmjs.org/-/v1/done",
            "* https://registry.npmjs.org/-/v1/login",
        ],
    },
    Preset {
        name: "pip",
        about: "packages of the public index: reading; no uploading",
        allow: &[
            "GET,HEAD https://pypi.org/simple/**",
            "GET,HEAD https://pypi.org/pypi/*/json",
            "GET,HEAD https://pypi.org/pypi/*/*/json",
            "GET,HEAD https://files.pythonhosted.org/packages/**",
        ],
        ask: &[],
        deny: &[
            "POST,PUT,DELETE,PATCH https://upload.pypi.org/**",
            "POST,PUT,DELETE,PATCH https://pypi.org/**",
        ],
    },
];

/// What makes credentials, keys, hooks, runners or machines at GitHub, reads them, or lets others in: a new exit, which no
/// rule should open by accident. GitHub knows repositories and organisations by their numbers, too. GraphQL can do much of it
/// in a body that no rule looks into; `hub` makes hooks (PubSubHubbub).
///
/// What only writes or runs something (gists, forks, releases, dispatches of workflows) is not here: no preset opens it, and
/// whoever does so by a rule of their own means it.
const GITHUB_CREDENTIALS: &[&str] = &[
    "* https://api.github.com/app/**",
    "* https://api.github.com/app",
    "* https://api.github.com/applications/**",
    "* https://api.github.com/applications",
    "* https://api.github.com/app-manifests/**",
    "* https://api.github.com/app-manifests",
    "* https://api.github.com/authorizations/**",
    "* https://api.github.com/authorizations",
    "* https://api.github.com/copilot_internal/**",
    "* https://api.github.com/copilot_internal",
    "* https://api.github.com/credentials/**",
    "* https://api.github.com/credentials",
    "* https://api.github.com/enterprises/**",
    "* https://api.github.com/enterprises",
    "* https://api.github.com/graphql/**",
    "* https://api.github.com/graphql",
    "* https://api.github.com/hub/**",
    "* https://api.github.com/hub",
    "* https://api.github.com/scim/**",
    "* https://api.github.com/scim",
    "* https://api.github.com/user/codespaces/**",
    "* https://api.github.com/user/codespaces",
    "* https://api.github.com/user/gpg_keys/**",
    "* https://api.github.com/user/gpg_keys",
    "* https://api.github.com/user/installations/**",
    "* https://api.github.com/user/installations",
    "* https://api.github.com/user/keys/**",
    "* https://api.github.com/user/keys",
    "* https://api.github.com/user/repository_invitations/**",
    "* https://api.github.com/user/repository_invitations",
    "* https://api.github.com/user/ssh_signing_keys/**",
    "* https://api.github.com/user/ssh_signing_keys",
    "* https://api.github.com/repos/*/*/actions/oidc/**",
    "* https://api.github.com/repos/*/*/actions/oidc",
    "* https://api.github.com/repos/*/*/actions/organization-secrets/**",
    "* https://api.github.com/repos/*/*/actions/organization-secrets",
    "* https://api.github.com/repos/*/*/actions/runners/**",
    "* https://api.github.com/repos/*/*/actions/runners",
    "* https://api.github.com/repos/*/*/actions/secrets/**",
    "* https://api.github.com/repos/*/*/actions/secrets",
    "* https://api.github.com/repos/*/*/agents/secrets/**",
    "* https://api.github.com/repos/*/*/agents/secrets",
    "* https://api.github.com/repos/*/*/codespaces/**",
    "* https://api.github.com/repos/*/*/codespaces",
    "* https://api.github.com/repos/*/*/collaborators/**",
    "* https://api.github.com/repos/*/*/collaborators",
    "* https://api.github.com/repos/*/*/dependabot/secrets/**",
    "* https://api.github.com/repos/*/*/dependabot/secrets",
    "* https://api.github.com/repos/*/*/environments/*/secrets/**",
    "* https://api.github.com/repos/*/*/environments/*/secrets",
    "* https://api.github.com/repos/*/*/hooks/**",
    "* https://api.github.com/repos/*/*/hooks",
    "* https://api.github.com/repos/*/*/invitations/**",
    "* https://api.github.com/repos/*/*/invitations",
    "* https://api.github.com/repos/*/*/keys/**",
    "* https://api.github.com/repos/*/*/keys",
    "* https://api.github.com/repositories/*/actions/oidc/**",
    "* https://api.github.com/repositories/*/actions/oidc",
    "* https://api.github.com/repositories/*/actions/organization-secrets/**",
    "* https://api.github.com/repositories/*/actions/organization-secrets",
    "* https://api.github.com/repositories/*/actions/runners/**",
    "* https://api.github.com/repositories/*/actions/runners",
    "* https://api.github.com/repositories/*/actions/secrets/**",
    "* https://api.github.com/repositories/*/actions/secrets",
    "* https://api.github.com/repositories/*/agents/secrets/**",
    "* https://api.github.com/repositories/*/agents/secrets",
    "* https://api.github.com/repositories/*/codespaces/**",
    "* https://api.github.com/repositories/*/codespaces",
    "* https://api.github.com/repositories/*/collaborators/**",
    "* https://api.github.com/repositories/*/collaborators",
    "* https://api.github.com/repositories/*/dependabot/secrets/**",
    "* https://api.github.com/repositories/*/dependabot/secrets",
    "* https://api.github.com/repositories/*/environments/*/secrets/**",
    "* https://api.github.com/repositories/*/environments/*/secrets",
    "* https://api.github.com/repositories/*/hooks/**",
    "* https://api.github.com/repositories/*/hooks",
    "* https://api.github.com/repositories/*/invitations/**",
    "* https://api.github.com/repositories/*/invitations",
    "* https://api.github.com/repositories/*/keys/**",
    "* https://api.github.com/repositories/*/keys",
    "* https://api.github.com/orgs/*/actions/**",
    "* https://api.github.com/orgs/*/actions",
    "* https://api.github.com/orgs/*/agents/**",
    "* https://api.github.com/orgs/*/agents",
    "* https://api.github.com/orgs/*/codespaces/**",
    "* https://api.github.com/orgs/*/codespaces",
    "* https://api.github.com/orgs/*/credential-authorizations/**",
    "* https://api.github.com/orgs/*/credential-authorizations",
    "* https://api.github.com/orgs/*/dependabot/**",
    "* https://api.github.com/orgs/*/dependabot",
    "* https://api.github.com/orgs/*/hooks/**",
    "* https://api.github.com/orgs/*/hooks",
    "* https://api.github.com/orgs/*/invitations/**",
    "* https://api.github.com/orgs/*/invitations",
    "* https://api.github.com/orgs/*/memberships/**",
    "* https://api.github.com/orgs/*/memberships",
    "* https://api.github.com/orgs/*/outside_collaborators/**",
    "* https://api.github.com/orgs/*/outside_collaborators",
    "* https://api.github.com/orgs/*/private-registries/**",
    "* https://api.github.com/orgs/*/private-registries",
    "* https://api.github.com/orgs/*/personal-access-token*/**",
    "* https://api.github.com/orgs/*/personal-access-token*",
    "* https://api.github.com/organizations/*/actions/**",
    "* https://api.github.com/organizations/*/actions",
    "* https://api.github.com/organizations/*/agents/**",
    "* https://api.github.com/organizations/*/agents",
    "* https://api.github.com/organizations/*/codespaces/**",
    "* https://api.github.com/organizations/*/codespaces",
    "* https://api.github.com/organizations/*/credential-authorizations/**",
    "* https://api.github.com/organizations/*/credential-authorizations",
    "* https://api.github.com/organizations/*/dependabot/**",
    "* https://api.github.com/organizations/*/dependabot",
    "* https://api.github.com/organizations/*/hooks/**",
    "* https://api.github.com/organizations/*/hooks",
    "* https://api.github.com/organizations/*/invitations/**",
    "* https://api.github.com/organizations/*/invitations",
    "* https://api.github.com/organizations/*/memberships/**",
    "* https://api.github.com/organizations/*/memberships",
    "* https://api.github.com/organizations/*/outside_collaborators/**",
    "* https://api.github.com/organizations/*/outside_collaborators",
    "* https://api.github.com/organizations/*/private-registries/**",
    "* https://api.github.com/organizations/*/private-registries",
    "* https://api.github.com/organizations/*/personal-access-token*/**",
    "* https://api.github.com/organizations/*/personal-access-token*",
    "* https://api.github.com/teams/**",
    "* https://api.github.com/teams",
    "* https://github.com/login/**",
];

impl Preset {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}
