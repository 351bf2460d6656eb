//! The nouns of Lazaret: names, ids, units, agent files, effects, labels, origins, and the lives of sessions, cells and
//! approvals. No I/O, no clock.

mod agent_file;
mod approval;
mod bare;
mod destination;
mod digest;
mod effect;
mod egress;
mod exit;
mod host;
mod id;
mod isolation;
mod label;
mod life;
mod limits;
mod model;
mod name;
mod origin;
mod person;
mod presets;
mod secret;
mod subscription;
mod tool;
mod units;

pub use agent_file::{
    AgentFile, AgentFileError, Answer, ApprovalRule, Harness, Mark, SecretUse, ServerRules, Term, ToolRule,
};
pub use approval::{AnswerError, ApprovalEvent, ApprovalLife, ApprovalState, Quorum};
pub use bare::{UserInAddress, refuse_user, without_user};
pub use destination::{Destination, DestinationError, Scheme, Target};
pub use digest::{Digest, DigestError};
pub use effect::{Effect, EffectError, Effects, NoEffect};
pub use egress::{Egress, EgressError, EgressPattern, EgressRule, EgressTarget};
pub use exit::{EndReason, ExitCode};
pub use host::{HostError, HostPattern, NamedHost};
pub use id::{ApprovalId, CellId, CommitId, GrantId, IdError, SessionId};
pub use isolation::Isolation;
pub use label::{Confidentiality, Integrity, Labels, LevelError};
pub use life::{CellEvent, CellState, IllegalTransition, SessionEvent, SessionState};
pub use limits::Limits;
pub use model::{ModelName, ModelNameError};
pub use name::{AgentName, GroupName, ImageName, NameError, PersonName, SecretName, ServerName, TeamName};
pub use origin::Origin;
pub use person::{Role, RoleError};
pub use presets::{PRESETS, Preset};
pub use secret::{BindingError, How, PlaceholderVariable, SecretBinding, VariableError};
pub use subscription::{Subscription, SubscriptionError};
pub use tool::{ToolName, ToolNameError, ToolPattern, ToolRef};
pub use units::{ByteSize, Span, UnitError, UsdMicros};
