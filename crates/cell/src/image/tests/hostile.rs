//! Each defect that a layer can have, and what becomes of it.

use super::*;
use crate::image::limits::{MAX_DEPTH, MAX_EXTENDED};

/// The layers of `make` are refused, with `why` in the reason.
fn refused(why: &str, make: impl FnOnce(&mut Layer)) {
    let mut layer = Layer::new();
    make(&mut layer);
    refused_bytes(why, &[layer.done()]);
}

fn refused_bytes(why: &str, layers: &[Vec<u8>]) {
    match lay(layers, small_limits()) {
        Ok(all) => panic!("not refused, though it should be ({why}): {:?}", listing(&all)),
        Err(error) => assert!(error.to_string().contains(why), "{error}\nis not about: {why}"),
    }
}

/// The layers are accepted and have this content.
fn becomes(expected: &[(&str, &str)], layers: &[&Layer]) -> Assembly {
    let layers: Vec<Vec<u8>> = layers.iter().map(|layer| layer.done()).collect();
    let all = lay(&layers, small_limits()).unwrap_or_else(|error| panic!("{error}"));
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    assert_eq!(listing(&all), expected);
    all
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../evil", "a/../../evil", "/../evil", "a/.."] {
        refused("contains `..`", |layer| {
            layer.file(path, "x");
        });
    }
    refused("contains a NUL", |layer| {
        layer.pax(&[("path", "a\0b")]).file("x", "x");
    });
    refused("which is not in the image", |layer| {
        layer.hard("a", "/etc/hostname");
    });
    refused("contains `..`", |layer| {
        layer.hard("a", "../../../../etc/hostname");
    });
}

#[test]
fn absolute_paths_are_within_the_image() {
    becomes(&[("etc", "/"), ("etc/passwd", "x")], &[Layer::new().file("/etc/passwd", "x")]);
    becomes(&[("a", "/"), ("a/b", "x")], &[Layer::new().file("./a//./b", "x")]);
}

#[test]
fn a_link_is_followed_within_the_image_only() {
    // `evil` points to the host's /etc; what is written through it lands in the image's own.
    let lower = Layer::new().link("evil", "/etc").clone();
    let upper = Layer::new().file("evil/passwd", "x").clone();
    becomes(&[("evil", "-> /etc"), ("etc", "/"), ("etc/passwd", "x")], &[&lower, &upper]);
    let lower = Layer::new().link("evil", "../../../../tmp/out").clone();
    becomes(
        &[("evil", "-> ../../../../tmp/out"), ("tmp", "/"), ("tmp/out", "/"), ("tmp/out/f", "x")],
        &[&lower, Layer::new().file("evil/f", "x")],
    );
    // The link itself is replaced, never what it points to.
    becomes(
        &[("etc", "/"), ("etc/p", "old"), ("l", "new")],
        &[Layer::new().folder("etc").file("etc/p", "old").link("l", "etc/p"), Layer::new().file("l", "new")],
    );
}

#[test]
fn links_in_circles_are_refused() {
    refused("goes in circles", |layer| {
        layer.link("a", "b").link("b", "a").file("a/x", "x");
    });
    refused("goes in circles", |layer| {
        layer.link("a", "a/a").file("a/x", "x");
    });
}

#[test]
fn a_path_through_a_file_is_refused() {
    refused("no folder", |layer| {
        layer.file("a", "x").file("a/b", "x");
    });
    refused("no folder", |layer| {
        layer.file("a", "x").link("l", "a").file("l/b", "x");
    });
    refused("top folder", |layer| {
        layer.link(".", "/etc");
    });
}

#[test]
fn hard_links_join_names_and_outlive_a_replacement() {
    let lower = Layer::new().file("a", "one").clone();
    let upper = Layer::new().hard("b", "a").file("a", "two").clone();
    becomes(&[("a", "two"), ("b", "one")], &[&lower, &upper]);
    let all = becomes(&[("a", "one"), ("b", "one")], &[&lower, Layer::new().hard("b", "/a")]);
    assert_eq!(all.tree.look_up(b"a", false).unwrap(), all.tree.look_up(b"b", false).unwrap());
    refused("which is a folder", |layer| {
        layer.folder("d").hard("x", "d");
    });
    // A hard link to a symbolic link is the link, not what it points to.
    becomes(
        &[("l", "-> /etc/shadow"), ("m", "-> /etc/shadow")],
        &[Layer::new().link("l", "/etc/shadow").hard("m", "l")],
    );
}

