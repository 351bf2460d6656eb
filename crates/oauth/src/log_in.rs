//! One log-in of a person: from who gives tokens to what the vault keeps.

use dial::Dialer;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use vault::{Kept, Login, Secret, Tokens};

use crate::discover::{self, Server};
use crate::http::{self, Http, shown};
use crate::listen::Listener;
use crate::parties::Named;
use crate::token::{Client, Given, NotGiven};
use crate::{Means, OauthError, code, device, token};

/// Most bytes of a client's name.
const MAX_CLIENT: usize = 1024;
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
}

/// How to log in.
pub enum Way {
    /// In a browser on this machine.
    Browser,
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
        let Login { server, issuer, token_url, client, registered, scopes, .. } = &kept.login;
        let url = |text: &String| text.parse().map_err(|_| OauthError::BadUrl(text.clone()));
        let at = match server {
            Some(server) => At::Server(url(server)?),
            None => At::Issuer(url(issuer)?),
        };
        let secret = kept.tokens.client_secret.as_ref().map(Secret::share);
        let client = Some((client.clone(), secret)).filter(|_| !registered);
        // Whom the person trusted then.
        let trust = vec![url(issuer)?, url(token_url)?];
        Ok(Self { at, client, scopes: scopes.clone(), way, trust })
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
        let Self { at, client, scopes, way, trust } = self;
        let (At::Server(begin) | At::Issuer(begin) | At::Token(begin)) = &at;
        http::check(begin)?;
        let http = Http::new(dialer, begin)?;
        let (server, resource, offered) = at.found(&http).await?;
        let named = Named { begin, trust: &trust };
        named.check(&server, &way, client.is_none())?;
        let began = match &at {
            At::Server(url) => Some(url.clone()),
            At::Issuer(_) | At::Token(_) => None,
        };
        let scopes = if scopes.is_empty() { offered } else { scopes };
        let listener = match way {
            Way::Browser => Some(Listener::bind(client.is_none().then_some(&server.issuer)).await?),
            Way::Device | Way::Had(_) => None,
        };
        let registered = client.is_none();
        let client = match client {
            Some((id, secret)) => Client { id, secret, basic: server.wants_header() },
            None => register(&http, &server, listener.as_ref()).await?,
        };
        let resource = resource.as_deref();
        let asking =
            Asking { http: &http, server: &server, client: &client, resource, scopes: &scopes, means, named };
        let given = match (way, listener) {
            (Way::Had(refresh), _) => asking.renewed(&refresh).await?,
            (_, Some(listener)) => code::through_browser(&asking, listener, tell).await?,
            (_, None) => device::anywhere(&asking, tell).await?,
        };
        let login = Login {
            server: began.map(|url| url.to_string()),
            registered,
            issuer: server.issuer.clone(),
            token_url: server.token_endpoint.to_string(),
            revocation_url: server.revocation_endpoint.as_ref().map(Url::to_string),
            client: client.id.clone(),
            basic: client.basic,
            resource: resource.map(str::to_owned),
            scopes: given.scopes.unwrap_or(scopes),
            expires: expires(means, given.good_for),
        };
        let tokens = Tokens { access: given.access, refresh: given.refresh, client_secret: client.secret };
        Ok((login, tokens))
    }
}

impl At {
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
        }
    }
}

impl Asking<'_> {
    /// What a refresh token gives.
    async fn renewed(&self, refresh: &Secret) -> Result<Given, OauthError> {
        let given =
            renew((self.http, &self.server.token_endpoint, self.client), refresh, self.resource).await;
        let mut given = given.map_err(|error| self.refused(error))?;
        given.refresh.get_or_insert_with(|| refresh.share());
        Ok(given)
    }

    pub(crate) fn refused(&self, error: NotGiven) -> OauthError {
        match error {
            NotGiven::Said(why) => OauthError::Refused { issuer: self.server.issuer.clone(), why },
            NotGiven::Failed(error) => error,
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
    resource: Option<&str>,
) -> Result<Given, NotGiven> {
    let text = refresh.reveal_text();
    let text =
        text.ok_or_else(|| NotGiven::Failed(OauthError::Host("the refresh token is no text".to_owned())))?;
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", text)];
    form.extend(resource.map(|resource| ("resource", resource)));
    token::ask(http, endpoint, client, &form).await
}

/// Until when a token is good, in milliseconds since 1970.
pub(crate) fn expires(means: &Means, good_for: Option<u64>) -> Option<u64> {
    good_for.map(|seconds| (means.now)().saturating_add(seconds.saturating_mul(1000)))
}

impl Server {
    /// One that says nothing of itself.
    fn silent(token_endpoint: &Url) -> Self {
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
async fn register(http: &Http, server: &Server, listener: Option<&Listener>) -> Result<Client, OauthError> {
    let Some(endpoint) = &server.registration_endpoint else {
        let what = "registration of clients: register one there by hand, and give its name with --client";
        return Err(OauthError::Lacks { issuer: server.issuer.clone(), what });
    };
    let grant = if listener.is_some() { "authorization_code" } else { device::GRANT };
    let document = json!({
        "client_name": NAME,
        "application_type": "native",
        "redirect_uris": listener.map(Listener::uri).into_iter().collect::<Vec<_>>(),
        "grant_types": [grant, "refresh_token"],
        "response_types": if listener.is_some() { vec!["code"] } else { Vec::new() },
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
    Ok(Client { id: registered.client_id, secret, basic })
}
