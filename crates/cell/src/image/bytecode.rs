//! Python's byte code for `base`, which the packages' scripts would make: without it every start of Python compiles what it
//! imports, five times the work. The host's own Python compiles (and runs none of it) if it is the same version.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::{ImageError, LayerError};
use super::finish::put;
use super::host_tools;
use super::layer::Assembly;
use super::store::Work;
use super::tree::{Kind, Meta};

const PYTHON: &str = "python3";

/// The version of the host's Python, such as `3.11`; `None` where there is none.
pub(super) fn host_version(work: &Work) -> Option<String> {
    let show = "import sys; print('%d.%d' % sys.version_info[:2])";
    let out = host_tools::command(PYTHON, work.path()).args(["-I", "-c", show]).output().ok()?;
    let version = String::from_utf8(out.stdout).ok()?.trim().to_owned();
    let sound = version.split('.').count() == 2 && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (out.status.success() && sound).then_some(version)
}

/// Where the distribution's own packages for Python lie, pip among them.
const PACKAGES: &str = "usr/lib/python3/dist-packages/";

/// Compiles the library of Python `version`, if the image has that one, and the packages of the distribution.
pub(super) fn add(assembly: &mut Assembly, work: &Work, version: &str) -> Result<(), ImageError> {
    let library = format!("usr/lib/python{version}/");
    let copies = work.path().join("python");
    let mut modules = copy_out(assembly, &library, &copies)?;
    if modules.is_empty() {
        return Ok(());
    }
    modules.append(&mut copy_out(assembly, PACKAGES, &copies)?);
    // Checked against nothing: the image never changes. Names in tracebacks are those in the image.
    let status = host_tools::command(PYTHON, work.path())
        .args(["-I", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s"])
        .arg(&copies)
        .args(["-p", "/"])
        .args([copies.join(&library), copies.join(PACKAGES)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| host_tools::not_started(PYTHON, &error))?;
    // A library has templates that are no programs; they are passed over, and compileall says so by its status.
    tracing::debug!(%status, "compiled Python's library");
    let tag = format!("cpython-{}.pyc", version.replace('.', ""));
    for module in modules {
        let Some((folder, name)) = compiled_path(&module, &tag) else { continue };
        let Ok(bytes) = fs::read(copies.join(&folder).join(&name)) else { continue };
        let path = folder.join(name);
        put(assembly, path.as_os_str().as_bytes(), &bytes, Meta::FILE)
            .map_err(ImageError::layer("byte code"))?;
    }
    fs::remove_dir_all(&copies).map_err(ImageError::io("remove", &copies))
}

/// `a/b.py` is compiled to `a/__pycache__/b.TAG`.
fn compiled_path(module: &Path, tag: &str) -> Option<(PathBuf, String)> {
    let stem = module.file_stem()?.to_str()?;
    Some((module.parent()?.join("__pycache__"), format!("{stem}.{tag}")))
}

/// Copies Python's modules into the private folder `copies`; their paths in the image.
fn copy_out(assembly: &Assembly, library: &str, copies: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut modules = Vec::new();
    let found = assembly.tree.visit(|path, _, node| {
        if let Kind::File(piece) = &node.kind
            && path.starts_with(library.as_bytes())
            && path.ends_with(b".py")
        {
            modules.push((PathBuf::from(std::ffi::OsStr::from_bytes(path)), *piece));
        }
        Ok::<(), LayerError>(())
    });
    found.map_err(ImageError::layer("python"))?;
    let mut copied = Vec::new();
    for (path, piece) in modules {
        let to = copies.join(&path);
        let copy = || -> io::Result<()> {
            fs::create_dir_all(to.parent().unwrap_or(copies))?;
            io::copy(&mut assembly.spool.reader(piece), &mut fs::File::create_new(&to)?)?;
            Ok(())
        };
        copy().map_err(ImageError::io("write", &to))?;
        copied.push(path);
    }
    Ok(copied)
}
