//! Where things lie: the XDG folders, and the daemon's socket in them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders can't be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// No home folder.
    #[error("`HOME` is not set, so there is no folder for Lazaret's files")]
    NoHome,
    /// A variable holds a relative path, which the XDG specification forbids.
    #[error("`{variable}` is `{}`, which is not an absolute path", found.display())]
    Relative {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        found: PathBuf,
    },
}

/// Lazaret's folders (XDG Base Directory Specification 0.8), each private to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// `config.toml` and `agents/NAME/agent.toml`.
    pub config: PathBuf,
    /// Kernels, images and the agents' disks: what can't be made again for nothing.
    pub data: PathBuf,
    /// Templates: what can be made again.
    pub cache: PathBuf,
    /// Logs.
    pub state: PathBuf,
    /// The socket and what belongs to live cells.
    pub runtime: PathBuf,
}

impl Folders {
    /// The folders that these environment variables give.
    ///
    /// # Errors
    /// When `HOME` is needed and not set, or a path is relative.
    pub fn from_env(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, FolderError> {
        let path = |variable: &'static str| match get(variable).filter(|value| !value.is_empty()) {
            Some(value) if Path::new(&value).is_absolute() => Ok(Some(PathBuf::from(value))),
            Some(value) => Err(FolderError::Relative { variable, found: PathBuf::from(value) }),
            None => Ok(None),
        };
        let home = path("HOME")?;
        let base = |variable: &'static str, below_home: &str| -> Result<PathBuf, FolderError> {
            let base = match path(variable)? {
                Some(base) => base,
                None => home.as_ref().ok_or(FolderError::NoHome)?.join(below_home),
            };
            Ok(base.join("lazaret"))
        };
        let state = base("XDG_STATE_HOME", ".local/state")?;
        let runtime = path("XDG_RUNTIME_DIR")?.map_or_else(|| state.join("run"), |base| base.join("lazaret"));
        Ok(Self {
            config: base("XDG_CONFIG_HOME", ".config")?,
            data: base("XDG_DATA_HOME", ".local/share")?,
            cache: base("XDG_CACHE_HOME", ".cache")?,
            state,
            runtime,
        })
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// The daemon's own log.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_the_variables_and_refuse_relative_ones() {
        let get = |name: &str| match name {
            "HOME" => Some("/home/a".into()),
            "XDG_DATA_HOME" => Some("/data".into()),
            _ => None,
        };
        let folders = Folders::from_env(get).unwrap();
        assert_eq!(folders.data, Path::new("/data/lazaret"));
        assert_eq!(folders.config, Path::new("/home/a/.config/lazaret"));
        assert_eq!(folders.socket(), Path::new("/home/a/.local/state/lazaret/run/api.sock"));
        assert_eq!(Folders::from_env(|_| None), Err(FolderError::NoHome));
        assert!(Folders::from_env(|_| Some("x".into())).is_err());
    }
}
