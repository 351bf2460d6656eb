//! A kernel as a package unpacks it: its file, its modules, what they depend on and in which order they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::KernelError;
use crate::store;

/// Most bytes of one module, unpacked.
const MODULE_BYTES: u64 = 64 << 20;
/// Most files in a tree of modules.
const TREE_FILES: usize = 20_000;

/// One module, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Its name, with `_` where the file name has `-`.
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// A kernel's file with its modules.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) image: PathBuf,
    /// Files by name of the module; `None` where everything is built in.
    modules: Option<BTreeMap<String, PathBuf>>,
    built_in: BTreeSet<String>,
}

impl Tree {
    /// A kernel that needs no modules.
    pub(super) fn of_file(image: &Path) -> Self {
        Self { image: image.to_path_buf(), modules: None, built_in: BTreeSet::new() }
    }

    /// Finds the kernel in an unpacked package; `None` if there is none.
    pub(super) fn find(root: &Path) -> Result<Option<Self>, KernelError> {
        let image = newest(&root.join("boot"), "vmlinuz")?;
        let mut folder = None;
        for candidate in ["lib/modules", "usr/lib/modules"] {
            folder = folder.or(newest(&root.join(candidate), "")?);
        }
        let (Some(image), Some(folder)) = (image, folder) else { return Ok(None) };
        let mut modules = BTreeMap::new();
        collect(&folder, &mut modules, &mut TREE_FILES.clone())?;
        let built_in = match fs::read_to_string(folder.join("modules.builtin")) {
            Ok(list) => list.lines().filter_map(|line| module_name(Path::new(line))).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { image, modules: Some(modules), built_in }))
    }

    /// The modules wanted with everything they depend on, each after what it needs, without those already loaded.
    pub(super) fn ordered(&self, wanted: &[&str], loaded: &[Module]) -> Result<Vec<Module>, KernelError> {
        let mut done: BTreeSet<String> = loaded.iter().map(|module| module.name.clone()).collect();
        let mut order = Vec::new();
        for name in wanted {
            self.add(name, &mut done, &mut order)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        done: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), KernelError> {
        let Some(modules) = &self.modules else { return Ok(()) };
        if self.built_in.contains(name) || !done.insert(name.to_owned()) {
            return Ok(());
        }
        let path = modules.get(name).ok_or_else(|| KernelError::NoModule(name.to_owned()))?;
        let content = unpack(path)?;
        for needed in dependencies(&content) {
            self.add(&needed, done, order)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

/// The last by name of the entries with this prefix.
fn newest(folder: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut found = None;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found = found.max(Some(entry.path()));
        }
    }
    Ok(found)
}

fn collect(
    folder: &Path,
    modules: &mut BTreeMap<String, PathBuf>,
    left: &mut usize,
) -> Result<(), KernelError> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        *left = left.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!("`{}` has more than {TREE_FILES} files", folder.display()))
        })?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), modules, left)?;
        } else if kind.is_file()
            && let Some(name) = module_name(&entry.path())
        {
            modules.insert(name, entry.path());
        }
    }
    Ok(())
}

/// `virtio_ring` for `…/virtio-ring.ko.xz`; `None` for other files.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn unpack(path: &Path) -> Result<Vec<u8>, KernelError> {
    let packed = store::read_bounded(path, MODULE_BYTES)?;
    let bounded = |reader: &mut dyn Read| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        reader.take(MODULE_BYTES).read_to_end(&mut content)?;
        Ok(content)
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("ko") => Ok(packed),
        Some("zst") => Ok(bounded(&mut zstd::stream::read::Decoder::new(packed.as_slice())?)?),
        Some("gz") => Ok(bounded(&mut flate2::read::GzDecoder::new(packed.as_slice()))?),
        Some(_) | None => unpack_xz(path),
    }
}

fn unpack_xz(path: &Path) -> Result<Vec<u8>, KernelError> {
    let failed = |why: String| KernelError::Tool {
        command: format!("xz -dc {}", path.display()),
        why,
        hint: "is `xz-utils` installed?",
    };
    let output = Command::new("xz")
        .args(["--decompress", "--stdout", "--memlimit=256MiB"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// What a module says it depends on, in its `.modinfo` section: `depends=a,b` between zero bytes.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = module.get(start + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        [b"\x7fELF junk\0depends=".as_slice(), depends.as_bytes(), b"\0name=x\0"].concat()
    }

    fn package(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn modules_come_after_what_they_need_and_built_in_ones_not_at_all() {
        let zst = zstd::encode_all(module("virtio-ring,virtio").as_slice(), 1).unwrap();
        let root = package(&[
            ("boot/vmlinuz-6.1", b"kernel".to_vec()),
            ("lib/modules/6.1/kernel/virtio-ring.ko", module("")),
            ("lib/modules/6.1/kernel/a/virtio.ko", module("virtio-ring")),
            ("lib/modules/6.1/kernel/b/virtio_mmio.ko.zst", zst),
            ("lib/modules/6.1/modules.builtin", b"kernel/fs/ext4/ext4.ko\n".to_vec()),
        ]);
        let tree = Tree::find(root.path()).unwrap().unwrap();
        let base = tree.ordered(&["virtio_mmio", "ext4"], &[]).unwrap();
        let names: Vec<_> = base.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "virtio_mmio"]);
        assert!(tree.ordered(&["virtio"], &base).unwrap().is_empty());
        assert!(
            matches!(tree.ordered(&["squashfs"], &[]), Err(KernelError::NoModule(name)) if name == "squashfs")
        );
    }

    #[test]
    fn a_folder_without_a_kernel_is_none() {
        let root = package(&[("boot/readme", Vec::new())]);
        assert!(Tree::find(root.path()).unwrap().is_none());
    }

    #[test]
    fn names_are_taken_from_modules_only() {
        assert_eq!(module_name(Path::new("x/virtio-net.ko.xz")).unwrap(), "virtio_net");
        assert_eq!(module_name(Path::new("modules.order")), None);
        assert_eq!(module_name(Path::new("a.ko.sig")), None);
    }
}
