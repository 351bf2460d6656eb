//! A daemon of its own, in folders of its own, with a scripted model on loopback that wants the canary as its key.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use demo::scripted::{Script, ScriptedModel, serve};

/// The provider's key, which must be found nowhere but in the daemon and at the provider.
pub const CANARY: &str = "sk-lazaret-canary-4f9d1c7be2a86035";

/// Where tests run, mirrors of these may stand at addresses that aren't public.
const REGISTRIES: &str =
    "private = [\"registry.npmjs.org:443\", \"pypi.org:443\", \"files.pythonhosted.org:443\"]\n";

/// Longest time that one command may take, under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(280);

/// A laboratory. Dropping it stops its daemon, and all cells with it.
pub struct Lab {
    lazaret: PathBuf,
    folder: tempfile::TempDir,
    data: PathBuf,
    /// The provider, with what it was asked.
    pub model: Arc<ScriptedModel>,
    /// Its address.
    pub provider: String,
    daemon: Option<Child>,
    /// Certificates that its programs trust instead of the system's.
    trusted: Option<PathBuf>,
    _runtime: tokio::runtime::Runtime,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said meanwhile.
    pub stderr: String,
}

impl Done {
    /// The exit code; -1 for a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails the test, with all that was said, unless the code is this one.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

impl Lab {
    /// Starts the provider with these scripts beside those that ship, and a daemon of the binary `lazaret`.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    #[must_use]
    pub fn start(lazaret: &str, scripts: Vec<Script>) -> Self {
        let mut lab = Self::without_daemon(lazaret, scripts);
        lab.start_daemon();
        lab
    }

    /// The same, with a daemon that trusts these certificates instead of the system's.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    #[must_use]
    pub fn trusting(lazaret: &str, certificates: PathBuf) -> Self {
        let mut lab = Self::without_daemon(lazaret, Vec::new());
        lab.trusted = Some(certificates);
        lab.start_daemon();
        lab
    }

    /// The same without a daemon: the first command starts one, as a newcomer's does.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    #[must_use]
    pub fn without_daemon(lazaret: &str, scripts: Vec<Script>) -> Self {
        let lazaret = PathBuf::from(lazaret);
        let folder = tempfile::Builder::new().prefix("lazaret-lab-").tempdir().expect("a folder for the lab");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the provider");
        let model =
            scripts.into_iter().fold(ScriptedModel::new(CANARY), |model, script| model.with_script(script));
        let model = Arc::new(model);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        runtime.spawn(serve(listener, Arc::clone(&model)));
        let data = shared_folder(&lazaret);
        let provider = url.clone();
        let lab =
            Self { lazaret, folder, data, model, provider, daemon: None, trusted: None, _runtime: runtime };
        fs::create_dir_all(lab.path("config/lazaret/agents")).expect("its folders");
        for name in ["run", "state", "home"] {
            fs::create_dir_all(lab.path(name)).expect("its folders");
        }
        fs::write(lab.path("config/lazaret/config.toml"), config(&url, REGISTRIES))
            .expect("its configuration");
        lab
    }

    /// Has it reach the network so, as the table `[network]` says, from the next start of its daemon on.
    ///
    /// # Panics
    /// When that can't be written.
    pub fn network(&self, table: &str) {
        let text = config(&self.provider, table);
        fs::write(self.path("config/lazaret/config.toml"), text).expect("its configuration");
    }

    fn start_daemon(&mut self) {
        let log = fs::File::create(self.path("serve.log")).expect("a log");
        let mut child = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("lazaret serve starts");
        let socket = self.path("run/lazaret/api.sock");
        let end = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = child.try_wait().expect("it can be waited for");
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(self.path("serve.log")).unwrap_or_default();
                drop(child.kill());
                panic!("the daemon does not listen ({ended:?}): {log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.daemon = Some(child);
    }

    /// The daemon's process id.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// Kills the daemon as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_daemon(&mut self) {
        let mut child = self.daemon.take().expect("a daemon runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Starts the daemon, or starts it again.
    pub fn restart_daemon(&mut self) {
        self.start_daemon();
    }

    /// A path in the lab's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where kernels, images and agents' disks are; shared by the labs of one build.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Writes an agent's file.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn agent(&self, name: &str, text: &str) {
        let folder = self.path("config/lazaret/agents").join(name);
        fs::create_dir_all(&folder).expect("the agent's folder");
        fs::write(folder.join("agent.toml"), text).expect("the agent's file");
    }

    /// `lazaret` with these arguments, in the lab's folders, with the canary in its environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.lazaret);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("LANG", "C.UTF-8")
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_DATA_HOME", self.data.join("data"))
            .env("XDG_CACHE_HOME", self.data.join("cache"))
            .env("SCRIPTED_KEY", CANARY)
            .current_dir(self.path("home"));
        if let Some(certificates) = &self.trusted {
            command.env("SSL_CERT_FILE", certificates);
        }
        command
    }

