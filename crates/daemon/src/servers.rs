//! `servers.toml`: the tool servers of this installation, written by `lazaret server`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use api::{Problem, ProblemKind, ServerCell, ServerLimits, ServerMailbox, ServerPart, ServerPut, ServerView};
use cell::image::unversioned;
use domain::{ByteSize, Destination, ImageName, SecretName, ServerName, Span, TeamName};
use gateway::BaseUrl;
use gateway::tools::Servers;
use policy::Table;
use serde::{Deserialize, Serialize};
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::error::DaemonError;
use crate::folders::read_text;
use crate::mailbox;
use crate::server_cells;

/// Most bytes in the file.
const MAX_BYTES: u64 = 256 * 1024;
/// Most servers.
const MAX_SERVERS: usize = 256;
/// Most words and bytes in a local server's command.
const MAX_WORDS: usize = 128;
const MAX_COMMAND: usize = 16 * 1024;
const NO_SECRET: &str = "`secret` is for servers with a `url`";
/// What to do about a key that was taken once.
const TOKEN_ENV: &str = "`token_env` is not read any more: store the token by `lazaret secret set NAME --to URL`, and write \
                         `secret = \"NAME\"` instead";
/// The name of the gateway's own tools.
const RESERVED: &str = "lazaret";

/// One server's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    teams: BTreeSet<TeamName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cell: Option<ServerCell>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mailbox: Option<ServerMailbox>,
}

impl Entry {
    /// Takes over what this one doesn't say and the one before does: teams, limits, and the table if it is about the same
    /// program's tools. Says what it took, and what is gone.
    fn keep(&mut self, before: &Self) -> (Vec<ServerPart>, Vec<ServerPart>) {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        if self.teams.is_empty() && !before.teams.is_empty() {
            self.teams.clone_from(&before.teams);
            kept.push(ServerPart::Teams(before.teams.clone()));
        }
        if let (None, Some(table)) = (&self.table, &before.table) {
            let of_these = self.is_still(before);
            if of_these {
                self.table = Some(table.clone());
            }
            let side = if of_these { &mut kept } else { &mut dropped };
            side.push(ServerPart::Table(table.clone()));
        }
        let usual = ServerLimits::default();
        let limits = before.cell.as_ref().map(|cell| &cell.limits).filter(|limits| **limits != usual);
        match (limits, &mut self.cell) {
            (Some(limits), Some(cell)) if cell.limits == usual => {
                cell.limits = limits.clone();
                kept.push(ServerPart::Limits);
            }
            (Some(_), None) => dropped.push(ServerPart::Limits),
            (_, _) => {}
        }
        (kept, dropped)
    }

    /// Whether the tools are the same program's. A package says which one that is, whatever its version, and the command's first
    /// word which of its programs, unless that only runs another. Another image may hold anything: the whole command counts.
    fn is_still(&self, before: &Self) -> bool {
        let same_cell = match (&self.cell, &before.cell) {
            (Some(now), Some(before)) => {
                let image = unversioned(&now.image);
                let is_package = [ImageName::NPM, ImageName::PYPI].iter().any(|kind| image.starts_with(kind));
                let first = now.command.first().filter(|first| is_package && !runs_another(first));
                let same = first.is_some() && first == before.command.first();
                (same || now.command == before.command) && image == unversioned(&before.image)
            }
            (None, None) => true,
            (_, _) => false,
        };
        same_cell && self.url == before.url && self.mailbox.is_some() == before.mailbox.is_some()
    }
}

/// Whether which program runs is said by what follows this first word.
fn runs_another(first: &str) -> bool {
    let name = first.rsplit('/').next().unwrap_or(first);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    ["python", "node", "npx", "deno", "bun", "uv", "uvx", "sh", "bash", "env"].contains(&bare)
}

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// At an address, perhaps with a secret.
    Http(BaseUrl, Option<SecretName>),
    /// In a cell of its own.
    Cell(ServerCell),
    /// Here: the built-in server for mail.
    Mailbox(ServerMailbox),
}

/// The servers that are known, as the file has them.
#[derive(Debug)]
pub(crate) struct KnownServers {
    path: PathBuf,
    entries: RwLock<BTreeMap<ServerName, Entry>>,
    /// Whose turn it is to change them: from what they are to what is written.
    turn: Mutex<()>,
}

