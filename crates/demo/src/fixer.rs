//! The first act: an agent makes a failing test of a small repository pass.

use std::fs;

use crate::DemoError;
use crate::scripted::FIXER_REPOSITORY;
use crate::stage::{Stage, io};

/// Plays it and gives the patch.
pub(crate) async fn play(stage: &Stage) -> Result<String, DemoError> {
    let voice = stage.voice;
    let files: Vec<(&str, Vec<u8>)> =
        FIXER_REPOSITORY.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
    let folder = stage.repository("slugs", &files).await?;
    let folder = folder.to_string_lossy().into_owned();
    voice.say("A small Python repository. Its tests, run in a cell:")?;
    if test(stage, &folder).await? == 0 {
        return Err(DemoError::Act("the repository's tests pass before anything was repaired".to_owned()));
    }
    voice.say("\nThey fail. The agent `fixer` gets a copy of the repository and a cell of its own:")?;
    let patch = stage.path("fixer.patch");
    let patch_text = patch.to_string_lossy().into_owned();
    let agent = stage.path("agents/fixer/").to_string_lossy().into_owned();
    let args =
        ["run", "--allow-emulation", "--workspace", &folder, "--apply", "--patch", &patch_text, &agent];
    let prompt = "The tests fail. Make them pass.";
    let played =
        stage.lazaret(&[&args[..], &[prompt]].concat(), |line| voice.say(&format!("  > {line}"))).await?;
    if played.code != 0 {
        return Err(DemoError::Act(format!("the agent ended with exit code {}", played.code)));
    }
    let patch = io("the patch", fs::read_to_string(&patch))?;
    voice.say("\nWhat came back, a patch:")?;
    for line in patch.lines() {
        voice.say(&format!("  {line}"))?;
    }
    voice.say("\nThe tests with the patch applied, in a new cell:")?;
    match test(stage, &folder).await? {
        0 => voice.say("They pass.")?,
        code => return Err(DemoError::Act(format!("the tests still fail with exit code {code}"))),
    }
    Ok(patch)
}

/// Runs the repository's tests in a cell and gives their exit code.
async fn test(stage: &Stage, folder: &str) -> Result<i32, DemoError> {
    let agent = stage.path("agents/tester/").to_string_lossy().into_owned();
    let args = ["run", "--allow-emulation", "--workspace", folder, &agent];
    let played = stage.lazaret(&args, |line| stage.voice.say(&format!("  > {line}"))).await?;
    // From 124 on it was not the tests that ended it.
    if (0..=99).contains(&played.code) {
        return Ok(played.code);
    }
    Err(DemoError::Act(format!("the tests could not be run: exit code {}", played.code)))
}
