//! Futures in boxes, made where they stay.

use std::pin::Pin;

/// A future in a box of its own. The room comes first, so that it can be made there: one that was made before would be
/// copied into it, with all the room that it has for what it has yet to do.
#[inline]
pub(crate) fn boxed<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}
