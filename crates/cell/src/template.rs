//! Templates: a machine that was booted once without disks and saved; each cell starts as a private copy of it.
//!
//! ```text
//! boot ─▶ Probe ─▶ Hello ─▶ saved: memory (memfd, then sealed) + state (a few KiB) ─▶ cache/templates/KEY/
//! ```
//! The key covers everything that a saved machine depends on. No agent's bytes are ever in a template.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, ftruncate, memfd_create, seek};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use wire::early::{Answer, Question, VERSION};
use wire::frame;

use crate::jail::guarded::{Guarded, Jails, log_pipe};
use crate::jail::launch::JailError;
use crate::jail::spec::JailEnd;
use crate::store::{self, NewFolder};
use crate::vmm::qemu::STATE;
use crate::vmm::qmp::{Qmp, QmpError};
use crate::vmm::{BootFiles, Machine, Origin, Vmm};

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The monitor could not be jailed.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// The machine did not come up.
    #[error("the machine did not boot: {0}")]
    Boot(String),
    /// The monitor would not save it.
    #[error("the machine could not be saved: {0}")]
    Save(String),
    /// Files could not be read or written.
    #[error("the template could not be stored: {0}")]
    Io(#[from] io::Error),
}

impl From<QmpError> for TemplateError {
    fn from(error: QmpError) -> Self {
        Self::Save(error.to_string())
    }
}

/// Most bytes of a saved machine's state besides its memory; tens of KiB are usual.
const STATE_BYTES: u64 = 16 << 20;

/// A saved machine, ready to be cloned.
#[derive(Debug)]
pub(crate) struct Template {
    memory: OwnedFd,
    state: Vec<u8>,
}

/// What is written beside a template.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// SHA-256 of memory and state.
    digest: String,
    /// Bytes of memory.
    memory: u64,
    /// The host's time stamp counter when it was made: the guest's clock runs by it.
    tsc_khz: Option<u64>,
}

/// What a template is of.
#[derive(Debug, Clone)]
pub(crate) struct TemplateSpec {
    pub(crate) files: BootFiles,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u8,
    pub(crate) tsc_khz: Option<u64>,
}

impl TemplateSpec {
    /// The name of a template's folder. Kernel and boot image are files named by their content.
    pub(crate) fn key(&self, vmm: &dyn Vmm) -> String {
        let numbers = format!("{} {} {}", self.memory_mib, self.cpus, VERSION);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let (kernel, initramfs) = (path(&self.files.kernel), path(&self.files.initramfs));
        store::digest([
            vmm.identity().as_bytes(),
            kernel.as_bytes(),
            initramfs.as_bytes(),
            numbers.as_bytes(),
        ])
    }
}

impl Template {
    /// The memory, for one more clone: it is sealed, and can only be mapped privately.
    pub(crate) fn memory(&self) -> io::Result<OwnedFd> {
        self.memory.try_clone()
    }

