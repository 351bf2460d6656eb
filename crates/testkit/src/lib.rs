//! For tests only: a laboratory around the real `lazaret` binary, with the scripted model as its provider; a session's
//! tools and its way out without a cell; a site that it may reach; an authorization server; vendors and a person who logs in
//! at them; real mail servers; and a real proxy that wants a log-in.

pub mod authorization;
pub mod cell_less;
pub mod files;
mod lab;
mod machines;
pub mod mail;
pub mod models;
pub mod person;
mod site;
mod squid;
mod terminal;
pub mod vendors;
pub mod way_out;

pub use lab::{CANARY, Done, Lab, deadline};
pub use machines::{machines, none_left};
pub use site::{Asked, Reply, SITE, Site};
pub use squid::{PROXY_PASSWORD, PROXY_USER, Squid};
pub use terminal::Terminal;
