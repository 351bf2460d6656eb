//! A running session follows its agent's files: what is taken back in them counts within a second.

use std::sync::Arc;
use std::time::Duration;

use domain::{AgentFile, Digest};
use policy::{AgentPolicy, KnownModel, KnownTool, Verdict};
use store::{About, Event, Store};
use tokio::sync::{mpsc, watch};

use crate::agents::{Agents, Found};
use crate::applied::{self, Files};
use crate::narrowing::{Version, compare};

/// How often the files are looked at; those that can't be read are looked at twice.
const LOOK: Duration = Duration::from_millis(300);
/// Most changes that wait to be written on the ledger, while looking goes on.
const UNWRITTEN: usize = 256;

/// What a running session goes by.
pub(super) struct Followed {
    pub(super) agent: AgentFile,
    pub(super) files: Files,
    pub(super) known: Vec<KnownTool>,
    pub(super) models: Vec<KnownModel>,
    pub(super) policy: AgentPolicy,
    pub(super) about: About,
}

impl Followed {
    /// Holds the policy that a session's gate reads, for as long as it does. What is narrower in the agent's files counts at
    /// once, whatever else changes in them and whoever answers; what is wider counts when it is applied, from the next session
    /// on.
    pub(super) async fn follow(
        &self,
        agents: &Agents,
        store: &Store,
        told: &watch::Sender<Arc<AgentPolicy>>,
    ) {
        // The next change is not waited for by the ledger of the one before.
        let (tell, mut events) = mpsc::channel(UNWRITTEN);
        let written = async {
            while let Some(event) = events.recv().await {
                self.record(store, event).await;
            }
        };
        tokio::join!(self.look(agents, told, tell), written);
    }

