//! PyPI images against an index on this host: whole, with wheels that are not what they should be, and with hostile ones.

use std::io::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::registry::{Answers, serve};
use super::{dialer, listing, small_limits};
use crate::image::layer::Assembly;
use crate::image::limits::ImageLimits;
use crate::image::pypi::{Index, Python, Wanted};
use crate::image::recipe::{Ground, Recipe as _};
use crate::image::{ImageError, ImagePackage, ImageStore, Progress, zip};

const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// A zip archive put together entry by entry, so that it can be wrong in any way.
#[derive(Default, Clone)]
struct Zip {
    contents: Vec<u8>,
    list: Vec<u8>,
    entries: u16,
}

impl Zip {
    /// A wheel of `x` 1.0 with these lines more in its description.
    fn wheel(more: &str) -> Self {
        Self::wheel_of("x", more)
    }

    fn wheel_of(name: &str, more: &str) -> Self {
        let mut zip = Self::default();
        let folder = format!("{name}-1.0.dist-info");
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{more}\nabout\n");
        zip.file(&format!("{folder}/METADATA"), &metadata);
        zip.file(&format!("{folder}/WHEEL"), "Wheel-Version: 1.0\n");
        zip
    }

    fn file(&mut self, name: &str, text: &str) -> &mut Self {
        self.entry(name, text.as_bytes(), 0o100_644, |_, _| {})
    }

    /// An entry whose header and record can be spoiled.
    fn entry(
        &mut self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        spoil: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) -> &mut Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let sizes = [crc.sum(), packed.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
        let name_len = (name.len() as u16).to_le_bytes();
        let mut header = b"PK\x03\x04\x14\0\0\x08\x08\0\0\0\0\0".to_vec();
        header.extend([&sizes[..], &name_len, &[0, 0], name.as_bytes()].concat());
        let mut record = b"PK\x01\x02\x14\x03\x14\0\0\x08\x08\0\0\0\0\0".to_vec();
        record.extend([&sizes[..], &name_len, &[0; 8]].concat());
        record.extend((mode << 16).to_le_bytes());
        record.extend((self.contents.len() as u32).to_le_bytes());
        record.extend(name.as_bytes());
        spoil(&mut header, &mut record);
        self.contents.extend([header, packed].concat());
        self.list.extend(record);
        self.entries += 1;
        self
    }

    fn done(&self) -> Vec<u8> {
        let (at, size) = (self.contents.len() as u32, self.list.len() as u32);
        let count = self.entries.to_le_bytes();
        let end =
            [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size.to_le_bytes(), &at.to_le_bytes(), &[0, 0]];
        [&self.contents[..], &self.list, &end.concat()].concat()
    }
}

/// What the index says of a package of one version.
fn project(name: &str, files: &[Value]) -> (String, &'static str, Vec<u8>) {
    let document = json!({"meta": {"api-version": "1.0"}, "name": name, "files": files});
    (format!("/simple/{name}/"), JSON, document.to_string().into_bytes())
}

fn file(name: &str, wheel: &[u8]) -> Value {
    let sha256 = hex::encode(Sha256::digest(wheel));
    let filename = format!("{name}-1.0-py3-none-any.whl");
    json!({"filename": filename, "url": format!("../../files/{filename}"), "hashes": {"sha256": sha256}})
}

/// The answers for a package of one version.
fn published(name: &str, wheel: &Zip) -> Answers {
    let wheel = wheel.done();
    let at = format!("/files/{name}-1.0-py3-none-any.whl");
    vec![project(name, &[file(name, &wheel)]), (at, "application/zip", wheel)]
}

struct Laid {
    assembly: Assembly,
    packages: Vec<ImagePackage>,
    digest: String,
}

async fn laid_within(name: &str, answers: Answers, limits: ImageLimits) -> Result<Laid, ImageError> {
    let index = Index::at(&dialer(), &(serve(answers) + "simple"))?;
    let silent = Progress::silent();
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer())?;
    let work = store.begin()?;
    let wanted = Wanted::parse(&name.parse().unwrap())?.unwrap();
    let ground = Ground { layer: data.path(), work: &work, limits };
    let recipe = wanted.resolve(index, Python::debian_12(), &ground, &silent).await?;
    recipe.fetch(&work, &silent).await?;
    let mut assembly = store.assembly(&work)?;
    recipe.lay(&work, &mut assembly, &silent)?;
    let digest = recipe.digest(crate::image::Digest::of(b"base")).to_string();
    Ok(Laid { assembly, packages: recipe.packages(), digest })
}

