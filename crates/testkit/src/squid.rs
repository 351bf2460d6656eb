//! A real proxy that wants a log-in, as companies have them: squid of the distribution, on loopback, in the clear and in TLS.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{SITE, deadline};

const SQUID: &str = "/usr/sbin/squid";
/// What looks users up for it.
const USERS: &str = "/usr/lib/squid/basic_ncsa_auth";
/// Its only user, the password, and what squid keeps of that.
pub const PROXY_USER: &str = "ann";
/// The password of that user.
pub const PROXY_PASSWORD: &str = "canary-proxy-password";
const KEPT: &str =
    "$6$lazaret$96PFpdtUBc1R1alLxw6UfYXGlE86w75FE80SFGO/Tzjvi0hsQ0rvbULVLwKs/s8rqHgNPaDGOvvAwPzhmVHKC.";

/// The proxy. Dropping it ends it.
pub struct Squid {
    folder: tempfile::TempDir,
    ports: [u16; 2],
    running: Child,
}

impl Squid {
    /// Starts it; it finds these hosts at the address of a [`crate::Site`].
    ///
    /// # Panics
    /// When it can't be started: `./x setup --test` installs it.
    #[must_use]
    pub fn start(hosts: &[&str]) -> Self {
        // Whoever took a port of it in between has it.
        (0..5).find_map(|_| Self::tried(hosts)).expect("squid listens")
    }

    fn tried(hosts: &[&str]) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("lazaret-squid-").tempdir().expect("a folder");
        let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.each_ref().map(|one| one.local_addr().expect("its address").port());
        drop(listeners);
        let at = folder.path();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| fs::write(at.join(name), text).expect("a file");
        write("ca.pem", &made.cert.pem());
        write("proxy.pem", &format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()));
        write("users", &format!("{PROXY_USER}:{KEPT}\n"));
        write("hosts", &hosts.iter().map(|host| format!("{SITE} {host}\n")).collect::<String>());
        let shown = at.display();
        write(
            "squid.conf",
            &format!(
                "http_port 127.0.0.1:{}\nhttps_port 127.0.0.1:{} tls-cert={shown}/proxy.pem\n\
                 auth_param basic program {USERS} {shown}/users\nauth_param basic realm corp\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n\
                 hosts_file {shown}/hosts\ncache deny all\n\
                 logformat who %un %rm %ru %>Hs\naccess_log stdio:{shown}/access.log who\n\
                 pid_filename {shown}/squid.pid\ncache_log {shown}/squid.log\ncoredump_dir {shown}\n\
                 shutdown_lifetime 0 seconds\nnetdb_filename none\n",
                ports[0], ports[1]
            ),
        );
        if rustix::process::geteuid().is_root() {
            // It gives its rights up, and must still reach its files.
            let owned = Command::new("chown").args(["-R", "proxy"]).arg(at).status().expect("chown runs");
            assert!(owned.success(), "squid gets its folder");
        }
        // It names its shared memory after its service: by the usual name it would meet that of any other squid here, another
        // user's too.
        let running = Command::new(SQUID)
            .args(["-N", "-n", &format!("lazaret{}", ports[0]), "-f"])
            .arg(at.join("squid.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("squid starts: `./x setup --test` installs it");
        let mut squid = Self { folder, ports, running };
        deadline("squid listens, or has ended", Duration::from_secs(60), || {
            let listens = squid.ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            let ended = squid.running.try_wait().expect("it was started").is_some();
            (listens || ended).then_some(())
        });
        squid.running.try_wait().expect("it was started").is_none().then_some(squid)
    }

    /// Where it is spoken to in the clear.
    #[must_use]
    pub fn plain(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Where it is spoken to in TLS.
    #[must_use]
    pub fn in_tls(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[1])
    }

    /// The certificate that vouches for it.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What it was asked: user, method, place and status of each, a line for each.
    ///
    /// # Panics
    /// When its log can't be read.
    #[must_use]
    pub fn asked(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).expect("its log")
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        if !matches!(self.running.try_wait(), Ok(None)) {
            return;
        }
        // So asked, it takes its shared memory with it.
        let pid = rustix::process::Pid::from_child(&self.running);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            drop(self.running.wait());
        }
    }
}