impl KnownServers {
    /// Reads `servers.toml` in the configuration folder; without one, there are none.
    pub(crate) fn read(folder: &Path) -> Result<Self, DaemonError> {
        let path = folder.join("servers.toml");
        let text = match read_text(&path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DaemonError::File { path, source }),
        };
        let entries: BTreeMap<ServerName, Entry> = toml::from_str(&text).map_err(|error| {
            let mut message = error.to_string().trim_end().to_owned();
            if message.contains("unknown field `token_env`") {
                message = format!("{message}\n{TOKEN_ENV}");
            }
            DaemonError::Config { path: path.clone(), message }
        })?;
        let known = Self { path, entries: RwLock::new(entries), turn: Mutex::default() };
        for (name, entry) in known.all() {
            known.check(&name, &entry).map_err(|problem| DaemonError::Config {
                path: known.path.clone(),
                message: problem.message,
            })?;
        }
        Ok(known)
    }

    fn all(&self) -> BTreeMap<ServerName, Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every server.
    pub(crate) fn list(&self) -> Vec<ServerView> {
        self.all().into_iter().map(|(name, entry)| view(name, entry)).collect()
    }

    /// One of them.
    pub(crate) fn one(&self, name: &ServerName) -> Option<ServerView> {
        self.all().remove(name).map(|entry| view(name.clone(), entry))
    }

    /// Adds a server or changes one. What isn't said anew stays, as [`Entry::keep`] has it.
    pub(crate) fn put(&self, said: ServerView) -> Result<ServerPut, Problem> {
        let ServerView { name, url, table, teams, secret, cell, mailbox } = said;
        let mut entry = Entry { url, table, teams, secret, cell, mailbox };
        // What stays is what is there now, not what whoever asks has seen of it.
        let _turn = self.turn();
        let mut entries = self.all();
        let (kept, dropped) = entries.get(&name).map(|before| entry.keep(before)).unwrap_or_default();
        if entry.mailbox.is_some() {
            entry.table.get_or_insert_with(|| mailbox::TABLE.to_owned());
        }
        self.check(&name, &entry)?;
        spelled(&entry).map_err(|why| Problem::new(ProblemKind::Invalid, format!("server {name}: {why}")))?;
        entries.insert(name.clone(), entry.clone());
        if entries.len() > MAX_SERVERS {
            return Err(Problem::new(ProblemKind::Busy, format!("there are {MAX_SERVERS} servers already")));
        }
        self.write(entries)?;
        Ok(ServerPut { server: view(name, entry), kept, dropped })
    }

    /// Removes a server; true if there was one.
    pub(crate) fn remove(&self, name: &ServerName) -> Result<bool, Problem> {
        let _turn = self.turn();
        let mut entries = self.all();
        let was_there = entries.remove(name).is_some();
        if was_there {
            self.write(entries)?;
        }
        Ok(was_there)
    }

    fn write(&self, entries: BTreeMap<ServerName, Entry>) -> Result<(), Problem> {
        let text =
            toml::to_string(&entries).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
        write_private(&self.path, &text)?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }

    fn check(&self, name: &ServerName, entry: &Entry) -> Result<(), Problem> {
        let invalid =
            |message: String| Problem::new(ProblemKind::Invalid, format!("server {name}: {message}"));
        if name.as_str() == RESERVED {
            return Err(invalid("this name is the gateway's own".to_owned()));
        }
        match (&entry.url, &entry.cell, &entry.mailbox) {
            (Some(url), None, None) => drop(BaseUrl::parse(url, false).map_err(|e| invalid(e.to_string()))?),
            (None, Some(cell), None) => {
                check_cell(entry, cell).map_err(invalid)?;
                drop(server_cells::rules(name, cell).map_err(invalid)?);
            }
            (None, None, Some(_)) if entry.secret.is_some() => return Err(invalid(NO_SECRET.to_owned())),
            (None, None, Some(mailbox)) => drop(mailbox::place(mailbox).map_err(invalid)?),
            _several_or_none => {
                return Err(invalid("it has either a `url`, a `cell` or a `mailbox`".to_owned()));
            }
        }
        self.table(entry).map_err(invalid).map(drop)
    }

    /// What is said of the tools of a server that is known.
    pub(crate) fn table_of(&self, name: &ServerName) -> Result<Table, Problem> {
        let entry = self.all().remove(name);
        let table = entry.map_or_else(|| Ok(Table::default()), |entry| self.table(&entry));
        table.map_err(|why| Problem::new(ProblemKind::Internal, why))
    }

    /// Says what a server's tools do: the text becomes a table in a file of its own, beside `servers.toml`. What was said
    /// before, and what is said now.
    pub(crate) fn put_table(&self, name: &ServerName, text: &str) -> Result<(Table, Table), Problem> {
        let table = Table::parse(text).map_err(|e| Problem::new(ProblemKind::Invalid, e.to_string()))?;
        let _turn = self.turn();
        let before = self.table_of(name)?;
        let mut entries = self.all();
        let Some(entry) = entries.get_mut(name) else {
            return Err(Problem::new(ProblemKind::NotFound, format!("there is no tool server {name}")));
        };
        let file = format!("tables/{name}.toml");
        let path = self.path.parent().unwrap_or(Path::new("/")).join(&file);
        write_private(&path, text)?;
        entry.table = Some(file);
        self.write(entries)?;
        Ok((before, table))
    }

    /// What is said of a server's tools.
    fn table(&self, entry: &Entry) -> Result<Table, String> {
        let table = self.said(entry)?;
        let reaches_out = entry.cell.as_ref().is_some_and(|cell| !cell.egress.is_empty());
        Ok(if reaches_out { table.reaching_out() } else { table })
    }

    /// What a person said of them.
    fn said(&self, entry: &Entry) -> Result<Table, String> {
        let Some(name) = &entry.table else { return Ok(Table::default()) };
        if let Some(text) = Table::shipped(name) {
            return Table::parse(text).map_err(|e| format!("table {name}: {e}"));
        }
        let path = self.path.parent().unwrap_or(Path::new("/")).join(name);
        let text = read_text(&path, Table::MAX_BYTES as u64);
        let text = text.map_err(|e| format!("`{}`: {e}", path.display()))?;
        Table::parse(&text).map_err(|e| format!("`{}`: {e}", path.display()))
    }

    /// Has the gateway take the tables as they are now.
    pub(crate) fn classify(&self, servers: &Servers) {
        let mut tables = BTreeMap::new();
        for (name, entry) in self.all() {
            match self.table(&entry) {
                Ok(table) => drop(tables.insert(name, Arc::new(table))),
                // Its tools are then unclassified: the worst is assumed of them.
                Err(why) => tracing::warn!(server = %name, why, "a table can't be read"),
            }
        }
        servers.classify(tables);
    }

    /// How long a connection to the server is kept that nobody uses; none: the usual time.
    pub(crate) fn idle(&self, server: &ServerName) -> Option<Duration> {
        Some(self.all().remove(server)?.cell?.limits.idle.as_duration())
    }

    /// The way of a team to a server.
    pub(crate) fn way(&self, team: &TeamName, server: &ServerName) -> Result<Way, ToolFailure> {
        let entry = self.all().remove(server);
        let Some(entry) = entry.filter(|entry| entry.teams.is_empty() || entry.teams.contains(team)) else {
            let why = format!("there is no tool server {server} for team {team}");
            return Err(ToolFailure::new(ToolFailureKind::NotFound, why)
                .hint("an owner adds one: `lazaret server add`"));
        };
        let internal = |e: &dyn std::fmt::Display| ToolFailure::new(ToolFailureKind::Internal, e.to_string());
        // One that an earlier version took.
        spelled(&entry).map_err(|why| internal(&format!("server {server}: {why}")))?;
        let Entry { url, secret, cell, mailbox, .. } = entry;
        if let Some(mailbox) = mailbox {
            return Ok(Way::Mailbox(mailbox));
        }
        let Some(url) = url else {
            return cell.map(Way::Cell).ok_or_else(|| internal(&format!("server {server} is nowhere")));
        };
        let address = BaseUrl::parse(&url, false).map_err(|e| internal(&e))?;
        Ok(Way::Http(address, secret))
    }
}

