//! What the attacks came to, for people, on 80 columns.

use crate::DemoError;
use crate::report::{Outcome, Report};
use crate::stage::Voice;

/// Widths of the columns: outcome, attack, layer, evidence.
const WIDTHS: [usize; 4] = [8, 26, 9, 34];
/// Most lines of evidence shown.
const MAX_LINES: usize = 3;

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Blocked => "blocked",
        Outcome::Breached => "BREACHED",
        Outcome::NotApplicable => "n/a",
        Outcome::Left => "left",
        Outcome::Failed => "FAILED",
    }
}

/// One line while it goes on.
pub(crate) fn progress(voice: Voice, report: &Report) -> Result<(), DemoError> {
    voice.say(&format!("  {:<WIDTH$} {}", word(report.outcome), clean(&report.title), WIDTH = WIDTHS[0]))
}

/// The table: attack · which layer stopped it · evidence.
pub(crate) fn show(voice: Voice, reports: &[Report]) -> Result<(), DemoError> {
    let [outcome, attack, layer, evidence] = WIDTHS;
    voice.say(&format!("\n{:outcome$} {:attack$} {:layer$} evidence", "", "attack", "layer"))?;
    let rules = WIDTHS.map(|width| "─".repeat(width));
    voice.say(&rules.join(" "))?;
    for report in reports {
        let mut lines = wrap(&clean(&report.evidence), evidence).into_iter();
        let title: String = clean(&report.title).chars().take(attack).collect();
        let first = lines.next().unwrap_or_default();
        let word = word(report.outcome);
        let at = report.layer.to_string();
        voice.say(format!("{word:outcome$} {title:attack$} {at:layer$} {first}").trim_end())?;
        for line in lines {
            voice.say(&format!("{:indent$}{line}", "", indent = outcome + attack + layer + 3))?;
        }
    }
    Ok(())
}

/// The reports come from an attacker.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || ('\u{200b}'..='\u{206f}').contains(&c) { '·' } else { c })
        .collect()
}

/// Breaks a text into at most [`MAX_LINES`] lines.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let room = lines.last().is_some_and(|l| l.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    if lines.len() > MAX_LINES {
        lines.truncate(MAX_LINES);
        if let Some(last) = lines.last_mut() {
            last.push('…');
        }
    }
    for line in &mut lines {
        if line.chars().count() > width {
            *line = line.chars().take(width - 1).chain(['…']).collect();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_keeps_to_its_column() {
        let lines = wrap(&"one two three four ".repeat(20), 34);
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines.iter().all(|line| line.chars().count() <= 34), "{lines:?}");
        assert_eq!(wrap("short", 34), ["short"]);
        assert!(wrap(&"x".repeat(100), 34).iter().all(|line| line.chars().count() <= 34));
    }

    #[test]
    fn a_report_can_not_draw_on_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\n"), "a·[2Jb·c·");
    }
}
