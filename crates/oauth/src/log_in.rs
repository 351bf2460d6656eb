//! One log-in of a person: from who gives tokens to what the vault keeps.

use std::collections::BTreeSet;

use dial::Dialer;
use domain::Subscription;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use vault::{Asked, Began, Kept, Login, Secret, Tokens};

use crate::back::WayBack;
use crate::discover::{self, MAX_SCOPE, MAX_SCOPES, Server, is_scope};
use crate::http::{self, Http, shown};
use crate::listen::{LOOPBACK, Listener};
use crate::parties::Named;
use crate::paste::Pastes;
use crate::poll::Later;
use crate::token::{Client, Given, NotGiven};
use crate::vendor::Vendor;
use crate::{Means, OauthError, account, code, device, token, typed};

/// Most bytes of a client's name.
const MAX_CLIENT: usize = 1024;
/// Most hosts that a person says yes to for one log-in.
const MAX_TRUST: usize = 32;
/// What people see who asks.
const NAME: &str = "Lazaret";

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// At a tool server, which says who gives tokens for it.
    Server(Url),
    /// At an authorization server, which says how it is asked.
    Issuer(Url),
    /// At a token endpoint, of a server that says nothing of itself.
    Token(Url),
    /// At the vendor of a subscription, of which all is known.
    Subscription(Subscription),
}

/// How to log in.
pub enum Way {
    /// In a browser on this machine.
    Browser,
    /// In a browser on any machine; what it ends with is pasted.
    Paste(Pastes),
    /// In a browser on any machine, with a code to type there.
    Device,
    /// Somebody did already, and has this refresh token.
    Had(Secret),
}

/// What a person asks for.
pub struct LogIn {
    /// Where.
    pub at: At,
    /// The client's name and secret there; none: it is registered, where that is offered.
    pub client: Option<(String, Option<Secret>)>,
    /// What the token shall allow; empty: what the tool server asks for.
    pub scopes: Vec<String>,
    /// How.
    pub way: Way,
    /// Hosts that may take part beside where it begins: the person was told of them, and said yes.
    pub trust: Vec<Url>,
    /// Whose client it is, where that was said for an earlier log-in: nobody else is shown its secret.
    pub known_to: Option<String>,
}

/// What is asked, of whom.
pub(crate) struct Asking<'a> {
    pub(crate) http: &'a Http,
    pub(crate) server: &'a Server,
    pub(crate) client: &'a Client,
    /// What the token is for.
    pub(crate) resource: Option<&'a str>,
    pub(crate) scopes: &'a [String],
    pub(crate) means: &'a Means,
    /// Who may take part.
    pub(crate) named: Named<'a>,
}

impl LogIn {
    /// The log-in once more that gave what is kept, this way.
    ///
    /// # Errors
    /// When it can't be repeated.
    pub fn again(kept: &Kept, way: Way) -> Result<Self, OauthError> {
        let Login { asked, issuer, token_url, client, registered, .. } = &kept.login;
        let url = |text: &String| text.parse().map_err(|_| OauthError::BadUrl(text.clone()));
        let secret = kept.tokens.client_secret.as_ref().map(Secret::share);
        let client = Some((client.clone(), secret)).filter(|_| !registered);
        if let Some(subscription) = kept.login.subscription {
            let (scopes, trust) = (Vec::new(), Vec::new());
            let at = At::Subscription(subscription);
            return Ok(Self { at, client, scopes, way, trust, known_to: None });
        }
        if *registered && matches!(way, Way::Had(_)) {
            return Err(OauthError::NotItsClient);
        }
        let known_to = client.is_some().then(|| issuer.clone());
        let Some(Asked { at, scopes, trust }) = asked else {
            // Kept before it was written down what was asked for.
            let (scopes, trust) = (kept.login.scopes.clone(), vec![url(issuer)?, url(token_url)?]);
            return Ok(Self { at: At::Issuer(url(issuer)?), client, scopes, way, trust, known_to });
        };
        let at = match at {
            Began::Server(text) => At::Server(url(text)?),
            Began::Issuer(text) => At::Issuer(url(text)?),
            Began::Token(text) => At::Token(url(text)?),
        };
        let trust = trust.iter().map(url).collect::<Result<_, _>>()?;
        Ok(Self { at, client, scopes: scopes.clone(), way, trust, known_to })
    }

