//! Which agents there are: those of the configuration folder, and the examples that came with Lazaret.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use api::{AgentFiles, AgentView, Problem, ProblemKind};
use domain::{AgentFile, AgentName};
use include_dir::{Dir, include_dir};

use crate::folders::read_text;
use crate::narrowing::AppliedFiles;

static EXAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../agents");

/// Most agents that are listed.
const MAX_LISTED: usize = 1000;

/// Where agents' files lie.
#[derive(Debug)]
pub(crate) struct Agents {
    folder: PathBuf,
    /// What was applied of them.
    pub(crate) applied: AppliedFiles,
}

/// An agent's file.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it says.
    pub(crate) file: AgentFile,
    /// Its text.
    pub(crate) text: String,
    /// The `policy.cedar` beside it.
    pub(crate) cedar: Option<String>,
    /// Where it lies.
    pub(crate) source: String,
}

impl Agents {
    /// Those below the configuration folder, and what the state folder keeps of them.
    pub(crate) fn new(config: &Path, state: &Path) -> Self {
        Self { folder: config.join("agents"), applied: AppliedFiles::new(state) }
    }

    /// The agent of this name.
    pub(crate) fn find(&self, name: &AgentName) -> Result<Found, Problem> {
        let path = self.folder.join(name.as_str()).join("agent.toml");
        let (text, source) = match read_text(&path, AgentFile::MAX_BYTES as u64) {
            Ok(text) => (text, path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (example(name.as_str()).ok_or_else(|| self.unknown(name))?.to_owned(), "example".to_owned())
            }
            Err(error) => {
                return Err(Problem::new(ProblemKind::Invalid, format!("`{}`: {error}", path.display())));
            }
        };
        let file = parse(&text, &source)?;
        if file.name != *name {
            let message = format!("`{source}` describes `{}`, not `{name}`", file.name);
            return Err(Problem::new(ProblemKind::Invalid, message).hint("name the folder as the agent"));
        }
        let path = path.with_file_name("policy.cedar");
        let cedar = match read_text(&path, policy::MAX_CEDAR as u64) {
            Ok(cedar) => Some(cedar),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Problem::new(ProblemKind::Invalid, format!("`{}`: {error}", path.display())));
            }
        };
        Ok(Found { file, text, cedar, source })
    }

    /// Every agent, by name; one whose file has a mistake is told in the log and left out.
    pub(crate) fn list(&self) -> Vec<AgentView> {
        let mut views = Vec::new();
        for name in self.names() {
            match self.find(&name) {
                Ok(found) => views.push(AgentView::new(found.file, found.source)),
                Err(problem) => tracing::warn!(agent = %name, %problem, "an agent can't be read"),
            }
        }
        views
    }

    fn names(&self) -> Vec<AgentName> {
        let own = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().and_then(|entry| entry.file_name().into_string().ok()));
        let examples = EXAMPLES.dirs().filter_map(|dir| dir.path().to_str().map(str::to_owned));
        let mut names: Vec<AgentName> =
            own.chain(examples).take(MAX_LISTED).filter_map(|name| name.parse().ok()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn unknown(&self, name: &AgentName) -> Problem {
        let names: Vec<String> = self.names().iter().map(AgentName::to_string).collect();
        Problem::new(ProblemKind::NotFound, format!("no agent is called `{name}`"))
            .hint(format!("there are {}; `lazaret agent new {name}` makes one", names.join(", ")))
    }
}

/// The agent of a folder that somebody sent.
pub(crate) fn of_files(files: AgentFiles) -> Result<Found, Problem> {
    let AgentFiles { text, cedar } = files;
    let source = "agent.toml".to_owned();
    let cedar = cedar.map(|cedar| rules(cedar, "policy.cedar")).transpose()?;
    Ok(Found { file: parse(&text, &source)?, text, cedar, source })
}

/// The text of a `policy.cedar`, all of it: one that is cut off may have lost what it forbids.
fn rules(text: String, source: &str) -> Result<String, Problem> {
    if text.len() > policy::MAX_CEDAR {
        let message = format!("`{source}` has more than {} bytes", policy::MAX_CEDAR);
        return Err(Problem::new(ProblemKind::Invalid, message));
    }
    Ok(text)
}

/// The agent of a file's text.
pub(crate) fn parse(text: &str, source: &str) -> Result<AgentFile, Problem> {
    AgentFile::parse(text).map_err(|error| {
        let problem = Problem::new(ProblemKind::Invalid, format!("`{source}`: {error}"));
        match error.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    })
}

/// The `agent.toml` of the example of this name that came with Lazaret.
#[must_use]
pub fn example(name: &str) -> Option<&'static str> {
    EXAMPLES.get_file(format!("{name}/agent.toml"))?.contents_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_agent_hides_the_example_of_its_name_and_mistakes_are_told() {
        let config = tempfile::tempdir().unwrap();
        let agents = Agents::new(config.path(), config.path());
        let reviewer: AgentName = "reviewer".parse().unwrap();
        assert_eq!(agents.find(&reviewer).unwrap().source, "example");
        let folder = config.path().join("agents/reviewer");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("agent.toml"), "name = \"reviewer\"\nmodels = [\"a/own\"]").unwrap();
        assert_eq!(agents.find(&reviewer).unwrap().file.models[0].to_string(), "a/own");
        std::fs::write(folder.join("agent.toml"), "name = \"other\"\nmodels = [\"a/b\"]").unwrap();
        assert!(agents.find(&reviewer).unwrap_err().message.contains("describes `other`"));
        std::fs::write(folder.join("agent.toml"), "nome = 1").unwrap();
        assert!(agents.find(&reviewer).unwrap_err().message.contains("line 1"));
        let nobody = agents.find(&"nobody".parse().unwrap()).unwrap_err();
        assert_eq!(nobody.kind, ProblemKind::NotFound);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_cut() {
        let config = tempfile::tempdir().unwrap();
        let agents = Agents::new(config.path(), config.path());
        let folder = config.path().join("agents/own");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("agent.toml"), "name = \"own\"\nmodels = [\"a/b\"]").unwrap();
        let last = "forbid (principal, action, resource);\n";
        let own = "own".parse().unwrap();
        for (length, read) in [(policy::MAX_CEDAR, true), (policy::MAX_CEDAR + 1, false)] {
            let cedar = format!("{}\n{last}", "/".repeat(length - last.len() - 1));
            std::fs::write(folder.join("policy.cedar"), &cedar).unwrap();
            match agents.find(&own) {
                Ok(found) => assert!(read && found.cedar.unwrap().ends_with(last)),
                Err(problem) => {
                    assert!(!read && problem.message.contains("more than 262144 bytes"), "{problem}")
                }
            }
        }
        std::fs::remove_file(folder.join("policy.cedar")).unwrap();
        std::fs::write(folder.join("agent.toml"), "#".repeat(AgentFile::MAX_BYTES + 1)).unwrap();
        assert!(agents.find(&own).unwrap_err().message.contains("more than 65536 bytes"));
    }

    #[test]
    fn every_example_is_a_sound_agent() {
        let config = tempfile::tempdir().unwrap();
        let listed = Agents::new(config.path(), config.path()).list();
        assert_eq!(listed.len(), EXAMPLES.dirs().count());
    }
}
