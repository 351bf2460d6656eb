//! Tests of images: hostile layers one by one, layers against a model, and archives and registries by other people's tools.

mod hostile;
mod model;
mod npm;
mod pull;
mod pypi;
mod registry;
mod sources;
mod store;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;

use dial::{Dialer, Network, Resolve};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::error::LayerError;
use super::layer::{Assembly, Rules, unpack};
use super::limits::ImageLimits;
use super::spool::Spool;
use super::tree::{Kind, Tree};

/// A tar archive put together header by header, so that it can be wrong in any way.
#[derive(Default, Clone)]
struct Layer(Vec<u8>);

impl Layer {
    fn new() -> Self {
        Self::default()
    }

    /// A header with a right checksum, whatever else it says.
    fn header(&mut self, name: &str, flag: u8, size: u64, link: &str, mode: u32) -> &mut Self {
        let mut block = [0_u8; 512];
        block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = flag;
        block[157..157 + link.len().min(100)].copy_from_slice(&link.as_bytes()[..link.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.block(block)
    }

    /// A block as a header: its checksum is put in.
    fn block(&mut self, mut block: [u8; 512]) -> &mut Self {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self
    }

    fn data(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(&mut self, name: &str, bytes: &str) -> &mut Self {
        self.header(name, b'0', bytes.len() as u64, "", 0o644).data(bytes.as_bytes())
    }

    fn folder(&mut self, name: &str) -> &mut Self {
        self.header(name, b'5', 0, "", 0o755)
    }

    fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.header(name, b'2', 0, target, 0o777)
    }

    fn hard(&mut self, name: &str, target: &str) -> &mut Self {
        self.header(name, b'1', 0, target, 0o644)
    }

    /// A pax header for what follows.
    fn pax(&mut self, records: &[(&str, &str)]) -> &mut Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len != rest + len.to_string().len() {
                len = rest + len.to_string().len();
            }
            text.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
        }
        self.header("PaxHeaders/x", b'x', text.len() as u64, "", 0o644).data(&text)
    }

    /// The whole archive with its end mark.
    fn done(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// Says that every host is this machine.
pub(super) struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) }.boxed()
    }
}

/// As it is where nobody configured anything.
pub(super) fn dialer() -> Dialer {
    Dialer::new(Network::default()).unwrap()
}

/// Limits that tests reach quickly.
fn small_limits() -> ImageLimits {
    ImageLimits { entries: 2_000, path_bytes: 200_000, file: 1 << 20, total: 4 << 20, ratio: 200 }
}

fn assembly(limits: ImageLimits) -> Assembly {
    Assembly::new(Tree::new(limits), Spool::new(&std::env::temp_dir()).unwrap())
}

/// Lays archives over each other.
fn lay(layers: &[Vec<u8>], limits: ImageLimits) -> Result<Assembly, LayerError> {
    let mut all = assembly(limits);
    for layer in layers {
        let (_, plain) = unpack(layer.as_slice(), layer.len() as u64, limits.ratio)?;
        all.add_layer(plain, &Rules::OCI)?;
    }
    Ok(all)
}

/// What is in the tree: `/` for a folder, `-> target` for a link, or the contents; with the mode where it is unusual.
fn listing(all: &Assembly) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let walked = all.tree.visit(|path, _, node| {
        let (text, usual) = match &node.kind {
            Kind::Folder(_) => ("/".to_owned(), 0o755),
            Kind::Symlink(target) => (format!("-> {}", String::from_utf8_lossy(target)), 0o777),
            Kind::File(piece) => {
                let bytes = all.spool.small(*piece, 1 << 20).unwrap().unwrap();
                (String::from_utf8_lossy(&bytes).into_owned(), 0o644)
            }
        };
        let mode = if node.meta.mode == usual { String::new() } else { format!(" {:o}", node.meta.mode) };
        found.insert(String::from_utf8_lossy(path).into_owned(), text + &mode);
        Ok::<(), Infallible>(())
    });
    match walked {
        Ok(()) => found,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs another program that the tests need; `./x setup --test` installs it.
fn run(program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|error| panic!("`{program}` is needed by this test: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
