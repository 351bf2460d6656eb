//! The points at which tests kill the program, to see that nothing is done twice or lost. Nothing outside tests.

/// Dies here, as by `kill -9`, if this is the point that the environment names.
#[cfg(test)]
pub(crate) fn point(name: &str) {
    if std::env::var("LAZARET_TEST_CRASH_AT").is_ok_and(|at| at == name) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
        std::thread::park();
    }
}

/// Nothing.
#[cfg(not(test))]
pub(crate) fn point(_: &str) {}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use domain::ApprovalState;
    use store::{ByRight, CommitError, Outcome, Place, Reserved, Spend, Store};

    use crate::support::{Cluster, Empty, Lab, approval_id, commit, commit_id, question, random, yes};

    /// Where the child may die, in order; and whether the act was committed to by then.
    const POINTS: [(&str, bool); 9] = [
        ("begun", false),
        ("right-used", false),
        ("budget-reserved", false),
        ("recorded", false),
        ("listed", false),
        ("committed", true),
        ("acted", true),
        ("outcome-begun", true),
        ("outcome-recorded", true),
    ];

    fn costly(n: u128) -> store::Commit {
        let reserve = Reserved { budget: "mails".to_owned(), day: 3, amount: 1 };
        store::Commit {
            spend: vec![Spend { reserve, limit: 1 }],
            ..commit(n, 7, ByRight::Approval(approval_id(1)))
        }
    }

    /// The act on the world: it can't be undone, and whoever does it twice is found out.
    fn act(world: &Path) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(world).unwrap();
        file.write_all(b"a mail was sent\n").unwrap();
        super::point("acted");
    }

    /// What the gateway does: commit, act, record the outcome.
    async fn do_it(store: &Store, n: u128, world: &Path) -> Result<(), CommitError> {
        store.commit(&costly(n), 12).await?;
        act(world);
        store.outcome(commit_id(n), &Outcome::Done, &[], None, 13).await?;
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "no test by itself: the tests below run it as the child that dies"]
    async fn child() {
        let [place, keys, world] = ["PLACE", "KEYS", "WORLD"].map(|name| std::env::var(name).unwrap());
        let place = match place.strip_prefix("postgres:") {
            Some(_) => Place::Server(place.into()),
            None => Place::File(place.into()),
        };
        let store = Store::open(&place, Path::new(&keys), random(5)).await.unwrap();
        do_it(&store, 1, Path::new(&world)).await.unwrap();
    }

    fn run_child(lab: &Lab, point: &str, world: &Path) {
        let place = match &lab.place {
            Place::File(file) => file.display().to_string(),
            Place::Server(url) => secrecy::ExposeSecret::expose_secret(url).to_owned(),
        };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::tests::child", "--ignored", "--test-threads=1"])
            .env("LAZARET_TEST_CRASH_AT", point)
            .env("PLACE", place)
            .env("KEYS", &lab.keys)
            .env("WORLD", world)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&child.stdout);
        assert_eq!(child.status.signal(), Some(9), "at {point}: {:?}: {told}", child.status);
    }

    async fn dies_at(empty: Empty, point: &str, was_committed: bool) {
        let lab = empty.open().await.with_people().await;
        let world: PathBuf = lab.folder.path().join("world");
        lab.store.ask(approval_id(1), &question(7), 10).await.unwrap();
        lab.store.answer(approval_id(1), &yes("ada"), 11).await.unwrap();
        run_child(&lab, point, &world);

        // The daemon starts again.
        let store = lab.another().await;
        let lost = store.unfinished().await.unwrap();
        assert_eq!(lost.len(), usize::from(was_committed), "at {point}");
        for lost in lost {
            assert!(!lost.idempotent);
            let why = "the daemon ended before its outcome was known".to_owned();
            store.outcome(lost.id, &Outcome::Unknown { why }, &[], None, 20).await.unwrap();
        }
        // The agent asks for the same once more.
        let again = do_it(&store, 2, &world).await;
        assert_eq!(again.is_ok(), !was_committed, "at {point}: {again:?}");
        let acts = std::fs::read_to_string(&world).unwrap_or_default().lines().count();
        assert!(acts <= 1, "at {point}: {acts} mails");
        assert_eq!(acts == 0, point == "committed", "at {point}");
        assert_eq!(store.used("mails", 3).await.unwrap(), 1, "at {point}");
        let life = store.approval(approval_id(1), 30).await.unwrap().life;
        assert_eq!(life.state, ApprovalState::Consumed, "at {point}");
        assert_eq!(lab.count("committed").await, 1, "at {point}");
        store.verify(None).await.unwrap();
        store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn killed_at_any_step_an_act_is_done_at_most_once() {
        for (point, was_committed) in POINTS {
            dies_at(Empty::sqlite().await, point, was_committed).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn killed_at_any_step_an_act_is_done_at_most_once_on_postgresql() {
        let Some(cluster) = Cluster::start() else { return };
        for (point, was_committed) in POINTS {
            dies_at(Empty::postgres(&cluster, &point.replace('-', "_")).await, point, was_committed).await;
        }
    }
}
