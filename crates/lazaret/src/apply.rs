//! `agent apply`: all that an agent's files ask for, shown before it counts, and applied exactly so.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};

use api::{AgentTools, ApplyRequest, CallsView, ChangeView, Earlier, PinState, ToolView};
use domain::{AgentName, Mark, Term};

use crate::args::ApplyArgs;
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// Most lines that are shown of one place in the files; `--all` and `--json` show all.
const MAX_LINES: usize = 400;
/// Lines that are shown of what a tool says of itself.
const DESCRIPTION: usize = 3;

/// Shows what an agent's files ask for, and applies them on a yes.
pub(crate) async fn apply(args: ApplyArgs) -> Outcome {
    let ApplyArgs { agent, yes, all, json } = args;
    let client = background::client().await?;
    let asked = client.agent_tools(&agent).await?;
    if json {
        return print_json(&asked);
    }
    let shown = Shown::of(&agent, &asked, if all { usize::MAX } else { MAX_LINES });
    let left_out = shown.left_out;
    print_lines(shown.lines)?;
    if asked.applied && asked.tools.iter().all(|tool| tool.pin == PinState::Approved) {
        note("applied already: nothing has changed");
        return Ok(0);
    }
    if left_out > 0 {
        let why = format!("{left_out} lines of it were not shown, and so it can't be applied");
        return Err(Failure::new(why).hint(format!("see all of it: lazaret agent apply {agent} --all")));
    }
    if !yes && !ask("Apply exactly this?")? {
        note("not applied");
        return Ok(1);
    }
    let tools = asked.tools.iter().map(|tool| (tool.tool.clone(), tool.digest)).collect();
    client.apply_agent(&agent, &ApplyRequest { digest: asked.digest, tools }).await?;
    note(format!("{agent} is applied"));
    Ok(0)
}

/// What is shown. Everything in it but its frame is from files, or from tool servers.
pub(crate) struct Shown {
    pub(crate) lines: Vec<String>,
    /// Most lines of one place.
    most: usize,
    /// How many lines there is no room for.
    left_out: usize,
}

impl Shown {
    /// Lines of an agent's files, by where they stand there.
    pub(crate) fn terms<'t>(terms: impl IntoIterator<Item = &'t Term>, most: usize) -> Self {
        let mut shown = Self { lines: Vec::new(), most, left_out: 0 };
        let mut here = ("", 0_usize);
        let (mut tools, mut egress, mut secrets) = (false, false, false);
        for term in terms {
            let place = term.place.as_str();
            if term.mark != Mark::Gone {
                tools |= place.starts_with("[tools.");
                egress |= place == "[egress]";
                secrets |= place == "[secrets]";
            }
            if here.0 != place {
                shown.cut(here.1);
                here = (place, 0);
            }
            here.1 = here.1.saturating_add(1);
            if here.1 <= most {
                shown.term(term, here.1 == 1);
            }
        }
        shown.cut(here.1);
        for (there, place, nothing) in [
            (tools, "[tools]", "none: it may call no tool"),
            (egress, "[egress]", "none: nothing leaves its cell"),
            (secrets, "[secrets]", "none: nothing that leaves carries one"),
        ] {
            if !there {
                shown.lines.push(format!("  {place:<14} {nothing}"));
            }
        }
        shown
    }

    fn of(agent: &AgentName, asked: &AgentTools, most: usize) -> Self {
        let first = match (asked.applied, asked.earlier) {
            (true, _) => "exactly this was applied",
            (false, Earlier::Never) => "nothing of it was applied before, so all of it is new",
            (false, Earlier::Unknown) => {
                "what was applied last isn't known here any more, so all of it counts as new"
            }
            (false, Earlier::Known) => "against what was applied last, + is new and - is gone",
        };
        let mut shown = Self::terms(&asked.terms, most);
        shown.lines.insert(0, format!("{agent}: {first}"));
        if !asked.tools.is_empty() {
            shown.lines.push(format!("{} tools, as their servers list them now", asked.tools.len()));
        }
        asked.tools.iter().for_each(|tool| shown.tool(tool));
        match (&asked.change, asked.earlier) {
            _ if asked.applied => {}
            (Some(change), _) => shown.change(change),
            (None, Earlier::Known) => shown.lines.push(
                "What it could do before and can do now can't be compared: the tools of then are gone"
                    .to_owned(),
            ),
            (None, Earlier::Never | Earlier::Unknown) => {}
        }
        shown
    }

    fn term(&mut self, term: &Term, first: bool) {
        let sign = match term.mark {
            Mark::Kept => ' ',
            Mark::New => '+',
            Mark::Gone => '-',
        };
        let place = if first { escape(&term.place) } else { String::new() };
        self.lines.push(format!("{sign} {place:<14} {}", escape(&term.says)));
        if let Some(beware) = term.beware.as_ref().filter(|_| term.mark != Mark::Gone) {
            self.lines.push(format!("  {:<14}   ! {}", "", escape(beware)));
        }
    }

    /// Says how many lines of a place there was no room for.
    fn cut(&mut self, count: usize) {
        let more = count.saturating_sub(self.most);
        if more > 0 {
            self.lines.push(format!("  {:<14} … {more} more lines: --all shows them", ""));
            self.left_out = self.left_out.saturating_add(more);
        }
    }

    fn tool(&mut self, tool: &ToolView) {
        let (sign, state) = match tool.pin {
            PinState::Approved => (' ', "approved"),
            PinState::New => ('+', "NEW"),
            PinState::Changed => ('+', "CHANGED since it was approved"),
        };
        let answer = tool.answer.map_or("cedar", |answer| answer.as_str());
        self.lines.push(format!("{sign} {:<5} {}  {state}", answer, escape(&tool.tool.to_string())));
        if tool.answer.is_none() {
            self.lines.push("    ! no rule of agent.toml names it, and policy.cedar permits it".to_owned());
        }
        let classified =
            if tool.classified { "" } else { ", as nobody has classified it: the worst is assumed" };
        let sign = if tool.effects.can_be_undone() { ' ' } else { '!' };
        self.lines.push(format!("    {sign} effects: {}{classified}", tool.effects));
        // What is new is read before it counts.
        let new = tool.pin != PinState::Approved;
        let most = if new || self.most == usize::MAX { self.most } else { DESCRIPTION };
        let description = tool.description.lines().take(most).map(|line| format!("      | {}", escape(line)));
        self.lines.extend(description);
        let more = tool.description.lines().count().saturating_sub(most);
        if more > 0 {
            self.lines.push(format!("      … {more} more lines of what it says: --all shows them"));
            self.left_out = self.left_out.saturating_add(if new { more } else { 0 });
        }
        self.lines.extend(tool.changes.iter().map(|change| format!("    ! {}", escape(change))));
    }

    fn change(&mut self, change: &ChangeView) {
        self.lines.push(format!("Against what was applied last, its files are: {}", change.verdict));
        self.lines.extend(calls("  possible now ", &change.wider));
        self.lines.extend(calls("  harder now   ", &change.narrower));
    }
}

