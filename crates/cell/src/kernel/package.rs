//! The stock cloud kernel from the distribution's archive, downloaded and checked by the distribution's own tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::KernelError;
use super::modules::Tree;

/// A package, unpacked.
pub(super) struct Unpacked {
    /// Its kernel and modules.
    pub(super) tree: Tree,
    /// Name and version.
    pub(super) source: String,
}

/// Which packages hold a distribution's kernel for virtual machines.
struct Family {
    /// The package that depends on the newest kernel.
    newest: &'static str,
    /// Whether the modules are in a package of their own.
    modules_apart: bool,
}

const DEBIAN: Family = Family { newest: "linux-image-cloud-amd64", modules_apart: false };
const UBUNTU: Family = Family { newest: "linux-image-virtual", modules_apart: true };

/// Downloads and unpacks the newest kernel below `scratch`. Works without privileges.
pub(super) fn fetch(scratch: &Path, progress: &dyn Fn(&str)) -> Result<Unpacked, KernelError> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let family = family(&release)?;
    let depends = run(Command::new("apt-cache").args(["depends", family.newest]))?;
    let image = concrete(&depends).ok_or_else(|| KernelError::Tool {
        command: format!("apt-cache depends {}", family.newest),
        why: "it names no kernel".into(),
        hint: UPDATE,
    })?;
    let mut packages = vec![image.to_owned()];
    if family.modules_apart {
        packages.push(image.replacen("linux-image-", "linux-modules-", 1));
    }
    let tree = scratch.join("tree");
    std::fs::create_dir(&tree)?;
    let mut source = String::new();
    for package in &packages {
        progress(&format!("downloading {package}"));
        let deb = download(scratch, package)?;
        progress(&format!("unpacking {package}"));
        run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&tree))?;
        if source.is_empty() {
            let version = run(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Version"))?;
            source = format!("{package} {}", version.trim());
        }
    }
    let found = Tree::find(&tree)?.ok_or_else(|| KernelError::NotAKernel(tree.clone()))?;
    Ok(Unpacked { tree: found, source })
}

const UPDATE: &str = "`sudo apt-get update` may help";

/// apt checks the package against the archive's signed list.
fn download(scratch: &Path, package: &str) -> Result<PathBuf, KernelError> {
    let folder = scratch.join(package);
    std::fs::create_dir(&folder)?;
    let mut command = Command::new("apt-get");
    command.args([
        "--quiet",
        "-o",
        "Acquire::Retries=2",
        "-o",
        "Acquire::http::Timeout=60",
        "download",
        package,
    ]);
    run(command.current_dir(&folder))?;
    let mut debs = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            debs.push(path);
        }
    }
    match debs.as_slice() {
        [deb] => Ok(deb.clone()),
        _ => Err(KernelError::Tool {
            command: format!("apt-get download {package}"),
            why: format!("it left {} packages", debs.len()),
            hint: UPDATE,
        }),
    }
}

fn run(command: &mut Command) -> Result<String, KernelError> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let failed = |why: String| KernelError::Tool { command: shown.clone(), why, hint: UPDATE };
    let output =
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.lines().last().unwrap_or("it said nothing").trim().to_owned()))
}

fn family(os_release: &str) -> Result<Family, KernelError> {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let id = field("ID");
    let like = field("ID_LIKE");
    for candidate in std::iter::once(id.as_str()).chain(like.split_whitespace()) {
        match candidate {
            "debian" => return Ok(DEBIAN),
            "ubuntu" => return Ok(UBUNTU),
            _other => {}
        }
    }
    Err(KernelError::Distribution(if id.is_empty() { "this system".into() } else { id }))
}

/// The first kernel package among the dependencies that apt-cache prints.
fn concrete(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| {
        let name = line.trim().trim_start_matches('|').strip_prefix("Depends: ")?;
        name.starts_with("linux-image-").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_among_dependencies() {
        let debian = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(concrete(debian), Some("linux-image-6.1.0-56-cloud-amd64"));
        let ubuntu =
            "linux-image-virtual\n  Depends: linux-firmware\n  Depends: linux-image-6.8.0-31-generic\n";
        assert_eq!(concrete(ubuntu), Some("linux-image-6.8.0-31-generic"));
        assert_eq!(concrete("x\n  Suggests: linux-image-1\n"), None);
    }

    #[test]
    fn distributions_are_known_by_id_then_by_likeness() {
        assert_eq!(family("ID=debian\n").unwrap().newest, DEBIAN.newest);
        assert_eq!(family("ID=ubuntu\nID_LIKE=debian\n").unwrap().newest, UBUNTU.newest);
        assert_eq!(family("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").unwrap().newest, UBUNTU.newest);
        assert!(family("ID=fedora\n").is_err());
    }
}
