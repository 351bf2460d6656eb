//! An image import, against `skopeo copy` and `umoci unpack` of the same image. Both read the same local layout; ours
//! ends with a squashfs file that cells run from, theirs with a folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cell::image::{ImageStore, Progress};
use domain::ImageName;
use testkit::cell_less::dialer;
use tokio::process::Command;

use crate::Result;
use crate::cells::Ground;
use crate::report::{Number, median};

const ROUNDS: usize = 5;
/// Folders of this host that become the image's layers, and most bytes of each.
const LAYERS: &[&str] = &["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share"];
const LAYER_BYTES: u64 = 64_000_000;

/// The tools that are missing.
pub fn lacks() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = ["skopeo", "umoci"]
        .into_iter()
        .find(|tool| std::env::split_paths(&path).all(|p| !p.join(tool).exists()));
    missing.map(|tool| format!("`{tool}` is not installed (`./x setup --test` does)"))
}

pub async fn run(ground: &mut Ground) -> Result<Vec<Number>> {
    let scratch = ground.scratch().join("import");
    fs::create_dir(&scratch)?;
    eprintln!("bench: making an image of files of this host");
    let (layout, bytes) = make_layout(&scratch).await?;
    let name: ImageName = "benchmark".parse()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("bench: import {round}/{ROUNDS}");
        let folder = scratch.join(format!("round-{round}"));
        fs::create_dir(&folder)?;
        let store = ImageStore::open(&folder.join("data"), dialer())?;
        let began = Instant::now();
        store.import(&layout, Some(&name), &Progress::silent()).await?;
        ours.push(bytes / 1e6 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        copy_and_unpack(&layout, &folder).await?;
        theirs.push(bytes / 1e6 / began.elapsed().as_secs_f64());
        fs::remove_dir_all(&folder)?;
    }
    let name = format!("import of {:.0} MB", bytes / 1e6);
    Ok(vec![Number::against(name, "MB/s", median(ours), "skopeo + umoci", median(theirs))])
}

async fn copy_and_unpack(layout: &Path, folder: &Path) -> Result<()> {
    let copied = format!("{}:latest", folder.join("copy").display());
    let source = format!("oci:{}:latest", layout.display());
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", &source, &format!("oci:{copied}")]).await?;
    let bundle = folder.join("bundle").display().to_string();
    tool("umoci", &["unpack", "--rootless", "--image", &copied, &bundle]).await
}

/// An OCI layout of some of this host's files, and the bytes in them.
async fn make_layout(scratch: &Path) -> Result<(PathBuf, f64)> {
    let layout = scratch.join("layout");
    let (path, image) = (layout.display().to_string(), format!("{}:latest", layout.display()));
    tool("umoci", &["init", "--layout", &path]).await?;
    tool("umoci", &["new", "--image", &image]).await?;
    let mut bytes = 0;
    for (number, source) in LAYERS.iter().enumerate() {
        let tree = scratch.join(format!("layer-{number}"));
        let folder = tree.join(source.trim_start_matches('/'));
        fs::create_dir_all(&folder)?;
        bytes += copy_some(Path::new(source), &folder, LAYER_BYTES)?;
        let (tree, layer) = (tree.display().to_string(), format!("{}.tar", tree.display()));
        tool("tar", &["-C", &tree, "-cf", &layer, "usr"]).await?;
        tool("umoci", &["raw", "add-layer", "--image", &image, &layer]).await?;
    }
    Ok((layout, bytes as f64))
}

/// Copies folders and plain files, by name, until so many bytes are there. How many there are.
fn copy_some(from: &Path, to: &Path, most: u64) -> Result<u64> {
    let mut entries = fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut bytes = 0;
    for entry in entries {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let about = entry.metadata()?;
        if bytes >= most {
            break;
        } else if about.is_dir() {
            fs::create_dir(&target)?;
            bytes += copy_some(&source, &target, most - bytes)?;
        } else if about.is_file() && about.size() <= most - bytes && about.mode() & 0o7004 == 0o004 {
            bytes += fs::copy(&source, &target)?;
        }
    }
    Ok(bytes)
}

async fn tool(program: &str, args: &[&str]) -> Result<()> {
    let done = Command::new(program).args(args).output().await?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("`{program} {}`: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim()).into())
}
