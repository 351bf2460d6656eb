//! Whose account a ChatGPT token is of: the ID token that comes with it says so.
//!
//! Its signature is not looked at: it comes from the vendor itself, in the answer that gives the token (OpenID Connect Core,
//! 3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use vault::Secret;

/// Most bytes of an ID token, and of an account's id.
const MAX_TOKEN: usize = 16 << 10;
const MAX_ACCOUNT: usize = 128;

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "https://api.openai.com/auth")]
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    chatgpt_account_id: Option<String>,
}

/// The account; the error says what is wrong with the token, and never what stands in it.
pub(crate) fn of(id_token: Option<&Secret>) -> Result<String, &'static str> {
    let text = id_token.and_then(Secret::reveal_text).ok_or("there is no ID token")?;
    if text.len() > MAX_TOKEN {
        return Err("the ID token is too long");
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [_, claims, _] = parts.as_slice() else { return Err("the ID token is no JWT") };
    let claims = URL_SAFE_NO_PAD.decode(claims).map(Zeroizing::new).map_err(|_| "the ID token is no JWT")?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| "the ID token can't be read")?;
    let account = claims.auth.and_then(|auth| auth.chatgpt_account_id);
    let account = account.ok_or("the ID token names no ChatGPT account")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let sound = (1..=MAX_ACCOUNT).contains(&account.len()) && account.bytes().all(plain);
    if sound { Ok(account) } else { Err("the ID token names an account that no header can carry") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: &str) -> Result<String, &'static str> {
        of(Some(&token.into()))
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_account_is_read_and_nothing_else_is_taken_for_one() {
        let claim = |id: &str| {
            jwt(&format!(
                r#"{{"sub":"u","https://api.openai.com/auth":{{"chatgpt_account_id":{id},"x":[1]}}}}"#
            ))
        };
        assert_eq!(read(&claim(r#""acc-1_A""#)).unwrap(), "acc-1_A");
        let long = format!("\"{}\"", "a".repeat(MAX_ACCOUNT + 1));
        let huge = jwt(&format!("{{\"pad\":\"{}\"}}", "x".repeat(MAX_TOKEN)));
        let deep = jwt(&"[".repeat(5000));
        for (bad, told) in [
            ("", "no JWT"),
            ("canary", "no JWT"),
            ("a.b", "no JWT"),
            ("a.b.c.d", "no JWT"),
            ("a.?.c", "no JWT"),
            ("a..c", "can't be read"),
            (&jwt("[]"), "can't be read"),
            (&deep, "can't be read"),
            (&jwt(r#"{"https://api.openai.com/auth":1}"#), "can't be read"),
            (&jwt("{}"), "names no ChatGPT account"),
            (&jwt(r#"{"https://api.openai.com/auth":{}}"#), "names no ChatGPT account"),
            (&claim("null"), "names no ChatGPT account"),
            (&claim("7"), "can't be read"),
            (&claim(r#""""#), "no header can carry"),
            (&claim(r#""a\r\nx: y""#), "no header can carry"),
            (&claim(&long), "no header can carry"),
            (&huge, "too long"),
        ] {
            let why = read(bad).unwrap_err();
            assert!(why.contains(told), "{bad:.60}: {why}");
        }
        assert_eq!(of(None).unwrap_err(), "there is no ID token");
    }
}
