//! Changes of an agent's files: what was applied last is kept, so that files which only narrow it count at once, in running
//! sessions too. Any other change waits for a person.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use domain::{AgentFile, AgentName, Digest};
use policy::{Difference, KnownModel, KnownTool, Sources, Text, difference};
use serde::{Deserialize, Serialize};

use api::{Problem, ProblemKind};

use crate::applied;
use crate::folders::private;

/// Most bytes of what is kept of one agent: its two files, as JSON writes them.
const MAX_BYTES: u64 = 1 << 20;

/// One version of an agent's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version<'a> {
    /// Its file.
    pub(crate) file: &'a AgentFile,
    /// Where that lies.
    pub(crate) source: &'a str,
    /// Its `policy.cedar`.
    pub(crate) cedar: Option<&'a str>,
}

/// What a person applied last, of each agent.
#[derive(Debug)]
pub(crate) struct AppliedFiles {
    folder: PathBuf,
}

/// An agent's files as they were applied.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    text: String,
    cedar: Option<String>,
}

impl AppliedFiles {
    /// Those below the state folder.
    pub(crate) fn new(state: &Path) -> Self {
        Self { folder: state.join("applied") }
    }

    /// Keeps what was applied.
    pub(crate) fn keep(&self, agent: &AgentName, text: &str, cedar: Option<&str>) -> Result<(), Problem> {
        let failed = |e: &dyn std::fmt::Display| Problem::new(ProblemKind::Internal, e.to_string());
        private(&self.folder).map_err(|e| failed(&e))?;
        let kept = Kept { text: text.to_owned(), cedar: cedar.map(str::to_owned) };
        let bytes = serde_json::to_vec(&kept).map_err(|e| failed(&e))?;
        let (path, new) = (self.path(agent), self.path(agent).with_extension("new"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| failed(&format_args!("`{}`: {e}", path.display())))
    }

    /// What was applied, if it is kept and is what the ledger says.
    pub(crate) fn last(&self, agent: &AgentName, applied: Digest) -> Option<Kept> {
        let path = self.path(agent);
        if fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        let kept: Kept = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (applied::digest(&kept.text, kept.cedar.as_deref()) == applied).then_some(kept)
    }

    fn path(&self, agent: &AgentName) -> PathBuf {
        self.folder.join(format!("{agent}.json"))
    }
}

impl Kept {
    /// Its file.
    pub(crate) fn file(&self) -> Result<AgentFile, Problem> {
        AgentFile::parse(&self.text)
            .map_err(|e| Problem::new(ProblemKind::Invalid, format!("what was applied: {e}")))
    }

    /// Its `policy.cedar`.
    pub(crate) fn cedar(&self) -> Option<&str> {
        self.cedar.as_deref()
    }

    /// How the files of now compare with these.
    pub(crate) fn compare(
        &self,
        now: Version<'_>,
        tools: &[KnownTool],
        models: &[KnownModel],
    ) -> Result<Difference, Problem> {
        let file = self.file()?;
        compare(Version { file: &file, source: "applied", cedar: self.cedar() }, now, tools, models)
    }
}

/// Compares two versions.
pub(crate) fn compare(
    old: Version<'_>,
    new: Version<'_>,
    tools: &[KnownTool],
    models: &[KnownModel],
) -> Result<Difference, Problem> {
    // Rules are compared, not pins: a tool that nobody has approved is withheld under either.
    let pinned = |known: &KnownTool| KnownTool { pin: Some(Digest::from_bytes([0; 32])), ..known.clone() };
    let tools: Vec<KnownTool> = tools.iter().map(pinned).collect();
    let before = Sources {
        agent: old.file,
        file: old.source,
        own: old.cedar.map(|text| Text { name: "policy.cedar", text }),
        organisation: &[],
        tools: &tools,
        models,
    };
    let now = Sources {
        agent: new.file,
        file: new.source,
        own: new.cedar.map(|text| Text { name: "policy.cedar", text }),
        ..before
    };
    difference(&before, &now).map_err(|e| Problem::new(ProblemKind::Invalid, e.to_string()))
}