#[test]
fn devices_and_pipes_are_left_out_and_hide_what_was_there() {
    let lower = Layer::new().file("dev/null", "x").clone();
    let upper = Layer::new()
        .header("dev/null", b'3', 0, "", 0o666)
        .header("dev/sda", b'4', 0, "", 0o666)
        .header("pipe", b'6', 0, "", 0o666)
        .clone();
    let all = becomes(&[("dev", "/")], &[&lower, &upper]);
    assert_eq!(all.left_out.special_files, 3);
    refused("unknown kind 0x7a", |layer| {
        layer.header("x", b'z', 0, "", 0o644);
    });
}

#[test]
fn rights_are_taken_off() {
    let mut layer = Layer::new();
    layer
        .header("su", b'0', 0, "", 0o4755)
        .header("wall", b'0', 0, "", 0o2755)
        .header("t", b'5', 0, "", 0o3777);
    layer.pax(&[("SCHILY.xattr.security.capability", "x")]).file("cap", "");
    let all = becomes(&[("su", " 755"), ("wall", " 755"), ("t", "/ 1777"), ("cap", "")], &[&layer]);
    assert_eq!((all.left_out.privileged_bits, all.left_out.attributes), (3, 1));
    let mut layer = Layer::new();
    layer.pax(&[("uid", "4294967296"), ("gid", "70000")]).file("a", "");
    let all = becomes(&[("a", "")], &[&layer]);
    let id = all.tree.look_up(b"a", false).unwrap().unwrap();
    assert_eq!(all.tree.node(id).map(|n| (n.meta.uid, n.meta.gid)), Some((65534, 65534)));
    assert_eq!(all.left_out.owners, 1);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = Layer::new().file("d/a", "1").file("d/b", "1").file("e", "1").clone();
    becomes(&[("d", "/"), ("d/b", "1"), ("e", "1")], &[&lower, Layer::new().file("d/.wh.a", "")]);
    becomes(&[("e", "1")], &[&lower, Layer::new().file(".wh.d", "")]);
    // Wherever in its layer it stands, a whiteout spares what the same layer brings.
    for upper in [
        Layer::new().file("d/c", "2").file("d/.wh..wh..opq", "").clone(),
        Layer::new().file("d/.wh..wh..opq", "").file("d/c", "2").clone(),
        Layer::new().file("d/c", "2").file(".wh.d", "").clone(),
        Layer::new().file(".wh.d", "").file("d/c", "2").clone(),
    ] {
        becomes(&[("d", "/"), ("d/c", "2"), ("e", "1")], &[&lower, &upper]);
    }
    // Of nothing: no effect. Of the layer's own bookkeeping: none either.
    becomes(
        &[("x", "1")],
        &[Layer::new().file("x", "1").file(".wh.none", "").file("n/o/.wh.x", "").file(".wh..wh.aufs", "")],
    );
}

#[test]
fn whiteouts_of_no_file_are_refused() {
    for name in [".wh.", ".wh...", "d/.wh..."] {
        refused("whiteout of no file", |layer| {
            layer.folder("d").file(name, "");
        });
    }
    refused("contains `..`", |layer| {
        layer.file("../.wh.etc", "");
    });
}

#[test]
fn the_last_of_several_entries_counts() {
    becomes(&[("a", "2")], &[Layer::new().file("a", "1").file("./a", "2")]);
    becomes(&[("a", "/")], &[Layer::new().file("a", "1").folder("a/")]);
    becomes(&[("a", "1")], &[Layer::new().folder("a").file("a/b", "1").file("a", "1")]);
    becomes(&[("a", "/"), ("a/b", "1")], &[Layer::new().folder("a").file("a/b", "1").folder("a")]);
    becomes(&[("a", "/"), ("t", "/")], &[Layer::new().folder("t").link("a", "t"), Layer::new().folder("a")]);
}

