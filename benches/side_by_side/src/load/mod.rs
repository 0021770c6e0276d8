//! What is sent to a server: by wrk as fast as it answers, and by this program at times that do not wait for answers.

pub(crate) mod client;
pub(crate) mod open_loop;
pub(crate) mod stampede;
pub(crate) mod wrk;
