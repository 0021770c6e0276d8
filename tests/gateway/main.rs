//! The gateway of `examples/gateway`: its parts, with a resolver that lies, and the program itself.

#[path = "../support/mod.rs"]
mod support;

#[path = "../../examples/gateway/address.rs"]
mod address;
#[path = "../../examples/gateway/allow.rs"]
mod allow;
#[path = "../../examples/gateway/binding.rs"]
mod binding;
#[path = "../../examples/gateway/body.rs"]
mod body;
#[path = "../../examples/proxy/connect.rs"]
mod connect;
#[path = "../../examples/gateway/connector.rs"]
mod connector;
#[path = "../../examples/gateway/failure.rs"]
mod failure;
#[path = "../../examples/gateway/fetch.rs"]
mod fetch;
#[path = "../../examples/proxy/fields.rs"]
#[allow(dead_code, reason = "the proxy uses more of it")]
mod fields;
#[path = "../../examples/gateway/front.rs"]
mod front;
#[path = "../../examples/gateway/gateway.rs"]
mod gateway;
#[path = "../../examples/gateway/params.rs"]
mod params;
#[path = "../../examples/gateway/question.rs"]
mod question;
#[path = "../../examples/gateway/refusal.rs"]
mod refusal;
#[path = "../../examples/gateway/resolver.rs"]
#[allow(dead_code, reason = "the tests have one of their own")]
mod resolver;

mod running;
#[path = "../proxy/tls_origin.rs"]
mod tls_origin;
mod troupe;
mod victim;

mod answers;
mod bindings;
mod hostile;
mod program;
mod questions;
mod redirects;
mod refused;
