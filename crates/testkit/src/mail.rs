//! Real mail servers in a folder of their own: Dovecot for IMAP, Exim for SMTP, as the distribution has them, on loopback,
//! with a certificate made for them. They run without any right of root, also where the tests have it.

mod dovecot;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::authorization::Authorization;
use crate::deadline;

/// The mailbox's user and address, and the password.
pub const USER: &str = "ada@acme.example";
/// The password.
pub const PASSWORD: &str = "correct horse battery";
/// The host under which both are known.
pub const HOST: &str = "localhost";
/// An address that the SMTP server refuses.
pub const REFUSED: &str = "nobody@refused.example";
/// `nobody`, as whom they run where the tests are root.
const NOBODY: u32 = 65_534;
/// How long a server may take.
const WITHIN: Duration = Duration::from_secs(60);
/// How often a server is told to end, and how long it may take each time.
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(5);

/// Which tokens the servers take.
struct Tokens<'a> {
    /// The ways to show one.
    mechanisms: &'a [&'a str],
    /// The host and port that knows whose a token is.
    asked_at: String,
}

impl Tokens<'_> {
    /// What Exim's configuration says of them, at its end.
    fn exim(&self) -> String {
        let one = |mechanism: &&str| {
            let (name, asked_at) = (mechanism.to_uppercase(), &self.asked_at);
            format!(
                r#"{mechanism}:
  driver = plaintext
  public_name = {name}
  server_prompts = :
  server_condition = ${{if and{{{{match{{$auth1}}{{\N(=|,a=){USER}\N}}}}{{match{{${{readsocket{{inet:{asked_at}}}{{GET /as/introspect?token=${{sg{{$auth1}}{{\N^.*auth=Bearer ([^\x01]*)\x01\x01$\N}}{{\$1}}}} HTTP/1.0\r\n\r\n}}{{5s:shutdown=no}}}}}}{{"active":true}}}}}}}}
"#
            )
        };
        self.mechanisms.iter().map(one).collect()
    }
}

/// Both servers. Dropping it ends them.
pub struct MailServers {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    running: Vec<Child>,
}

impl MailServers {
    /// Starts both, with an empty mailbox.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    #[must_use]
    pub fn start() -> Self {
        Self::taking(&Tokens { mechanisms: &[], asked_at: String::new() })
    }

    /// Starts both; they take the tokens of this server beside the password, shown in one of these ways.
    ///
    /// # Panics
    /// As [`MailServers::start`].
    #[must_use]
    pub fn with_tokens(of: &Authorization, mechanisms: &[&str]) -> Self {
        let asked_at = of.base.trim_start_matches("http://").to_owned();
        Self::taking(&Tokens { mechanisms, asked_at })
    }

    fn taking(tokens: &Tokens<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("lazaret-mail-").tempdir().expect("a folder");
        let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.each_ref().map(|one| one.local_addr().expect("its address").port());
        drop(listeners);
        let at = folder.path();
        for name in ["run", "state", "spool", "log", "out", "home", "home/Maildir", "home/Maildir/new"] {
            fs::create_dir(at.join(name)).expect("a folder");
        }
        certificate(at);
        let ours = rustix::process::geteuid().as_raw();
        let id = if ours == 0 { NOBODY } else { ours };
        fs::write(
            at.join("users"),
            format!("{USER}:{{PLAIN}}{PASSWORD}:{id}:{id}::{}\n", at.join("home").display()),
        )
        .expect("a file");
        dovecot::write(at, &user_name(id), ports[0], tokens);
        fs::write(at.join("exim.conf"), exim(at, id, [ports[1], ports[2]]) + &tokens.exim()).expect("a file");
        if ours == 0 {
            fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("its mode");
            give(at, id);
        }
        let [imap, smtp] =
            [("dovecot", "dovecot.conf", ["-F", "-c"]), ("exim4", "exim.conf", ["-bdf", "-C"])]
                .map(|(program, config, args)| start(at, program, &args, config, (ours == 0).then_some(id)));
        let servers = Self { folder, ports, running: vec![imap, smtp] };
        servers.answer();
        servers
    }

    /// Where mail is read.
    #[must_use]
    pub fn imap(&self) -> String {
        format!("imaps://{HOST}:{}", self.ports[0])
    }

    /// Where mail is sent, in TLS from the start.
    #[must_use]
    pub fn smtps(&self) -> String {
        format!("smtps://{HOST}:{}", self.ports[1])
    }

