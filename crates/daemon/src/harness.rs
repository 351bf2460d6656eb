//! What runs in the cell for each harness: its program, arguments and environment, and nothing else configures it.

use std::time::Duration;

use domain::{AgentFile, Harness, ModelName, SecretName};
use wire::guest::AUTHORITY;
use wire::process::{Place, ProcessSpec, TtySize};

/// The port on the container's loopback where the model endpoint listens.
pub(crate) const MODEL_PORT: u16 = 8181;
/// The port on the container's loopback where the tools' endpoint listens.
pub(crate) const TOOLS_PORT: u16 = 8182;
/// The port on the container's loopback where the egress proxy listens.
pub(crate) const EGRESS_PORT: u16 = 8183;
/// Where the workspace lies in the container, and where harnesses start.
pub(crate) const WORKSPACE: &str = "/workspace";
const HOME: &str = "/home/agent";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is reached without a proxy.
const LOOPBACK: &str = "127.0.0.1,localhost,::1";
/// Variables that name a file of authorities: of OpenSSL and what asks it, Node, Python's requests, Git, curl, pip, Cargo,
/// npm.
const TRUST: [&str; 8] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
];
const NOT_A_KEY: &str = "placeholder-the-host-adds-the-key";

/// What a session asks of its harness.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    /// The agent.
    pub(crate) agent: &'a AgentFile,
    /// The model to use first, and the protocol its provider speaks.
    pub(crate) model: Option<(&'a ModelName, &'static str)>,
    /// What the person asks.
    pub(crate) prompt: Option<&'a str>,
    /// The image's own environment, `NAME=value`.
    pub(crate) image_env: &'a [String],
    /// A terminal of this size.
    pub(crate) tty: Option<TtySize>,
    /// Whether the agent was given tools.
    pub(crate) tools: bool,
}

/// Where the host's tools are, in the container.
fn tools_url() -> String {
    format!("http://127.0.0.1:{TOOLS_PORT}/mcp")
}

/// How long a harness waits for a tool: a person may have been asked.
const TOOL_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a harness waits for the tools' endpoint.
const TOOLS_START: Duration = Duration::from_secs(60);

/// The harness of a session.
pub(crate) fn process(task: &Task<'_>) -> ProcessSpec {
    let url = format!("http://127.0.0.1:{MODEL_PORT}");
    let mut env = base_env(task.image_env, task.tty);
    way_out(&mut env);
    let mut set = |name: &str, value: &str| set(&mut env, name, value);
    set("LAZARET_MODEL_URL", &url);
    if task.tools {
        set("LAZARET_TOOLS_URL", &tools_url());
    }
    if let Some((model, api)) = task.model {
        set("LAZARET_MODEL", &model.to_string());
        set("LAZARET_MODEL_API", api);
    }
    for used in &task.agent.secrets {
        set(&used.secret.variable(), &used.secret.placeholder());
        if let Some(variable) = &used.variable {
            set(variable.as_str(), &used.secret.placeholder());
        }
    }
    let prompt = task.prompt.map(str::to_owned);
    let model = task.model.map_or("", |(model, _)| model.model());
    let argv = match &task.agent.harness {
        Harness::Builtin => {
            set("LAZARET_INSTRUCTIONS", &task.agent.instructions);
            words(&["lazaret-builtin"]).into_iter().chain(prompt).collect()
        }
        Harness::ClaudeCode => {
            for (name, value) in claude_env(&url, model, task.tty.is_some()) {
                set(name, &value);
            }
            if task.tools {
                set("MCP_TOOL_TIMEOUT", &TOOL_PATIENCE.as_millis().to_string());
                set("MCP_TIMEOUT", &TOOLS_START.as_millis().to_string());
            }
            claude_code(task, prompt)
        }
        Harness::Codex => {
            set("LAZARET_KEY", NOT_A_KEY);
            codex(task, &url, model, prompt)
        }
        Harness::Acp(program) => {
            set("ANTHROPIC_BASE_URL", &url);
            set("ANTHROPIC_API_KEY", NOT_A_KEY);
            set("OPENAI_BASE_URL", &format!("{url}/v1"));
            set("OPENAI_API_KEY", NOT_A_KEY);
            let head = words(&["lazaret-acp"]).into_iter().chain(prompt).chain(words(&["--"]));
            head.chain(program.iter().cloned()).collect()
        }
        Harness::Command(program) => program.iter().cloned().chain(prompt).collect(),
    };
    ProcessSpec { argv, env, cwd: WORKSPACE.to_owned(), tty: task.tty, place: Place::Container }
}

