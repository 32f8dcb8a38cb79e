//! Question: what does it cost to write a task as a frame and to read it back, by size?
//!
//! 200 bytes are stored as they are; 4 KiB of text go through zstd.

use celeriac::frame::{FrameLimits, decode_value, encode, encode_value, open};
use celeriac::ids::{TaskId, TaskName};
use celeriac::time::Timestamp;
use celeriac_actors::envelope::Envelope;
use celeriac_actors::header::{Header, Priority};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn header() -> Header {
    Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::NORMAL,
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: TaskId::from_bytes([7; 16]),
        enqueued_at: Timestamp::from_millis(1),
        expires_at: None,
    }
}

fn frames(criterion: &mut Criterion) {
    let limits = FrameLimits::default();
    let name = TaskName::new("billing.process_subscription").expect("a name");
    let mut group = criterion.benchmark_group("frame");
    for size in [200_usize, 4_096] {
        let text = "celeriac ".repeat(size / 9);
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::new("write", size), &text, |bencher, text| {
            bencher.iter(|| {
                let args = encode_value(text).expect("text encodes");
                encode(header(), &Envelope::new(name.clone()), &args, &limits).expect("it fits")
            });
        });
        let args = encode_value(&text).expect("text encodes");
        let frame =
            encode(header(), &Envelope::new(name.clone()), &args, &limits).expect("it fits");
        group.bench_with_input(BenchmarkId::new("read", size), &frame, |bencher, frame| {
            bencher.iter(|| {
                let header = Header::read(frame).expect("a header");
                let opened = open(&header, frame, &limits).expect("a frame");
                decode_value::<String>(opened.args(), &limits).expect("text decodes")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
