//! Archives by other people's tools, compared with what `umoci` unpacks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::image::{Image, ImageError, ImageStore, Progress};

/// An OCI layout with one image `t` of three layers, made by umoci.
pub(super) fn make_layout(folder: &Path) -> PathBuf {
    let layout = folder.join("layout");
    let at = layout.to_str().unwrap();
    let image = format!("{at}:t");
    run("umoci", &["init", "--layout", at]);
    run("umoci", &["new", "--image", &image]);
    run(
        "umoci",
        &[
            "config",
            "--image",
            &image,
            "--config.env",
            "GREETING=hello",
            "--config.workingdir",
            "/srv",
            "--config.cmd",
            "sh",
        ],
    );
    for change in [first_layer, second_layer, third_layer] {
        let bundle = folder.join("bundle");
        let to = bundle.to_str().unwrap();
        unpack_with_umoci(&image, to);
        let root = bundle.join("rootfs");
        change(&root);
        // What was made just now is of the future where tools round seconds up.
        run("find", &[root.to_str().unwrap(), "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]);
        run("umoci", &["repack", "--image", &image, to]);
        fs::remove_dir_all(&bundle).unwrap();
    }
    layout
}

fn unpack_with_umoci(image: &str, to: &str) {
    let mut args = vec!["unpack", "--image", image, to];
    if !nix::unistd::geteuid().is_root() {
        args.insert(1, "--rootless");
    }
    run("umoci", &args);
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn first_layer(root: &Path) {
    write(&root.join("bin/tool"), b"#!/bin/sh\n", 0o755);
    write(&root.join("etc/secret"), b"s", 0o600);
    write(&root.join("d/gone"), b"1", 0o644);
    write(&root.join("d/kept"), b"1", 0o644);
    write(&root.join("swap/was-folder/x"), b"1", 0o644);
    write(&root.join("swap/was-file"), b"1", 0o644);
    write(&root.join("all/a"), b"1", 0o644);
    write(&root.join("all/b/c"), b"1", 0o644);
    fs::hard_link(root.join("bin/tool"), root.join("bin/tool2")).unwrap();
    symlink("tool", root.join("bin/link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    let deep = (0..20).fold(root.join("deep"), |path, _| path.join("a-name-of-twenty-chr"));
    write(&deep.join("file with spaces and ünïcode\n"), b"deep", 0o644);
    symlink("x/".repeat(80) + "y", root.join("long-target")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"here", 2 << 20).unwrap();
    write(&root.join("big"), &(0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), 0o644);
    write(&root.join("empty"), b"", 0o444);
    fs::create_dir(root.join("sticky")).unwrap();
    fs::set_permissions(root.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
}

fn second_layer(root: &Path) {
    fs::remove_file(root.join("d/gone")).unwrap();
    fs::remove_dir_all(root.join("swap/was-folder")).unwrap();
    write(&root.join("swap/was-folder"), b"now a file", 0o644);
    fs::remove_file(root.join("swap/was-file")).unwrap();
    write(&root.join("swap/was-file/x"), b"now a folder", 0o644);
    fs::remove_dir_all(root.join("all")).unwrap();
}

fn third_layer(root: &Path) {
    write(&root.join("all/new"), b"3", 0o644);
    fs::remove_file(root.join("bin/tool")).unwrap();
    write(&root.join("bin/tool"), b"other", 0o700);
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o750)).unwrap();
}

/// Everything below `root`: kind, mode, owner, contents.
fn walk(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let owner = (meta.uid(), meta.gid());
            let text = if meta.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else if meta.is_dir() {
                todo.push(path.clone());
                format!("/ {:o} {owner:?}", meta.mode() & 0o7777)
            } else {
                let bytes = fs::read(&path).unwrap();
                let digest = crate::image::Digest::of(&bytes);
                format!("{} {digest} {:o} {owner:?} {}", bytes.len(), meta.mode() & 0o7777, meta.nlink())
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
        }
    }
    found
}

/// What every image gets.
const ADDED: [&str; 13] = [
    ".lazaret",
    "dev",
    "proc",
    "sys",
    "run",
    "home",
    "home/agent",
    "workspace",
    "tmp",
    "etc",
    "etc/passwd",
    "etc/group",
    "etc/hosts",
];

/// Checks that the image's file system is what umoci unpacks, and what every image gets.
fn assert_same(image: &Image, layout: &Path, scratch: &Path) {
    let to = scratch.join("umoci");
    unpack_with_umoci(&format!("{}:t", layout.display()), to.to_str().unwrap());
    let ours = scratch.join("ours");
    run("unsquashfs", &["-q", "-n", "-d", ours.to_str().unwrap(), image.path.to_str().unwrap()]);
    let expected = walk(&to.join("rootfs"));
    let mut found = walk(&ours);
    for added in ADDED {
        assert!(found.contains_key(Path::new(added)), "{added} is missing");
        if !expected.contains_key(Path::new(added)) {
            found.remove(Path::new(added));
        }
    }
    for (path, text) in &expected {
        assert_eq!(found.get(path), Some(text), "{}", path.display());
    }
    assert_eq!(found.len(), expected.len());
    assert!(expected.len() > 40, "the example is not what it was");
    fs::remove_dir_all(to).unwrap();
    fs::remove_dir_all(ours).unwrap();
}

async fn import(store: &ImageStore, path: &Path, name: &str) -> Result<Image, ImageError> {
    store.import(path, Some(&name.parse().unwrap()), &Progress::silent()).await
}

#[tokio::test]
async fn all_forms_of_an_image_become_what_umoci_unpacks() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let from = format!("oci:{}:t", layout.display());
    let at = |name: &str| scratch.path().join(name);
    let copy = |to: &str| run("skopeo", &["--insecure-policy", "copy", "-q", &from, to]);
    copy(&format!("oci-archive:{}:t", at("oci.tar").display()));
    copy(&format!("docker-archive:{}:acme/tool:1", at("docker.tar").display()));
    run("gzip", &["-k", at("docker.tar").to_str().unwrap()]);

    for form in ["layout", "oci.tar", "docker.tar", "docker.tar.gz"] {
        let data = tempfile::tempdir().unwrap();
        let store = ImageStore::open(data.path(), dialer()).unwrap();
        let image = import(&store, &at(form), "mine").await.unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_same(&image, &layout, scratch.path());
        assert_eq!(image.config.cwd, "/srv", "{form}");
        assert!(image.config.env.contains(&"GREETING=hello".to_owned()), "{form}");
    }
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let image = store.import(&at("docker.tar"), None, &Progress::silent()).await.unwrap();
    assert!(image.name.as_str().ends_with("acme/tool:1"), "{}", image.name);
}

#[tokio::test]
async fn damaged_and_foreign_images_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let blobs = layout.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        // The last byte of gzip's trailer or of JSON, which readers may overlook.
        *damaged.last_mut().unwrap() ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        if let Ok(image) = import(&store, &layout, "mine").await {
            // Blobs of the earlier versions of the image are no part of it; everything else is.
            let manifest = fs::read_to_string(blobs.join(image.digest.hex())).unwrap();
            assert!(!manifest.contains(path.file_name().unwrap().to_str().unwrap()), "{}", path.display());
            store.remove(&image.name).unwrap();
        }
        fs::write(&path, &whole).unwrap();
    }
    import(&store, &layout, "mine").await.unwrap();
    assert!(matches!(import(&store, &layout, "base").await, Err(ImageError::Reserved(_))));
    assert!(matches!(import(&store, scratch.path(), "x").await, Err(ImageError::Import { .. })));
    assert!(matches!(import(&store, Path::new("/dev/zero"), "x").await, Err(ImageError::Io { .. })));
}

