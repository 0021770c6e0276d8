//! Which clients are served: those who have a token, where one is wanted, no more often than agreed, and no more at a time.
//!
//! What is refused here costs neither a look-up nor a fetch. It stands behind the front door, which knows the client's
//! address, and before the cache, which is told nothing of the token.

mod limits;
mod service;
mod tokens;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use clap::Args;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{Answer, Refusal};
pub(crate) use limits::rate;
use limits::{Rate, Standing};
pub(crate) use service::AccessLayer;
pub(crate) use tokens::{Tokens, presented};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Serve only clients who have one of the tokens in this file, one a line, as a bearer token or as the password of any
    /// user; read again at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) client_token_file: Option<PathBuf>,

    /// Serve a client (by address; of IPv6 by /64) so many requests in a time, and answer more with 429: 100/1m
    #[arg(long, value_name = "N/TIME", value_parser = rate)]
    pub(crate) rate_limit: Option<Rate>,

    /// How many of those may come at once [default: all of them]
    #[arg(long, value_name = "N", requires = "rate_limit", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate_burst: Option<u32>,

    /// Serve so many requests at a time, and answer more with 503 [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_requests: Option<u32>,
}

/// The rules, for all clients.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Option<RwLock<Tokens>>,
    limits: Option<limits::Limits>,
    places: Option<Arc<Semaphore>>,
}

/// A place among those who are served at a time: until the last of its clones is gone.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Leave to be served.
#[derive(Debug, Default)]
struct Leave {
    place: Option<Place>,
    standing: Option<Standing>,
}

// ===== impl Access =====

impl Access {
    /// `None` where every client is served.
    ///
    /// # Errors
    ///
    /// A sentence about the argument to change.
    pub(crate) fn new(args: &AccessArgs) -> Result<Option<Arc<Self>>, String> {
        let tokens = args.client_token_file.as_deref().map(Self::tokens).transpose()?;
        let limits = args.rate_limit.map(|rate| limits::Limits::new(rate, args.rate_burst)).transpose()?;
        let places = args.max_requests.map(|most| Arc::new(Semaphore::new(most as usize)));
        let is_open = tokens.is_none() && limits.is_none() && places.is_none();
        Ok((!is_open).then(|| Arc::new(Self { tokens: tokens.map(RwLock::new), limits, places })))
    }

    /// What the file holds now.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub(crate) fn tokens(file: &Path) -> Result<Tokens, String> {
        Tokens::read(file).map_err(|error| format!("--client-token-file: {}: {error}", file.display()))
    }

    /// Who is served from now on. Whether tokens are wanted at all stays as it was at the start.
    pub(crate) fn change_tokens(&self, new: Tokens) {
        if let Some(tokens) = &self.tokens {
            *tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// The rate first, so that tokens cannot be tried out faster than that. A token that was right goes no further: with
    /// it in the request nothing would be for others.
    fn admit(&self, client: Option<IpAddr>, headers: &mut HeaderMap) -> Result<Leave, Box<Answer>> {
        let standing = match (&self.limits, client) {
            (Some(limits), Some(client)) => Some(limits.check(client)?),
            _ => None,
        };
        if let Some(tokens) = &self.tokens {
            let is_known = presented(headers)
                .is_some_and(|given| tokens.read().unwrap_or_else(PoisonError::into_inner).have(&given));
            if !is_known {
                return Err(Box::new(unknown()));
            }
            headers.remove(AUTHORIZATION);
        }
        let place = match &self.places {
            Some(places) => {
                let permit = Arc::clone(places).try_acquire_owned().map_err(|_| Box::new(crowded()))?;
                Some(Place { _permit: Arc::new(permit) })
            }
            None => None,
        };
        Ok(Leave { place, standing })
    }
}

// ===== answers =====

fn unknown() -> Answer {
    let mut answer = Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong").answer();
    let challenge = HeaderValue::from_static("Basic realm=\"proxy\", Bearer");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

fn crowded() -> Answer {
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "as many requests as may be are being served");
    retry_after(refusal.answer(), Duration::from_secs(1))
}

fn retry_after<B>(mut answer: Response<B>, wait: Duration) -> Response<B> {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}
