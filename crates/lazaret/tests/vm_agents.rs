//! Real agents at work in a cell, with the scripted model: each edits a file of a workspace.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use demo::scripted::{Action, Script};
use serde_json::Value;
use testkit::person::{logging_in, pasted, url_in};
use testkit::vendors::{ACCOUNT, Vendors};
use testkit::{Asked, CANARY, Lab, Terminal, deadline, files};

/// A git repository with one file to edit, one that must not go in, and one that is ignored.
fn workspace(lab: &Lab, name: &str) -> PathBuf {
    let folder = lab.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("greeting.txt"), "hello\n").unwrap();
    fs::write(folder.join(".env"), "TOKEN=not-for-agents\n").unwrap();
    fs::write(folder.join(".gitignore"), "ignored.txt\n").unwrap();
    fs::write(folder.join("ignored.txt"), "ignored\n").unwrap();
    for args in [&["init", "-q"][..], &["add", "-A", "-f", "greeting.txt", ".env", ".gitignore"]] {
        assert!(Command::new("git").args(args).current_dir(&folder).status().unwrap().success());
    }
    folder
}

fn edits_a_file(name: &str, agent: &str) {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.agent(name, agent);
    let folder = workspace(&lab, "workspace");
    let path = folder.to_str().unwrap();
    let done = lab.session(&[name, "--workspace", path, "--apply", "change the greeting"], "").expect(0);
    assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello from inside\n", "{done:?}");
    assert!(done.stderr.contains("+hello from inside"), "the patch is shown: {}", done.stderr);
    assert!(done.stdout.contains("The greeting says where it comes from."), "{done:?}");
    for request in lab.model.recorded() {
        assert!(!request.body.contains("not-for-agents"), "the .env file went in");
    }
}

#[test]
fn the_built_in_harness_edits_a_file() {
    edits_a_file(
        "builtin-editor",
        "name = \"builtin-editor\"\nharness = \"builtin\"\nmodels = [\"scripted/greeter\"]\n",
    );
}

#[test]
fn what_rules_in_cedar_forbid_an_agent_that_is_run_by_its_folder_does_not_do() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let folder = lab.path("home/mine");
    fs::create_dir(&folder).unwrap();
    let file = "name = \"mine\"\nharness = \"builtin\"\nmodels = [\"scripted/greeter\"]\n";
    fs::write(folder.join("agent.toml"), file).unwrap();
    let forbid = "@reason(\"no model today\")\nforbid (principal, action == Action::\"model\", resource);\n";
    fs::write(folder.join("policy.cedar"), forbid).unwrap();
    let done = lab.session(&["./mine", "change the greeting"], "");
    assert!(done.code() != 0 && done.stderr.contains("no model today"), "{done:?}");
    assert_eq!(lab.model.recorded().len(), 0, "no model was asked");
}

