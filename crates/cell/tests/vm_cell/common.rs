//! What the tests with real machines share: a host of cells, an image, and a test's side of the door's link.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cell::{Cell, CellHost, CellSpec, EmulationRule, HostConfig, HostDirs, StartMode};
use domain::{ByteSize, CellId, Limits};
use serde_bytes::ByteArray;
use tokio::net::UnixStream;
use wire::early::{Answer, Birth, Question};
use wire::frame;

/// A busy machine without KVM may need this long to boot.
pub(crate) const BORN_WITHIN: Duration = Duration::from_secs(180);

/// The example `launcher`, which cargo builds with the tests.
pub(crate) fn launcher() -> PathBuf {
    beside_target("examples/launcher").expect("`cargo test -p cell` builds it")
}

/// The guest's program; `./x` builds it.
pub(crate) fn guest() -> PathBuf {
    if let Ok(path) = std::env::var("LAZARET_GUEST") {
        return path.into();
    }
    beside_target("lazaret-guest")
        .or_else(|| beside_target("../static/x86_64-unknown-linux-gnu/guest/lazaret-guest"))
        .expect("`lazaret-guest` is not built: use `./x test`, or set LAZARET_GUEST")
}

fn beside_target(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent()?.parent()?.join(name);
    path.exists().then_some(path)
}

/// Folders that are kept between tests, so that a kernel is fetched and a template made once; one set per user.
pub(crate) fn kept() -> PathBuf {
    match std::env::var("LAZARET_TEST_KEPT") {
        Ok(path) => path.into(),
        Err(_) => Path::new(env!("CARGO_TARGET_TMPDIR")).join("cells"),
    }
}

/// A host whose runtime folder is below `scratch`.
pub(crate) fn host(scratch: &Path) -> CellHost {
    CellHost::open(config(scratch)).unwrap()
}

pub(crate) fn config(scratch: &Path) -> HostConfig {
    let dirs =
        HostDirs { data: kept().join("data"), cache: kept().join("cache"), runtime: scratch.join("run") };
    HostConfig { dirs, guest: guest(), launcher: launcher(), kernel: None }
}

/// A small image: folders, `cat` and `head` of this host, and what they need.
pub(crate) fn image(scratch: &Path) -> PathBuf {
    let (tree, image) = (scratch.join("tree"), scratch.join("image.squashfs"));
    for folder in ["bin", "etc", "home/agent", "workspace", "tmp", "proc", "sys", "dev", "run"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for program in ["/usr/bin/cat", "/usr/bin/head"] {
        copy(Path::new(program), &tree);
        let listed = Command::new("/lib64/ld-linux-x86-64.so.2").arg("--list").arg(program).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for path in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(path), &tree);
        }
    }
    let made =
        Command::new("mksquashfs").arg(&tree).arg(&image).args(["-quiet", "-no-progress"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    image
}

fn copy(file: &Path, tree: &Path) {
    let target = tree.join(file.strip_prefix("/").unwrap());
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::copy(file, target).unwrap();
}

/// A cell of small limits with this disk.
pub(crate) fn spec(image: &Path, disk: PathBuf, start: StartMode) -> CellSpec {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let random = u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 32 | u128::from(std::process::id());
    CellSpec {
        id: CellId::from_parts(u64::try_from(millis).unwrap(), random),
        image: image.to_path_buf(),
        disk,
        limits: Limits { memory: ByteSize::mib(256), disk: ByteSize::mib(64), ..Limits::default() },
        start,
        emulation: EmulationRule::Allow,
    }
}

/// A cell that is born: its boot id, and the link, on which the mux comes next.
pub(crate) async fn born(cell: &mut Cell, number: u8) -> (String, UnixStream) {
    let mut link = cell.take_link().unwrap();
    let birth = Birth {
        seed: ByteArray::new([number; 64]),
        unix_nanos: 1_800_000_000_000_000_000,
        machine_id: ByteArray::new([number; 16]),
        host_name: format!("cell-{number}"),
    };
    frame::write(&mut link, &Question::Birth(birth), frame::SMALL).await.unwrap();
    let answer = tokio::select! {
        answer = tokio::time::timeout(BORN_WITHIN, frame::read::<Answer, _>(&mut link, frame::SMALL)) => answer,
        end = cell.ended() => panic!("the cell ended before its birth: {end}"),
    };
    match answer.expect("no birth in time").unwrap() {
        Some(Answer::Born { boot_id, .. }) => {
            cell.born().await;
            (boot_id, link)
        }
        Some(other) => panic!("{other:?}"),
        None => panic!("the cell ended before its birth: {}", cell.ended().await),
    }
}
