//! Several futures at one time, so many at the most.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

/// So many may end at once before others have their turn.
const STRETCH: usize = 128;

/// Runs them to their end, and hands over what each comes to. The next is taken when one has ended, and begun at once.
pub(crate) fn abreast<F: Future>(
    futures: impl IntoIterator<Item = F>,
    at_once: usize,
    mut each: impl FnMut(F::Output),
) -> impl Future<Output = ()> {
    abreast_until(futures, at_once, move |output| {
        each(output);
        ControlFlow::Continue(())
    })
}

/// The same until enough is known; the others are dropped then.
pub(crate) fn abreast_until<F: Future>(
    futures: impl IntoIterator<Item = F>,
    at_once: usize,
    mut each: impl FnMut(F::Output) -> ControlFlow<()>,
) -> impl Future<Output = ()> {
    let (mut futures, at_once) = (futures.into_iter().fuse(), at_once.max(1));
    let mut running = Vec::with_capacity(at_once);
    poll_fn(move |cx| {
        let mut ended = 0;
        loop {
            while running.len() < at_once
                && let Some(future) = futures.next()
            {
                running.push(Box::pin(future));
            }
            if ended > STRETCH {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (before, mut is_enough) = (running.len(), false);
            running.retain_mut(|future| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    is_enough = is_enough || each(output).is_break();
                    false
                }
                Poll::Pending => true,
            });
            match running.len() {
                _ if is_enough => return Poll::Ready(()),
                0 if before == 0 => return Poll::Ready(()),
                left if left == before => return Poll::Pending,
                left => ended += before - left,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn all_are_run_and_no_more_than_so_many_at_once() {
        for at_once in [0, 1, 3, 100] {
            let (running, most) = (Cell::new(0), Cell::new(0));
            let work = |number: usize| {
                let (running, most) = (&running, &most);
                async move {
                    running.set(running.get() + 1);
                    most.set(running.get().max(most.get()));
                    for _ in 0..number % 3 {
                        tokio::task::yield_now().await;
                    }
                    running.set(running.get() - 1);
                    number
                }
            };
            let mut sum = 0;
            abreast((0..20).map(work), at_once, |number| sum += number).await;
            assert_eq!(sum, 190);
            assert!(most.get() <= at_once.clamp(1, 20) && running.get() == 0, "{} at once", most.get());
        }
    }

    #[tokio::test]
    async fn what_is_not_needed_any_more_is_not_waited_for() {
        let work = |number: usize| async move {
            if number == 1 {
                std::future::pending::<()>().await;
            }
            number
        };
        let mut seen = Vec::new();
        abreast_until((0..20).map(work), 2, |number| {
            seen.push(number);
            if number == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        assert_eq!(seen, [0, 2, 3, 4, 5]);
    }
}
