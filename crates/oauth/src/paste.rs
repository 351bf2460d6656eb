//! What a person pastes, where the browser runs on another machine: the code that a page shows, or the address that the browser
//! was sent to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::SecretName;
use secrecy::zeroize::Zeroizing;
use tokio::sync::{mpsc, oneshot};
use vault::Secret;

use crate::back::{Back, State};

/// Most bytes of what is pasted.
const MAX: usize = 8 << 10;

/// Why what was pasted is not taken. The log-in goes on waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// Nobody waits for it.
    #[error("no log-in of `{0}` waits for what you paste: begin one by `lazaret secret login {0} --paste`")]
    Nobody(SecretName),
    /// It is not what the browser ended with.
    #[error(
        "that is not what this log-in ended with: paste all that the page shows (CODE#STATE), or all of the address that the \
         browser was sent to ({0}?…)"
    )]
    NotOurs(String),
}

/// What was pasted, and who is told whether it is taken.
struct Pasted {
    text: Secret,
    told: oneshot::Sender<Result<(), PasteError>>,
}

/// The log-ins that wait for a person. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<HashMap<SecretName, mpsc::Sender<Pasted>>>>);

/// Where one log-in waits. Dropping it ends that.
pub struct Pastes {
    waiting: Waiting,
    name: SecretName,
    sender: mpsc::Sender<Pasted>,
    receiver: mpsc::Receiver<Pasted>,
}

impl Waiting {
    /// A log-in for this secret waits from now on, instead of one that did.
    pub(crate) fn begin(&self, name: &SecretName) -> Pastes {
        let (sender, receiver) = mpsc::channel(1);
        self.all().insert(name.clone(), sender.clone());
        Pastes { waiting: self.clone(), name: name.clone(), sender, receiver }
    }

    /// Gives what was pasted to the log-in that waits for it.
    pub(crate) async fn paste(&self, name: &SecretName, text: Secret) -> Result<(), PasteError> {
        let nobody = || PasteError::Nobody(name.clone());
        let sender = self.all().get(name).cloned().ok_or_else(nobody)?;
        let (told, answer) = oneshot::channel();
        sender.send(Pasted { text, told }).await.map_err(|_| nobody())?;
        answer.await.unwrap_or_else(|_| Err(nobody()))
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SecretName, mpsc::Sender<Pasted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pastes {
    /// Waits for what ends a log-in that sent the browser to `uri`. Whatever else is pasted is refused.
    pub(crate) async fn wait(&mut self, uri: &str, state: &State) -> Back {
        loop {
            let Some(Pasted { text, told }) = self.receiver.recv().await else {
                // Nobody can paste any more; this holds a sender, so it doesn't come to that.
                std::future::pending::<()>().await;
                continue;
            };
            let back = text.reveal_text().and_then(|text| read(text, uri, state));
            // Who went away meanwhile has pasted all the same.
            let answer = back.as_ref().map(|_| ()).ok_or_else(|| PasteError::NotOurs(uri.to_owned()));
            drop(told.send(answer));
            if let Some(back) = back {
                return back;
            }
        }
    }
}

impl Drop for Pastes {
    fn drop(&mut self) {
        let mut all = self.waiting.all();
        if all.get(&self.name).is_some_and(|sender| sender.same_channel(&self.sender)) {
            all.remove(&self.name);
        }
    }
}

/// The address that the browser was sent to, with or without its scheme, or `CODE#STATE`.
fn read(text: &str, uri: &str, state: &State) -> Option<Back> {
    let text = text.trim();
    if text.len() > MAX || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let short = uri.split_once("://").map_or(uri, |(_, short)| short);
    if let Some(rest) = text.strip_prefix(uri).or_else(|| text.strip_prefix(short)) {
        let query = rest.strip_prefix('?')?.split('#').next()?;
        return state.read(query);
    }
    let (code, said) = text.split_once('#')?;
    let code = Zeroizing::new(code.to_owned());
    (!code.is_empty() && state.is(said)).then_some(Back { code: Ok(code), issuer: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_log_in_ended_with_is_taken() {
        let (uri, state) = ("http://localhost:1455/auth/callback", State::new("s1"));
        let code = |text: &str| read(text, uri, &state).map(|back| back.code.map(|code| code.to_string()));
        for good in [
            "http://localhost:1455/auth/callback?code=c1&scope=a+b&state=s1",
            " http://localhost:1455/auth/callback?state=s1&code=c1#x\n",
            "localhost:1455/auth/callback?code=c1&state=s1",
            "c1#s1",
        ] {
            assert_eq!(code(good), Some(Ok("c1".to_owned())), "{good}");
        }
        let no = "http://localhost:1455/auth/callback?error=access_denied&state=s1";
        assert_eq!(code(no), Some(Err("access_denied".to_owned())));
        let long = format!("{}#s1", "c".repeat(MAX));
        for bad in [
            "",
            "c1",
            "#s1",
            "c1#s2",
            "c1#s1#s1",
            "c 1#s1",
            "https://evil.example/auth/callback?code=c1&state=s1",
            "http://localhost:1455/auth/callback2?code=c1&state=s1",
            "http://localhost:1455/auth/callback?code=c1",
            "http://localhost:1455/auth/callback?code=c1&state=s2",
            "http://localhost:1455/auth/callback?code=c1&code=c2&state=s1",
            "http://localhost:1455/auth/callback?code=c1&error=no&state=s1",
            "code=c1&state=s1",
            &long,
        ] {
            assert_eq!(code(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_pasted_reaches_the_log_in_that_waits_and_no_other() {
        let (waiting, name) = (Waiting::default(), "claude".parse().unwrap());
        let paste = async |text: &str| waiting.paste(&name, text.into()).await;
        assert_eq!(paste("c1#s1").await, Err(PasteError::Nobody(name.clone())));
        let before = waiting.begin(&name);
        let mut pastes = waiting.begin(&name);
        drop(before);
        let state = State::new("s1");
        let (back, (wrong, right)) = tokio::join!(pastes.wait("https://a.example/page", &state), async {
            (paste("nonsense").await, paste("c1#s1").await)
        });
        assert!(matches!(wrong, Err(PasteError::NotOurs(_))) && right.is_ok());
        assert_eq!(back.code.unwrap().as_str(), "c1");
        drop(pastes);
        assert_eq!(paste("c1#s1").await, Err(PasteError::Nobody(name.clone())));
    }
}
