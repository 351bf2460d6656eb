//! Which files a dynamically linked program needs in its jail: itself, its loader and its libraries.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::spec::{FileAccess, JailFile};

/// A program with everything that the loader maps for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramFiles {
    /// Its path, on the host and inside, with links resolved.
    pub(crate) program: String,
    /// All files, the program too.
    pub(crate) files: Vec<JailFile>,
    /// The folders of its libraries, as `LD_LIBRARY_PATH` wants them: there is no cache of the loader inside.
    pub(crate) library_path: String,
}

/// The loaders of the platforms that we know, by their conventional paths.
const LOADERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];

/// Most libraries of one program.
const MAX_LIBRARIES: usize = 400;

/// Finds the files of a program, and of modules that it loads itself, by asking the loader.
pub(crate) fn of_program(program: &Path, modules: &[PathBuf]) -> io::Result<ProgramFiles> {
    let program = program.canonicalize()?;
    let loader = LOADERS
        .iter()
        .map(Path::new)
        .find(|loader| loader.exists())
        .ok_or_else(|| io::Error::other("no dynamic loader of a known platform is installed"))?;
    let mut paths = BTreeSet::from([loader.to_path_buf()]);
    for object in std::iter::once(&program).chain(modules) {
        let output = Command::new(loader)
            .arg("--list")
            .arg(object)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|e| io::Error::new(e.kind(), format!("`{}`: {e}", loader.display())))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // A static program needs nothing else.
            if why.contains("statically linked") {
                continue;
            }
            return Err(io::Error::other(format!("the libraries of `{}`: {why}", object.display())));
        }
        paths.extend(parse(&String::from_utf8_lossy(&output.stdout)));
    }
    if paths.len() > MAX_LIBRARIES {
        return Err(io::Error::other(format!(
            "`{}` has more than {MAX_LIBRARIES} libraries",
            program.display()
        )));
    }
    let folders: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
    let library_path = folders.iter().map(|folder| folder.to_string_lossy()).collect::<Vec<_>>().join(":");
    paths.extend(modules.iter().cloned());
    paths.insert(program.clone());
    let files = paths
        .into_iter()
        .map(|path| JailFile { source: path.clone(), target: path, access: FileAccess::Execute })
        .collect();
    let program = program
        .to_str()
        .ok_or_else(|| io::Error::other(format!("`{}` is not UTF-8", program.display())))?
        .to_owned();
    Ok(ProgramFiles { program, files, library_path })
}

/// The paths in the loader's lines, such as `libz.so.1 => /lib/libz.so.1 (0x…)`.
fn parse(output: &str) -> Vec<PathBuf> {
    output
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.split_once(" => ").map_or(line, |(_, path)| path);
            let path = line.rsplit_once(" (").map_or(line, |(path, _)| path);
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_lines_are_read() {
        let output = "\tlinux-vdso.so.1 (0x7ff)\n\tlibz.so.1 => /lib/x/libz.so.1 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n\tlibq.so => not found\n";
        assert_eq!(
            parse(output),
            [PathBuf::from("/lib/x/libz.so.1"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn this_test_program_has_itself_a_loader_and_a_c_library() {
        let files = of_program(&std::env::current_exe().unwrap(), &[]).unwrap();
        let names: Vec<_> = files.files.iter().map(|f| f.target.to_string_lossy().into_owned()).collect();
        assert!(names.contains(&files.program));
        assert!(names.iter().any(|name| name.contains("libc.so")), "{names:?}");
        assert!(names.iter().any(|name| name.contains("/ld-")), "{names:?}");
    }
}
