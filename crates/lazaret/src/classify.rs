//! `server classify`: a person says what a server's tools do, with what the server says of itself as suggestions.

use std::fs::File;
use std::io::{self, BufRead, Write};

use api::{Client, ServerDetails, ServerTool};
use domain::{Effect, Effects};
use policy::{Row, Table};

use crate::args::ClassifyArgs;
use crate::failure::{Failure, Outcome, note};
use crate::output::print_lines;
use crate::servers;
use crate::terminal::escape;

const ALL: [Effect; 6] = [
    Effect::Read,
    Effect::Write,
    Effect::Irreversible,
    Effect::Communicate,
    Effect::Execute,
    Effect::Delegate,
];

/// `lazaret server classify`.
pub(crate) async fn classify(client: &Client, args: ClassifyArgs) -> Outcome {
    let ClassifyArgs { name, team, suggest, from } = args;
    if let Some(path) = from {
        let length =
            std::fs::metadata(&path).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?;
        if length.len() > Table::MAX_BYTES as u64 {
            return Err(Failure::new(format!("`{}` is too large for a table", path.display())));
        }
        let text =
            std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?;
        Table::parse(&text).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?;
        client.put_server_table(&name, &text).await?;
        note(format!("{name} is classified as `{}` says", path.display()));
        return Ok(0);
    }
    let details = servers::details(client, &name, team).await?;
    if let Some(why) = &details.trouble {
        return Err(Failure::new(format!("{name} can't be asked: {why}")));
    }
    if suggest {
        print_lines(suggestions(&details))?;
        return Ok(0);
    }
    let new: Vec<&ServerTool> = details.tools.iter().filter(|tool| !tool.classified).collect();
    if new.is_empty() {
        note(format!("every tool of {name} is classified already"));
        return Ok(0);
    }
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::new("there is no terminal to ask at")
            .hint("--suggest prints a table to edit, and --from takes it"));
    };
    let mut table = Table::parse(&client.server_table(&name).await?)
        .map_err(|e| Failure::new(format!("what is said already: {e}")))?;
    let (mut input, mut output) = (io::BufReader::new(&terminal), &terminal);
    let mut said = 0_usize;
    for tool in new {
        if let Some(effects) = ask(tool, &mut input, &mut output)? {
            table.tools.insert(tool.name.clone(), Row { effects, sensitive: [].into(), ..Row::unknown() });
            said += 1;
        }
    }
    if said == 0 {
        note("nothing was said");
        return Ok(1);
    }
    let text = toml::to_string(&table).map_err(|e| Failure::new(e.to_string()))?;
    client.put_server_table(&name, &text).await?;
    note(format!(
        "{said} tools of {name} are classified; agents that use them want `lazaret agent apply` again"
    ));
    Ok(0)
}

/// Asks what one tool does; none: nothing is said, and the worst is assumed as before.
fn ask(
    tool: &ServerTool,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<Option<Effects>, Failure> {
    let words: Vec<&str> = ALL.iter().map(|effect| effect.as_str()).collect();
    let first: String = tool.description.lines().next().unwrap_or_default().chars().take(200).collect();
    writeln!(output, "\n{}: {}", escape(tool.name.as_str()), escape(&first))?;
    let arguments: Vec<String> = tool.arguments.iter().map(|name| escape(name)).collect();
    writeln!(output, "  arguments: {}", arguments.join(", "))?;
    writeln!(output, "  suggested: {}", listed(tool.suggested))?;
    loop {
        write!(output, "  what does it do? ({}; `=`: as suggested; nothing: skip) ", words.join(", "))?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match answered(&line, tool.suggested) {
            Ok(effects) => return Ok(effects),
            Err(why) => writeln!(output, "  {why}")?,
        }
    }
}

fn answered(line: &str, suggested: Effects) -> Result<Option<Effects>, String> {
    match line.trim() {
        "" => return Ok(None),
        "=" => return Ok(Some(suggested)),
        _words => {}
    }
    let mut effects = Vec::new();
    for word in line.split([',', ' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
        let effect = ALL.into_iter().find(|effect| effect.as_str() == word);
        effects.push(effect.ok_or_else(|| format!("`{}` is no effect", escape(word)))?);
    }
    Ok(Effects::of(&effects))
}

fn listed(effects: Effects) -> String {
    effects.iter().map(Effect::as_str).collect::<Vec<_>>().join(", ")
}

/// A table to edit, of what nobody has classified yet.
fn suggestions(details: &ServerDetails) -> Vec<String> {
    let mut lines = vec![
        format!("# What the tools of {} do. Suggested by the server itself: check every line.", details.server.name),
        "# Without more, each argument is free text and each result a stranger's; docs/permissions.md says more.".to_owned(),
    ];
    for tool in &details.tools {
        let effects: Vec<String> = if tool.classified { tool.effects } else { tool.suggested }
            .iter()
            .map(|e| format!("\"{e}\""))
            .collect();
        let first: String = tool.description.lines().next().unwrap_or_default().chars().take(100).collect();
        let arguments: Vec<String> = tool.arguments.iter().map(|name| escape(name)).collect();
        lines.extend([
            String::new(),
            format!("# {}", escape(&first)),
            format!("# arguments: {}", arguments.join(", ")),
            format!("[tools.{}]", tool.name),
            format!("effects = [{}]", effects.join(", ")),
        ]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, description: &str) -> ServerTool {
        ServerTool {
            name: name.parse().unwrap(),
            effects: Effects::UNKNOWN,
            classified: false,
            description: description.to_owned(),
            schema_bytes: 2,
            suggested: Effects::of(&[Effect::Read]).unwrap(),
            arguments: vec!["to".to_owned()],
        }
    }

    #[test]
    fn answers_are_effects_the_suggestion_or_nothing() {
        let suggested = Effects::of(&[Effect::Read]).unwrap();
        assert_eq!(answered("\n", suggested), Ok(None));
        assert_eq!(answered("=\n", suggested), Ok(Some(suggested)));
        let both = Effects::of(&[Effect::Write, Effect::Communicate]);
        assert_eq!(answered("write, communicate\n", suggested), Ok(both));
        assert!(answered("wrte\n", suggested).is_err());
        let (mut input, mut output) = (&b"nonsense\n\x1b[2J\nread write\n"[..], Vec::new());
        let effects = ask(&tool("send", "Sends\x1b[2J.\nMore."), &mut input, &mut output).unwrap();
        assert_eq!(effects, Effects::of(&[Effect::Read, Effect::Write]));
        assert!(!output.contains(&0x1b), "what a server says reaches no terminal as it is");
    }

    #[test]
    fn suggestions_are_a_table() {
        let server = serde_json::json!({"name": "crm", "url": "http://127.0.0.1:9/mcp"});
        let details = ServerDetails {
            server: serde_json::from_value(server).unwrap(),
            team: "sales".parse().unwrap(),
            tools: vec![tool("read", "Reads.\n[tools.evil]"), tool("send-all", "")],
            withheld: Vec::new(),
            trouble: None,
            log: Vec::new(),
        };
        let table = Table::parse(&suggestions(&details).join("\n")).unwrap();
        assert_eq!(table.tools.len(), 2);
        assert!(table.tools.values().all(|row| row.effects.only_reads()));
    }
}