    /// A pipe from which the state can be read to its end. Must be polled in a runtime.
    pub(crate) fn state(&self) -> io::Result<OwnedFd> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut sender = pipe::Sender::from_owned_fd(write)?;
        let state = self.state.clone();
        tokio::spawn(async move {
            // A monitor that ends early closes its end; its own end says why.
            if let Err(error) = tokio::io::AsyncWriteExt::write_all(&mut sender, &state).await {
                tracing::debug!("a clone took only part of its state: {error}");
            }
        });
        Ok(read)
    }

    /// Reads a template from the cache. `None` if there is none that is whole and fits this host's clock.
    pub(crate) fn load(cache: &Path, key: &str, spec: &TemplateSpec) -> Option<Self> {
        let folder = templates(cache).join(key);
        match Self::read(&folder, spec) {
            Ok(template) => Some(template),
            Err(error) => {
                if folder.exists() {
                    tracing::warn!("the template `{}` is made anew: {error}", folder.display());
                    if let Err(error) = fs::remove_dir_all(&folder) {
                        tracing::warn!("`{}` can't be removed: {error}", folder.display());
                    }
                }
                None
            }
        }
    }

    fn read(folder: &Path, spec: &TemplateSpec) -> io::Result<Self> {
        let about: About = serde_json::from_slice(&store::read_bounded(&folder.join("about.json"), 4096)?)?;
        if about.memory != spec.memory_mib << 20 {
            return Err(io::Error::other("its memory has another size"));
        }
        if !same_clock(about.tsc_khz, spec.tsc_khz) {
            return Err(io::Error::other("it is from a host whose clock runs otherwise"));
        }
        let state = store::read_bounded(&folder.join("state"), STATE_BYTES)?;
        let memory = memory(about.memory)?;
        let mut file = fs::File::open(folder.join("memory"))?;
        let mut copy = fs::File::from(memory.try_clone()?);
        copy_data(&mut file, &mut copy)?;
        if digest(&memory, &state)? != about.digest {
            return Err(io::Error::other("it is damaged"));
        }
        seal(&memory)?;
        Ok(Self { memory, state })
    }

    /// Boots and saves a machine, and keeps it in the cache.
    pub(crate) async fn build(
        jails: &Jails,
        vmm: &dyn Vmm,
        spec: &TemplateSpec,
        name: &str,
        cache: &Path,
    ) -> Result<Self, TemplateError> {
        let memory = memory(spec.memory_mib << 20)?;
        let (mut channel, vmm_channel) = socket_pair()?;
        let (control, vmm_control) = socket_pair()?;
        let origin =
            Origin::Save { files: spec.files.clone(), memory: memory.try_clone()?, control: vmm_control };
        let guarded = start(jails, vmm, spec, name, origin, vmm_channel).await?;
        let mut guarded = match hello(guarded, &mut channel).await {
            Ok((guarded, _)) => guarded,
            Err(error) => return Err(error),
        };
        let saved = tokio::select! {
            saved = save(control) => saved,
            end = guarded.ended() => Err(TemplateError::Save(format!("the monitor ended: {end:?}"))),
        };
        let (_, log) = guarded.kill().await?;
        let state = saved.map_err(|error| TemplateError::Save(format!("{error} {log}")))?;
        seal(&memory)?;
        let template = Self { memory, state };
        let (about, cache) = (spec.tsc_khz, cache.to_path_buf());
        let key = spec.key(vmm);
        tokio::task::spawn_blocking(move || template.store(&cache, &key, about).map(|()| template))
            .await
            .map_err(io::Error::other)?
            .map_err(TemplateError::from)
    }

    fn store(&self, cache: &Path, key: &str, tsc_khz: Option<u64>) -> io::Result<()> {
        let new = NewFolder::under(&templates(cache))?;
        let mut memory = fs::File::from(self.memory.try_clone()?);
        let size = memory.metadata()?.len();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(new.path().join("memory"))?;
        file.set_len(size)?;
        copy_data(&mut memory, &mut file)?;
        file.sync_all()?;
        store::write_whole(&new.path().join("state"), 0o600, &self.state)?;
        let about = About { digest: digest(&self.memory, &self.state)?, memory: size, tsc_khz };
        store::write_whole(&new.path().join("about.json"), 0o600, &serde_json::to_vec(&about)?)?;
        new.finish(key)?;
        Ok(())
    }
}

/// The folder of all templates.
pub(crate) fn templates(cache: &Path) -> PathBuf {
    cache.join("templates")
}

/// Boots a machine without disks until its guest says hello, then ends it. How long the guest took, and which walls
/// were missing, for people.
pub(crate) async fn boot_once(
    jails: &Jails,
    vmm: &dyn Vmm,
    spec: &TemplateSpec,
    name: &str,
    within: Duration,
) -> Result<(Duration, Vec<String>), TemplateError> {
    let (mut channel, vmm_channel) = socket_pair()?;
    let guarded = start(jails, vmm, spec, name, Origin::Boot(spec.files.clone()), vmm_channel).await?;
    let (guarded, took) = hello_within(guarded, &mut channel, within).await?;
    let missing = guarded.missing().to_vec();
    guarded.kill().await?;
    Ok((took, missing))
}

