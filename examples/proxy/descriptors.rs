//! Room for connections: each one takes a file descriptor, and one to the origin perhaps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is needed besides connections.
const OTHERS: u64 = 64;

/// Raises this process's limit of open files as far as it may and says so when that is too little.
///
/// Shells hand out a low limit for the sake of programs that use `select`, which this one does not.
pub(crate) fn make_room_for(connections: u32) {
    let limit = getrlimit(Resource::Nofile);
    // When it cannot be raised, what there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let wanted = u64::from(connections) * 2 + OTHERS;
    match getrlimit(Resource::Nofile).current {
        Some(room) if room < wanted => {
            tracing::warn!(room, wanted, "few open files are allowed; raise the limit or lower --max-connections");
        }
        _ => {}
    }
}
