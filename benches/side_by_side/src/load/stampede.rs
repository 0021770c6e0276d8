//! Many clients at once that want what nobody has asked for before.

use std::time::Instant;

use tokio::task::JoinSet;

use super::client::{Client, request_for};

/// In milliseconds, how long after they asked the last of them was served. All have been served something before.
pub(crate) fn run(address: &str, known: &str, new: &str, clients: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut ready = Vec::new();
        for _ in 0..clients {
            let mut client = Client::connect(address).await;
            client.exchange(&request_for(known)).await;
            ready.push(client);
        }
        let begun = Instant::now();
        let mut waiting = JoinSet::new();
        for mut client in ready {
            let request = request_for(new);
            waiting.spawn(async move { client.exchange(&request).await });
        }
        while let Some(served) = waiting.join_next().await {
            served.expect("each client is served");
        }
        begun.elapsed().as_secs_f64() * 1e3
    })
}
