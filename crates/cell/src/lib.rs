//! One cell, from image to exit: kernel, boot image, disks, the jail, the machine, and the task that owns it.
//!
//! ```text
//! CellHost ── start ──▶ Cell            each cell: `lazaret jail` ─▶ door     (fd 3 channel, fd 4 link to the daemon)
//!    │ prepare, examine  │ driver task             `lazaret jail` ─▶ QEMU     (channel, disks, template memory)
//!    └ kernels, templates, jails, reconcile
//! ```

mod cell;
mod disk;
mod host;
pub mod image;
mod jail;
mod kernel;
mod report;
mod store;
mod template;
mod vmm;
mod wall;

pub use cell::{Cell, CellEnd};
pub use disk::DiskError;
pub use host::{CellHost, CellSpec, EmulationRule, HostConfig, HostError, StartError, StartMode};
pub use jail::{JailError, jail_main};
pub use kernel::KernelError;
pub use report::{BootVerdict, HostReport, KvmVerdict, WallReport};
pub use store::HostDirs;
pub use template::TemplateError;
pub use wall::{Rule, Wall};
