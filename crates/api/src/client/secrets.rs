//! The client's part for secrets.

use bytes::Bytes;
use domain::SecretName;
use http::Method;

use super::{Client, Lines, Result, Steps, json};
use crate::{LoginEnd, LoginRequest, NewSecret, PasteRequest, Revocation, RotateRequest, SecretView};

impl Client {
    /// What may be told of every secret, by name.
    ///
    /// # Errors
    /// [`crate::ClientError`], like all that follow.
    pub async fn secrets(&self) -> Result<Vec<SecretView>> {
        self.get("secrets").await
    }

    /// Stores a secret, in place of one of the same name.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn set_secret(&self, name: &SecretName, secret: &NewSecret) -> Result<Revocation> {
        self.send(Method::PUT, &format!("secrets/{name}"), json(secret)?).await
    }

    /// Gives a secret new bytes.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn rotate_secret(&self, name: &SecretName, request: &RotateRequest) -> Result<()> {
        self.send(Method::POST, &format!("secrets/{name}/rotate"), json(request)?).await
    }

    /// Logs in, and stores what that gives as a secret. What the person has to do is told as it goes.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn log_in(&self, name: &SecretName, request: &LoginRequest) -> Result<Steps<LoginEnd>> {
        let path = format!("secrets/{name}/login");
        Ok(Steps(Lines::new(self.request(Method::POST, &path, json(request)?).await?)))
    }

    /// Gives a log-in that waits for it what a person pasted.
    ///
    /// # Errors
    /// [`crate::ClientError`]; the log-in waits on when it was the wrong text.
    pub async fn paste_login(&self, name: &SecretName, request: &PasteRequest) -> Result<()> {
        self.send(Method::POST, &format!("secrets/{name}/login/paste"), json(request)?).await
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn remove_secret(&self, name: &SecretName) -> Result<Revocation> {
        self.send(Method::DELETE, &format!("secrets/{name}"), Bytes::new()).await
    }
}
