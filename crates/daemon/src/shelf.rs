//! The sessions' folders: what each was, its events, its workspace. Old ones make room for new ones.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use api::SessionView;
use domain::{EndReason, SessionId, SessionState};

use crate::journal::Journals;

/// Most sessions that are kept.
const MAX_KEPT: usize = 500;
/// Most bytes that kept sessions take, the newest counted first; and what is counted of one at most, so that none takes the
/// others' place by itself.
const MAX_BYTES: u64 = 4 << 30;
const MAX_SHARE: u64 = 512 << 20;

/// The folder of all sessions' folders.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// Opens it. Sessions that were live when a daemon died have ended now.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let shelf = Self { folder: state.join("sessions") };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&shelf.folder)?;
        for mut view in shelf.views() {
            if view.state != SessionState::Ended {
                view.state = SessionState::Ended;
                view.ended = Some(EndReason::CellFailed { why: "the daemon ended".to_owned() });
                shelf.write(&view)?;
            }
        }
        shelf.make_room();
        Ok(shelf)
    }

    /// Makes the folder of a new session.
    pub(crate) fn make(&self, view: &SessionView) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(self.session(view.id))?;
        self.write(view)
    }

    /// Writes what a session is now, whole or not at all.
    pub(crate) fn write(&self, view: &SessionView) -> io::Result<()> {
        let folder = self.session(view.id);
        let next = folder.join("session.json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(view)?)?;
        fs::rename(next, folder.join("session.json"))
    }

    /// Every session that is kept, the oldest first.
    pub(crate) fn views(&self) -> Vec<SessionView> {
        self.ids().into_iter().filter_map(|id| self.view(id)).collect()
    }

    /// One session.
    pub(crate) fn view(&self, id: SessionId) -> Option<SessionView> {
        let text = fs::read(self.session(id).join("session.json")).ok()?;
        match serde_json::from_slice(&text) {
            Ok(view) => Some(view),
            Err(error) => {
                tracing::warn!(%id, %error, "a session's record can't be read");
                None
            }
        }
    }

    /// The events of a session that is over.
    pub(crate) fn journals(&self, id: SessionId) -> Journals {
        Journals::past(self.events(id))
    }

    /// Where a session's events lie.
    pub(crate) fn events(&self, id: SessionId) -> PathBuf {
        self.session(id).join("events.ndjson")
    }

    /// Where a session's workspace lies, as its harness left it.
    pub(crate) fn workspace(&self, id: SessionId) -> PathBuf {
        self.session(id).join("workspace.tar")
    }

    /// Removes the oldest sessions that have ended, beyond what is kept.
    pub(crate) fn make_room(&self) {
        let mut bytes = 0_u64;
        for (place, id) in self.ids().into_iter().rev().enumerate() {
            bytes = bytes.saturating_add(size(&self.session(id)).min(MAX_SHARE));
            let ended = self.view(id).is_none_or(|view| view.state == SessionState::Ended);
            if ended
                && (place >= MAX_KEPT || bytes > MAX_BYTES)
                && let Err(error) = fs::remove_dir_all(self.session(id))
            {
                tracing::warn!(%id, %error, "an old session can't be removed");
            }
        }
    }

    fn ids(&self) -> Vec<SessionId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut ids: Vec<SessionId> = entries
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
            .collect();
        ids.sort();
        ids
    }

    fn session(&self, id: SessionId) -> PathBuf {
        self.folder.join(id.to_string())
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(millis: u64, state: SessionState) -> SessionView {
        let id = SessionId::from_parts(millis, 0);
        SessionView { id, agent: "a".parse().unwrap(), state, isolation: None, created: millis, ended: None }
    }

    #[test]
    fn sessions_of_a_dead_daemon_have_ended_and_the_oldest_make_room() {
        let state = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(state.path()).unwrap();
        for millis in 0..u64::try_from(MAX_KEPT).unwrap() + 2 {
            shelf.make(&view(millis, SessionState::Running)).unwrap();
        }
        let shelf = Shelf::open(state.path()).unwrap();
        let views = shelf.views();
        assert_eq!(views.len(), MAX_KEPT);
        assert_eq!(views[0].created, 2);
        assert!(views.iter().all(|view| view.ended.is_some()));
    }

    #[test]
    fn one_large_session_takes_no_others_place() {
        let state = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(state.path()).unwrap();
        let large = |millis: u64, bytes: u64| {
            let view = view(millis, SessionState::Ended);
            shelf.make(&view).unwrap();
            fs::File::create(shelf.events(view.id)).unwrap().set_len(bytes).unwrap();
        };
        large(0, 1);
        for millis in 1..8 {
            large(millis, MAX_SHARE - 1000);
        }
        shelf.make_room();
        assert_eq!(shelf.views().len(), 8);
        large(8, 3 * MAX_BYTES);
        shelf.make_room();
        assert_eq!(shelf.views().len(), 9, "it takes one place");
        large(9, MAX_SHARE);
        shelf.make_room();
        assert_eq!(shelf.views()[0].created, 2, "the oldest make room");
    }
}
