//! The stage on which the acts are played: folders of their own, the scripted model, and a daemon.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::outside::Outside;
use crate::scripted::{ScriptedModel, serve};
use crate::{DemoError, courier, git_host};

/// The example agents, as they ship.
const FIXER: &str = include_str!("../../../agents/fixer/agent.toml");
const COURIER: &str = include_str!("../../../agents/courier/agent.toml");
const HOSTILE: &str = include_str!("../../../agents/hostile/agent.toml");
/// Runs the tests of a repository, in a cell of its own: what an agent changed isn't run on the host.
const TESTER: &str = "name = \"tester\"\nharness = { command = [\"python3\", \"-m\", \"unittest\"] }\n";

/// Where the daemon finds the provider's key.
const KEY_VARIABLE: &str = "LAZARET_DEMO_KEY";
/// The models that the example agents name, and the scripts that they follow here.
const MODELS: [(&str, &str); 3] =
    [("claude-sonnet-4-5", "fixer"), ("claude-haiku-4-5", "clerk"), (courier::MODEL, courier::SCRIPT)];
/// The host that the courier's file names; here it is one of the services outside.
const GIT_HOST: &str = "git.example.com";
/// What of the data folder is shared with the person's own; an agent's disk isn't, nor is a session's.
const SHARED: [&str; 3] = ["images", "initramfs", "kernels"];
/// What KVM was found to be. It is worth keeping, but not one of the shared folders.
const VERDICT: &str = "kvm.json";
/// Longest time of one command: an emulated machine on a busy host, with an image to build first.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How long the daemon may take to answer, and to end.
const READY: Duration = Duration::from_secs(60);
/// How often the double of the person looks for a question.
const LOOK: Duration = Duration::from_millis(100);
/// Most characters that are shown of a line that a command prints.
const MAX_WIDTH: usize = 180;
/// Most bytes of one line, and of one command's output, that are kept.
const MAX_LINE: u64 = 64 * 1024;
const MAX_OUTPUT: usize = 8 << 20;

/// What went wrong with what.
pub(crate) fn io<T>(what: impl Into<String>, result: std::io::Result<T>) -> Result<T, DemoError> {
    result.map_err(|source| DemoError::Io { what: what.into(), source })
}

/// Prints on standard output.
pub(crate) fn print(text: &str) -> Result<(), DemoError> {
    io("standard output", writeln!(std::io::stdout(), "{text}"))
}

/// How the demo speaks to the person.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    /// Nothing but the document at the end is printed.
    pub(crate) quiet: bool,
}

impl Voice {
    /// A line for the person.
    pub(crate) fn say(self, text: &str) -> Result<(), DemoError> {
        if self.quiet { Ok(()) } else { print(text) }
    }

    /// The title of an act.
    pub(crate) fn title(self, text: &str) -> Result<(), DemoError> {
        self.say(&format!("\n{text}\n{}", "─".repeat(text.chars().count())))
    }

    /// A line of a command's, without control characters.
    fn echo(self, line: &str) -> Result<(), DemoError> {
        let shown: String = line.chars().filter(|c| !c.is_control() || *c == '\t').take(200).collect();
        self.say(&format!("  │ {shown}"))
    }
}

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// Its exit code; -1 for a signal.
    pub(crate) code: i32,
    /// What it printed on standard output.
    pub(crate) stdout: String,
    /// The bytes that it sent to its terminal.
    pub(crate) terminal: Vec<u8>,
}

/// The stage. [`Stage::strike`] ends what it started.
#[derive(Debug)]
pub(crate) struct Stage {
    /// How it speaks.
    pub(crate) voice: Voice,
    /// The provider's key, which nobody in a cell may find.
    pub(crate) canary: String,
    /// The services of others.
    pub(crate) outside: Outside,
    /// The model, with what it was told.
    pub(crate) model: Arc<ScriptedModel>,
    program: PathBuf,
    folder: tempfile::TempDir,
    daemon: Child,
    _provider: JoinSet<std::io::Result<()>>,
}