    async fn look(&self, agents: &Agents, told: &watch::Sender<Arc<AgentPolicy>>, tell: mpsc::Sender<Event>) {
        // The files that count; none while they can't be read.
        let mut counts = Some(self.files.digest);
        let (mut unread, mut narrowed) = (false, false);
        loop {
            tokio::select! {
                () = told.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let read = self.read(agents, counts);
            // An editor may be writing them.
            let again = std::mem::replace(&mut unread, read.is_err());
            let event = match read {
                Ok(None) => continue,
                Ok(Some((digest, policy, narrows))) => {
                    counts = Some(digest);
                    told.send_replace(Arc::new(policy));
                    match (std::mem::replace(&mut narrowed, narrows), narrows) {
                        (_, true) => Event::AgentNarrowed { digest },
                        (true, false) => Event::AgentRestored { digest },
                        (false, false) => continue,
                    }
                }
                Err(problem) if again && counts.is_some() => {
                    (counts, narrowed) = (None, true);
                    let name = &self.agent.name;
                    let why = format!("the files of {name} can't be read any more: {}", problem.message);
                    told.send_replace(Arc::new(self.policy.clone().closed(why)));
                    Event::AgentUnreadable { why: problem.message }
                }
                Err(_) => continue,
            };
            // Nobody is there to write it only where this ends, too.
            drop(tell.send(event).await);
        }
    }

    /// What the files come to now, if they are not those that count.
    fn read(
        &self,
        agents: &Agents,
        counts: Option<Digest>,
    ) -> Result<Option<(Digest, AgentPolicy, bool)>, api::Problem> {
        let found = agents.find(&self.agent.name)?;
        let digest = applied::digest(&found.text, found.cedar.as_deref());
        if counts == Some(digest) {
            return Ok(None);
        }
        let (policy, narrows) = self.held_within(&found, digest)?;
        Ok(Some((digest, policy, narrows)))
    }

    /// The policy, as far as the files as they are now allow it too; and whether they take something away. The tools are as
    /// they were known at the beginning: no server is asked before something is taken away.
    fn held_within(&self, found: &Found, digest: Digest) -> Result<(AgentPolicy, bool), api::Problem> {
        if digest == self.files.digest {
            return Ok((self.policy.clone(), false));
        }
        let cedar = found.cedar.as_deref();
        let newer = applied::compile(&found.file, &found.source, cedar, &self.known, &self.models)?;
        let old =
            Version { file: &self.agent, source: &self.files.source, cedar: self.files.cedar.as_deref() };
        let new = Version { file: &found.file, source: &found.source, cedar };
        let change = compare(old, new, &self.known, &self.models)?;
        Ok((self.policy.clone().within(Arc::new(newer)), change.verdict != Verdict::Wider))
    }

    async fn record(&self, store: &Store, event: Event) {
        let recorded = store.record(&self.about, &event, None, crate::journal::now()).await;
        if let Err(error) = recorded {
            tracing::error!(%error, "that an agent was narrowed can't be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use domain::{Labels, Origin};
    use policy::{Body, Call, Connect, ConnectFacts, Counts, Decision, decide};

    use super::*;
    use crate::keeping;

    const RULES: &str = "allow = [\"GET https://a.example/**\", \"GET https://b.example/**\"]";

    fn file(rules: &str) -> String {
        format!("name = \"clerk\"\nmodels = [\"a/b\"]\n[tools.mail]\nallow = [\"read\"]\n[egress]\n{rules}\n")
    }

    fn write(config: &Path, text: &str) {
        let folder = config.join("agents/clerk");
        std::fs::create_dir_all(&folder).unwrap();
        // As editors do it.
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), folder.join("agent.toml")).unwrap();
    }

    async fn followed(agents: &Agents) -> Followed {
        let found = agents.find(&"clerk".parse().unwrap()).unwrap();
        let policy = applied::compile(&found.file, &found.source, None, &[], &[]).unwrap();
        let digest = applied::digest(&found.text, None);
        let files = Files { digest, cedar: None, source: found.source };
        Followed {
            agent: found.file,
            files,
            known: Vec::new(),
            models: Vec::new(),
            policy,
            about: About::default(),
        }
    }

    /// Which of the two hosts may be asked.
    fn open(policy: &AgentPolicy) -> [bool; 2] {
        ["a", "b"].map(|host| {
            let target = format!("GET https://{host}.example/x").parse().unwrap();
            let action = Connect { target, headers: Vec::new(), push: None, body: Body::None };
            let facts = ConnectFacts {
                labels: Labels::default(),
                origin: Origin::Unknown,
                own: false,
                calls: Counts::default(),
            };
            matches!(decide(policy, Call { action, facts }), Decision::Allow(_))
        })
    }

    /// How long a change took to count.
    async fn changed(policies: &mut watch::Receiver<Arc<AgentPolicy>>) -> Duration {
        let begun = std::time::Instant::now();
        tokio::time::timeout(Duration::from_secs(20), policies.changed()).await.unwrap().unwrap();
        begun.elapsed()
    }

    /// No tool server answers here, and none is asked.
    #[tokio::test]
    async fn what_is_taken_back_counts_within_a_second_whatever_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = keeping::open(&folder.path().join("store")).await.unwrap();
        let agents = Agents::new(folder.path(), folder.path());
        write(folder.path(), &file(RULES));
        let followed = followed(&agents).await;
        let (told, mut policies) = watch::channel(Arc::new(followed.policy.clone()));
        let kinds = [
            ("allow = [\"GET https://a.example/**\"]".to_owned(), [true, false]),
            // Wider and narrower at once.
            (
                "allow = [\"GET https://b.example/**\", \"GET https://c.example/**\"]".to_owned(),
                [false, true],
            ),
            (RULES.to_owned(), [true, true]),
            (format!("{RULES}\n[limits]\nmemory = \"1GiB\"\n[tools.other]\ndeny = [\"x\"]"), [true, true]),
            ("allow = [\"GET https://a.example/**".to_owned(), [false, false]),
            (RULES.to_owned(), [true, true]),
        ];
        let changes = async {
            let second = Duration::from_secs(1);
            let mut quickest = vec![Duration::MAX; kinds.len()];
            // A busy machine adds to most of each kind, and hardly to all.
            for round in 0..5 {
                for ((text, expected), quickest) in kinds.iter().zip(&mut quickest) {
                    write(folder.path(), &file(text));
                    *quickest = changed(&mut policies).await.min(*quickest);
                    assert_eq!(open(&policies.borrow_and_update()), *expected, "{text}");
                }
                if quickest.iter().all(|took| *took < second) {
                    break;
                }
                assert!(round < 4, "{quickest:?}");
            }
            std::fs::remove_dir_all(folder.path().join("agents")).unwrap();
            changed(&mut policies).await;
            assert_eq!(open(&policies.borrow_and_update()), [false, false]);
        };
        tokio::select! {
            () = followed.follow(&agents, &store, &told) => panic!("it ended"),
            () = changes => {}
        }
    }

    /// Who else writes to the database may take long.
    #[tokio::test]
    async fn what_is_taken_back_counts_before_the_change_before_it_is_on_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let store = keeping::open(&folder.path().join("store")).await.unwrap();
        let other = rusqlite::Connection::open(folder.path().join("store/store.db")).unwrap();
        let agents = Agents::new(folder.path(), folder.path());
        write(folder.path(), &file(RULES));
        let followed = followed(&agents).await;
        let (told, mut policies) = watch::channel(Arc::new(followed.policy.clone()));
        let narrowed = async || {
            let entries = store.tail(9, &store::Filter::default()).await.unwrap();
            entries.iter().filter(|entry| matches!(entry.event, Event::AgentNarrowed { .. })).count()
        };
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let changes = async {
            for (text, expected) in
                [("allow = [\"GET https://a.example/**\"]", [true, false]), ("allow = []", [false, false])]
            {
                write(folder.path(), &file(text));
                let took = changed(&mut policies).await;
                assert_eq!(open(&policies.borrow_and_update()), expected, "{took:?}");
            }
            assert_eq!(narrowed().await, 0);
            other.execute_batch("COMMIT").unwrap();
            drop(policies);
        };
        tokio::join!(followed.follow(&agents, &store, &told), changes);
        assert_eq!(narrowed().await, 2);
    }
}
