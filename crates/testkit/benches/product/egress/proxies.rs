//! The proxies of others that read what is in TLS: squid with ssl-bump and mitmproxy, as the distribution has them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::origin::Authority;
use crate::Result;

const SQUID: &str = "/usr/sbin/squid";
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";
const MITMDUMP: &str = "/usr/bin/mitmdump";

/// A proxy that runs. Dropping it ends it.
pub struct Proxy {
    pub port: u16,
    /// Who vouches for the certificates that it makes, as PEM.
    pub vouches: String,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // So asked, squid takes its shared memory with it.
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            drop(self.child.wait());
        }
    }
}

/// What is missing here of them.
pub fn lacks() -> Option<String> {
    let missing: Vec<_> = [(SQUID, "squid-openssl"), (MITMDUMP, "mitmproxy")]
        .into_iter()
        .filter(|(path, _)| !Path::new(path).exists())
        .collect();
    let names: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    (!names.is_empty()).then(|| format!("the packages {} are not installed", names.join(" and ")))
}

/// squid, which trusts the origin's issuer.
pub async fn squid(folder: &Path, origin: &Authority) -> Result<Proxy> {
    let own = Authority::new()?;
    let port = free_port().await?;
    let at = |name: &str| folder.join(name);
    std::fs::write(at("squid-ca.pem"), format!("{}{}", own.certificate, own.key))?;
    std::fs::write(at("origin.pem"), &origin.certificate)?;
    let made = Command::new(CERTGEN)
        .args(["-c", "-s"])
        .arg(at("certs"))
        .args(["-M", "4MB"])
        .stdout(Stdio::null())
        .status()?;
    if !made.success() {
        return Err("squid's store of certificates can't be made".into());
    }
    let folder_shown = folder.display();
    let config = format!(
        "http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB \
         tls-cert={folder_shown}/squid-ca.pem\n\
         sslcrtd_program {CERTGEN} -s {folder_shown}/certs -M 4MB\n\
         sslcrtd_children 2\n\
         ssl_bump bump all\nhttp_access allow all\ncache deny all\naccess_log none\n\
         tls_outgoing_options cafile={folder_shown}/origin.pem\n\
         pid_filename {folder_shown}/squid.pid\ncache_log {folder_shown}/squid.log\ncoredump_dir {folder_shown}\n\
         shutdown_lifetime 0 seconds\nnetdb_filename none\n"
    );
    std::fs::write(at("squid.conf"), config)?;
    // Started by root, it gives its rights up, and must still reach its files.
    let owned = Command::new("chown").args(["-R", "proxy"]).arg(folder).stderr(Stdio::null()).status()?;
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(folder).status()?;
    if !opened.success() || (rustix::process::getuid().is_root() && !owned.success()) {
        return Err("squid's folder can't be given to it".into());
    }
    // It names its shared memory after its service: by the usual name it would meet that of any other squid here.
    let child = Command::new(SQUID)
        .args(["-N", "-n", &format!("lazaret{port}"), "-f"])
        .arg(at("squid.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let proxy = Proxy { port, vouches: own.certificate, child };
    answers(port, "squid").await?;
    Ok(proxy)
}

/// mitmproxy without its console, which trusts the origin's issuer and streams what is large.
pub async fn mitmproxy(folder: &Path, origin: &Authority) -> Result<Proxy> {
    let port = free_port().await?;
    let trusted = folder.join("trusted.pem");
    std::fs::write(&trusted, &origin.certificate)?;
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    let child = Command::new(MITMDUMP)
        .args(["-q", "--listen-host", "127.0.0.1", "-p", &port.to_string()])
        .args(["--set", &set("confdir", folder), "--set", &set("ssl_verify_upstream_trusted_ca", &trusted)])
        .args(["--set", "stream_large_bodies=1m", "--set", "flow_detail=0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut proxy = Proxy { port, vouches: String::new(), child };
    answers(port, "mitmproxy").await?;
    let own: PathBuf = folder.join("mitmproxy-ca-cert.pem");
    proxy.vouches = std::fs::read_to_string(own)?;
    Ok(proxy)
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn answers(port: u16, name: &str) -> Result<()> {
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("{name} did not begin to listen within 30 s").into())
}
