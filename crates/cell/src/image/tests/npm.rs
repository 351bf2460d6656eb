//! npm images against a registry on this host: whole, with a package that is not what it should be, and with hostile ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::registry::serve;
use super::{Layer, dialer, listing};
use crate::image::layer::Assembly;
use crate::image::npm::{Registry, Wanted};
use crate::image::recipe::Recipe as _;
use crate::image::{ImageError, ImagePackage, ImageStore, Progress};

/// What a registry answers: a path and a body.
type Files = Vec<(String, Vec<u8>)>;

fn integrity(archive: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(archive)))
}

/// The files of a package of one version.
fn published(name: &str, archive: &Layer, mut release: Value) -> Files {
    let archive = archive.done();
    if release.get("dist").is_none() {
        release["dist"] = json!({"integrity": integrity(&archive)});
    }
    let document = json!({"dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}});
    let last = name.rsplit('/').next().unwrap();
    vec![
        (format!("/{}", name.replace('/', "%2f")), document.to_string().into_bytes()),
        (format!("/{name}/-/{last}-1.0.0.tgz"), archive),
    ]
}

/// The image's packages, laid down, and their records.
async fn laid(name: &str, files: Files) -> Result<(Assembly, Vec<ImagePackage>), ImageError> {
    let answers = files.into_iter().map(|(path, body)| (path, "application/json", body));
    let registry = Registry::at(&dialer(), serve(answers.collect()), None)?;
    let silent = Progress::silent();
    let wanted = Wanted::parse(&name.parse().unwrap())?.unwrap();
    let packages = wanted.resolve(registry, &silent).await?;
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer())?;
    let work = store.begin()?;
    packages.fetch_packages(&work, &silent).await?;
    let mut assembly = store.assembly(&work)?;
    packages.lay_packages(&work, &mut assembly, &silent)?;
    Ok((assembly, packages.packages()))
}

async fn refused(name: &str, files: Files) -> String {
    match laid(name, files).await {
        Ok((assembly, _)) => panic!("not refused: {:?}", listing(&assembly)),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_package_and_what_it_needs_are_laid_down_and_its_command_runs() {
    let mut tool = Layer::new();
    // As somebody's odd machine packs it: nobody may read it, it is setuid, and the command can't be run.
    tool.header("package/dist", b'5', 0, "", 0o600);
    tool.header("package/dist/index.js", b'0', 2, "", 0o4600).data(b"js");
    let mut files = published(
        "@acme/tool",
        &tool,
        json!({"bin": {"acme": "./dist/index.js"}, "dependencies": {"lib": "^1.0.0"}}),
    );
    files.extend(published("lib", Layer::new().file("lib/index.js", "lib"), json!({})));
    let (assembly, packages) = laid("npm:@acme/tool@1.0.0", files).await.unwrap();
    let list = listing(&assembly);
    let tool = "opt/npm/node_modules/@acme/tool/dist";
    assert_eq!(list[tool], "/");
    assert_eq!(list[&format!("{tool}/index.js")], "js 755");
    assert_eq!(list["opt/npm/node_modules/lib/index.js"], "lib");
    assert_eq!(list["usr/local/bin/acme"], format!("-> /{tool}/index.js 755"));
    let names: Vec<&str> = packages.iter().map(|package| package.place.as_str()).collect();
    assert_eq!(names, ["node_modules/@acme/tool", "node_modules/lib"]);
    assert!(packages.iter().all(|package| package.integrity.starts_with("sha512-")));
}

#[tokio::test]
async fn an_archive_that_is_not_what_the_registry_says_is_refused() {
    let other = json!({"dist": {"integrity": integrity(b"another archive")}});
    let files = published("x", Layer::new().file("package/x.js", "evil"), other);
    let told = refused("npm:x@1.0.0", files).await;
    assert!(told.contains("its SHA-512 differs"), "{told}");
}

#[tokio::test]
async fn hostile_archives_are_refused() {
    let mut device = Layer::new();
    device.header("package/null", b'3', 0, "", 0o666);
    let archives = [
        ("contains `..`", Layer::new().file("package/../../../etc/passwd", "x").clone()),
        ("is a link", Layer::new().link("package/out", "/etc").file("package/out/passwd", "x").clone()),
        ("is a link", Layer::new().file("package/a", "x").hard("package/b", "package/a").clone()),
        ("or a device", device),
        ("is named as a command", Layer::new().file("package/other.js", "x").clone()),
    ];
    for (why, archive) in archives {
        let told = refused("npm:x@1.0.0", published("x", &archive, json!({"bin": "x.js"}))).await;
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_there_is() {
    let files = || published("x", Layer::new().file("package/x.js", "x"), json!({}));
    let needy = || published("x", &Layer::new(), json!({"dependencies": {"gone": "^2"}}));
    for (name, files, why) in [
        ("npm:x", files(), "the newest is npm:x@1.0.0"),
        ("npm:x@2.0.0", files(), "no such version; the newest is 1.0.0"),
        ("npm:x@latest", files(), "no such version; the newest is 1.0.0"),
        ("npm:y@1.0.0", files(), "no package of this name"),
        ("npm:x@1.0.0", needy(), "`gone@^2`, which x needs, is not in the registry"),
        ("npm:@x@1.0.0", files(), "npm has no such names"),
        ("npm:a/../b@1.0.0", files(), "npm has no such names"),
    ] {
        let told = refused(name, files).await;
        assert!(told.contains(why), "{name}: {told}");
    }
}