    /// Whether it takes a refresh token that the person has, and was given none.
    #[must_use]
    pub fn wants_token(&self) -> bool {
        matches!(self.at, At::Token(_)) && !matches!(self.way, Way::Had(_))
    }

    /// What is kept of what is asked for; none of a subscription, of which all is known.
    fn asked(&self) -> Result<Option<Asked>, OauthError> {
        let at = match &self.at {
            At::Server(url) => Began::Server(url.to_string()),
            At::Issuer(url) => Began::Issuer(url.to_string()),
            At::Token(url) => Began::Token(url.to_string()),
            At::Subscription(_) => return Ok(None),
        };
        self.trust.iter().try_for_each(http::check)?;
        let origins = self.trust.iter().map(|url| url.origin().ascii_serialization());
        let trust: BTreeSet<String> = origins.collect();
        if trust.len() > MAX_TRUST {
            return Err(OauthError::TooMany { what: "hosts take part", most: MAX_TRUST });
        }
        if self.scopes.len() > MAX_SCOPES || !self.scopes.iter().all(|scope| is_scope(scope)) {
            return Err(OauthError::Scopes { most: MAX_SCOPES, bytes: MAX_SCOPE });
        }
        Ok(Some(Asked { at, scopes: self.scopes.clone(), trust: trust.into_iter().collect() }))
    }

    /// Logs in; `tell` gets what the person has to do.
    ///
    /// # Errors
    /// Whatever goes wrong: nothing is kept then.
    pub async fn run(
        self,
        dialer: &Dialer,
        means: &Means,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(Login, Tokens), OauthError> {
        let asked = self.asked()?;
        let Self { at, client, scopes, way, trust, known_to } = self;
        let (vendor, begin) = (at.vendor(), at.begin()?);
        http::check(&begin)?;
        let http = Http::new(dialer, &begin)?;
        let (server, resource, offered) = at.found(&http).await?;
        if let Some(known_to) = known_to.filter(|known_to| *known_to != server.issuer) {
            return Err(OauthError::OtherIssuer { known_to, issuer: server.issuer });
        }
        let named = Named { begin: &begin, trust: &trust };
        // Whom a vendor has take part is known beforehand.
        if vendor.is_none() {
            named.check(&server, &way, client.is_none())?;
        }
        let scopes = if scopes.is_empty() { offered } else { scopes };
        let registered = client.is_none() && vendor.is_none();
        let (back, had) = match way {
            Way::Had(refresh) => (None, Some(refresh)),
            way @ (Way::Browser | Way::Paste(_) | Way::Device) => {
                (way_back(way, vendor, registered.then_some(&server.issuer)).await?, None)
            }
        };
        let client = match (vendor, client) {
            (Some(of), _) => Client { id: of.client.to_owned(), secret: None, basic: false, vendor },
            (None, Some((id, secret))) => Client { id, secret, basic: server.wants_header(), vendor },
            (None, None) => register(&http, &server, back.as_ref()).await?,
        };
        let resource = resource.as_deref();
        let asking =
            Asking { http: &http, server: &server, client: &client, resource, scopes: &scopes, means, named };
        let given = match (had, back, vendor.and_then(|vendor| vendor.device.as_ref())) {
            (Some(refresh), ..) => asking.renewed(&refresh).await?,
            (None, Some(back), _) => code::through_browser(&asking, back, tell).await?,
            (None, None, Some(way)) => typed::anywhere(&asking, way, tell).await?,
            (None, None, None) => device::anywhere(&asking, tell).await?,
        };
        let login = Login {
            asked,
            registered,
            issuer: server.issuer.clone(),
            token_url: server.token_endpoint.to_string(),
            revocation_url: server.revocation_endpoint.as_ref().map(Url::to_string),
            client: client.id.clone(),
            basic: client.basic,
            resource: resource.map(str::to_owned),
            account: asking.account(&given)?,
            scopes: given.scopes.unwrap_or(scopes),
            expires: expires(means, given.good_for),
            subscription: at.subscription(),
        };
        let tokens = Tokens { access: given.access, refresh: given.refresh, client_secret: client.secret };
        Ok((login, tokens))
    }
}

impl At {
    fn subscription(&self) -> Option<Subscription> {
        match self {
            Self::Subscription(of) => Some(*of),
            Self::Server(_) | Self::Issuer(_) | Self::Token(_) => None,
        }
    }

