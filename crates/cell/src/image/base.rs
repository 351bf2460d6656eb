//! `base`, the default image: built from packages of the host's own distribution, as an ordinary user and without running any
//! of their scripts. `apt-get` fetches and verifies them, in folders of its own; `dpkg-deb` turns each into a tar archive;
//! and what the scripts of the few packages would have done is done here.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::bytecode;
use super::digest::{Digest, Hashing};
use super::error::{ImageError, LayerError};
use super::finish::{put, small_file};
use super::host_tools;
use super::layer::{Assembly, Rules};
use super::progress::{Progress, Reporter};
use super::store::{ImageConfig, Work};
use super::tree::{Kind, Meta};

/// What an agent finds beside the essential packages.
const PACKAGES: [&str; 10] = [
    "git",
    "curl",
    "python3",
    "python3-pip",
    "python3-venv",
    "ca-certificates",
    "procps",
    "less",
    "patch",
    "ripgrep",
];

/// Changes when the same packages are put together in another way.
const RECIPE: u32 = 2;

/// Where `base` lists the packages that it is made of.
pub(super) const LIST: &str = "usr/share/lazaret/packages";

/// Folders of documentation; licences stay.
const DROPPED: [&[u8]; 6] = [
    b"usr/share/man/",
    b"usr/share/info/",
    b"usr/share/locale/",
    b"usr/share/lintian/",
    b"usr/share/doc-base/",
    b"usr/share/bug/",
];

/// In Python's folder: has pip leave a distribution's Python alone. No package manager runs in a cell, and pip can't write there.
const NOT_OURS: &[u8] = b"/EXTERNALLY-MANAGED";

/// Links that package scripts make: the commands with several implementations, and the old names of folders.
const LINKS: [(&str, &str, &str); 11] = [
    ("usr/bin/awk", "/etc/alternatives/awk", "/usr/bin/mawk"),
    ("usr/bin/nawk", "/etc/alternatives/nawk", "/usr/bin/mawk"),
    ("usr/bin/which", "/etc/alternatives/which", "/usr/bin/which.debianutils"),
    ("usr/bin/pager", "/etc/alternatives/pager", "/usr/bin/less"),
    ("usr/bin/sh", "dash", "/usr/bin/dash"),
    ("usr/bin/python", "python3", "/usr/bin/python3"),
    ("var/run", "/run", "/"),
    ("var/lock", "/run/lock", "/"),
    ("etc/mtab", "/proc/self/mounts", "/"),
    ("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt", "/usr/share/ca-certificates"),
    ("etc/os-release", "../usr/lib/os-release", "/usr/lib/os-release"),
];

/// Files that package scripts copy: from, to.
const COPIES: [(&str, &str); 5] = [
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("etc/skel/.bashrc", "etc/bash.bashrc"),
];

/// The packages that `base` will be made of.
pub(super) struct Packages {
    debs: Vec<PathBuf>,
    /// The version of the Python that can compile for the image.
    python: Option<String>,
    /// Digest of the recipe: names and contents of all packages.
    pub(super) digest: Digest,
}

/// Fetches the packages, each checked against the distribution's signatures by `apt-get`.
pub(super) fn fetch(work: &Work, progress: &Progress) -> Result<Packages, ImageError> {
    host_tools::require("apt-get", "apt")?;
    host_tools::require("dpkg-deb", "dpkg")?;
    host_tools::require("mksquashfs", "squashfs-tools")?;
    let config = write_config(work.path())?;
    progress.say("reading the distribution's package lists");
    apt(work.path(), &config, &["update"])?;
    progress.say("downloading packages");
    let mut install = vec!["--yes", "--download-only", "--no-install-recommends", "install", "?essential"];
    install.extend(PACKAGES);
    apt(work.path(), &config, &install)?;

    let archives = work.path().join("cache/archives");
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&archives)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut debs = list().map_err(ImageError::io("list", &archives))?;
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    debs.sort();
    let python = bytecode::host_version(work);
    let mut recipe =
        format!("lazaret base {RECIPE}, byte code of Python {}\n", python.as_deref().unwrap_or("none"));
    for deb in &debs {
        let mut file = Hashing::new(File::open(deb).map_err(ImageError::io("open", deb))?);
        io::copy(&mut file, &mut io::sink()).map_err(ImageError::io("read", deb))?;
        recipe.push_str(&format!("{} {}\n", file.digest(), package_name(deb)));
    }
    Ok(Packages { debs, python, digest: Digest::of(recipe.as_bytes()) })
}

