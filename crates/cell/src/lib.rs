//! One cell, from image to exit.

<<<<<<< HEAD
pub mod image;
=======
mod jail;
mod wall;

pub use jail::jail_main;
pub use wall::{Rule, Wall};
>>>>>>> 73e49d8 (wip)
