//! The nouns of Lazaret: names, ids, units, agent files, and the lives of sessions and cells. No I/O, no clock.

mod agent_file;
mod exit;
mod id;
mod isolation;
mod life;
mod limits;
mod model;
mod name;
mod units;

pub use agent_file::{AgentFile, AgentFileError, Harness};
pub use exit::{EndReason, ExitCode};
pub use id::{CellId, IdError, SessionId};
pub use isolation::Isolation;
pub use life::{CellEvent, CellState, IllegalTransition, SessionEvent, SessionState};
pub use limits::Limits;
pub use model::{ModelName, ModelNameError};
pub use name::{AgentName, ImageName, NameError, TeamName};
pub use units::{ByteSize, Span, UnitError};
