//! The tools that read and change files.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most bytes of a file that is read or edited.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Most entries listed, and lines found.
const MAX_LINES: usize = 500;
/// Most files that one search opens.
const MAX_SEARCHED: usize = 20_000;
/// Most characters shown of a line found.
const MAX_SHOWN: usize = 300;

fn failed(what: &str, path: &Path, why: impl std::fmt::Display) -> String {
    format!("can't {what} `{}`: {why}", path.display())
}

/// The text of a regular file.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| failed("read", path, why);
    let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
    if !metadata.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(&"it is larger than 4 MiB; use `shell` to see a part"));
    }
    String::from_utf8(bytes).map_err(|_| failed(&"it is not text"))
}

/// Writes a file, in folders that are made when missing.
pub(super) fn write(path: &Path, content: &str) -> Result<String, String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| failed("make the folder", folder, e))?;
    }
    fs::write(path, content).map_err(|e| failed("write", path, e))?;
    Ok(format!("written: {} bytes", content.len()))
}

/// Replaces the only place where `old` stands.
pub(super) fn edit(path: &Path, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("`old` is empty: give the text to replace, or use `write`".to_owned());
    }
    let text = read(path)?;
    match text.matches(old).count() {
        0 => Err(failed("edit", path, "`old` does not stand in it, to the letter")),
        1 => {
            fs::write(path, text.replacen(old, new, 1)).map_err(|e| failed("write", path, e))?;
            Ok("edited".to_owned())
        }
        many => Err(failed(
            "edit",
            path,
            format!("`old` stands in it {many} times; give more of its surroundings"),
        )),
    }
}

/// The entries of a folder in order: folders end in `/`, symbolic links show where they point.
pub(super) fn list(path: &Path) -> Result<String, String> {
    let entries = fs::read_dir(path).map_err(|e| failed("list", path, e))?;
    let mut lines = Vec::new();
    for entry in entries.take(MAX_LINES * 20) {
        let entry = entry.map_err(|e| failed("list", path, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(|e| failed("list", path, e))?;
        lines.push(if kind.is_dir() {
            format!("{name}/")
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).map_err(|e| failed("list", path, e))?;
            format!("{name} -> {}", target.display())
        } else {
            name
        });
    }
    lines.sort();
    let over = lines.len().saturating_sub(MAX_LINES);
    if over > 0 {
        lines.truncate(MAX_LINES);
        lines.push(format!("(and {over} more)"));
    }
    Ok(join(&lines, "empty"))
}

/// The lines that contain `pattern`, as `file:number: line`. Symbolic links and `.git` are not followed.
pub(super) fn search(pattern: &str, path: &Path) -> Result<String, String> {
    if pattern.is_empty() {
        return Err("`pattern` is empty".to_owned());
    }
    let metadata = fs::metadata(path).map_err(|e| failed("search", path, e))?;
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    let mut found = Vec::new();
    let mut opened = 0;
    let mut first = metadata.is_dir() || metadata.is_file();
    while let Some(next) = todo.pop() {
        let kind = fs::symlink_metadata(&next).map_err(|e| failed("search", &next, e))?;
        if kind.is_dir() || (first && metadata.is_dir()) {
            todo.extend(below(&next));
        } else if (kind.is_file() || first) && kind.len() <= MAX_FILE {
            opened += 1;
            lines_of(pattern, &next, path, &mut found);
        }
        first = false;
        if found.len() >= MAX_LINES || opened > MAX_SEARCHED {
            found.push("(there is more: search a smaller part)".to_owned());
            break;
        }
    }
    Ok(join(&found, "not found"))
}

/// What lies in a folder, last name first; what can't be read is left out, as grep -s does.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).filter(|e| e.file_name() != ".git").map(|e| e.path()).collect();
    paths.sort_by(|a, b| b.cmp(a));
    paths
}

fn lines_of(pattern: &str, file: &Path, root: &Path, found: &mut Vec<String>) {
    let Ok(text) = read(file) else { return };
    let name = match file.strip_prefix(root) {
        Ok(below) if !below.as_os_str().is_empty() => below,
        Ok(_) | Err(_) => file,
    };
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(pattern)) {
        let shown: String = line.chars().take(MAX_SHOWN).collect();
        found.push(format!("{}:{}: {shown}", name.display(), number + 1));
        if found.len() >= MAX_LINES {
            return;
        }
    }
}

fn join(lines: &[String], none: &str) -> String {
    if lines.is_empty() {
        return format!("({none})");
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lazaret-files-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    #[test]
    fn an_edit_replaces_one_place_and_refuses_none_or_two() {
        let folder = Folder::new("edit");
        let file = folder.0.join("new/a.txt");
        write(&file, "one two one").expect("written");
        assert!(edit(&file, "three", "x").expect_err("none").contains("does not stand"));
        assert!(edit(&file, "one", "x").expect_err("two").contains("2 times"));
        assert!(edit(&file, "", "x").is_err());
        edit(&file, "two", "2").expect("edited");
        assert_eq!(read(&file), Ok("one 2 one".to_owned()));
    }

    #[test]
    fn what_is_no_text_file_is_not_read() {
        let folder = Folder::new("read");
        let binary = folder.0.join("b");
        fs::write(&binary, [0xff, 0xfe]).expect("written");
        assert!(read(&binary).expect_err("binary").contains("not text"));
        assert!(read(&folder.0).expect_err("folder").contains("not a regular file"));
        assert!(read(Path::new("/dev/zero")).expect_err("device").contains("not a regular file"));
        let large = folder.0.join("large");
        File::create(&large).and_then(|f| f.set_len(MAX_FILE + 1)).expect("made");
        assert!(read(&large).expect_err("large").contains("4 MiB"));
    }

    #[test]
    fn folders_are_listed_and_searched_without_following_links() {
        let folder = Folder::new("search");
        write(&folder.0.join("src/a.py"), "x = 1\nneedle = 2\n").expect("written");
        write(&folder.0.join(".git/b"), "needle").expect("written");
        std::os::unix::fs::symlink("/", folder.0.join("root")).expect("linked");
        assert_eq!(list(&folder.0), Ok(".git/\nroot -> /\nsrc/".to_owned()));
        assert_eq!(search("needle", &folder.0), Ok("src/a.py:2: needle = 2".to_owned()));
        assert_eq!(search("absent", &folder.0), Ok("(not found)".to_owned()));
        let file = folder.0.join("src/a.py");
        assert_eq!(search("needle", &file), Ok(format!("{}:2: needle = 2", file.display())));
    }

    #[test]
    fn a_search_with_too_many_hits_says_so() {
        let folder = Folder::new("many");
        write(&folder.0.join("a"), &"hit\n".repeat(MAX_LINES * 3)).expect("written");
        let found = search("hit", &folder.0).expect("found");
        assert!(found.contains("there is more") && found.lines().count() <= MAX_LINES + 2, "{found}");
    }
}