    fn vendor(&self) -> Option<&'static Vendor> {
        self.subscription().map(Vendor::of)
    }

    fn begin(&self) -> Result<Url, OauthError> {
        match self {
            Self::Server(begin) | Self::Issuer(begin) | Self::Token(begin) => Ok(begin.clone()),
            Self::Subscription(of) => Vendor::of(*of).begin(),
        }
    }

    /// Who gives the token, what for, and what is offered.
    async fn found(&self, http: &Http) -> Result<(Server, Option<String>, Vec<String>), OauthError> {
        match self {
            Self::Server(url) => {
                let found = discover::resource(http, url).await?;
                let server = discover::server(http, &found.issuer).await?;
                Ok((server, Some(found.resource), found.scopes))
            }
            Self::Issuer(url) => Ok((discover::server(http, url).await?, None, Vec::new())),
            Self::Token(url) => Ok((Server::silent(url), None, Vec::new())),
            Self::Subscription(of) => {
                let vendor = Vendor::of(*of);
                let scopes = vendor.scopes.iter().map(|scope| (*scope).to_owned()).collect();
                Ok((vendor.server()?, None, scopes))
            }
        }
    }
}

/// Where the browser comes back to; none: a code is typed.
async fn way_back(
    way: Way,
    vendor: Option<&'static Vendor>,
    registers_at: Option<&String>,
) -> Result<Option<WayBack>, OauthError> {
    let back = vendor.map(|vendor| &vendor.back);
    let listener = Listener::bind(back.map_or(&LOOPBACK, |back| &back.here), registers_at);
    Ok(match (way, back) {
        (Way::Device | Way::Had(_), _) => None,
        (Way::Browser, _) => Some(WayBack::Here(listener.await?, None)),
        (Way::Paste(pastes), Some(back)) => Some(WayBack::Elsewhere(back.elsewhere, pastes)),
        (Way::Paste(pastes), None) => Some(WayBack::Here(listener.await?, Some(pastes))),
    })
}

impl Asking<'_> {
    /// What a refresh token gives.
    async fn renewed(&self, refresh: &Secret) -> Result<Given, OauthError> {
        let asked = (self.http, &self.server.token_endpoint, self.client);
        let given = renew(asked, refresh, (self.resource, self.scopes)).await;
        let mut given = given.map_err(|error| self.refused(error))?;
        given.refresh.get_or_insert_with(|| refresh.share());
        Ok(given)
    }

    /// The account that requests must name, where the vendor wants that.
    fn account(&self, given: &Given) -> Result<Option<String>, OauthError> {
        if !self.client.vendor.is_some_and(|vendor| vendor.account) {
            return Ok(None);
        }
        let issuer = || self.server.issuer.clone();
        let account = account::of(given.id_token.as_ref());
        account.map(Some).map_err(|why| OauthError::NoAccount { issuer: issuer(), why })
    }

    pub(crate) fn refused(&self, error: NotGiven) -> OauthError {
        match error {
            NotGiven::Said(why) => OauthError::Refused { issuer: self.server.issuer.clone(), why },
            NotGiven::NotNow(Later { why, .. }) | NotGiven::Failed(why) => why,
        }
    }

    pub(crate) fn lacks(&self, what: &'static str) -> OauthError {
        OauthError::Lacks { issuer: self.server.issuer.clone(), what }
    }

    /// What every question names beside its own.
    pub(crate) fn with_scope<'f>(&'f self, scope: &'f str) -> Vec<(&'f str, &'f str)> {
        let scope = Some(("scope", scope)).filter(|_| !scope.is_empty());
        scope.into_iter().chain(self.resource.map(|resource| ("resource", resource))).collect()
    }
}

