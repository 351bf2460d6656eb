//! A person who logs in by the command line: reads what they are told to do, and pastes what their browser ends with.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use crate::Lab;

/// Begins `lazaret secret login` with these arguments; what runs, and what the person was told first.
///
/// # Panics
/// When nobody is told anything: it is for tests.
#[must_use]
pub fn logging_in(lab: &Lab, args: &[&str]) -> (Child, String) {
    let mut command = lab.command(&[&["secret", "login"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("what it says"));
    let mut told = String::new();
    while !told.contains("log in ") {
        told.clear();
        assert!(said.read_line(&mut told).expect("a line") > 0, "nobody was told what to do");
    }
    let rest = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    drop(rest);
    (child, told)
}

/// The URL in what a person was told.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn url_in(told: &str) -> String {
    let (_, url) = told.split_once("https://").expect("a URL");
    let url: String = url.chars().take_while(|letter| !letter.is_control() && *letter != ' ').collect();
    format!("https://{url}")
}

/// Pastes a line, and waits for the end: whether the person is logged in.
///
/// # Panics
/// When it doesn't read.
#[must_use]
pub fn pasted(mut child: Child, line: &str) -> bool {
    writeln!(child.stdin.take().expect("its input"), "{line}").expect("it reads");
    child.wait().expect("it ends").success()
}
