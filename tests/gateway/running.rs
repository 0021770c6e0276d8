//! A running gateway, as a person would start it.

use std::net::SocketAddr;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::example::built;
use crate::support::gate::patiently;
use crate::troupe::{Heard, hear};

/// The gateway; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    _process: Child,
    address: SocketAddr,
}

impl Running {
    /// On a free port, with these arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut process =
            command().args(["--listen", "127.0.0.1:0"]).args(arguments).spawn().expect("it can be started");
        let mut stdout = BufReader::new(process.stdout.take().expect("standard output is piped")).lines();
        let line = patiently("the gateway to start", stdout.next_line()).await.expect("standard output can be read");
        let line = line.expect("the gateway starts");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let address = address.parse().expect("the first line has an address");
        tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
        Self { _process: process, address }
    }

    pub(crate) async fn get(&self, parameters: &[(&str, &str)]) -> Heard {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let request = Request::get(format!("http://{}/?{query}", self.address)).body(Empty::<Bytes>::new());
        let client = Client::builder(TokioExecutor::new()).build_http();
        let asking = client.request(request.expect("a valid request"));
        hear(patiently("an answer", asking).await.expect("an answer")).await
    }
}

/// Runs the gateway with arguments with which it does not serve: its exit code and what it says.
pub(crate) async fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command().args(arguments).output();
    let output = patiently("the gateway to give up", output).await.expect("it can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn command() -> Command {
    let mut command = Command::new(built("gateway", &["examples/gateway", "examples/proxy", "src"]));
    for name in ["REDIS_URL", "RUST_LOG", "GATEWAY_ALLOW", "GATEWAY_ALLOW_ADDRESS", "GATEWAY_LISTEN"] {
        command.env_remove(name);
    }
    // A proxy of the environment has no say.
    command.env("http_proxy", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}