async fn laid(name: &str, answers: Answers) -> Result<Laid, ImageError> {
    laid_within(name, answers, ImageLimits::default()).await
}

async fn refused(name: &str, answers: Answers) -> String {
    match laid(name, answers).await {
        Ok(laid) => panic!("not refused: {:?}", listing(&laid.assembly)),
        Err(error) => error.to_string(),
    }
}

const TOOL: &str = "pypi:x==1.0";
const PACKAGES: &str = "usr/local/lib/python3.11/dist-packages";

#[tokio::test]
async fn a_package_and_what_it_needs_are_laid_down_for_python() {
    let mut tool = Zip::wheel("Requires-Dist: y>=1\nRequires-Dist: never; sys_platform == 'win32'\n");
    tool.file("x/__init__.py", "x")
        .entry("x/native.so", b"elf", 0o100_755, |_, _| {})
        .entry("x/data/", b"", 0o040_755, |_, _| {})
        .file("x-1.0.data/purelib/pure.py", "pure")
        .file("x-1.0.data/platlib/plat.py", "plat")
        .file("x-1.0.data/scripts/x-script", "#!python\nprint()\n")
        .entry("x-1.0.data/scripts/x-shell", b"#!/bin/sh\n", 0o100_644, |_, _| {})
        .file("x-1.0.data/data/share/x.txt", "share")
        .file("x-1.0.data/data/bin/evil", "evil")
        .file("x-1.0.data/data/etc/passwd", "evil")
        .file("x-1.0.data/headers/x.h", "h")
        .file("x-1.0.dist-info/entry_points.txt", "[console_scripts]\nx-run = x.cli:main.run\n");
    let mut needed = Zip::wheel_of("y", "");
    needed
        .file("y.py", "y")
        .file("y-1.0.data/scripts/y-script", "#!python\n")
        .file("y-1.0.dist-info/entry_points.txt", "[console_scripts]\ny-run = y:main\n");
    let answers = || [published("x", &tool), published("y", &needed)].concat();
    let laid_down = laid(TOOL, answers()).await.unwrap();
    let list = listing(&laid_down.assembly);
    let of = |path: &str| list.get(path).map(String::as_str);
    for (path, contents) in [
        ("x/__init__.py", "x"),
        ("x/native.so", "elf 755"),
        ("pure.py", "pure"),
        ("plat.py", "plat"),
        ("x-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n"),
        ("y.py", "y"),
    ] {
        assert_eq!(of(&format!("{PACKAGES}/{path}")), Some(contents), "{path}");
    }
    let program = "#!/usr/bin/python3\nimport sys\nfrom x.cli import main\nsys.exit(main.run())\n 755";
    assert_eq!(of("usr/local/bin/x-run"), Some(program));
    assert_eq!(of("usr/local/bin/x-script"), Some("#!/usr/bin/python3\nprint()\n 755"));
    assert_eq!(of("usr/local/bin/x-shell"), Some("#!/bin/sh\n 755"));
    assert_eq!(of("usr/local/share/x.txt"), Some("share"));
    let commands = list.keys().filter(|path| path.starts_with("usr/local/bin/")).count();
    assert_eq!(commands, 3, "only those of the package that was asked for: {:?}", list.keys());
    assert!(list.keys().all(|path| path.starts_with("usr") && !path.contains("evil")), "{:?}", list.keys());

    let packages: Vec<(&str, &str)> =
        laid_down.packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
    assert_eq!(packages, [("x", "1.0"), ("y", "1.0")]);
    assert!(laid_down.packages.iter().all(|package| package.integrity.starts_with("sha256:")));

    // The digest is of all of it: another wheel of what it needs is another image.
    assert_eq!(laid(TOOL, answers()).await.unwrap().digest, laid_down.digest);
    let mut other = needed.clone();
    other.file("more.py", "");
    let changed = laid(TOOL, [published("x", &tool), published("y", &other)].concat()).await.unwrap();
    assert_ne!(changed.digest, laid_down.digest);
}