#[test]
fn bombs_are_defused() {
    let many = |layer: &mut Layer| {
        for at in 0..2_100 {
            layer.header(&format!("f{at}"), b'0', 0, "", 0o644);
        }
    };
    refused("more than 2000 entries", many);
    refused("more than 2000 entries", |layer| {
        for _ in 0..2_100 {
            layer.folder("same");
        }
    });
    refused("bytes of file names", |layer| {
        for at in 0..1_900 {
            layer.header(&format!("{at:090}"), b'0', 0, "", 0o644);
        }
    });
    refused("bytes in one file", |layer| {
        layer.header("big", b'0', 9 << 20, "", 0o644);
    });
    let zeros = Layer::new().header("z", b'0', 90 << 20, "", 0o644).data(&vec![0; 90 << 20]).done();
    for bomb in [gzip(&zeros), zstd::encode_all(zeros.as_slice(), 3).unwrap()] {
        let error = lay(&[bomb], ImageLimits::default()).err().unwrap();
        assert!(error.to_string().contains("decompression bomb"), "{error}");
    }
    // Zeros after the archive's end are counted too.
    let mut tail = Layer::new().file("a", "x").done();
    tail.resize(6 << 20, 0);
    refused_bytes("bytes in the unpacked layers", &[tail]);
    // Together the layers are too large, though each is not.
    let half = Layer::new().header("h", b'0', 1 << 20, "", 0o644).data(&vec![1; 1 << 20]).done();
    refused_bytes("bytes in", &[half.clone(), half.clone(), half.clone(), half.clone(), half]);
}

#[test]
fn paths_of_monstrous_length_are_refused() {
    let long = |n: usize| "d/".repeat(n) + "f";
    refused("too deep", |layer| {
        layer.pax(&[("path", &long(MAX_DEPTH + 1))]).file("x", "");
    });
    refused("longer than a path may be", |layer| {
        layer.pax(&[("path", &"a".repeat(5000))]).file("x", "");
    });
    refused("has a name that is too long", |layer| {
        layer.pax(&[("path", &"a".repeat(300))]).file("x", "");
    });
    refused("bytes of extended headers", |layer| {
        layer.header("x", b'x', MAX_EXTENDED + 1, "", 0o644);
    });
    refused("bytes of extended headers", |layer| {
        let half = vec![b'a'; 1 << 19];
        layer.header("x", b'L', MAX_EXTENDED / 2, "", 0o644).data(&half);
        layer.header("x", b'K', MAX_EXTENDED / 2, "", 0o644).data(&half);
        layer.header("x", b'x', 1, "", 0o644);
    });
    // Depth that is built up through links.
    refused("too deep", |layer| {
        layer.pax(&[("path", &long(100))]).file("x", "").link("l", &("d/".repeat(100) + "."));
        layer.pax(&[("path", &format!("l/{}", "e/".repeat(100)))]).folder("x");
    });
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    refused("two sizes", |layer| {
        layer.pax(&[("size", "1024")]).file("a", "short");
    });
    refused("sets the path or size of every entry", |layer| {
        layer.header("g", b'g', 14, "", 0o644).data(b"14 path=../ev\n");
    });
    refused("two long names", |layer| {
        layer.header("L", b'L', 2, "", 0o644).data(b"a\0").pax(&[("path", "b")]).file("x", "");
    });
    refused("broken record", |layer| {
        layer.header("x", b'x', 10, "", 0o644).data(b"99 path=a\n").file("x", "");
    });
    refused("a folder has contents", |layer| {
        layer.header("d", b'5', 512, "", 0o755).data(&[0; 512]);
    });
    // A pax size where the header can't hold it is how large files are written.
    becomes(
        &[("a", "short")],
        &[Layer::new().pax(&[("size", "5")]).header("a", b'0', 0, "", 0o644).data(b"short")],
    );
}

#[test]
fn broken_archives_are_refused() {
    let whole = Layer::new().file("a", &"x".repeat(2000)).done();
    for cut in [100, 600, 1500, 2500] {
        refused_bytes("it ends in", &[whole[..cut].to_vec()]);
    }
    let mut damaged = whole.clone();
    damaged[0] ^= 1;
    refused_bytes("checksum", &[damaged]);
    refused_bytes("it ends in a header", &[b"not a tar archive".to_vec()]);
    let packed = gzip(&whole);
    refused_bytes("can't be read", &[packed[..packed.len() - 9].to_vec()]);
    refused("extended header", |layer| {
        layer.pax(&[("path", "a")]);
    });
}