/// Asks for another token.
pub(crate) async fn renew(
    (http, endpoint, client): (&Http, &Url, &Client),
    refresh: &Secret,
    (resource, scopes): (Option<&str>, &[String]),
) -> Result<Given, NotGiven> {
    let text = refresh.reveal_text();
    let text =
        text.ok_or_else(|| NotGiven::Failed(OauthError::Host("the refresh token is no text".to_owned())))?;
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", text)];
    form.extend(resource.map(|resource| ("resource", resource)));
    let scope = scopes.join(" ");
    form.extend(client.vendor.filter(|vendor| vendor.tokens.repeats).map(|_| ("scope", scope.as_str())));
    token::ask(http, endpoint, client, &form).await
}

/// Until when a token is good, in milliseconds since 1970.
pub(crate) fn expires(means: &Means, good_for: Option<u64>) -> Option<u64> {
    good_for.map(|seconds| (means.now)().saturating_add(seconds.saturating_mul(1000)))
}

impl Server {
    /// One that says nothing of itself.
    pub(crate) fn silent(token_endpoint: &Url) -> Self {
        Self {
            issuer: shown(token_endpoint),
            authorization_endpoint: None,
            token_endpoint: token_endpoint.clone(),
            device_authorization_endpoint: None,
            registration_endpoint: None,
            revocation_endpoint: None,
            code_challenge_methods_supported: Vec::new(),
            token_endpoint_auth_methods_supported: Vec::new(),
            authorization_response_iss_parameter_supported: false,
        }
    }

    /// Whether a client's secret goes into a header: so it is where nothing is said (RFC 8414, section 2).
    fn wants_header(&self) -> bool {
        let methods = &self.token_endpoint_auth_methods_supported;
        methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic")
    }
}

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<token::Hidden>,
    token_endpoint_auth_method: Option<String>,
}

/// Makes a client of us, where the server lets anybody (RFC 7591).
async fn register(http: &Http, server: &Server, back: Option<&WayBack>) -> Result<Client, OauthError> {
    let Some(endpoint) = &server.registration_endpoint else {
        let what = "registration of clients: register one there by hand, and give its name with --client";
        return Err(OauthError::Lacks { issuer: server.issuer.clone(), what });
    };
    let grant = if back.is_some() { "authorization_code" } else { device::GRANT };
    let document = json!({
        "client_name": NAME,
        "application_type": "native",
        "redirect_uris": back.map(WayBack::uri).into_iter().collect::<Vec<_>>(),
        "grant_types": [grant, "refresh_token"],
        "response_types": if back.is_some() { vec!["code"] } else { Vec::new() },
        "token_endpoint_auth_method": "none",
    });
    let answer = http.json(endpoint, document.to_string()).await?;
    let registered: Registered = answer.document(endpoint)?;
    let plain = registered.client_id.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !plain || !(1..=MAX_CLIENT).contains(&registered.client_id.len()) {
        let why = "gives a client's name that can't be used".to_owned();
        return Err(OauthError::Metadata { url: shown(endpoint), why });
    }
    let basic = registered.token_endpoint_auth_method.as_deref() == Some("client_secret_basic");
    let secret = registered.client_secret.map(|hidden| hidden.0);
    Ok(Client { id: registered.client_id, secret, basic, vendor: None })
}