impl Stage {
    /// Makes the folders, starts the model and the daemon.
    pub(crate) async fn set(program: &Path, voice: Voice) -> Result<Self, DemoError> {
        let folder = io("a temporary folder", tempfile::Builder::new().prefix("lazaret-demo-").tempdir())?;
        let canary = random_key("sk-ant-demo-")?;
        let outside = Outside::open(folder.path()).await?;
        let listener = io("a port for the model", tokio::net::TcpListener::bind("127.0.0.1:0").await)?;
        let address = io("the model's port", listener.local_addr())?;
        let model = ScriptedModel::new(&canary).with_script(courier::script(&outside));
        let model = MODELS.iter().fold(model, |model, (name, script)| model.with_alias(name, script));
        let model = Arc::new(model);
        let mut provider = JoinSet::new();
        provider.spawn(serve(listener, Arc::clone(&model)));
        let at = folder.path();
        furnish(at, &address.to_string(), &outside)?;
        let log = io("the daemon's log", fs::File::create(at.join("state/daemon.log")))?;
        let errors = io("the daemon's log", log.try_clone())?;
        let mut command = base_command(program, at);
        command.arg("serve").env(KEY_VARIABLE, &canary).process_group(0);
        let daemon = command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true).spawn();
        let daemon = io(format!("starting `{} serve`", program.display()), daemon)?;
        let program = program.to_owned();
        let stage = Self { voice, canary, outside, model, program, folder, daemon, _provider: provider };
        stage.wait_for_daemon().await?;
        Ok(stage)
    }

    async fn wait_for_daemon(&self) -> Result<(), DemoError> {
        let client = self.client();
        let answers = async {
            while client.status().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(READY, answers).await.is_err() {
            let log = fs::read_to_string(self.path("state/daemon.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(10).collect();
            return Err(DemoError::Daemon(lines.into_iter().rev().collect::<Vec<_>>().join("\n")));
        }
        Ok(())
    }

    /// A client of the daemon.
    pub(crate) fn client(&self) -> api::Client {
        api::Client::new(self.path("run/lazaret/api.sock"))
    }

    /// A path on the stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the images, which is shared with the person's own.
    pub(crate) fn images(&self) -> Result<PathBuf, DemoError> {
        Ok(own_data()?.join("images"))
    }

    /// The hostile agent's program, which lies beside `lazaret`.
    pub(crate) fn hostile(&self) -> Result<Vec<u8>, DemoError> {
        let path = self.program.with_file_name("lazaret-hostile");
        io(format!("`{}`", path.display()), fs::read(&path))
    }

    /// A Git repository with these files, all committed.
    pub(crate) async fn repository(
        &self,
        name: &str,
        files: &[(&str, Vec<u8>)],
    ) -> Result<PathBuf, DemoError> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.path(name);
        io(name, fs::create_dir_all(&folder))?;
        for (path, content) in files {
            let file = folder.join(path);
            io(*path, fs::write(&file, content))?;
            if content.starts_with(b"\x7fELF") {
                io(*path, fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))?;
            }
        }
        for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "start"]] {
            let mut git = Command::new("git");
            git.current_dir(&folder)
                .args([
                    "-c",
                    "user.name=demo",
                    "-c",
                    "user.email=demo@localhost",
                    "-c",
                    "commit.gpgsign=false",
                ])
                .args(args)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .stdin(Stdio::null());
            let status = io("git", git.status().await)?;
            if !status.success() {
                return Err(DemoError::Act(format!("`git {}` failed: is git installed?", args.join(" "))));
            }
        }
        Ok(folder)
    }

    /// Runs `lazaret` with these arguments on a terminal, echoing what it says there, and each line that it prints on
    /// standard output to `line`.
    pub(crate) async fn lazaret(
        &self,
        args: &[&str],
        mut line: impl FnMut(&str) -> Result<(), DemoError>,
    ) -> Result<Played, DemoError> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = io("a terminal", openpty(Some(&size), None).map_err(std::io::Error::from))?;
        let mut command = base_command(&self.program, self.folder.path());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(pty.slave).kill_on_drop(true);
        let mut child = io(format!("starting `{}`", self.program.display()), command.spawn())?;
        // The terminal ends when its last holder does, and this command holds one.
        drop(command);
        let stdout = child.stdout.take().ok_or_else(|| DemoError::Act("no standard output".to_owned()))?;
        let terminal = tokio::fs::File::from_std(fs::File::from(pty.master));
        let mut played = Played::default();
        let reading = async {
            let echo = |text: &str| self.voice.echo(text);
            let (out, seen) = tokio::join!(each_line(stdout, &mut line), each_line(terminal, echo));
            Ok::<_, DemoError>((out?, seen?))
        };
        let what = || format!("`lazaret {}`", args.join(" "));
        let (out, seen) =
            timeout(PATIENCE, reading).await.map_err(|_elapsed| DemoError::TooLong(what()))??;
        let status = io(what(), child.wait().await)?;
        played.code = status.code().unwrap_or(-1);
        played.stdout = String::from_utf8_lossy(&out).into_owned();
        played.terminal = seen;
        Ok(played)
    }

    /// Runs a command that must succeed, showing it and what it prints.
    pub(crate) async fn expect(&self, args: &[&str]) -> Result<Played, DemoError> {
        let what = format!("lazaret {}", args.join(" "));
        self.voice.say(&format!("  $ {what}"))?;
        let short = |line: &str| line.chars().take(MAX_WIDTH).collect::<String>();
        let played = self.lazaret(args, |line| self.voice.say(&format!("  > {}", short(line)))).await?;
        if played.code == 0 {
            return Ok(played);
        }
        Err(DemoError::Act(format!("`{what}` ended with exit code {}: {}", played.code, played.stdout)))
    }

    /// Waits for a question to the person; its id.
    pub(crate) async fn asked(&self) -> Result<String, DemoError> {
        let client = self.client();
        loop {
            if let Some(question) = client.approvals().await?.next().await? {
                return Ok(question.id.to_string());
            }
            sleep(LOOK).await;
        }
    }

    /// Ends the daemon, in order, and removes the folders.
    pub(crate) async fn strike(mut self) -> Result<(), DemoError> {
        if let Some(pid) = self.daemon.id().and_then(|id| i32::try_from(id).ok()) {
            io("ending the daemon", kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(std::io::Error::from))?;
        }
        if timeout(READY, self.daemon.wait()).await.is_err() {
            io("ending the daemon", self.daemon.kill().await)?;
        }
        let own = own_data()?;
        if self.path("data/lazaret").join(VERDICT).is_file() {
            io(VERDICT, fs::copy(self.path("data/lazaret").join(VERDICT), own.join(VERDICT)))?;
        }
        io("removing the demo's folder", self.folder.close())
    }
}