async fn start(
    jails: &Jails,
    vmm: &dyn Vmm,
    spec: &TemplateSpec,
    name: &str,
    origin: Origin,
    channel: OwnedFd,
) -> Result<Guarded, TemplateError> {
    let (log, log_end) = log_pipe()?;
    let machine =
        Machine { memory_mib: spec.memory_mib, cpus: spec.cpus, origin, channel, disks: None, log: log_end };
    let program = vmm.program(machine)?;
    Ok(jails.start(crate::cell::inmate(name.to_owned(), program, spec.memory_mib, spec.cpus, 0), log).await?)
}

/// How long a boot may take under emulation on a machine that is busy with others.
const HELLO_WITHIN: Duration = Duration::from_secs(180);

async fn hello(guarded: Guarded, channel: &mut UnixStream) -> Result<(Guarded, Duration), TemplateError> {
    hello_within(guarded, channel, HELLO_WITHIN).await
}

async fn hello_within(
    mut guarded: Guarded,
    channel: &mut UnixStream,
    within: Duration,
) -> Result<(Guarded, Duration), TemplateError> {
    let start = Instant::now();
    let ask = async {
        frame::write(channel, &Question::Probe, frame::SMALL).await.map_err(|e| e.to_string())?;
        match frame::read::<Answer, _>(channel, frame::SMALL).await {
            Ok(Some(Answer::Hello { version: VERSION })) => Ok(()),
            Ok(Some(Answer::Hello { version })) => Err(format!(
                "the guest's program is of another build (version {version} instead of {VERSION})"
            )),
            Ok(Some(Answer::Failed { why })) => Err(why),
            Ok(Some(Answer::Born { .. })) => Err("the guest answered another question".into()),
            Ok(None) => Err("the machine closed the channel".into()),
            Err(error) => Err(error.to_string()),
        }
    };
    let why = tokio::select! {
        answer = tokio::time::timeout(within, ask) => match answer {
            Ok(Ok(())) => return Ok((guarded, start.elapsed())),
            // A monitor that fails takes the channel with it; its own words say more.
            Ok(Err(why)) => match tokio::time::timeout(LAST_WORDS_WITHIN, guarded.ended()).await {
                Ok(end) => return Err(ended(end?, guarded).await?),
                Err(_) => why,
            },
            Err(_) => format!("no answer within {} s", within.as_secs()),
        },
        end = guarded.ended() => {
            return Err(ended(end?, guarded).await?);
        }
    };
    let (_, log) = guarded.kill().await?;
    Err(TemplateError::Boot(format!("{why} {log}").trim().to_owned()))
}

const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);

async fn ended(end: JailEnd, guarded: Guarded) -> io::Result<TemplateError> {
    let log = guarded.cleaned().await?;
    Ok(TemplateError::Boot(format!("{} {log}", crate::cell::end_text("the monitor", &end)).trim().to_owned()))
}

/// The monitor's control, set to leave the memory out of what it reads and writes.
async fn greet(control: UnixStream) -> Result<Qmp, QmpError> {
    let mut qmp = Qmp::greet(control).await?;
    let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    qmp.command("migrate-set-capabilities", capabilities).await?;
    Ok(qmp)
}

/// Has the monitor of a clone read its state. The clone runs when this returns, and its monitor has no control socket
/// any more: nothing that an agent has touched ever speaks to the daemon this way.
pub(crate) async fn wake(control: UnixStream) -> Result<(), TemplateError> {
    let mut qmp = greet(control).await?;
    qmp.command("migrate-incoming", json!({ "uri": format!("fd:{STATE}") })).await?;
    qmp.event("RESUME").await?;
    Ok(())
}

/// Has the monitor write its state, memory apart. The machine is saved as running, so that a clone runs at once.
async fn save(control: UnixStream) -> Result<Vec<u8>, TemplateError> {
    let mut qmp = greet(control).await?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    qmp.command_with("getfd", json!({ "fdname": "state" }), write.as_fd()).await?;
    drop(write);
    let mut state = Vec::new();
    let reader = pipe::Receiver::from_owned_fd(read)?;
    qmp.command("migrate", json!({ "uri": "fd:state" })).await?;
    reader.take(STATE_BYTES).read_to_end(&mut state).await?;
    loop {
        let status = qmp.command("query-migrate", json!({})).await?;
        match status.get("status").and_then(serde_json::Value::as_str) {
            Some("completed") => return Ok(state),
            Some("active" | "setup" | "device" | "pre-switchover") => tokio::task::yield_now().await,
            other => {
                let status = other.unwrap_or("unknown").chars().take(40).collect::<String>();
                return Err(TemplateError::Save(format!("the migration is `{status}`")));
            }
        }
    }
}