#[tokio::test]
async fn documents_that_could_mean_two_things_are_refused() {
    use crate::image::manifest;
    let digest = crate::image::Digest::of(b"");
    let one = |media: &str| format!(r#"{{"mediaType":"{media}","digest":"{digest}","size":1}}"#);
    let config = one("application/vnd.oci.image.config.v1+json");
    let layer = one("application/vnd.oci.image.layer.v1.tar+gzip");
    let good = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    assert!(manifest::parse(good.as_bytes()).is_ok());
    let foreign = one("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let many = vec![layer.as_str(); 257].join(",");
    let bad = [
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"manifests":[]}}"#), "or both"),
        (format!(r#"{{"schemaVersion":1,"config":{config},"layers":[{layer}]}}"#), "schema version"),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{foreign}]}}"#), "media type"),
        (format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layer}]}}"#), "media type"),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{many}]}}"#), "257 layers"),
        (good.replace("sha256:", "md5:"), "64 digits"),
        (good.replacen('{', r#"{"mediaType":"application/vnd.oci.image.index.v1+json","#, 1), "media type"),
        (format!(r#"{{"x":{}"#, "[".repeat(100_000)), "EOF"),
    ];
    for (text, why) in bad {
        let error = manifest::parse(text.as_bytes()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(why), "{error}: {why}");
    }
    for (text, why) in [
        (r#"{"os":"linux","architecture":"arm64","rootfs":{"diff_ids":[]}}"#.to_owned(), "linux/arm64"),
        (
            format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["{digest}"]}}}}"#),
            "names 1 layers of 0",
        ),
        (
            r#"{"os":"linux","architecture":"amd64","config":{"Env":["x"]},"rootfs":{"diff_ids":[]}}"#
                .to_owned(),
            "NAME=value",
        ),
    ] {
        let error = manifest::parse_config(text.as_bytes(), 0).unwrap_err().to_string();
        assert!(error.contains(why), "{error}: {why}");
    }
}