/// Puts the packages together.
pub(super) fn assemble(
    packages: &Packages,
    work: &Work,
    assembly: &mut Assembly,
    progress: &Progress,
) -> Result<(), ImageError> {
    let merged = |assembly: &mut Assembly| -> Result<(), LayerError> {
        for folder in ["bin", "sbin", "lib", "lib64"] {
            let target = format!("usr/{folder}");
            assembly.tree.put_folder(target.as_bytes(), Meta::FOLDER, true)?;
            assembly.tree.put_symlink(folder.as_bytes(), Meta::FOLDER, target.as_bytes())?;
        }
        Ok(())
    };
    merged(assembly).map_err(ImageError::layer("the folder layout"))?;
    let rules = Rules { place: &without_needless, ..Rules::PACKAGE };
    let mut reporter = Reporter::new(progress, "unpacking packages", Some(packages.debs.len() as u64));
    for deb in &packages.debs {
        let name = package_name(deb);
        let mut unpacking = Unpacking::start(deb, work.path())?;
        let archive = unpacking.0.stdout.take().ok_or_else(|| failed("dpkg-deb", "it has no output"))?;
        assembly
            .add_layer(io::BufReader::with_capacity(256 * 1024, archive), &rules)
            .map_err(ImageError::layer(&name))?;
        unpacking.finish(&name)?;
        reporter.add(1);
    }
    settle(assembly, packages).map_err(ImageError::layer("what package scripts would do"))?;
    match &packages.python {
        Some(version) => {
            progress.say("compiling Python's library");
            bytecode::add(assembly, work, version)
        }
        None => Ok(()),
    }
}

/// How processes start in `base`.
pub(super) fn config() -> ImageConfig {
    ImageConfig {
        env: vec![
            // At its end, commands that the agent installs for itself: they stand in for none of the image's.
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/home/agent/.local/bin"
                .to_owned(),
            "LANG=C.UTF-8".to_owned(),
        ],
        cwd: "/workspace".to_owned(),
        entrypoint: Vec::new(),
        cmd: vec!["/bin/bash".to_owned()],
    }
}

fn failed(tool: &'static str, why: &str) -> ImageError {
    ImageError::Tool { tool, why: why.to_owned() }
}