/// The program of a tool server's cell; where it has a way out, with the placeholders of the secrets that go by it.
pub(crate) fn server(
    argv: Vec<String>,
    image_env: &[String],
    out_with: Option<&[SecretName]>,
) -> ProcessSpec {
    let mut env = base_env(image_env, None);
    if let Some(secrets) = out_with {
        way_out(&mut env);
        for secret in secrets {
            set(&mut env, &secret.variable(), &secret.placeholder());
        }
    }
    ProcessSpec { argv, env, cwd: WORKSPACE.to_owned(), tty: None, place: Place::Container }
}

/// A program that a person runs in the cell, beside the harness.
pub(crate) fn exec(
    argv: Vec<String>,
    image_env: &[String],
    tty: Option<TtySize>,
    place: Place,
) -> ProcessSpec {
    let cwd = match place {
        Place::Container => WORKSPACE,
        // The guest's own root has no workspace.
        Place::GuestRoot => "/",
    };
    let mut env = base_env(image_env, tty);
    if place == Place::Container {
        way_out(&mut env);
    }
    ProcessSpec { argv, env, cwd: cwd.to_owned(), tty, place }
}

fn base_env(image_env: &[String], tty: Option<TtySize>) -> Vec<(String, String)> {
    let mut env = vec![("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
    for pair in image_env {
        if let Some((name, value)) = pair.split_once('=') {
            set(&mut env, name, value);
        }
    }
    // Last, so that an image can't say otherwise. Loopback never goes through a proxy.
    for (name, value) in [("HOME", HOME), ("USER", "agent"), ("NO_PROXY", LOOPBACK), ("no_proxy", LOOPBACK)] {
        set(&mut env, name, value);
    }
    if tty.is_some() {
        set(&mut env, "TERM", "xterm-256color");
    }
    env
}

/// Says where the only way out is, and whom to trust there, in each way that programs are told so.
fn way_out(env: &mut Vec<(String, String)>) {
    let proxy = format!("http://127.0.0.1:{EGRESS_PORT}");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        set(env, name, &proxy);
    }
    for name in TRUST {
        set(env, name, AUTHORITY);
    }
    set(env, "NODE_USE_ENV_PROXY", "1");
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// See <https://code.claude.com/docs/en/settings#environment-variables>.
fn claude_env(url: &str, model: &str, terminal: bool) -> Vec<(&'static str, String)> {
    // At a terminal it asks about a key before it uses one, but not about a token. And it greets whoever is new: it wants
    // to reach its maker for that, but for a demonstration, which shows no name either.
    let placeholder = if terminal { "ANTHROPIC_AUTH_TOKEN" } else { "ANTHROPIC_API_KEY" };
    let greeted = terminal.then(|| ("IS_DEMO", "1".to_owned()));
    let set = [
        ("ANTHROPIC_BASE_URL", url.to_owned()),
        (placeholder, NOT_A_KEY.to_owned()),
        ("ANTHROPIC_MODEL", model.to_owned()),
        ("ANTHROPIC_SMALL_FAST_MODEL", model.to_owned()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model.to_owned()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
        ("ENABLE_TOOL_SEARCH", "false".to_owned()),
    ];
    set.into_iter().chain(greeted).collect()
}

/// Its own permission prompts are off: the cell is the boundary.
fn claude_code(task: &Task<'_>, prompt: Option<String>) -> Vec<String> {
    let mut argv = words(&["claude", "--dangerously-skip-permissions", "--strict-mcp-config"]);
    if task.tools {
        let server = serde_json::json!({"type": "http", "url": tools_url()});
        let servers = serde_json::json!({"mcpServers": {"lazaret": server}});
        argv.extend(["--mcp-config".to_owned(), servers.to_string()]);
    }
    if task.tty.is_none() {
        argv.extend(words(&["--print", "--output-format", "text"]));
    }
    if !task.agent.instructions.is_empty() {
        argv.extend(words(&["--append-system-prompt", &task.agent.instructions]));
    }
    // After `--`, no prompt is taken for an option.
    argv.extend(prompt.into_iter().flat_map(|prompt| ["--".to_owned(), prompt]));
    argv
}

/// Its own inner sandbox is off: the cell is the boundary.
fn codex(task: &Task<'_>, url: &str, model: &str, prompt: Option<String>) -> Vec<String> {
    let provider = format!(
        "model_providers.lazaret={{name=\"lazaret\",base_url=\"{url}/v1\",env_key=\"LAZARET_KEY\",wire_api=\"responses\"}}"
    );
    let mut argv = words(&["codex"]);
    if task.tty.is_none() {
        argv.extend(words(&["exec", "--skip-git-repo-check"]));
    }
    argv.extend(words(&["--dangerously-bypass-approvals-and-sandbox", "-m", model]));
    argv.extend(words(&["--disable", "plugins", "--disable", "apps"]));
    for setting in [
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        "web_search=\"disabled\"", // it would run at the provider, which is refused
        "model_provider=\"lazaret\"",
        provider.as_str(),
    ] {
        argv.extend(words(&["-c", setting]));
    }
    if task.tools {
        for (setting, value) in [
            ("url", format!("\"{}\"", tools_url())),
            ("tool_timeout_sec", TOOL_PATIENCE.as_secs().to_string()),
            ("startup_timeout_sec", TOOLS_START.as_secs().to_string()),
        ] {
            argv.extend(["-c".to_owned(), format!("mcp_servers.lazaret.{setting}={value}")]);
        }
    }
    let prompt = prompt.or_else(|| task.tty.is_none().then(|| "-".to_owned()));
    argv.extend(prompt.into_iter().flat_map(|prompt| ["--".to_owned(), prompt]));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(file: &str, prompt: Option<&str>, image_env: &[String]) -> ProcessSpec {
        let agent = AgentFile::parse(file).unwrap();
        let model = agent.models.first().map(|model| (model, "anthropic"));
        process(&Task { agent: &agent, model, prompt, image_env, tty: None, tools: false })
    }

    fn value<'a>(spec: &'a ProcessSpec, name: &str) -> &'a str {
        spec.env.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn the_builtin_harness_is_told_its_model_and_its_prompt() {
        let spec = spec("name = \"a\"\nmodels = [\"p/m\"]\ninstructions = \"Be kind.\"", Some("hi"), &[]);
        assert_eq!(spec.argv, ["lazaret-builtin", "hi"]);
        assert_eq!(value(&spec, "LAZARET_MODEL"), "p/m");
        assert_eq!(value(&spec, "LAZARET_MODEL_API"), "anthropic");
        assert_eq!(value(&spec, "LAZARET_MODEL_URL"), "http://127.0.0.1:8181");
        assert_eq!(value(&spec, "LAZARET_INSTRUCTIONS"), "Be kind.");
        assert_eq!((spec.cwd.as_str(), spec.place), ("/workspace", Place::Container));
    }

    #[test]
    fn an_image_adds_to_the_environment_but_names_no_home_and_no_proxy_for_loopback() {
        let image: Vec<String> =
            ["PATH=/opt", "HOME=/root", "NO_PROXY=", "X=1", "odd"].map(str::to_owned).into();
        let spec = spec("name = \"a\"\nharness = { command = [\"env\", \"-0\"] }", None, &image);
        assert_eq!(spec.argv, ["env", "-0"]);
        assert_eq!(value(&spec, "PATH"), "/opt");
        assert_eq!(value(&spec, "HOME"), "/home/agent");
        assert_eq!(value(&spec, "NO_PROXY"), "127.0.0.1,localhost,::1");
        assert_eq!(value(&spec, "X"), "1");
    }

    #[test]
    fn a_cell_gets_placeholders_for_its_agents_secrets() {
        let with = "name = \"a\"\nharness = { command = [\"env\"] }\n[secrets]\nmy-key = [\"https://a\"]";
        assert_eq!(value(&spec(with, None, &[]), "LAZARET_SECRET_MY_KEY"), "lazaret-secret-my-key");
        let with = "name = \"a\"\nharness = { command = [\"env\"] }\n[secrets]\nhub = { to = [\"https://a\"], variable = \"GITHUB_TOKEN\" }";
        let named = spec(with, None, &["GITHUB_TOKEN=of-the-image".to_owned()]);
        for variable in ["GITHUB_TOKEN", "LAZARET_SECRET_HUB"] {
            assert_eq!(value(&named, variable), "lazaret-secret-hub");
        }
        let without = spec("name = \"a\"\nharness = { command = [\"env\"] }", None, &[]);
        assert!(without.env.iter().all(|(name, _)| !name.contains("SECRET")));
    }

    #[test]
    fn programs_of_a_session_know_the_way_out_and_those_of_a_tool_server_if_they_have_one() {
        let image: Vec<String> =
            ["HTTPS_PROXY=http://evil.example", "SSL_CERT_FILE=/x"].map(str::to_owned).into();
        let harness = spec("name = \"a\"\nharness = { command = [\"env\"] }", None, &image);
        let beside = exec(vec!["env".to_owned()], &image, None, Place::Container);
        for spec in [harness, beside] {
            assert_eq!(value(&spec, "HTTPS_PROXY"), "http://127.0.0.1:8183");
            assert_eq!(value(&spec, "http_proxy"), "http://127.0.0.1:8183");
            for client in [
                "SSL_CERT_FILE",
                "CURL_CA_BUNDLE",
                "GIT_SSL_CAINFO",
                "REQUESTS_CA_BUNDLE",
                "PIP_CERT",
                "NODE_EXTRA_CA_CERTS",
                "npm_config_cafile",
                "CARGO_HTTP_CAINFO",
            ] {
                assert_eq!(value(&spec, client), "/.lazaret/ca.pem", "{client}");
            }
        }
        let secrets = ["api".parse().unwrap()];
        let reaches_out = server(vec![], &image, Some(&secrets));
        assert_eq!(value(&reaches_out, "HTTPS_PROXY"), "http://127.0.0.1:8183");
        assert_eq!(value(&reaches_out, "LAZARET_SECRET_API"), "lazaret-secret-api");
        let none = [server(vec![], &[], None), exec(vec![], &[], None, Place::GuestRoot)];
        assert!(none.iter().all(|spec| !format!("{spec:?}").contains("8183")));
    }

    #[test]
    fn real_agents_get_the_endpoint_and_never_a_key() {
        for (harness, program) in [("claude-code", "claude"), ("codex", "codex")] {
            let spec =
                spec(&format!("name = \"a\"\nharness = \"{harness}\"\nmodels = [\"p/m\"]"), Some("-x"), &[]);
            assert_eq!(spec.argv[0], program);
            let all = format!("{:?}{:?}", spec.argv, spec.env);
            assert!(all.contains("127.0.0.1:8181"), "{all}");
            assert!(spec.env.iter().filter(|(name, _)| name.ends_with("KEY")).all(|(_, v)| v == NOT_A_KEY));
        }
        let token = claude_env("http://127.0.0.1:8181", "m", true);
        assert!(token.contains(&("ANTHROPIC_AUTH_TOKEN", NOT_A_KEY.to_owned())));
        let acp = spec("name = \"a\"\nharness = { acp = [\"agent\", \"--stdio\"] }", Some("hi"), &[]);
        assert_eq!(acp.argv, ["lazaret-acp", "hi", "--", "agent", "--stdio"]);
    }

    #[test]
    fn tools_are_configured_only_for_agents_that_have_some() {
        let all = |harness: &str, tools: bool| {
            let file = format!("name = \"a\"\nmodels = [\"p/m\"]\nharness = {harness}");
            let agent = AgentFile::parse(&file).unwrap();
            let model = agent.models.first().map(|model| (model, "anthropic"));
            let prompt = Some("-x");
            let spec = process(&Task { agent: &agent, model, prompt, image_env: &[], tty: None, tools });
            (spec.argv.join(" "), format!("{:?}", spec.env))
        };
        for harness in ["\"builtin\"", "\"claude-code\"", "\"codex\"", "{ acp = [\"agent\"] }"] {
            let (argv, env) = all(harness, false);
            assert!(!argv.contains("8182") && !env.contains("8182"), "{harness}: {argv} {env}");
            let (_argv, env) = all(harness, true);
            assert!(env.contains(r#"("LAZARET_TOOLS_URL", "http://127.0.0.1:8182/mcp")"#), "{env}");
        }
        let (argv, env) = all("\"claude-code\"", true);
        let servers =
            r#"--mcp-config {"mcpServers":{"lazaret":{"type":"http","url":"http://127.0.0.1:8182/mcp"}}}"#;
        assert!(argv.contains(servers) && argv.ends_with("-- -x"), "{argv}");
        assert!(env.contains("MCP_TOOL_TIMEOUT") && argv.contains("--strict-mcp-config"));
        let (argv, _env) = all("\"codex\"", true);
        assert!(argv.contains(r#"-c mcp_servers.lazaret.url="http://127.0.0.1:8182/mcp""#), "{argv}");
        assert!(argv.contains("-c mcp_servers.lazaret.tool_timeout_sec=86400"), "{argv}");
    }
}