/// Puts folders and files where the daemon of the stage looks for them.
fn furnish(at: &Path, provider: &str, outside: &Outside) -> Result<(), DemoError> {
    use std::os::unix::fs::{DirBuilderExt as _, symlink};
    let network = outside.network(at)?;
    let config = format!(
        "{network}[providers.anthropic]\nurl = \"http://{provider}\"\napi = \"anthropic\"\nkey_env = \"{KEY_VARIABLE}\"\n"
    );
    let courier = COURIER.replace(GIT_HOST, &format!("{}:{}", git_host::HOST, outside.git.port));
    io("the stage's state", fs::create_dir_all(at.join("state/lazaret")))?;
    io("the stage's run-time folder", fs::create_dir_all(at.join("run")))?;
    for (name, text) in [
        ("config/lazaret/config.toml", config.as_str()),
        ("config/lazaret/agents/courier/agent.toml", courier.as_str()),
        ("agents/fixer/agent.toml", FIXER),
        ("agents/hostile/agent.toml", HOSTILE),
        ("agents/tester/agent.toml", TESTER),
    ] {
        let file = at.join(name);
        let folder = file.parent().unwrap_or(at);
        io(name, fs::create_dir_all(folder).and_then(|()| fs::write(&file, text)))?;
    }
    let (own, data) = (own_data()?, at.join("data/lazaret"));
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    io("the stage's data", private.create(&data))?;
    for name in SHARED {
        let shared = own.join(name);
        io(name, private.create(&shared).and_then(|()| symlink(&shared, data.join(name))))?;
    }
    if own.join(VERDICT).is_file() {
        io(VERDICT, fs::copy(own.join(VERDICT), data.join(VERDICT)))?;
    }
    Ok(())
}

/// The person's own data folder.
fn own_data() -> Result<PathBuf, DemoError> {
    let folders = api::Folders::from_env(|name| std::env::var_os(name));
    Ok(folders.map_err(|e| DemoError::Act(e.to_string()))?.data)
}

fn base_command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_STATE_HOME", folder.join("state"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        // What it says is shown without control characters, also where it has a terminal.
        .env("NO_COLOR", "1")
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("OPENAI_API_KEY")
        .current_dir(folder);
    command
}

/// A key that looks like one, new each time.
pub(crate) fn random_key(begin: &str) -> Result<String, DemoError> {
    let mut bytes = [0_u8; 20];
    io("/dev/urandom", fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{begin}{digits}"))
}

/// Reads to the end, giving each line; what is too much is dropped.
async fn each_line(
    from: impl AsyncRead + Unpin,
    mut line: impl FnMut(&str) -> Result<(), DemoError>,
) -> Result<Vec<u8>, DemoError> {
    let mut all = Vec::new();
    let mut from = BufReader::new(from);
    loop {
        let mut bytes = Vec::new();
        match (&mut from).take(MAX_LINE).read_until(b'\n', &mut bytes).await {
            Ok(0) => return Ok(all),
            Ok(_some) => {}
            // A terminal whose other end is closed answers so.
            Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => return Ok(all),
            Err(e) => return io("reading a command's output", Err(e)),
        }
        line(String::from_utf8_lossy(&bytes).trim_end())?;
        if all.len() < MAX_OUTPUT {
            all.extend_from_slice(&bytes);
        }
    }
}
