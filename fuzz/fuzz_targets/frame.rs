//! Foreign bytes as a frame: whatever they are, reading them ends in a value or an error, within the bounds.
//!
//! `cargo +nightly fuzz run frame` (with `cargo install cargo-fuzz`).

#![no_main]

use celeriac_actors::frame::{FrameLimits, decode_value, encode, open};
use celeriac_actors::header::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = FrameLimits { max_frame: 1 << 16, max_body: 1 << 18, max_depth: 32 };
    let Ok(header) = Header::read(bytes) else { return };
    let Ok(opened) = open(&header, bytes, &limits) else { return };
    assert!(opened.args().len() <= limits.max_body);
    drop(decode_value::<serde_json::Value>(opened.args(), &limits));
    let Ok(again) = encode(header, &opened.envelope, opened.args(), &limits) else { return };
    let header = Header::read(&again).expect("what was written can be read");
    let reopened = open(&header, &again, &limits).expect("what was written can be opened");
    assert_eq!(reopened.envelope, opened.envelope);
    assert_eq!(reopened.args(), opened.args());
});
