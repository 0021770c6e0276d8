//! The servers by their names, and how each is started.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Running, on_core};
use crate::redis_server;

const NGINX_MODULES: &str = "/usr/lib/nginx/modules";
const MEMORY: &str = "/dev/shm";
const PREFIX: &str = "side-by-side-";
const LUA_REDIS: &str = "/usr/share/lua/5.1/nginx/redis.lua";

/// What a server is told of the others.
pub(crate) struct Surroundings {
    pub(crate) core: usize,
    pub(crate) origin: String,
    pub(crate) redis_url: String,
    pub(crate) redis_port: u16,
}

impl Surroundings {
    /// # Errors
    ///
    /// A sentence about why it cannot run here.
    pub(crate) fn start(&self, name: &str) -> Result<Running, String> {
        match name {
            "proxy-memory" => self.proxy(&["--memory-size", "256MiB"]),
            "proxy-near" => {
                self.proxy(&["--redis", &self.redis_url, "--near-cache", "64MiB", "--store-timeout", "10s"])
            }
            "proxy-redis" => self.proxy(&["--redis", &self.redis_url, "--store-timeout", "10s"]),
            "nginx" => self.nginx(include_str!("../assets/nginx.conf")),
            "nginx-no-lock" => {
                let template = include_str!("../assets/nginx.conf");
                self.nginx(&template.replace("proxy_cache_lock on", "proxy_cache_lock off"))
            }
            "nginx-lua" => {
                let module = Path::new(NGINX_MODULES).join("ngx_http_lua_module.so");
                match module.exists() && Path::new(LUA_REDIS).exists() {
                    true => self.nginx(include_str!("../assets/nginx-lua.conf")),
                    false => Err("libnginx-mod-http-lua or lua-nginx-redis of Debian is not installed".to_owned()),
                }
            }
            "varnish" => self.varnish(),
            _ => self.this_program(name),
        }
    }

    fn this_program(&self, kind: &str) -> Result<Running, String> {
        let mut command = on_core(self.core, &text(&this_program()));
        command.args(["serve", kind, "--origin", &self.origin, "--redis", &self.redis_url]);
        Running::that_says_where(command)
    }

    fn proxy(&self, arguments: &[&str]) -> Result<Running, String> {
        let program = this_program().with_file_name("examples").join("proxy");
        if !program.exists() {
            return Err("the proxy is not built: cargo build --release --example proxy".to_owned());
        }
        let (address, directory) = (free_address(), directory());
        let mut command = on_core(self.core, &text(&program));
        // Settings of whoever runs this are none of ours.
        command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path))).current_dir(directory.path());
        command.args(["--origin", &format!("http://{}", self.origin), "--listen", &address, "--log", "error"]);
        command.args(arguments);
        Running::at(command, address, directory)
    }

    fn nginx(&self, template: &str) -> Result<Running, String> {
        let (address, directory) = (free_address(), directory());
        let values = [
            ("{dir}", text(directory.path())),
            ("{address}", address.clone()),
            ("{origin}", self.origin.clone()),
            ("{redis_port}", self.redis_port.to_string()),
            ("{modules}", NGINX_MODULES.to_owned()),
        ];
        let file = directory.path().join("nginx.conf");
        fs::write(&file, filled(template, &values)).expect("the directory can be written");
        let mut command = on_core(self.core, "nginx");
        command.args(["-c", &text(&file), "-p", &text(directory.path())]);
        command.args(["-e", &text(&directory.path().join("error.log")), "-g", "daemon off;"]);
        Running::at(command, address, directory)
    }

    fn varnish(&self) -> Result<Running, String> {
        let (address, directory) = (free_address(), directory());
        let (host, port) = self.origin.split_once(':').expect("a host and a port");
        let values = [("{host}", host.to_owned()), ("{port}", port.to_owned())];
        let file = directory.path().join("default.vcl");
        fs::write(&file, filled(include_str!("../assets/varnish.vcl"), &values)).expect("the directory can be written");
        let mut command = on_core(self.core, "varnishd");
        command.args(["-F", "-j", "none", "-n", &text(&directory.path().join("work")), "-f", &text(&file)]);
        command.args(["-a", &address, "-T", "none", "-s", "malloc,3g"]);
        // One pool for one core, and a thread for each client of the scenarios.
        command.args(["-p", "thread_pools=1", "-p", "thread_pool_min=250", "-p", "thread_pool_max=1000"]);
        Running::at(command, address, directory)
    }
}

/// The origin, beside the load.
pub(crate) fn origin() -> Running {
    let mut command = Command::new(this_program());
    command.args(["serve", "origin"]);
    Running::that_says_where(command).expect("the origin starts")
}

pub(crate) fn this_program() -> PathBuf {
    env::current_exe().expect("this program has a path")
}

/// In memory where there is a place for that: caches that keep files are not here to measure a disk.
pub(crate) fn directory() -> TempDir {
    let (memory, prefix) = (Path::new(MEMORY), format!("{PREFIX}{}-", std::process::id()));
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.expect("a directory can be made")
}

/// Removes from memory what is left of runs that were ended before they could.
pub(crate) fn clean_up() {
    for entry in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn free_address() -> String {
    let port = std::iter::repeat_with(redis_server::free_port).flatten().next().expect("it goes on until one is free");
    format!("127.0.0.1:{port}")
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths here are text").to_owned()
}
