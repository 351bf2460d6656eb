//! The kernel that cells boot: the distribution's stock cloud kernel from its package, or any other by path. Never the
//! host's running one.

pub(crate) mod initramfs;
mod modules;
mod package;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::{self, NewFolder};

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// This distribution's kernel packages are not known.
    #[error("no kernel package is known for `{0}`: use Debian or Ubuntu, or name a kernel by path")]
    Distribution(String),
    /// One of the distribution's tools failed.
    #[error("`{command}` failed: {why}; {hint}")]
    Tool {
        /// The command.
        command: String,
        /// What it said.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// The kernel lacks what a cell needs.
    #[error("the kernel has no module `{0}`, and it isn't built in either")]
    NoModule(String),
    /// The path given holds no kernel.
    #[error(
        "`{0}` holds no kernel: expected a kernel file, or a folder with `boot/vmlinuz-*` and `lib/modules/*`"
    )]
    NotAKernel(PathBuf),
    /// A file could not be read or written.
    #[error("the kernel could not be stored: {0}")]
    Io(#[from] io::Error),
}

/// Modules that are loaded before anything else, then those that only a machine with disks needs.
const BASE: &[&str] = &["virtio_mmio", "virtio_console"];
const DISK: &[&str] = &["virtio_blk", "squashfs", "overlay", "ext4"];

/// Most bytes of a kernel.
const KERNEL_BYTES: u64 = 256 << 20;

/// A kernel in the store: a folder named by its content, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The folder.
    folder: PathBuf,
    about: About,
}

/// What is written beside a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Where it is from: the package with its version, or the path.
    source: String,
    /// File names below `base/` and `disk/`, in the order of loading.
    base: Vec<String>,
    disk: Vec<String>,
}

impl Kernel {
    /// The kernel's file.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Where it is from, for people.
    pub(crate) fn source(&self) -> &str {
        &self.about.source
    }

    /// The hash of kernel and modules.
    pub(crate) fn digest(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The modules as the initramfs has them: path there, path here.
    fn modules(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let base = self
            .about
            .base
            .iter()
            .map(|name| (format!("modules/{name}"), self.folder.join("base").join(name)));
        let disk = self
            .about
            .disk
            .iter()
            .map(|name| (format!("modules/disk/{name}"), self.folder.join("disk").join(name)));
        base.chain(disk)
    }
}

/// The kernels of a host.
#[derive(Debug, Clone)]
pub(crate) struct Kernels {
    folder: PathBuf,
}

impl Kernels {
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let folder = data.join("kernels");
        store::private_folder(&folder)?;
        store::remove_unfinished(&folder)?;
        Ok(Self { folder })
    }

    /// The kernel in use, if one was fetched.
    pub(crate) fn current(&self) -> Result<Option<Kernel>, KernelError> {
        let link = self.folder.join("current");
        match fs::read_to_string(&link) {
            Ok(digest) => self.by_digest(digest.trim()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn by_digest(&self, digest: &str) -> Result<Option<Kernel>, KernelError> {
        if digest.is_empty() || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let folder = self.folder.join(digest);
        match store::read_bounded(&folder.join("kernel.json"), 64 * 1024) {
            Ok(about) => {
                let about = serde_json::from_slice(&about).map_err(io::Error::from)?;
                Ok(Some(Kernel { folder, about }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches the distribution's newest cloud kernel and makes it the current one. Takes seconds to minutes.
    pub(crate) fn fetch(&self, progress: &dyn Fn(&str)) -> Result<Kernel, KernelError> {
        let scratch = NewFolder::under(&self.folder)?;
        let unpacked = package::fetch(scratch.path(), progress)?;
        let kernel = self.store(&unpacked.tree, &unpacked.source)?;
        store::write_whole(&self.folder.join("current"), 0o600, kernel.digest().as_bytes())?;
        progress(&format!("kernel {} is ready", unpacked.source));
        Ok(kernel)
    }

    /// Takes a kernel by path: a file with everything built in, or a folder as a package unpacks to.
    pub(crate) fn import(&self, path: &Path) -> Result<Kernel, KernelError> {
        let not = || KernelError::NotAKernel(path.to_path_buf());
        let metadata = fs::metadata(path).map_err(|_| not())?;
        if metadata.is_dir() {
            let tree = modules::Tree::find(path)?.ok_or_else(not)?;
            return self.store(&tree, &path.display().to_string());
        }
        let tree = modules::Tree::of_file(path);
        self.store(&tree, &path.display().to_string())
    }

    fn store(&self, tree: &modules::Tree, source: &str) -> Result<Kernel, KernelError> {
        let image = store::read_bounded(&tree.image, KERNEL_BYTES)?;
        let base = tree.ordered(BASE, &[])?;
        let disk = tree.ordered(DISK, &base)?;
        let mut parts = vec![image.as_slice()];
        for module in base.iter().chain(&disk) {
            parts.push(module.name.as_bytes());
            parts.push(&module.content);
        }
        let digest = store::digest(parts);
        let new = NewFolder::under(&self.folder)?;
        store::write_whole(&new.path().join("vmlinuz"), 0o644, &image)?;
        let about = About {
            source: source.to_owned(),
            base: write_modules(&new.path().join("base"), &base)?,
            disk: write_modules(&new.path().join("disk"), &disk)?,
        };
        let text = serde_json::to_vec_pretty(&about).map_err(io::Error::from)?;
        store::write_whole(&new.path().join("kernel.json"), 0o600, &text)?;
        new.finish(&digest)?;
        self.by_digest(&digest)?.ok_or_else(|| io::Error::other("the kernel just stored is gone").into())
    }
}

/// Writes modules with a number in front of their names, which is the order of loading.
fn write_modules(folder: &Path, modules: &[modules::Module]) -> io::Result<Vec<String>> {
    store::private_folder(folder)?;
    let mut names = Vec::new();
    for (number, module) in modules.iter().enumerate() {
        let name = format!("{number:02}-{}.ko", module.name);
        store::write_whole(&folder.join(&name), 0o600, &module.content)?;
        names.push(name);
    }
    Ok(names)
}
