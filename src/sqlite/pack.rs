//! Packs: several frames in one blob, so that a batch costs one row and not one per task.
//!
//! A pack is its frames one after another, each behind its length (four bytes, big-endian). Two packs one after
//! another are a pack. Reading never fails: bytes that do not add up are the last frame, whole, so that damage reaches
//! a consumer as an undecodable task and never stops a queue.

/// The most frames of a ready pack: a fetch that takes fewer rewrites the rest.
pub(super) const PACK_FRAMES: usize = 32;
/// The size behind which a ready pack takes no further frame.
pub(super) const PACK_BYTES: usize = 16 * 1024;

/// Appends `frame` to `pack`.
pub(super) fn push(pack: &mut Vec<u8>, frame: &[u8]) {
    // A frame beyond 4 GiB cannot come this far: the broker bounds frames far below.
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    pack.extend_from_slice(&len.to_be_bytes());
    pack.extend_from_slice(frame);
}

/// Iterates over the frames of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads `pack`.
    pub(super) const fn new(pack: &'a [u8]) -> Self {
        Self { rest: pack }
    }

    /// Returns the frames not yet read, as a pack.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = self.rest;
        let cut = whole.split_first_chunk::<4>().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            rest.split_at_checked(len)
        });
        let (frame, rest) = cut.unwrap_or((whole, &[]));
        self.rest = rest;
        Some(frame)
    }
}

/// A set of positions within a pack, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits(Vec<u8>);

impl Bits {
    /// Creates a set of the positions below `len`.
    pub(super) fn full(len: usize) -> Self {
        let mut bits = Self(vec![0; len.div_ceil(8)]);
        for at in 0..len {
            bits.0[at / 8] |= 1 << (at % 8);
        }
        bits
    }

    /// Creates a set from its bytes.
    pub(super) const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether `at` is in the set.
    pub(super) fn has(&self, at: usize) -> bool {
        self.0.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
    }

    /// Adds `at`; the set grows as needed.
    pub(super) fn insert(&mut self, at: usize) {
        if self.0.len() <= at / 8 {
            self.0.resize(at / 8 + 1, 0);
        }
        self.0[at / 8] |= 1 << (at % 8);
    }

    /// Removes `at`; returns whether it was in the set.
    pub(super) fn remove(&mut self, at: usize) -> bool {
        let had = self.has(at);
        if had {
            self.0[at / 8] &= !(1 << (at % 8));
        }
        had
    }

    /// Returns whether nothing is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_and_packs_join() {
        let mut pack = Vec::new();
        push(&mut pack, b"one");
        push(&mut pack, b"");
        let mut more = Vec::new();
        push(&mut more, b"three");
        pack.extend_from_slice(&more);
        let mut frames = Frames::new(&pack);
        assert_eq!(frames.next(), Some(&b"one"[..]));
        assert_eq!(frames.next(), Some(&b""[..]));
        assert_eq!(frames.rest(), more);
        assert_eq!(frames.collect::<Vec<_>>(), [b"three"]);
    }

    #[test]
    fn damage_is_one_more_frame() {
        let mut pack = Vec::new();
        push(&mut pack, b"good");
        pack.extend_from_slice(b"\xff\xff\xff\xffbad");
        let frames: Vec<_> = Frames::new(&pack).collect();
        assert_eq!(frames, [&b"good"[..], b"\xff\xff\xff\xffbad"]);
        assert_eq!(Frames::new(b"x").collect::<Vec<_>>(), [b"x"]);
    }

    #[test]
    fn bits_are_a_set() {
        let mut bits = Bits::full(9);
        assert!(bits.has(8) && !bits.has(9));
        assert!(bits.remove(8) && !bits.remove(8));
        assert!((0..8).all(|at| bits.remove(at)) && bits.is_empty());
        bits.insert(77);
        assert!(bits.has(77) && !bits.has(76));
    }
}
