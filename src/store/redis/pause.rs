//! A pause in doing what the server refuses, longer each time it is found necessary again.

use std::time::Duration;

use super::breaker::Backoff;
use crate::clock::Stopwatch;

#[derive(Debug)]
pub(crate) struct Pause {
    since: Option<(Stopwatch, Duration)>,
    backoff: Backoff,
}

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);

impl Pause {
    pub(crate) fn new() -> Self {
        Self { since: None, backoff: Backoff::new(FIRST, LAST) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some_and(|(since, pause)| since.elapsed() < pause)
    }

    /// It was refused. Whether that is news.
    pub(crate) fn begin(&mut self) -> bool {
        if self.is_on() {
            return false;
        }
        let news = self.since.is_none();
        self.since = Some((Stopwatch::start(), self.backoff.next()));
        news
    }

    /// It may be tried at once, and that it is refused again would be no news.
    pub(crate) fn lift(&mut self) {
        if let Some((_, pause)) = &mut self.since {
            *pause = Duration::ZERO;
        }
    }

    /// It was done. Whether that is news.
    pub(crate) fn end(&mut self) -> bool {
        self.backoff.reset();
        self.since.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_news_once_and_so_is_its_end() {
        let mut pause = Pause::new();
        assert!(!pause.is_on() && !pause.end());
        assert!(pause.begin() && pause.is_on() && !pause.begin());
        assert!(pause.end() && !pause.is_on() && !pause.end());
        assert!(pause.begin());
    }

    #[test]
    fn a_pause_that_is_lifted_may_be_found_necessary_again_without_news() {
        let mut pause = Pause::new();
        pause.lift();
        assert!(pause.begin());
        pause.lift();
        assert!(!pause.is_on());
        assert!(!pause.begin() && pause.is_on());
        assert!(pause.end());
    }
}