    /// Where mail is sent, with STARTTLS.
    #[must_use]
    pub fn smtp(&self) -> String {
        format!("smtp://{HOST}:{}", self.ports[2])
    }

    /// The certificate that vouches for both.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Puts a mail into the inbox, as if it had come.
    ///
    /// # Panics
    /// When it can't.
    pub fn deliver(&self, name: &str, mail: &str) {
        let path = self.folder.path().join("home/Maildir/new").join(format!("1700000000.{name}.test"));
        fs::write(&path, mail.replace('\n', "\r\n")).expect("a mail");
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
    }

    /// What was sent: each mail with its envelope.
    ///
    /// # Panics
    /// When it can't be looked for.
    #[must_use]
    pub fn sent(&self) -> Vec<String> {
        let Ok(sent) = fs::read_dir(self.folder.path().join("out/new")) else { return Vec::new() };
        sent.map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a mail")).collect()
    }

    /// Waits until so many mails were sent: Exim delivers what it has accepted a moment later.
    ///
    /// # Panics
    /// When they aren't in time.
    #[must_use]
    pub fn delivered(&self, count: usize) -> Vec<String> {
        deadline("mails are delivered", WITHIN, || Some(self.sent()).filter(|sent| sent.len() >= count))
    }

    /// Waits until both listen.
    fn answer(&self) {
        for port in self.ports {
            deadline("a mail server listens", WITHIN, || TcpStream::connect(("127.0.0.1", port)).ok());
        }
    }
}

impl Drop for MailServers {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(|child| end(child, ROUND));
    }
}

/// Ends it, and its own processes with it. Exim misses a signal that comes just before it waits for the next connection, so
/// it is told again. What doesn't listen is killed.
fn end(child: &mut Child, round: Duration) {
    let pid = rustix::process::Pid::from_child(child);
    for _ in 0..ROUNDS {
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
            break;
        }
        let begun = Instant::now();
        while begun.elapsed() < round {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    // It may have ended meanwhile, which is as well.
    drop(child.kill().and_then(|()| child.wait()));
}

/// Where the distribution has it.
fn installed(program: &str) -> PathBuf {
    Path::new("/usr/sbin").join(program)
}

fn start(at: &Path, program: &str, args: &[&str], config: &str, id: Option<u32>) -> Child {
    let log = fs::File::create(at.join(format!("{program}.out"))).expect("a file");
    let mut command = Command::new(installed(program));
    command
        .args(args)
        .arg(at.join(config))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log);
    if let Some(id) = id {
        command.uid(id).gid(id);
    }
    command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; `./x setup --test` installs it"))
}

/// Makes a folder and all in it another user's.
fn give(at: &Path, id: u32) {
    chown(at, Some(id), Some(id)).expect("an owner");
    if at.is_dir() {
        for entry in fs::read_dir(at).expect("a folder") {
            give(&entry.expect("an entry").path(), id);
        }
    }
}

fn user_name(id: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").expect("the users");
    let of = |line: &str| line.split(':').nth(2) == Some(id.to_string().as_str());
    let line = passwd.lines().find(|line| of(line)).expect("a user of this id has a name");
    line.split(':').next().expect("a name").to_owned()
}

fn certificate(at: &Path) {
    let write = |name: &str, text: String| fs::write(at.join(name), text).expect("a file");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).expect("parameters");
    let cert = params.signed_by(&key, &ca).expect("a certificate");
    write("ca.pem", ca.pem());
    write("cert.pem", cert.pem());
    write("key.pem", key.serialize_pem());
    fs::set_permissions(at.join("key.pem"), fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn exim(at: &Path, id: u32, [smtps, smtp]: [u16; 2]) -> String {
    let at = at.display();
    format!(
        "log_file_path = {at}/log/exim-%slog
spool_directory = {at}/spool
primary_hostname = {HOST}
daemon_smtp_ports = {smtps} : {smtp}
tls_on_connect_ports = {smtps}
local_interfaces = 127.0.0.1
tls_advertise_hosts = *
tls_certificate = {at}/cert.pem
tls_privatekey = {at}/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check
exim_user = {id}
exim_group = {id}
never_users =
host_lookup =
rfc1413_hosts =
keep_environment =
begin acl
check:
  deny domains = refused.example
  accept authenticated = *
  deny message = sign in first
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  directory = {at}/out
  maildir_format
  batch_max = 100
  envelope_to_add
  user = {id}
  group = {id}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_doesnt_listen_is_killed() {
        let script = "trap '' TERM; echo deaf; exec sleep 600";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        end(&mut child, Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_some());
    }
}