/// Calls, with how many more there are.
pub(crate) fn calls(title: &str, calls: &CallsView) -> Vec<String> {
    let mut lines: Vec<String> = calls.calls.iter().map(|call| format!("{title} {}", escape(call))).collect();
    if calls.more > 0 {
        lines.push(format!("{title} … and {} more", calls.more));
    }
    lines
}

/// Asks at the terminal. Without one, nothing is applied.
fn ask(question: &str) -> Result<bool, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Err(
            Failure::new("there is no terminal to ask at").hint("read it, then say --yes to apply it")
        );
    };
    let mut answer = String::new();
    let mut out = &terminal;
    write!(out, "{question} [y/N] ")?;
    io::BufReader::new(&terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use api::{AgentTools, Earlier};
    use domain::AgentFile;

    use super::*;

    fn asked(text: &str, cedar: Option<&str>) -> AgentTools {
        let terms = AgentFile::parse(text).unwrap().terms(cedar);
        let digest = domain::Digest::from_bytes([0; 32]);
        AgentTools { digest, applied: false, earlier: Earlier::Never, change: None, terms, tools: Vec::new() }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_what_turns_text_is_written_out() {
        let text = "name = \"a\"\nharness = { command = [\"x\", \"a\\u202eb\\u001b[2J\"] }\n";
        let cedar: String = (0..MAX_LINES + 3).map(|at| format!("// {at}\n")).collect();
        let agent = "a".parse().unwrap();
        let shown = Shown::of(&agent, &asked(text, Some(&cedar)), MAX_LINES);
        let all = shown.lines.join("\n");
        assert_eq!(shown.left_out, 3);
        assert!(all.contains("… 3 more lines: --all shows them") && !all.contains("// 402"), "{all}");
        assert!(all.contains("a\\u{202e}b\\u{1b}[2J"), "{all}");
        assert!(all.contains("[egress]       none: nothing leaves its cell"), "{all}");
        let shown = Shown::of(&agent, &asked(text, Some(&cedar)), usize::MAX);
        assert!(shown.left_out == 0 && shown.lines.iter().any(|line| line.ends_with("// 402")));
    }
}