#[test]
fn claude_code_edits_a_file() {
    edits_a_file(
        "claude-editor",
        "name = \"claude-editor\"\nharness = \"claude-code\"\nmodels = [\"scripted/greeter\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
}

#[test]
fn codex_edits_a_file() {
    edits_a_file(
        "codex-editor",
        "name = \"codex-editor\"\nharness = \"codex\"\nmodels = [\"scripted-responses/greeter\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
}

/// All that a cell has of a key.
const NO_KEY: &str = "nobody-s-key";

/// A real agent, run as its maker means it to be run, with nothing of it switched off.
struct Whole {
    name: &'static str,
    image: &'static str,
    /// The scripted model, and the one that a subscription is for.
    models: [&'static str; 2],
    /// A shell's words that ask both for what the person asks.
    asks: &'static str,
    /// The subscription, by which the vault's secret is named too.
    of: &'static str,
    /// Where it is asked with it.
    host: &'static str,
}

/// Has it do its work, then answer with a subscription that a person logged in for; what it was refused meanwhile, and what
/// the vendor was asked.
fn refused_meanwhile(agent: &Whole) -> (Vec<String>, Asked) {
    let Whole { name, image, models: [scripted, subscribed], asks, of, host } = agent;
    let vendors = Vendors::start();
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    drop(lab.run(&["image", "build", image], "").expect(0));
    let provider = subscribed.split('/').next().unwrap();
    let key = format!("[providers.{provider}]\nkey = \"secret:{of}\"\n");
    lab.network(&(vendors.site.network(&lab.path(".")) + &key));
    lab.kill_daemon();
    lab.restart_daemon();
    let (child, told) = logging_in(&lab, &[of, "--subscription", of, "--paste"]);
    assert!(pasted(child, &vendors.browse(&url_in(&told))));
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nharness = {{ command = [\"sh\", \"-c\", '''{asks}''', \"sh\"] }}\nimage = \"{image}\"\n\
             models = [\"{scripted}\", \"{subscribed}\"]\n[limits]\nmemory = \"768MiB\"\n"
        ),
    );
    let folder = workspace(&lab, "workspace");
    let path = folder.to_str().unwrap();
    let done = lab.session(&[name, "--workspace", path, "--apply", "change the greeting"], "").expect(0);
    assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello from inside\n", "{done:?}");
    assert!(done.stdout.contains("Reviewed."), "the answer to the subscription: {done:?}");
    let mut asked = vendors.site.asked();
    asked.retain(|asked| asked.host == *host);
    for asked in &asked {
        let shown = asked.header("authorization").unwrap_or_default();
        assert!(shown.starts_with("Bearer canary-access-"), "{}: {shown}", asked.line);
        assert!(!format!("{asked:?}").contains(NO_KEY), "{}", asked.line);
    }
    let export = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(!export.contains("canary-") && !files::hold(&lab.path("."), b"canary-"), "a token is in a file");
    let refused = export.lines().filter(|line| line.contains("egress is closed")).map(request).collect();
    (refused, asked.pop().expect("the vendor was asked"))
}

/// Method and URL of a request that an entry of the ledger is about.
fn request(entry: &str) -> String {
    let entry: Value = serde_json::from_str(entry).unwrap();
    let request: Value = serde_json::from_str(entry["private"].as_str().unwrap()).unwrap();
    format!("{} {}", request["method"].as_str().unwrap(), request["url"].as_str().unwrap())
}

#[test]
fn telemetry_of_claude_code_is_refused_without_harm() {
    let (refused, asked) = refused_meanwhile(&Whole {
        name: "claude-teller",
        image: "claude-code",
        models: ["scripted/greeter", "anthropic/claude-sonnet-4-5"],
        asks: r#"
            export ANTHROPIC_BASE_URL=$LAZARET_MODEL_URL ANTHROPIC_API_KEY=nobody-s-key
            ask() { ANTHROPIC_MODEL=$1 claude --dangerously-skip-permissions --print -- "$2" </dev/null; }
            ask greeter "$1" && ask claude-sonnet-4-5 "$1"
        "#,
        of: "claude",
        host: "api.anthropic.com",
    });
    let events = "POST https://api.anthropic.com/api/event_logging/v2/batch";
    assert!(refused.iter().any(|request| request == events), "{refused:?}");
    let betas = asked.header("anthropic-beta").unwrap();
    assert!(betas.contains("oauth-2025-04-20") && betas.contains("claude-code-20250219"), "{betas}");
    // By this beginning of the prompt, the vendor knows who asks.
    assert!(asked.body.contains("You are a Claude agent, built on Anthropic's Claude Agent SDK."));
}

#[test]
fn telemetry_of_codex_is_refused_without_harm() {
    let (refused, asked) = refused_meanwhile(&Whole {
        name: "codex-teller",
        image: "codex",
        models: ["scripted-responses/greeter", "chatgpt/gpt-5.5"],
        asks: r#"
            provider="{name=\"lazaret\",base_url=\"$LAZARET_MODEL_URL/v1\",env_key=\"KEY\",wire_api=\"responses\"}"
            export KEY=nobody-s-key
            ask() {
                codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m "$1" \
                    -c model_provider=lazaret -c "model_providers.lazaret=$provider" -c web_search=disabled -- "$2" </dev/null
            }
            ask greeter "$1" && ask gpt-5.5 "$1"
        "#,
        of: "chatgpt",
        host: "chatgpt.com",
    });
    let metrics = "POST https://ab.chatgpt.com/otlp/v1/metrics";
    assert!(refused.iter().any(|request| request == metrics), "{refused:?}");
    assert_eq!(asked.header("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(asked.line, "POST /backend-api/codex/responses");
}

#[test]
fn claude_code_is_spoken_to_at_a_terminal() {
    let script = Script::new("talker").then(Action::Say { text: "Spoken from inside.".to_owned() });
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), vec![script]);
    lab.agent(
        "talker",
        "name = \"talker\"\nharness = \"claude-code\"\nmodels = [\"scripted/talker\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
    let lazaret = env!("CARGO_BIN_EXE_lazaret");
    let line = format!("stty rows 40 cols 120; {lazaret} run --allow-emulation -it talker; echo code $?");
    let mut terminal = Terminal::run(&lab, &line);
    let waiting = Duration::from_secs(240);
    deadline("Claude Code is ready", waiting, || terminal.seen().contains('❯').then_some(()));
    terminal.keys("say something");
    deadline("it shows what is typed", waiting, || terminal.seen().contains("something").then_some(()));
    terminal.keys("\r");
    deadline("it shows the answer", waiting, || terminal.seen().contains("Spoken").then_some(()));
    assert!(lab.model.recorded().iter().any(|request| format!("{request:?}").contains(CANARY)));
    drop(lab.run(&["stop", "talker"], "").expect(0));
    let seen = terminal.end();
    assert!(seen.contains("code 130") && !seen.contains("Unable to connect"), "{seen}");
}