    /// Runs it to its end with this input.
    ///
    /// # Panics
    /// When it can't be started or takes too long.
    #[must_use]
    pub fn run(&self, args: &[&str], input: &str) -> Done {
        finish(self.command(args), input)
    }

    /// Runs a session of an agent, on an emulated machine where the host has no better, to its end.
    ///
    /// # Panics
    /// When it can't be started or takes too long.
    #[must_use]
    pub fn session(&self, args: &[&str], input: &str) -> Done {
        self.run(&[&["run", "--allow-emulation"], args].concat(), input)
    }

    /// Starts a session of an agent, and waits until its harness runs.
    ///
    /// # Panics
    /// When it can't be started or takes too long.
    #[must_use]
    pub fn running(&self, agent: &str) -> Child {
        let mut child = self.spawn(&["run", "--allow-emulation", agent]);
        deadline("the session runs", PATIENCE, || {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                let mut said = String::new();
                let heard = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                panic!("the session ended with {status}: {said} {heard:?}");
            }
            let sessions = self.run(&["ps", "--json"], "").stdout;
            let sessions: serde_json::Value = serde_json::from_str(&sessions).unwrap_or_default();
            let list = sessions.as_array().or_else(|| sessions["sessions"].as_array())?;
            list.iter().any(|s| s["agent"] == agent && s["state"] == "running").then_some(())
        });
        child
    }

    /// Starts it in a process group of its own and goes on; standard output and error are piped.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("it starts")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(mut child) = self.daemon.take() else {
            drop(self.command(&["stop", "--daemon"]).stdout(Stdio::null()).stderr(Stdio::null()).status());
            return;
        };
        let id = child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

/// One folder for all labs of a build: kernels, images and templates are made once.
fn shared_folder(lazaret: &Path) -> PathBuf {
    let folder = std::env::var_os("LAZARET_TEST_DATA")
        .map_or_else(|| lazaret.parent().map(|p| p.join("test-data")).unwrap_or_default(), PathBuf::from);
    fs::create_dir_all(&folder).expect("the shared folder");
    folder
}

fn config(url: &str, network: &str) -> String {
    let mut text = String::new();
    for (name, api, key) in [
        ("scripted", "anthropic", "key_env = \"SCRIPTED_KEY\""),
        ("scripted-responses", "responses", "key_env = \"SCRIPTED_KEY\""),
        ("scripted-chat", "chat", "key_env = \"SCRIPTED_KEY\""),
        ("vaulted", "anthropic", "key = \"secret:vaulted\""),
    ] {
        text.push_str(&format!("[providers.{name}]\nurl = \"{url}\"\napi = \"{api}\"\n{key}\n"));
    }
    text + "[network]\n" + network
}

fn finish(mut command: Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_owned();
    // A command that ends early doesn't read it all, which is its right.
    let feed = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let mut stdout = child.stdout.take().expect("its output");
    let mut stderr = child.stderr.take().expect("its errors");
    let out = thread::spawn(move || read_all(&mut stdout));
    let err = thread::spawn(move || read_all(&mut stderr));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > end {
            drop(child.kill());
            let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
            panic!("took longer than {PATIENCE:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        }
        thread::sleep(Duration::from_millis(20));
    };
    feed.join().expect("its input was fed");
    Done { status, stdout: out.join().expect("its output"), stderr: err.join().expect("its errors") }
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read until a failure is still shown.
    drop(from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time.
pub fn deadline<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
