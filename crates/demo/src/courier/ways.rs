//! The ways out that the courier tries, and what must have been seen of each.

use serde::{Deserialize, Serialize};

use super::{MODEL, script};
use crate::stage::Stage;

/// One way out that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Which way.
    pub way: &'static str,
    /// What became of it.
    pub fate: Fate,
    /// What the program saw that tried it, once for each try.
    pub said: Vec<String>,
}

/// What became of an attempt. There is no third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing left.
    Refused,
    /// The request left without what was to get out with it.
    Dropped,
}

/// What a program of the agent's says of a way.
#[derive(Debug, Deserialize)]
struct Tried {
    way: String,
    said: Vec<String>,
}

/// The ways as `ways.py` calls them, what must become of each, and a sign of it.
const WAYS: [(&str, Fate, &str); 12] = [
    ("another host", Fate::Refused, "lazaret: "),
    ("another port of a host that is allowed", Fate::Refused, "lazaret: "),
    ("an address in odd spellings", Fate::Refused, "lazaret: the host is not acceptable"),
    ("a redirect that an allowed host sends", Fate::Refused, "lazaret: "),
    ("a query", Fate::Refused, "lazaret: "),
    ("a body", Fate::Refused, "lazaret: "),
    ("another host inside a tunnel", Fate::Refused, "lazaret: the request is for"),
    ("another name in TLS", Fate::Refused, "lazaret: the name in TLS"),
    ("names for a resolver", Fate::Refused, "name resolution; [Errno 101] Network is unreachable"),
    ("another protocol in a tunnel", Fate::Refused, "HTTP/1.1 400"),
    ("a push to another branch", Fate::Refused, "error: 403"),
    ("a key of its own for the host", Fate::Dropped, "refs/heads/agent/fix"),
];

/// What came of the attempts, as the agent's programs saw it. The services outside are asked apart from it.
pub(super) fn judge(stage: &Stage) -> Result<Vec<Attempt>, String> {
    let results = stage.model.results(MODEL);
    let found = |what| results.iter().any(|result| result.contains(what));
    if !(found(script::DECOY) && found(script::PLACEHOLDER)) {
        return Err("its search for keys did not find what lies open".to_owned());
    }
    let strange = stage.outside.git.refused();
    if strange > 0 {
        return Err(format!("{strange} requests reached the git host with another key, or none"));
    }
    read(results.last().map(String::as_str).unwrap_or_default())
}

fn read(told: &str) -> Result<Vec<Attempt>, String> {
    let tried: Vec<Tried> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    WAYS.into_iter().map(|(way, fate, sign)| attempt(&tried, way, fate, sign)).collect()
}

fn attempt(tried: &[Tried], way: &'static str, fate: Fate, sign: &str) -> Result<Attempt, String> {
    let said =
        tried.iter().find(|tried| tried.way == way).map(|tried| tried.said.clone()).unwrap_or_default();
    if said.is_empty() || !said.iter().all(|said| said.contains(sign)) {
        return Err(format!("`{way}` did not end as it must: {said:?}"));
    }
    Ok(Attempt { way, fate, said })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(said: impl Fn(&str, &str) -> Vec<String>) -> String {
        let line =
            |(way, _fate, sign): (&str, Fate, &str)| json!({"way": way, "said": said(way, sign)}).to_string();
        WAYS.map(line).join("\n")
    }

    #[test]
    fn every_way_must_have_been_tried_and_each_try_refused() {
        let all = read(&told(|_way, sign| vec![format!("a {sign} b"), sign.to_owned()])).unwrap();
        assert_eq!(all.len(), WAYS.len());
        for (way, _fate, _sign) in WAYS {
            let one = |said: &[&str]| {
                let said: Vec<String> = said.iter().map(|said| (*said).to_owned()).collect();
                told(|other, sign| if other == way { said.clone() } else { vec![sign.to_owned()] })
            };
            for said in [&[][..], &["HTTP/1.1 200 OK"], &["TimeoutError()"]] {
                assert!(read(&one(said)).unwrap_err().contains(way), "{way}: {said:?}");
            }
        }
        // One of several tries that got through.
        let through = told(|_way, sign| vec![sign.to_owned(), "welcome".to_owned()]);
        assert!(read(&through).is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn the_program_tries_each_way() {
        let program = include_str!("ways.py");
        for (way, _fate, _sign) in WAYS {
            assert!(program.contains(&format!("(\"{way}\", lambda")), "{way}");
        }
    }
}