/// Refuses an address at which a secret is shown and which isn't spelled as secrets' places are: there is to be one reading of it.
fn spelled(entry: &Entry) -> Result<(), String> {
    match (&entry.url, &entry.secret) {
        (Some(url), Some(_)) => url.parse::<Destination>().map(drop).map_err(|e| e.to_string()),
        (_, _) => Ok(()),
    }
}

/// Writes a file as a whole or not at all, for its owner alone.
fn write_private(path: &Path, text: &str) -> Result<(), Problem> {
    let failed =
        |e: std::io::Error| Problem::new(ProblemKind::Internal, format!("`{}`: {e}", path.display()));
    let new = path.with_extension("toml.new");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

fn view(name: ServerName, entry: Entry) -> ServerView {
    let Entry { url, table, teams, secret, cell, mailbox } = entry;
    ServerView { name, url, table, teams, secret, cell, mailbox }
}

fn check_cell(entry: &Entry, cell: &ServerCell) -> Result<(), String> {
    const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(128)..=ByteSize::mib(64 << 10);
    const DISK: RangeInclusive<ByteSize> = ByteSize::mib(64)..=ByteSize::mib(1 << 20);
    const IDLE: RangeInclusive<Span> = Span::seconds(1)..=Span::seconds(86_400);
    // Those of what leaves are checked with its rules.
    let ServerLimits { memory, cpus, disk, pids, idle, requests_per_minute: _, bytes_out_per_day: _ } =
        &cell.limits;
    let outside = |what: &str, least: &dyn Display, most: &dyn Display| {
        Err(format!("`{what}` is from {least} to {most}"))
    };
    let length: usize = cell.command.iter().map(String::len).sum();
    match cell.command.first() {
        None => Err("`command` names no program".to_owned()),
        Some(program) if program.is_empty() => Err("`command` names no program".to_owned()),
        Some(_) if cell.command.len() > MAX_WORDS || length > MAX_COMMAND => {
            Err(format!("`command` has more than {MAX_WORDS} words or {MAX_COMMAND} bytes"))
        }
        Some(_) if cell.command.iter().any(|word| word.contains('\0')) => {
            Err("`command` has a zero byte".to_owned())
        }
        Some(_) if entry.secret.is_some() => Err(NO_SECRET.to_owned()),
        Some(_) if !MEMORY.contains(memory) => outside("memory", MEMORY.start(), MEMORY.end()),
        Some(_) if !DISK.contains(disk) => outside("disk", DISK.start(), DISK.end()),
        Some(_) if !IDLE.contains(idle) => outside("idle", IDLE.start(), IDLE.end()),
        Some(_) if !(1..=16).contains(cpus) => outside("cpus", &1, &16),
        Some(_) if !(16..=32_768).contains(pids) => outside("pids", &16, &32_768),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, url: &str, table: Option<&str>) -> ServerView {
        ServerView {
            name: name.parse().unwrap(),
            url: Some(url.to_owned()),
            table: table.map(str::to_owned),
            teams: BTreeSet::new(),
            secret: None,
            cell: None,
            mailbox: None,
        }
    }

    fn in_cell(name: &str, command: &[&str]) -> ServerView {
        let cell = ServerCell {
            image: "npm:files@1.0.0".parse().unwrap(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            allow_emulation: false,
            egress: Vec::new(),
            secrets: BTreeMap::new(),
            limits: ServerLimits::default(),
        };
        ServerView { url: None, cell: Some(cell), ..view(name, "", None) }
    }

    #[test]
    fn a_local_server_has_a_program_and_limits_and_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let good = in_cell("files", &["serve", "/workspace"]);
        known.put(good.clone()).unwrap();
        let limited = |change: fn(&mut ServerLimits)| {
            let mut view = in_cell("x", &["serve"]);
            change(&mut view.cell.as_mut().unwrap().limits);
            view
        };
        for (bad, why) in [
            (in_cell("x", &[]), "names no program"),
            (in_cell("x", &["", "a"]), "names no program"),
            (in_cell("x", &["a\0b"]), "zero byte"),
            (in_cell("x", &["a"; 200]), "more than"),
            (ServerView { url: Some("http://127.0.0.1:9".to_owned()), ..good.clone() }, "either a `url`"),
            (ServerView { cell: None, ..good.clone() }, "either a `url`"),
            (ServerView { secret: Some("t".parse().unwrap()), ..good.clone() }, "`secret`"),
            (limited(|limits| limits.memory = ByteSize::mib(1)), "`memory` is from 128MiB to 64GiB"),
            (limited(|limits| limits.disk = ByteSize::mib(1)), "`disk`"),
            (limited(|limits| limits.cpus = 0), "`cpus`"),
            (limited(|limits| limits.pids = 1), "`pids`"),
            (limited(|limits| limits.idle = Span::seconds(0)), "`idle`"),
        ] {
            let told = known.put(bad).unwrap_err().message;
            assert!(told.contains(why), "{told}");
        }
        assert_eq!(KnownServers::read(folder.path()).unwrap().list(), [good]);
        for (text, why) in [
            ("[x.cell]\nimage = \"base\"\ncommand = [\"a\"]\nnetwork = true\n", "unknown field `network`"),
            ("[x.cell]\nimage = \"base\"\ncommand = [\"a\"]\nlimits = { ram = 1 }\n", "unknown field `ram`"),
            (
                "[x.cell]\nimage = \"base\"\ncommand = [\"a\"]\nlimits = { memory = \"1\" }\n",
                "is not a unit here",
            ),
            ("[x.cell]\nimage = \"base\"\n", "missing field `command`"),
            ("[x]\nurl = \"http://127.0.0.1:9\"\ntoken_env = \"T\"\n", "lazaret secret set NAME --to URL"),
        ] {
            std::fs::write(folder.path().join("servers.toml"), text).unwrap();
            let told = KnownServers::read(folder.path()).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_local_server_that_reaches_out_communicates_whatever_its_table_says() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let table = "[tools.read]\neffects = [\"read\"]\nresults = { \"\" = \"organisation\" }\n";
        std::fs::write(folder.path().join("t.toml"), table).unwrap();
        let reaching = |egress: &[&str], secret: &[(&str, &str)]| {
            let mut view = ServerView { table: Some("t.toml".to_owned()), ..in_cell("x", &["serve"]) };
            let cell = view.cell.as_mut().unwrap();
            cell.egress = egress.iter().map(|rule| (*rule).to_owned()).collect();
            let lent = secret.iter().map(|(name, place)| (name.parse().unwrap(), vec![(*place).to_owned()]));
            cell.secrets = lent.collect();
            view
        };
        let row = || known.table_of(&"x".parse().unwrap()).unwrap().tools.into_values().next().unwrap();
        known.put(reaching(&[], &[])).unwrap();
        assert!(row().effects.only_reads());
        let good = reaching(&["GET https://api.example/items/*"], &[("api", "https://api.example")]);
        known.put(good.clone()).unwrap();
        assert!(row().effects.has(domain::Effect::Communicate));
        assert_eq!(row().labels(domain::Confidentiality::Public).integrity, domain::Integrity::Web);
        assert_eq!(KnownServers::read(folder.path()).unwrap().list(), [good]);
        for bad in [
            reaching(&["GET api.example"], &[]),
            reaching(&["* https://api.example/**"], &[]),
            reaching(&["GET https://api.example/a\"]\nask = [\"GET https://b.example/"], &[]),
            reaching(&[], &[("api", "https://api.example")]),
            reaching(&["GET https://api.example/"], &[("api", "api.example")]),
        ] {
            let told = known.put(bad).unwrap_err().message;
            assert!(told.contains("cell.egress") || told.contains("cell.secrets"), "{told}");
        }
    }

    #[test]
    fn a_mailbox_has_two_encrypted_ends_and_a_password_that_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let mailbox = ServerMailbox {
            imap: "imaps://mail.acme.example".to_owned(),
            smtp: "smtp://mail.acme.example".to_owned(),
            user: "ada@acme.example".to_owned(),
            from: None,
            password: "secret:mail".parse().unwrap(),
        };
        let good = ServerView { url: None, mailbox: Some(mailbox.clone()), ..view("mail", "", None) };
        known.put(good.clone()).unwrap();
        // What its tools do is reviewed, and comes with it.
        let kept = KnownServers::read(folder.path()).unwrap();
        assert_eq!(kept.list(), [ServerView { table: Some("mail".to_owned()), ..good.clone() }]);
        let with = |mailbox: ServerMailbox| ServerView { mailbox: Some(mailbox), ..good.clone() };
        for (bad, why) in [
            (with(ServerMailbox { imap: "imap://mail.acme.example".to_owned(), ..mailbox.clone() }), "imap"),
            (
                with(ServerMailbox { smtp: "imaps://mail.acme.example".to_owned(), ..mailbox.clone() }),
                "smtps://",
            ),
            (with(ServerMailbox { user: "ada".to_owned(), ..mailbox.clone() }), "`from`"),
            (ServerView { url: Some("http://127.0.0.1:9".to_owned()), ..good.clone() }, "either a `url`"),
            (ServerView { secret: Some("t".parse().unwrap()), ..good.clone() }, "`secret`"),
        ] {
            let told = known.put(bad).unwrap_err().message;
            assert!(told.contains(why), "{told}");
        }
        let text = std::fs::read_to_string(folder.path().join("servers.toml")).unwrap();
        let inline = text.replace("secret:mail", "correct horse battery");
        std::fs::write(folder.path().join("servers.toml"), inline).unwrap();
        let told = KnownServers::read(folder.path()).unwrap_err().to_string();
        assert!(told.contains("not what it is"), "{told}");
    }

    #[test]
    fn servers_are_kept_in_the_file_and_mistakes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        known.put(view("mail", "http://127.0.0.1:9/mcp", Some("mail"))).unwrap();
        for bad in [
            view("lazaret", "http://127.0.0.1:9/mcp", None),
            view("x", "ftp://127.0.0.1", None),
            view("x", "http://elsewhere.example/mcp", None),
            view("x", "https://user:pass@elsewhere.example/mcp", None),
            view("x", "http://127.0.0.1:9/mcp", Some("nosuch.toml")),
        ] {
            assert!(known.put(bad).is_err());
        }
        // One that is shown a secret is spelled as the secret's places are: there is no second reading of it.
        for (url, good) in [
            ("https://crm.example/v1", true),
            ("https://CRM.example/mcp", false),
            ("https://crm.example/a//b", false),
            ("https://b\u{fc}cher.example/mcp", false),
        ] {
            let shown = ServerView { secret: Some("crm".parse().unwrap()), ..view("crm", url, None) };
            assert_eq!(known.put(shown).is_ok(), good, "{url}");
        }
        assert!(known.remove(&"crm".parse().unwrap()).unwrap());
        let again = KnownServers::read(folder.path()).unwrap();
        assert_eq!(again.list(), [view("mail", "http://127.0.0.1:9/mcp", Some("mail"))]);
        assert!(again.remove(&"mail".parse().unwrap()).unwrap());
        assert!(KnownServers::read(folder.path()).unwrap().list().is_empty());
    }

    #[test]
    fn those_who_change_servers_at_once_undo_nothing_of_each_others() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let names: Vec<String> = (0..24).map(|n| format!("s{n:02}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| {
                    known.put(view(name, "http://127.0.0.1:9/mcp", None)).unwrap();
                    known.put_table(&name.parse().unwrap(), "[tools.look]\neffects = [\"read\"]").unwrap();
                });
                // Whoever changes it just then knows nothing of a table.
                scope.spawn(|| {
                    for _ in 0..4 {
                        known.put(view(name, "http://127.0.0.1:9/mcp", None)).unwrap();
                    }
                });
            }
        });
        let kept = KnownServers::read(folder.path()).unwrap().list();
        assert_eq!(kept, known.list());
        assert_eq!(kept.len(), names.len());
        assert!(kept.iter().all(|server| server.table.is_some()));
    }

    #[test]
    fn what_was_said_of_tools_stays_while_they_are_the_same_programs() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let of = |image: &str, command: &[&str]| {
            let mut server = in_cell("x", command);
            server.cell.as_mut().unwrap().image = image.replace('D', &digest).parse().unwrap();
            server
        };
        let time = |version: &str, command: &[&str]| of(&format!("pypi:mcp-server-time=={version}"), command);
        let files = |version: &str, command: &[&str]| of(&format!("npm:@acme/files@{version}"), command);
        let at = |url| view("x", url, None);
        let [a, b] = [&["prog", "a"][..], &["prog", "b"]];
        for (before, now, stays) in [
            (of("base", a), of("base", a), true),
            (of("base", a), of("base", &["other"]), false),
            (of("base", &["node", "a.js"]), of("base", &["node", "b.js"]), false),
            (of("base", a), of("base@D", a), true),
            (of("ghcr.io/acme/x:1@D", a), of("ghcr.io/acme/x:2", a), true),
            (of("ghcr.io/acme/x:1", a), of("ghcr.io/acme/y:1", a), false),
            (time("2026.10.19", a), time("2026.11.1", b), true),
            (time("2026.10.19", a), time("2026.10.19", &["other"]), false),
            (time("1", &["python3.12", "-m", "a"]), time("2", &["python3.12", "-m", "a"]), true),
            (time("1", &["python3.12", "-m", "a"]), time("1", &["python3.12", "-m", "b"]), false),
            (files("1.0.0", &["/usr/bin/node", "a.js"]), files("1.0.0", &["/usr/bin/node", "b.js"]), false),
            (time("2026.10.19", a), of("pypi:mcp-server-times==2026.10.19", a), false),
            (files("1.0.0@D", a), files("1.0.1@D", b), true),
            (files("1.0.0@D", a), files("1.0.0", a), true),
            (files("1.0.0", a), of("npm:@acme/other@1.0.0", a), false),
            (at("http://127.0.0.1:9/a"), at("http://127.0.0.1:9/a"), true),
            (at("http://127.0.0.1:9/a"), at("http://127.0.0.1:9/b"), false),
            (of("base", a), at("http://127.0.0.1:9/a"), false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let known = KnownServers::read(folder.path()).unwrap();
            known.put(ServerView { table: Some("filesystem".to_owned()), ..before.clone() }).unwrap();
            let put = known.put(now.clone()).unwrap();
            let table = ServerPart::Table("filesystem".to_owned());
            let (kept, dropped) = if stays { (vec![table], vec![]) } else { (vec![], vec![table]) };
            assert_eq!((put.kept, put.dropped), (kept, dropped), "{before:?} {now:?}");
            assert_eq!(put.server.table.is_some(), stays);
            assert_eq!(known.list(), [put.server]);
            let said = known.put(ServerView { table: Some("mail".to_owned()), ..before }).unwrap();
            assert_eq!((said.kept, said.dropped), (vec![], vec![]), "what is said anew needs no word");
        }
    }

    #[test]
    fn teams_and_limits_stay_and_limits_without_cells_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let mut limited = ServerView { teams: ["sales".parse().unwrap()].into(), ..in_cell("x", &["a"]) };
        limited.cell.as_mut().unwrap().limits.pids = 64;
        known.put(limited.clone()).unwrap();
        let teams = ServerPart::Teams(limited.teams.clone());
        let put = known.put(in_cell("x", &["b"])).unwrap();
        assert_eq!((put.kept, put.dropped), (vec![teams.clone(), ServerPart::Limits], vec![]));
        assert_eq!(put.server.cell.unwrap().limits.pids, 64);
        let put = known.put(view("x", "http://127.0.0.1:9/mcp", None)).unwrap();
        assert_eq!((put.kept, put.dropped), (vec![teams], vec![ServerPart::Limits]));
        assert_eq!(known.list(), [put.server]);
    }

    #[test]
    fn what_a_person_says_of_a_server_is_a_table_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        let crm = "crm".parse().unwrap();
        assert!(known.put_table(&crm, "").is_err(), "there is no such server");
        known.put(view("crm", "http://127.0.0.1:9/mcp", None)).unwrap();
        assert!(known.table_of(&crm).unwrap().tools.is_empty());
        for bad in ["[tools.x]\neffects = [\"sends\"]", "nonsense", "[tools.\"a b\"]\neffects = [\"read\"]"] {
            assert!(known.put_table(&crm, bad).is_err(), "{bad}");
        }
        assert!(!folder.path().join("tables/crm.toml").exists());
        // What ships comes back from its own words.
        for (name, text) in policy::SHIPPED {
            let table = Table::parse(text).unwrap();
            known.put_table(&crm, &toml::to_string(&table).unwrap()).unwrap();
            assert_eq!(known.table_of(&crm).unwrap(), table, "{name}");
        }
        let again = KnownServers::read(folder.path()).unwrap();
        assert_eq!(again.one(&crm).unwrap().table.as_deref(), Some("tables/crm.toml"));
        assert!(!again.table_of(&crm).unwrap().tools.is_empty());
    }
}