#[tokio::test]
async fn a_wheel_or_description_that_is_not_what_the_index_says_is_refused() {
    let wheel = Zip::wheel("").done();
    let answers = |change: &dyn Fn(&mut Value), more: Answers| {
        let mut file = file("x", &wheel);
        change(&mut file);
        let mut answers = vec![project("x", &[file])];
        answers.push(("/files/x-1.0-py3-none-any.whl".to_owned(), "", wheel.clone()));
        answers.extend(more);
        answers
    };
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let own = b"Metadata-Version: 2.1\nName: x\nVersion: 1.0\n\nabout\n";
    let other = b"Name: x\nVersion: 1.0\n";
    let described = |digest_of: &'static [u8]| {
        move |file: &mut Value| file["core-metadata"] = json!({"sha256": sha256(digest_of)})
    };
    let at = |bytes: &[u8]| vec![("/files/x-1.0-py3-none-any.whl.metadata".to_owned(), "", bytes.to_vec())];

    // Told apart or not, the description is the wheel's own.
    for good in [answers(&|_| {}, vec![]), answers(&described(own), at(own))] {
        laid(TOOL, good).await.unwrap();
    }
    for (why, bad) in [
        (
            "damaged or exchanged",
            answers(&|file| file["hashes"]["sha256"] = json!(sha256(b"another")), vec![]),
        ),
        ("has no SHA-256 in the index", answers(&|file| file["hashes"] = json!({"md5": "00"}), vec![])),
        ("the description of x 1.0 has digest", answers(&described(own), at(other))),
        ("the description in the wheel of x 1.0 has digest", answers(&described(other), at(other))),
        (
            "where it can't be asked for over HTTPS",
            answers(&|file| file["url"] = json!("http://evil.example/x.whl"), vec![]),
        ),
        (
            "where it can't be asked for over HTTPS",
            answers(&|file| file["url"] = json!("file:///etc/passwd"), vec![]),
        ),
        ("404", answers(&|file| file["url"] = json!("/gone.whl"), vec![])),
    ] {
        let told = refused(TOOL, bad).await;
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[tokio::test]
async fn hostile_wheels_are_refused() {
    type Spoil = fn(&mut Zip) -> &mut Zip;
    let spoilt: [(&str, Spoil); 26] = [
        ("contains `..`", |zip| zip.file("../../../etc/passwd", "x")),
        ("contains `..`", |zip| zip.file("x-1.0.data/purelib/../../../../../bin/sh", "x")),
        ("contains a NUL", |zip| zip.file("x\0y", "x")),
        ("is a link or a device", |zip| zip.entry("link", b"/etc", 0o120_777, |_, _| {})),
        ("is a link or a device", |zip| zip.entry("fifo", b"", 0o010_644, |_, _| {})),
        ("is in the archive twice", |zip| zip.file("y", "1").file("y", "2")),
        ("is in the archive twice", |zip| zip.file("y", "1").file("./y", "2")),
        ("is in the archive twice", |zip| zip.file("y/z", "1").file("y//z", "2")),
        ("goes through something that is no folder", |zip| zip.file("y", "1").file("y/z", "2")),
        ("is no name of a file", |zip| zip.file("/", "")),
        ("is no name in UTF-8", |zip| zip.entry("é", b"", 0, |_, record| record[9] = 0)),
        ("is another one in its own header", |zip| zip.entry("abc", b"", 0, |header, _| header[30] = b'z')),
        ("is encrypted or patched", |zip| zip.entry("y", b"x", 0, |_, record| record[8] = 1)),
        ("in another way than deflate", |zip| zip.entry("y", b"x", 0, |_, record| record[10] = 14)),
        ("is damaged", |zip| zip.entry("y", b"xyz", 0, |_, record| record[16] ^= 1)),
        ("is damaged", |zip| zip.entry("y", b"xyz", 0, |_, record| record[24] = 2)),
        ("is damaged", |zip| zip.entry("y", b"xyz", 0, |_, record| record[24] = 200)),
        ("overlaps with another", |zip| zip.entry("y", b"xyz", 0, |_, record| record[21] = 1)),
        ("is too large", |zip| zip.entry("y", b"xyz", 0, |_, record| record[20..24].fill(0xff))),
        ("a decompression bomb", |zip| zip.entry("y", b"x", 0, |_, record| record[27] = 0x70)),
        ("its list of entries is damaged", |zip| {
            zip.list.extend(*b"PK\x03\x04 and so on, and so on");
            zip
        }),
        ("its list of entries is not where it says", |zip| zip),
        ("it has not one `.dist-info`", |zip| zip.file("z-2.0.dist-info/METADATA", "")),
        ("`.dist-info` is that of another package", |zip| {
            *zip = Zip::wheel_of("z", "");
            zip
        }),
        ("is among the commands", |zip| zip.file("x-1.0.data/scripts/a/b", "")),
        ("one of its commands can't be made", |zip| {
            zip.file("x-1.0.dist-info/entry_points.txt", "[console_scripts]\nx = x:f;import os\n")
        }),
    ];
    for (why, spoil) in spoilt {
        let mut zip = Zip::wheel("");
        spoil(&mut zip);
        let mut wheel = zip.done();
        if why.contains("not where it says") {
            wheel.extend(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        let answers =
            vec![project("x", &[file("x", &wheel)]), ("/files/x-1.0-py3-none-any.whl".to_owned(), "", wheel)];
        let told = refused(TOOL, answers).await;
        assert!(told.contains(why), "{why}: {told}");
    }
    let many = (0..2_100).fold(Zip::wheel(""), |mut zip, n| {
        zip.file(&format!("f{n}"), "");
        zip
    });
    let told = laid_within(TOOL, published("x", &many), small_limits()).await.err().unwrap().to_string();
    assert!(told.contains("more than 2000 entries"), "{told}");
}

proptest! {
    #[test]
    fn no_change_of_a_wheel_makes_reading_it_fail_badly(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        len in any::<proptest::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut wheel = Zip::wheel("").file("x.py", "x").entry("y/", b"", 0o040_755, |_, _| {}).done();
        for (at, byte) in changes {
            let at = at.index(wheel.len());
            wheel[at] = byte;
        }
        if cut {
            wheel.truncate(len.index(wheel.len()));
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&wheel).unwrap();
        if let Ok(zip) = zip::Zip::open(file, small_limits()) {
            for entry in zip.entries() {
                drop(zip.contents(entry, |_, _| Ok(())));
            }
        }
    }
}

#[tokio::test]
async fn what_an_index_does_not_have_is_told_with_what_it_has() {
    let answers = || published("x", &Zip::wheel(""));
    let needy = || published("x", &Zip::wheel("Requires-Dist: gone>=2\n"));
    let elsewhere = || published("x", &Zip::wheel("Requires-Dist: y @ https://evil.example/y.whl\n"));
    let page = || vec![("/simple/x/".to_owned(), "text/html", b"<a href='x-1.0-py3-none-any.whl'>".to_vec())];
    let source = || vec![project("x", &[json!({"filename": "x-1.0.tar.gz", "url": "x.tar.gz"})])];
    let huge = || vec![("/simple/x/".to_owned(), JSON, vec![b' '; (32 << 20) + 1])];
    for (name, answers, why) in [
        ("pypi:x", answers(), "the newest is pypi:x==1.0"),
        ("pypi:x==2.0", answers(), "no such version; the newest is 1.0"),
        ("pypi:x==one", answers(), "that is no version"),
        ("pypi:y==1.0", answers(), "the index has no package of this name"),
        ("pypi:X==1.0", answers(), "write pypi:x"),
        ("pypi:../x==1.0", answers(), "PyPI has no such names"),
        (TOOL, needy(), "the index has no `gone` >=2 that can be used"),
        (TOOL, elsewhere(), "needs `y` from elsewhere"),
        (TOOL, page(), "it answers in another form than JSON (PEP 691), such as HTML"),
        (TOOL, source(), "has no wheel, and nothing is built of sources"),
        (TOOL, huge(), "the answer has more than 33554432 bytes"),
    ] {
        let told = refused(name, answers).await;
        assert!(told.contains(why), "{name}: {told}");
    }
}
