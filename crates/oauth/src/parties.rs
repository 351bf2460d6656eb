//! Who takes part in a log-in beside whom the person named. Whoever describes itself may name anybody: a stranger's server
//! could show the real one's log-in page, and have its code sent to itself (mix-up). So a person says yes to each other host.

use url::Url;

use crate::OauthError;
use crate::discover::Server;
use crate::log_in::Way;

/// Somebody who takes part in a log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Scheme, host and port.
    pub origin: String,
    /// What it would do.
    pub does: &'static str,
}

/// Who may take part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    /// Where the log-in begins: the person said so.
    pub(crate) begin: &'a Url,
    /// Whom the person was told of, and said yes to.
    pub(crate) trust: &'a [Url],
}

impl Named<'_> {
    /// Refuses a log-in in which anybody else takes part.
    pub(crate) fn check(&self, server: &Server, way: &Way, registers: bool) -> Result<(), OauthError> {
        let (browser, device, registration) = match way {
            Way::Browser | Way::Paste(_) => {
                (&server.authorization_endpoint, &None, &server.registration_endpoint)
            }
            Way::Device => (&None, &server.device_authorization_endpoint, &server.registration_endpoint),
            Way::Had(_) => (&None, &None, &None),
        };
        let issuer = Url::parse(&server.issuer).ok();
        let all = [
            (issuer.as_ref(), "gives tokens"),
            (browser.as_ref(), "shows the page that you log in at"),
            (device.as_ref(), "gives the code that you type"),
            (registration.as_ref().filter(|_| registers), "makes a client of Lazaret"),
            (Some(&server.token_endpoint), "is sent what proves your log-in"),
            (server.revocation_endpoint.as_ref(), "is sent the tokens when they are to be revoked"),
        ];
        let others = all.into_iter().filter_map(|(url, does)| Some((url?, does)));
        self.refuse(others.filter(|(url, _)| !self.knows(url)).map(|(url, does)| party(url, does)).collect())
    }

    /// Refuses to send a person anywhere else to type a code.
    pub(crate) fn check_page(&self, page: &Url) -> Result<(), OauthError> {
        let does = "shows the page that you type the code at";
        let others = Some(page).filter(|page| !self.knows(page));
        self.refuse(others.map(|page| party(page, does)).into_iter().collect())
    }

    fn knows(&self, url: &Url) -> bool {
        url.origin() == self.begin.origin() || self.trust.iter().any(|named| named.origin() == url.origin())
    }

    fn refuse(&self, others: Vec<Party>) -> Result<(), OauthError> {
        let began = self.begin.origin().ascii_serialization();
        if others.is_empty() { Ok(()) } else { Err(OauthError::Elsewhere { began, parties: others }) }
    }
}

fn party(url: &Url, does: &'static str) -> Party {
    Party { origin: url.origin().ascii_serialization(), does }
}
