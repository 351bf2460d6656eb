//! `lazaret ledger`: what happened, and that nobody has changed the record of it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::{Client, EraseRequest, LedgerEntry, LedgerQuery, LedgerVerdict, MAX_ENTRIES};
use serde_json::Value;

use crate::args::{EntriesArgs, LedgerCommand};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// One of them.
pub(crate) async fn command(command: LedgerCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        LedgerCommand::Tail { count, which, json } => {
            let query = query(count, None, &which);
            if json {
                print_json(&client.newest(&query, |entry| entry).await?)
            } else {
                print_lines(client.newest(&query, |entry| line(&entry)).await?)
            }
        }
        LedgerCommand::Show { seq } => show(&client, seq).await,
        LedgerCommand::Verify { seen, json } => verify(&client, seen.as_deref(), json).await,
        LedgerCommand::Erase { seq, why } => {
            client.erase_from_ledger(&EraseRequest { seq, why }).await?;
            note(format!("what was sealed in entry {seq} is gone; copies and backups keep what they have"));
            Ok(0)
        }
        LedgerCommand::Export { which } => export(&client, &which).await,
    }
}

fn query(count: u32, after: Option<u64>, which: &EntriesArgs) -> LedgerQuery {
    let EntriesArgs { agent, session, kind } = which;
    LedgerQuery { count, after, before: None, agent: agent.clone(), session: *session, kind: kind.clone() }
}

async fn show(client: &Client, seq: u64) -> Outcome {
    let all = EntriesArgs { agent: None, session: None, kind: None };
    let found = client.ledger(&query(1, Some(seq.saturating_sub(1)), &all)).await?;
    match found.first() {
        Some(entry) if entry.get("seq").and_then(Value::as_u64) == Some(seq) => print_json(entry),
        Some(_) | None => Err(Failure::new(format!("the ledger has no entry {seq}"))
            .hint("`lazaret ledger tail` shows the newest")),
    }
}

async fn export(client: &Client, which: &EntriesArgs) -> Outcome {
    let mut after = 0;
    loop {
        let entries = client.ledger(&query(MAX_ENTRIES, Some(after), which)).await?;
        let Some(last) = entries.last().and_then(|entry| entry.get("seq")).and_then(Value::as_u64) else {
            return Ok(0);
        };
        print_lines(entries.iter().map(Value::to_string))?;
        after = last;
    }
}

async fn verify(client: &Client, seen: Option<&Path>, json: bool) -> Outcome {
    let remembered = background::folders()?.state.join("ledger-head.json");
    let seen = head(seen, &remembered)?;
    let verdict = client.verify_ledger(seen.as_ref()).await?;
    if verdict.fault.is_none() {
        remember(&remembered, &verdict)?;
    }
    if json {
        print_json(&verdict)?;
    } else if let Some(fault) = &verdict.fault {
        print_lines([format!("NOT as it was written: {}", escape(fault))])?;
    } else {
        let since = if seen.is_some() { ", and go on from the last verified" } else { "" };
        let erased = verdict.erased;
        print_lines([format!(
            "{} entries, {erased} erased in part, are as they were written{since}",
            verdict.entries
        )])?;
    }
    Ok(u8::from(verdict.fault.is_some()))
}

/// The newest entry that was seen before: in this file, or where it was remembered.
fn head(file: Option<&Path>, remembered: &Path) -> Result<Option<Value>, Failure> {
    let path = file.unwrap_or(remembered);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => return Ok(None),
        Err(error) => return Err(Failure::new(format!("`{}`: {error}", path.display()))),
    };
    let verdict: LedgerVerdict = serde_json::from_str(&text).map_err(|e| {
        Failure::new(format!("`{}` is no answer of `ledger verify --json`: {e}", path.display()))
    })?;
    Ok(verdict.head)
}

fn remember(path: &PathBuf, verdict: &LedgerVerdict) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("`{}`: {e}", path.display()));
    let text = serde_json::to_string(verdict).map_err(|e| Failure::new(e.to_string()))?;
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    note(format!("the newest entry is remembered in `{}`", path.display()));
    Ok(())
}

/// An entry on one line.
fn line(entry: &LedgerEntry) -> String {
    let text = |place: &str| entry.pointer(place).and_then(Value::as_str);
    let team = || text("/about/team").map(|team| format!("team:{team}"));
    let who = text("/about/agent").map(str::to_owned).or_else(team).unwrap_or_else(|| "-".to_owned());
    let kind = text("/event/kind").unwrap_or("?").to_owned();
    let mut event = entry.get("event").cloned().unwrap_or_default();
    if let Some(fields) = event.as_object_mut() {
        fields.remove("kind");
    }
    let number = |place: &str| entry.pointer(place).and_then(Value::as_u64);
    let (seq, time) = (number("/seq").unwrap_or_default(), number("/at").map(time).unwrap_or_default());
    escape(&format!("{seq:>6}  {time}  {who}  {kind}  {event}"))
}

/// UTC, to the second (RFC 3339).
pub(crate) fn time(at: u64) -> String {
    let seconds = at / 1000;
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(day);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The date of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn date(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_the_calendar_has_them() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_795_580_750_014), "2026-11-25T04:25:50Z");
    }
}
