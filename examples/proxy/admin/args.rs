//! The arguments of the operators' side.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::listen_address;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Management")]
pub(crate) struct AdminArgs {
    /// Where to listen for operators: purges, metrics, health, and a page that shows how the cache does [default: nowhere]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(crate) admin: Option<SocketAddr>,

    /// Ask operators for the token in this file, as a bearer token or as the password of any user; wanted unless --admin is
    /// on the loopback
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(crate) admin_token_file: Option<PathBuf>,
}
