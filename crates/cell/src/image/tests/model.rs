//! Layers against a model: what a stack of layers becomes does not depend on the order of entries within one, and is what the
//! OCI specification says of each layer as a whole.

use proptest::prelude::*;

use super::*;

/// A layer as a set: files and folders, and what of lower layers it hides.
#[derive(Debug, Clone)]
struct Set {
    /// Path to contents; `None` for a folder. Consistent: what is above a path is a folder.
    nodes: BTreeMap<String, Option<u8>>,
    whiteouts: Vec<String>,
    opaque: Vec<String>,
    order: u64,
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
}

fn layer() -> impl Strategy<Value = Set> {
    (
        proptest::collection::vec((path(), proptest::option::of(any::<u8>())), 0..6),
        proptest::collection::vec(path(), 0..3),
        proptest::collection::vec(path(), 0..2),
        any::<u64>(),
    )
        .prop_map(|(wanted, whiteouts, opaque, order)| {
            let mut nodes: BTreeMap<String, Option<u8>> = BTreeMap::new();
            for (path, contents) in wanted {
                let above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
                let blocked = above.iter().any(|a| nodes.get(*a).is_some_and(Option::is_some))
                    || nodes.contains_key(&path);
                if blocked {
                    continue;
                }
                for a in above {
                    nodes.insert(a.to_owned(), None);
                }
                nodes.insert(path, contents);
            }
            // A whiteout in a folder that its own layer replaces by a file says two things at once; no tool writes it.
            let sound = |path: &String| {
                !nodes.iter().any(|(other, c)| {
                    c.is_some() && (path == other || path.starts_with(&format!("{other}/")))
                })
            };
            let whiteouts = whiteouts.into_iter().filter(sound).collect();
            let opaque = opaque.into_iter().filter(|path| nodes.get(path) == Some(&None)).collect();
            Set { nodes, whiteouts, opaque, order }
        })
}

/// The archive of a layer: its entries in some order, but what is above a path before it, as all tools write them.
fn archive(set: &Set) -> Layer {
    let mut hiding: Vec<String> = set
        .whiteouts
        .iter()
        .map(|path| match path.rsplit_once('/') {
            Some((above, name)) => format!("{above}/.wh.{name}"),
            None => format!(".wh.{path}"),
        })
        .chain(set.opaque.iter().map(|path| format!("{path}/.wh..wh..opq")))
        .collect();
    let mut layer = Layer::new();
    let mut order = set.order;
    let mut nodes: Vec<_> = set.nodes.iter().collect();
    // Another order that keeps parents first.
    if order & 1 == 1 {
        nodes.sort_by_key(|(path, _)| (path.matches('/').count(), std::cmp::Reverse((*path).clone())));
    }
    for (path, contents) in nodes {
        order = order.rotate_right(3);
        if order & 2 == 2 && !hiding.is_empty() {
            layer.file(&hiding.remove(0), "");
        }
        match contents {
            Some(byte) => layer.file(path, &byte.to_string()),
            None => layer.folder(path),
        };
    }
    for hidden in hiding {
        layer.file(&hidden, "");
    }
    layer
}

/// What the specification says: first hide, then add.
fn overlay(below: &mut BTreeMap<String, Option<u8>>, set: &Set) {
    let is_below = |path: &str, top: &str| path.starts_with(&format!("{top}/"));
    for hidden in &set.whiteouts {
        below.retain(|path, _| path != hidden && !is_below(path, hidden));
    }
    for hidden in &set.opaque {
        below.retain(|path, _| !is_below(path, hidden));
    }
    for (path, contents) in &set.nodes {
        let both_folders = contents.is_none() && below.get(path) == Some(&None);
        if !both_folders {
            below.retain(|other, _| other != path && !is_below(other, path));
        }
        below.insert(path.clone(), *contents);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_stack_of_layers_is_what_the_specification_says(layers in proptest::collection::vec(layer(), 1..5)) {
        let mut expected = BTreeMap::new();
        for set in &layers {
            overlay(&mut expected, set);
        }
        let archives: Vec<Vec<u8>> = layers.iter().map(|set| archive(set).done()).collect();
        let all = lay(&archives, small_limits()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let found: BTreeMap<String, Option<u8>> = listing(&all)
            .into_iter()
            .map(|(path, text)| (path, if text == "/" { None } else { text.parse().ok() }))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
