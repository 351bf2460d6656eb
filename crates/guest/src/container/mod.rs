//! The container: how it is made, watched and ended, as the guest's PID 1 sees it.
//!
//! ```text
//! PID 1 ── a child in new namespaces (`enter`) ──▶ init, confined (see `plan`), checks itself (`inside`)
//!   └───────────── link (`packets`) ─────────────▶ starts the cell's processes
//! ```

mod cgroup;
mod enter;
mod filter;
pub(crate) mod init;
mod inside;
mod link;
pub(crate) mod network;
mod outside;
mod packets;
pub(crate) mod plan;
mod prepare;
mod status;
mod syscalls;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::process::{Resource, Rlimit, prlimit};
use sys::namespaces::{Forked, Namespaces, fork_into};
use wire::guest::{ContainerSpec, Protections};

pub(crate) use link::{Link, Running};

use crate::async_file::AsyncFile;
use crate::disks::CELL;
use crate::fault::{During, Fault};
use crate::machine;

/// How long the making of the container may take, emulated and on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Open files of one process: what build tools want, and no more than the guest's memory stands.
const OPEN_FILES: u64 = 8192;

/// Where the guest sees the container's cgroup.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup/agent";

/// A container that stands.
pub(crate) struct Container {
    /// The init's process id in the guest.
    pub(crate) init: i32,
    /// Starts processes in it.
    pub(crate) link: Link,
}

/// Makes what of the container needs nothing of the cell, once, before a template is saved.
pub(crate) fn lay_ground() -> Result<(), Fault> {
    cgroup::make()?;
    network::make()
}

impl Container {
    /// Makes the container and checks every protection from both sides.
    ///
    /// # Errors
    /// When anything failed or is missing; the machine must then power off.
    pub(crate) async fn start(spec: &ContainerSpec) -> Result<(Self, Protections), Fault> {
        tokio::time::timeout(PATIENCE, Self::make(spec))
            .await
            .map_err(|_| Fault::new(format!("the container didn't stand within {} s", PATIENCE.as_secs())))?
    }

    async fn make(spec: &ContainerSpec) -> Result<(Self, Protections), Fault> {
        plausible(spec)?;
        if !Path::new(CELL).join("usr").exists() && !Path::new(CELL).join("bin").exists() {
            return Err(Fault::new(
                "the machine has no disks with the serials `image` and `disk`, or the image is empty",
            ));
        }
        let host_name = nix::unistd::gethostname().during("reading the host name")?;
        let host_name = host_name.to_string_lossy();
        prepare::root(&host_name, spec.egress.as_ref())?;
        machine::harden()?;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .during("making the container's link")?;
        let init = create(spec, &host_name, far)?;
        let near = AsyncFile::new(near).during("watching the container's link")?;
        let (link, inside) = Link::open(near).await?;
        machine::forbid_namespaces()?;
        let mut verified = inside;
        verified.extend(outside::verify(init, spec)?);
        Ok((Self { init, link }, Protections { verified }))
    }

    /// Kills every process of the container at once.
    pub(crate) fn kill(&self) {
        if let Err(error) = fs::write(format!("{CGROUP}/cgroup.kill"), "1") {
            machine::log(&format!("killing the container: {error}"));
        }
    }

    /// How many processes it has.
    pub(crate) fn processes(&self) -> u32 {
        number(&format!("{CGROUP}/pids.current")).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Bytes of memory that it uses.
    pub(crate) fn memory(&self) -> u64 {
        number(&format!("{CGROUP}/memory.current")).unwrap_or(0)
    }
}

/// A file of the kernel that holds one number.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

/// The limits must be ones that the kernel takes and that a container can live with.
fn plausible(spec: &ContainerSpec) -> Result<(), Fault> {
    const LEAST_MEMORY: u64 = 16 << 20;
    const MOST_PIDS: u32 = 32_768;
    if spec.memory < LEAST_MEMORY {
        return Err(Fault::new(format!(
            "`memory` is {} bytes, but at least {LEAST_MEMORY} are needed",
            spec.memory
        )));
    }
    if !(10..=1_000_000).contains(&spec.cpu_millis) {
        return Err(Fault::new(format!("`cpu_millis` is {}, but must be 10 to 1000000", spec.cpu_millis)));
    }
    if !(4..=MOST_PIDS).contains(&spec.pids) {
        return Err(Fault::new(format!("`pids` is {}, but must be 4 to {MOST_PIDS}", spec.pids)));
    }
    if spec.model_port == 0 {
        return Err(Fault::new("`model_port` is 0"));
    }
    if spec.tools_port == 0 || spec.tools_port == spec.model_port {
        return Err(Fault::new("`tools_port` is 0 or that of the model endpoint"));
    }
    let taken = [0, spec.model_port, spec.tools_port];
    if spec.egress.as_ref().is_some_and(|proxy| taken.contains(&proxy.port)) {
        return Err(Fault::new("the port of `egress` is 0 or that of another endpoint"));
    }
    Ok(())
}

/// Makes the first process of the container; its process id. What it meets on the way, it says over the link.
fn create(spec: &ContainerSpec, host_name: &str, link: OwnedFd) -> Result<i32, Fault> {
    let cgroup = cgroup::limit(spec)?;
    let (wait, go) = nix::unistd::pipe2(OFlag::O_CLOEXEC).during("preparing the container")?;
    let (pid, go) = network::within(|| {
        let namespaces = Namespaces { user: true, network: false };
        match fork_into(namespaces, Some(cgroup.as_fd())).during("making the container's namespaces")? {
            // It must not come back from here: it is a copy of PID 1.
            Forked::Child => {
                // So that the end of PID 1's copy is seen.
                drop(go);
                let go = File::from(wait);
                enter::run(enter::Inheritance { link, go, host_name, memory: spec.memory })
            }
            Forked::Parent { pid, .. } => Ok((pid, go)),
        }
    })?;
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), plan::ids()).during("mapping the container's ids")?;
    }
    limit(pid).during("limiting files")?;
    File::from(go).write_all(&[1]).during("letting the container begin")?;
    Ok(pid)
}

/// Limits of each process, which only the guest's root may raise.
fn limit(pid: i32) -> rustix::io::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid);
    for (resource, most) in [(Resource::Nofile, OPEN_FILES), (Resource::Core, 0)] {
        prlimit(pid, resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::guest::EgressProxy;

    fn proxy(port: u16) -> Option<EgressProxy> {
        Some(EgressProxy { port, authority: String::new() })
    }

    #[test]
    fn limits_that_no_container_can_live_with_are_refused() {
        let good = ContainerSpec {
            memory: 64 << 20,
            cpu_millis: 1000,
            pids: 32,
            model_port: 8181,
            tools_port: 8182,
            egress: proxy(8183),
            allow_guest_root: false,
        };
        plausible(&good).unwrap();
        for bad in [
            ContainerSpec { memory: 1 << 20, ..good.clone() },
            ContainerSpec { cpu_millis: 0, ..good.clone() },
            ContainerSpec { pids: 1, ..good.clone() },
            ContainerSpec { pids: u32::MAX, ..good.clone() },
            ContainerSpec { model_port: 0, ..good.clone() },
            ContainerSpec { tools_port: 0, ..good.clone() },
            ContainerSpec { tools_port: 8181, ..good.clone() },
            ContainerSpec { egress: proxy(0), ..good.clone() },
            ContainerSpec { egress: proxy(8182), ..good.clone() },
        ] {
            assert!(plausible(&bad).is_err(), "{bad:?}");
        }
    }
}