fn package_name(deb: &Path) -> String {
    deb.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// apt's own folders, and the host's sources, keys and proxies; none of the commands that the host hooks into apt.
fn write_config(folder: &Path) -> Result<PathBuf, ImageError> {
    let at = folder.display();
    let text = format!(
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Pre-Invoke;\n#clear DPkg::Post-Invoke;\n#clear DPkg::Pre-Install-Pkgs;\n\
         Dir::State \"{at}/state\";\nDir::State::status \"{at}/state/status\";\nDir::Cache \"{at}/cache\";\n\
         Dir::Log \"{at}\";\nAPT::Sandbox::User \"\";\nAPT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
         APT::Get::AllowUnauthenticated \"false\";\nAcquire::AllowInsecureRepositories \"false\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nBinary::apt::APT::Keep-Downloaded-Packages \"true\";\n"
    );
    let path = folder.join("apt.conf");
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder.join("state/lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("state/status"), "")?;
        fs::write(&path, &text)
    };
    write().map_err(ImageError::io("write", &path))?;
    Ok(path)
}

fn apt(folder: &Path, config: &Path, arguments: &[&str]) -> Result<(), ImageError> {
    let log = folder.join("apt.log");
    let open = || -> io::Result<(File, File)> {
        let file = File::create(&log)?;
        Ok((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(ImageError::io("create", &log))?;
    let status = host_tools::command("apt-get", folder)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("-c")
        .arg(config)
        .arg("-q")
        .args(arguments)
        .stdout(out)
        .stderr(err)
        .status()
        .map_err(|error| host_tools::not_started("apt-get", &error))?;
    if status.success() {
        return Ok(());
    }
    let said = host_tools::last_words(&log);
    let doing = arguments.first().copied().unwrap_or_default();
    Err(failed(
        "apt-get",
        &format!(
            "`base` is built from the packages of this host's distribution, but `{doing}` ended with {status}: {said}\n\
             check the network and /etc/apt (does `apt-get update` work?), or import an image and name it in agent.toml"
        ),
    ))
}

/// A `dpkg-deb` at work, ended where its caller gives up.
struct Unpacking(Child);

impl Unpacking {
    fn start(deb: &Path, folder: &Path) -> Result<Self, ImageError> {
        host_tools::command("dpkg-deb", folder)
            .arg("--fsys-tarfile")
            .arg(deb)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| host_tools::not_started("dpkg-deb", &error))
    }

    fn finish(mut self, name: &str) -> Result<(), ImageError> {
        let status = self.0.wait().map_err(|error| failed("dpkg-deb", &error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(failed("dpkg-deb", &format!("the package `{name}` can't be unpacked: {status}")))
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        host_tools::end(&mut self.0);
    }
}

fn without_needless(path: &[u8]) -> Option<Vec<u8>> {
    let documentation = path.starts_with(b"usr/share/doc/") && !path.ends_with(b"/copyright");
    let dropped = DROPPED.iter().any(|folder| path.starts_with(folder)) || path.ends_with(NOT_OURS);
    (!documentation && !dropped).then(|| path.to_vec())
}

/// Does what the packages' scripts would do.
fn settle(assembly: &mut Assembly, packages: &Packages) -> Result<(), LayerError> {
    assembly.tree.next_layer();
    for (from, to) in COPIES {
        let there = assembly.tree.look_up(to.as_bytes(), true)?.is_some();
        if let Some(bytes) = small_file(assembly, from.as_bytes())?.filter(|_| !there) {
            put(assembly, to.as_bytes(), &bytes, Meta::FILE)?;
        }
    }
    for (link, target, needs) in LINKS {
        let there = assembly.tree.look_up(link.as_bytes(), false)?.is_some();
        if there || assembly.tree.look_up(needs.as_bytes(), true)?.is_none() {
            continue;
        }
        assembly.tree.put_symlink(link.as_bytes(), Meta::FOLDER, target.as_bytes())?;
        if let Some(through) = target.strip_prefix('/').filter(|t| t.starts_with("etc/alternatives/")) {
            assembly.tree.put_symlink(through.as_bytes(), Meta::FOLDER, needs.as_bytes())?;
        }
    }
    let certificates = certificates(assembly)?;
    put(assembly, b"etc/ssl/certs/ca-certificates.crt", &certificates, Meta::FILE)?;
    put(assembly, b"etc/shells", b"/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n", Meta::FILE)?;
    put(assembly, b"etc/hostname", b"cell\n", Meta::FILE)?;
    let list: String = packages.debs.iter().map(|deb| package_name(deb) + "\n").collect();
    put(assembly, LIST.as_bytes(), list.as_bytes(), Meta::FILE)
}

/// All certificates of the package `ca-certificates` in one file.
fn certificates(assembly: &mut Assembly) -> Result<Vec<u8>, LayerError> {
    let mut pieces = Vec::new();
    assembly.tree.visit(|path, _, node| {
        let is_one = path.starts_with(b"usr/share/ca-certificates/") && path.ends_with(b".crt");
        if let (true, Kind::File(piece)) = (is_one, &node.kind) {
            pieces.push(*piece);
        }
        Ok::<(), LayerError>(())
    })?;
    let mut all = Vec::new();
    for piece in pieces {
        assembly.spool.reader(piece).read_to_end(&mut all)?;
        if all.last().is_some_and(|b| *b != b'\n') {
            all.push(b'\n');
        }
    }
    Ok(all)
}
