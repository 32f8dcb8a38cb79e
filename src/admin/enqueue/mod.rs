//! Tasks that somebody wants to have enqueued: read, checked against what is known here, and made into frames.

pub(crate) mod asks;
pub(crate) mod blame;
pub(crate) mod line;
pub(crate) mod order;
pub(crate) mod when;

pub(crate) use self::order::known_queue;
