//! The store itself: what is left behind is cleared away, what is needed is kept, and several may use it at once.

use std::fs;

use domain::ImageName;

use super::dialer;
use super::sources::make_layout;
use crate::image::{ImageError, ImageStore, Progress};

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn files(store: &std::path::Path, ending: &str) -> usize {
    let list = fs::read_dir(store.join("images")).unwrap();
    list.filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().ends_with(ending)).count()
}

#[tokio::test]
async fn one_file_serves_all_names_until_the_last_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let silent = Progress::silent();
    // Two at once, through stores of their own as two processes would have.
    let other = ImageStore::open(data.path(), dialer()).unwrap();
    let (first, second) = (name("one"), name("ghcr.io/acme/two"));
    let (a, b) = tokio::join!(
        store.import(&layout, Some(&first), &silent),
        other.import(&layout, Some(&second), &silent)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.digest, &a.path), (b.digest, &b.path));
    assert_eq!(files(data.path(), ".squashfs"), 1);
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(fs::read_dir(data.path().join("images/work")).unwrap().count(), 0);

    assert_eq!(store.resolve(&name("ghcr.io/acme/two:latest")).unwrap().name, second);
    assert_eq!(store.resolve(&name(&a.digest.to_string())).unwrap().digest, a.digest);
    store.remove(&first).unwrap();
    assert!(b.path.is_file());
    store.remove(&second).unwrap();
    assert!(!b.path.exists());
    let error = store.resolve(&second).unwrap_err().to_string();
    assert!(error.contains("lazaret image pull ghcr.io/acme/two"), "{error}");
}

#[test]
fn what_a_dead_process_left_is_cleared_away() {
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let images = data.path().join("images");
    let busy = store.begin().unwrap();
    fs::create_dir(images.join("work/dead")).unwrap();
    fs::write(images.join("work/dead/image.squashfs"), "half").unwrap();
    fs::write(images.join(format!("{}.1.squashfs", "0".repeat(64))), "no record").unwrap();

    ImageStore::open(data.path(), dialer()).unwrap();
    assert!(busy.path().is_dir(), "the work of one that lives is left alone");
    assert!(!images.join("work/dead").exists());
    assert_eq!(files(data.path(), ".squashfs"), 0);
}

#[test]
fn an_index_that_is_damaged_is_said_to_be() {
    let data = tempfile::tempdir().unwrap();
    ImageStore::open(data.path(), dialer()).unwrap();
    fs::write(data.path().join("images/index.json"), "{").unwrap();
    let error = ImageStore::open(data.path(), dialer()).unwrap_err();
    assert!(matches!(error, ImageError::Document { .. }), "{error}");
}

#[tokio::test]
async fn reserved_names_are_built_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let silent = Progress::silent();
    assert!(matches!(store.pull(&name("base"), &silent).await, Err(ImageError::Reserved(_))));
    assert!(matches!(store.build(&name("other"), &silent).await, Err(ImageError::NotBuildable(_))));
    let error = store.resolve(&name("codex")).unwrap_err().to_string();
    assert!(error.contains("lazaret image build codex"), "{error}");
}
