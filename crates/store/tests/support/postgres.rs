//! A PostgreSQL server for one test program: the distribution's, in a temporary folder, on a Unix socket, as an ordinary
//! user, gone with the thread that started it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Whom the server runs as where the tests are root's: it refuses to be root, and wants a user with a name.
const USER: &str = "postgres";

/// A running server.
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    server: Child,
    databases: AtomicU32,
}

/// Where the distribution keeps the newest server.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// The command as an ordinary user; killed when the thread that starts it ends.
fn ordinary(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program).env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC").current_dir("/");
    command
}

impl Cluster {
    /// Starts one that doesn't wait for the disk. None, with a word about it, where the package `postgresql` is not
    /// installed; CI must have it.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&["-c", "fsync=off"])
    }

    /// Starts one as it would be in use.
    pub(crate) fn start_durable() -> Option<Self> {
        Self::with(&[])
    }

    fn with(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("LAZARET_CI").is_none(), "the package `postgresql` is missing");
            eprintln!("not tested: the package `postgresql` is not installed");
            return None;
        };
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let (data, socket) = (folder.path().join("data"), folder.path().join("socket"));
        for path in [&data, &socket] {
            fs::create_dir(path).unwrap();
            if rustix::process::geteuid().is_root() {
                let owned = Command::new("chown").arg(USER).arg(path).status().unwrap();
                assert!(owned.success());
            }
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
        let made = ordinary(&programs.join("initdb"))
            .args(["--auth=trust", "--username=lazaret", "--encoding=UTF8", "--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = ordinary(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&socket)
            .args(["-c", "listen_addresses=", "-c", "shared_buffers=16MB"])
            .args(settings)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let cluster = Self { folder, programs, server, databases: AtomicU32::new(0) };
        cluster.wait_until_ready();
        Some(cluster)
    }

    /// `pg_isready` waits by itself for an answer, but not for the socket to appear.
    fn wait_until_ready(&self) {
        for _ in 0..600 {
            let ready = self.client("pg_isready").args(["--timeout=60", "--quiet"]).status().unwrap();
            if ready.success() {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{}", fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    fn client(&self, program: &str) -> Command {
        let mut command = ordinary(&self.programs.join(program));
        command.arg("--username=lazaret").arg("--host").arg(self.folder.path().join("socket"));
        command
    }

    /// A new empty database's URL.
    pub(crate) fn create(&self, name: &str) -> String {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{n}", &name[..name.len().min(40)]);
        let made = self.client("createdb").arg(&name).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let socket = self.folder.path().join("socket").display().to_string().replace('/', "%2F");
        format!("postgres://lazaret@{socket}/{name}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT: at once, with all its processes.
        let server = rustix::process::Pid::from_raw(self.server.id() as i32).unwrap();
        let asked = rustix::process::kill_process(server, rustix::process::Signal::QUIT);
        let ended = self.server.wait();
        assert!(asked.is_ok() && ended.is_ok(), "the server didn't end: {asked:?}, {ended:?}");
    }
}