/// A file of 1 MiB with `one` at its start and `two` at 512 KiB, in GNU tar's own form and in pax 0.1 and 1.0.
#[test]
fn files_with_holes_are_unpacked() {
    let mut gnu = [0_u8; 512];
    gnu[..1].copy_from_slice(b"s");
    gnu[100..107].copy_from_slice(b"0000644");
    gnu[124..135].copy_from_slice(format!("{:011o}", 6).as_bytes());
    gnu[156] = b'S';
    gnu[257..265].copy_from_slice(b"ustar  \0");
    for (at, (offset, len)) in [(0, 3), (512 << 10, 3), (1 << 20, 0)].into_iter().enumerate() {
        let start = 386 + at * 24;
        gnu[start..start + 11].copy_from_slice(format!("{offset:011o}").as_bytes());
        gnu[start + 12..start + 23].copy_from_slice(format!("{len:011o}").as_bytes());
    }
    gnu[483..494].copy_from_slice(format!("{:011o}", 1 << 20).as_bytes());
    let old = Layer::new().block(gnu).data(b"onetwo").clone();

    let map = "0,3,524288,3,1048576,0";
    let pax01 = Layer::new()
        .pax(&[("GNU.sparse.name", "s"), ("GNU.sparse.size", "1048576"), ("GNU.sparse.map", map)])
        .file("GNUSparseFile.0/s", "onetwo")
        .clone();
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.realsize", "1048576"),
    ];
    let mut contents = b"3\n0\n3\n524288\n3\n1048576\n0\n".to_vec();
    contents.resize(512, 0);
    contents.extend_from_slice(b"onetwo");
    let pax10 = Layer::new()
        .pax(&records)
        .header("GNUSparseFile.0/s", b'0', contents.len() as u64, "", 0o644)
        .data(&contents)
        .clone();

    for layer in [old, pax01, pax10] {
        let all = lay(&[layer.done()], small_limits()).unwrap();
        let found = listing(&all);
        let bytes = found["s"].as_bytes();
        assert_eq!(bytes.len(), 1 << 20);
        assert_eq!((&bytes[..4], &bytes[(512 << 10)..(512 << 10) + 4]), (&b"one\0"[..], &b"two\0"[..]));
        assert!(bytes.iter().filter(|b| **b != 0).count() == 6);
    }
}

#[test]
fn sparse_bombs_and_lying_maps_are_refused() {
    let sparse = |size: &str, map: &str, contents: &str| {
        Layer::new()
            .pax(&[("GNU.sparse.name", "s"), ("GNU.sparse.size", size), ("GNU.sparse.map", map)])
            .file("x", contents)
            .done()
    };
    refused_bytes("bytes in one file", &[sparse("1099511627776", "0,1", "x")]);
    refused_bytes("contradicts its size", &[sparse("10", "9,2", "ab")]);
    refused_bytes("contradicts its size", &[sparse("10", "0,2", "abc")]);
    refused_bytes("overlaps itself", &[sparse("10", "4,2,0,1", "abc")]);
    refused_bytes("contradicts its size", &[sparse("10", "18446744073709551615,2", "ab")]);
    let holes = "0,0,".repeat(70_000);
    refused_bytes("more holes than", &[sparse("10", &holes, "")]);
    let mut cut = b"9\n0\n".to_vec();
    cut.resize(512, 0);
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
    refused("holes", |layer| {
        layer.pax(&records).header("s", b'0', 512, "", 0o644).data(&cut);
    });
}

proptest::proptest! {
    /// Whatever bytes come, they are read or refused, in bounded time and without a crash.
    #[test]
    fn damaged_archives_never_crash(at in 0_usize..4096, with in proptest::prelude::any::<u8>(), cut in 0_usize..5000) {
        let mut bytes = Layer::new()
            .pax(&[("path", "long/name"), ("mtime", "1.5")])
            .file("x", "contents")
            .folder("d")
            .hard("h", "long/name")
            .link("l", "h")
            .pax(&[("GNU.sparse.name", "s"), ("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,3")])
            .file("y", "abc")
            .done();
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(cut);
        drop(lay(&[bytes], small_limits()));
    }
}
