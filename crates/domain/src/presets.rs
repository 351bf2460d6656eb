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

/// Rules about GitHub's API, by the beginning of what they are about: so they also hold below it, and however it ends. GitHub
/// knows repositories and organisations by their names and by their numbers.
macro_rules! closed {
    ($(
        $methods:literal
        own [$($own:literal),* $(,)?]
        repositories [$($repository:literal),* $(,)?]
        organisations [$($organisation:literal),* $(,)?]
    )*
    exactly [$($rule:literal),* $(,)?]) => {
        &[
            $(
                $(concat!($methods, " https://api.github.com/", $own, "**"),)*
                $(
                    concat!($methods, " https://api.github.com/repos/*/*/", $repository, "**"),
                    concat!($methods, " https://api.github.com/repositories/*/", $repository, "**"),
                )*
                $(
                    concat!($methods, " https://api.github.com/orgs/*/", $organisation, "**"),
                    concat!($methods, " https://api.github.com/organizations/*/", $organisation, "**"),
                )*
            )*
            $($rule,)*
        ]
    };
}

/// What makes or shows credentials, keys, hooks, runners or machines at GitHub, lets others in, or takes away what keeps them
/// out: a new exit, which no rule should open by accident. What secret scanning found holds the secrets themselves, and `feeds`
/// has tokens in its addresses. GraphQL can do much of it in a body that no rule looks into; `hub` makes hooks (PubSubHubbub).
/// The settings of a repository and an organisation say in their body who may see it and what members may do.
///
/// What may be read by everybody who may read the repository is closed to changes alone: who else may push or approve, what a
/// workflow may do and is told, what is shown to everybody.
///
/// What only writes or runs something (contents, gists, forks, new repositories, releases, dispatches of workflows) is not here:
/// no preset opens it, and whoever does so by a rule of their own means it.
const GITHUB_CREDENTIALS: &[&str] = closed! {
    "*"
    own [
        "app-manifests",
        "app/",
        "applications",
        "authorizations",
        "copilot_internal",
        "credentials",
        "enterprises",
        "feeds",
        "graphql",
        "hub",
        "installations",
        "projects/*/collaborators",
        "scim",
        "teams",
        "user/codespaces",
        "user/gpg_keys",
        "user/installations",
        "user/keys",
        "user/repository_invitations",
        "user/ssh_signing_keys",
    ]
    repositories [
        "actions/oidc",
        "actions/organization-secrets",
        "actions/runners",
        "actions/secrets",
        "agents",
        "codespaces",
        "collaborators",
        "dependabot/secrets",
        "environments/*/secrets",
        "hooks",
        "invitations",
        "keys",
        "pulls/*/codespaces",
        "secret-scanning",
        "transfer",
    ]
    organisations [
        "actions",
        "agents",
        "codespaces",
        "credential-authorizations",
        "dependabot",
        "hooks",
        "invitations",
        "memberships",
        "outside_collaborators",
        "personal-access-token",
        "private-registries",
        "secret-scanning",
    ]

    "POST,PUT,PATCH,DELETE"
    own ["user/email", "user/memberships"]
    repositories [
        "actions/permissions",
        "actions/runs/*/approve",
        "actions/runs/*/deployment_protection_rule",
        "actions/runs/*/pending_deployments",
        "actions/variables",
        "branches/**/protection",
        "bypass-requests",
        "dismissal-requests",
        "environments",
        "pages",
        "properties",
        "rulesets",
        "security-advisories",
    ]
    organisations [
        "copilot",
        "custom-repository-roles",
        "custom_roles",
        "organization-roles",
        "properties",
        "rulesets",
        "security-managers",
        "settings",
        "team",
    ]

    exactly [
        "* https://api.github.com/app",
        "POST,PATCH https://api.github.com/repos/*/*",
        "POST,PATCH https://api.github.com/repos/*/*/",
        "POST,PATCH https://api.github.com/repositories/*",
        "POST,PATCH https://api.github.com/repositories/*/",
        "POST,PATCH https://api.github.com/orgs/*",
        "POST,PATCH https://api.github.com/orgs/*/",
        "POST,PATCH https://api.github.com/organizations/*",
        "POST,PATCH https://api.github.com/organizations/*/",
        "* https://github.com/login/**",
    ]
};

impl Preset {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}
