//! The difference in what is no rule: what runs the agent, what it is told, and what it may use up. Whether another is more
//! than it was can't be told of most of it, so each counts as wider.

use domain::AgentFile;

/// Each as a person is told it.
pub(super) fn changed(old: &AgentFile, new: &AgentFile) -> Vec<String> {
    let AgentFile {
        name: _,
        team,
        harness,
        models: _,
        image,
        instructions,
        limits,
        tools: _,
        egress: _,
        approvals: _,
        secrets: _,
    } = old;
    let mut told = Vec::new();
    if *team != new.team {
        told.push(format!("its team was {team}, is now {}", new.team));
    }
    if *harness != new.harness {
        told.push("another program runs it, or with other arguments".to_owned());
    }
    if *image != new.image {
        told.push(format!("its image was {image}, is now {}", new.image));
    }
    if *instructions != new.instructions {
        told.push("its instructions are others".to_owned());
    }
    for ((name, before), (_, now)) in limits.told().into_iter().zip(new.limits.told()) {
        if before != now {
            told.push(format!("[limits] `{name}` was {before}, is now {now}"));
        }
    }
    told
}