/// Two connected sockets: ours, and the monitor's.
pub(crate) fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

fn memory(bytes: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("lazaret-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, bytes)?;
    Ok(memory)
}

/// From here on nobody can change it, whatever descriptor or right they have.
fn seal(memory: &OwnedFd) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    Ok(fcntl_add_seals(memory, seals)?)
}

/// Copies the parts of a sparse file that hold data.
fn copy_data(from: &mut fs::File, to: &mut fs::File) -> io::Result<()> {
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let start = match seek(&*from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&*from, SeekFrom::Hole(start))?;
        seek(&*from, SeekFrom::Start(start))?;
        seek(&*to, SeekFrom::Start(start))?;
        io::copy(&mut Read::by_ref(from).take(end - start), to)?;
        at = end;
    }
    to.flush()
}

/// Of all data with its place: holes need not be read.
fn digest(memory: &OwnedFd, state: &[u8]) -> io::Result<String> {
    let mut file = fs::File::from(memory.try_clone()?);
    let size = file.metadata()?.len();
    let mut hasher = Sha256::new();
    hasher.update(size.to_le_bytes());
    hasher.update((state.len() as u64).to_le_bytes());
    hasher.update(state);
    let mut page = vec![0_u8; PAGE];
    let mut at = 0;
    while at < size {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&file, SeekFrom::Hole(start))?;
        seek(&file, SeekFrom::Start(start))?;
        at = start;
        while at < end {
            file.read_exact(&mut page)?;
            // A page of zeros may be a hole in one file and data in another.
            if page.iter().any(|byte| *byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&page);
            }
            at += PAGE as u64;
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

const PAGE: usize = 4096;

/// Measurements of one counter differ by less than a thousandth.
fn same_clock(then: Option<u64>, now: Option<u64>) -> bool {
    match (then, now) {
        (Some(then), Some(now)) => then.abs_diff(now) < then / 1_000,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TemplateSpec {
        let files = BootFiles { kernel: "/k".into(), initramfs: "/i".into() };
        TemplateSpec { files, memory_mib: 1, cpus: 1, tsc_khz: Some(2_000_000) }
    }

    fn sample() -> Template {
        let memory = memory(1 << 20).unwrap();
        let mut file = fs::File::from(memory.try_clone().unwrap());
        io::Seek::seek(&mut file, io::SeekFrom::Start(300 * 1024)).unwrap();
        file.write_all(b"in the middle").unwrap();
        seal(&memory).unwrap();
        Template { memory, state: b"state".to_vec() }
    }

    #[test]
    fn a_template_reads_back_sealed() {
        let cache = tempfile::tempdir().unwrap();
        sample().store(cache.path(), "key", Some(2_000_100)).unwrap();
        let template = Template::load(cache.path(), "key", &spec()).unwrap();
        assert_eq!(template.state, b"state");
        let mut file = fs::File::from(template.memory().unwrap());
        assert!(file.write_all(b"x").is_err(), "the memory of a template was written to");
        let mut content = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), 1 << 20);
        assert_eq!(&content[300 * 1024..300 * 1024 + 13], b"in the middle");
    }

    #[test]
    fn a_damaged_template_or_one_of_another_clock_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let folder = templates(cache.path()).join("key");
        sample().store(cache.path(), "key", Some(3_000_000)).unwrap();
        assert!(Template::load(cache.path(), "key", &spec()).is_none());
        assert!(!folder.exists());
        for file in ["memory", "state"] {
            sample().store(cache.path(), "key", Some(2_000_000)).unwrap();
            let mut content = fs::read(folder.join(file)).unwrap();
            content[3] ^= 1;
            fs::write(folder.join(file), content).unwrap();
            assert!(Template::load(cache.path(), "key", &spec()).is_none(), "{file}");
            assert!(!folder.exists());
        }
    }
}
