//! Log records as OTLP in protobuf: bodies made once, of which only the resource differs.
//!
//! A record's id comes from all that it says, its resource included, so one number in the resource
//! makes a thousand new records. Packed, the resource is a stored block of the deflate stream in
//! front of the compressed records, and the checksums of both are combined: gzip as any other,
//! without compressing anything again.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use flate2::{Compression, Crc, write::DeflateEncoder};

use crate::client::{Answer, Requests};
use crate::native::{Random, head, now_us};

const PATH: &str = "/v1/logs";

/// What the records of a body are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Named events of 7 attributes, a tenth of them flag evaluations; gzip.
    Events,
    /// Plain log lines of as many attributes, which are decoded and not stored; not packed.
    Lines,
}

/// A body of so many records, sent over and over as from another resource.
pub struct Logs {
    request: Vec<u8>,
    /// Where the resource's number stands, in the request and in the resource.
    number_at: usize,
    checksum_at: Option<usize>,
    resource_at: std::ops::Range<usize>,
    records_crc: Crc,
    records: u64,
    numbers: Rc<Cell<u64>>,
    kind: Records,
    is_met: bool,
    stored: Rc<Cell<u64>>,
}

impl Logs {
    pub fn new(
        kind: Records,
        records: u64,
        numbers: &Rc<Cell<u64>>,
        stored: &Rc<Cell<u64>>,
        seed: u64,
    ) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut scope = Vec::new();
        field(&mut scope, 1, &text_field(1, "shop"));
        for index in 0..records {
            let unit = seed * records + index;
            field(&mut scope, 2, &record(kind, index, unit, &mut random));
        }
        let mut scopes = Vec::new();
        field(&mut scopes, 2, &scope);
        let mut resource = Vec::new();
        field(&mut resource, 1, &attribute("service.name", "shop"));
        field(&mut resource, 1, &attribute("bench.batch", NUMBER));
        let mut group = Vec::new();
        field(&mut group, 1, &resource);
        let mut front = vec![0x0a];
        varint(&mut front, (group.len() + scopes.len()) as u64);
        front.extend(group);
        let number_in_front = find(&front, NUMBER.as_bytes());
        let (packed, more, resource_at, checksum_at) = match kind {
            Records::Events => {
                let (packed, resource_at) = gzip(&front, &scopes);
                let checksum_at = packed.len() - 8;
                (
                    packed,
                    "content-encoding: gzip\r\n",
                    resource_at,
                    Some(checksum_at),
                )
            }
            Records::Lines => ([front.clone(), scopes.clone()].concat(), "", 0, None),
        };
        let head = head(PATH, "application/x-protobuf", more, packed.len());
        let start = head.len() + resource_at;
        let mut records_crc = Crc::new();
        records_crc.update(&scopes);
        Self {
            number_at: start + number_in_front,
            checksum_at: checksum_at.map(|at| at + head.len()),
            resource_at: start..start + front.len(),
            request: [head.into_bytes(), packed].concat(),
            records_crc,
            records,
            numbers: Rc::clone(numbers),
            kind,
            is_met: false,
            stored: Rc::clone(stored),
        }
    }

    pub fn bytes_per_record(&self) -> u64 {
        let plain = u64::from(self.records_crc.amount());
        plain / self.records
    }
}

impl Requests for Logs {
    fn next(&mut self) -> &[u8] {
        let number = self.numbers.replace(self.numbers.get() + 1);
        let text = format!("{number:016}");
        self.request[self.number_at..self.number_at + text.len()].copy_from_slice(text.as_bytes());
        if let Some(at) = self.checksum_at {
            let mut whole = Crc::new();
            whole.update(&self.request[self.resource_at.clone()]);
            whole.combine(&self.records_crc);
            self.request[at..at + 4].copy_from_slice(&whole.sum().to_le_bytes());
        }
        &self.request
    }

    fn answered(&mut self, answer: &Answer<'_>) -> u64 {
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(answer.body)
        );
        assert!(answer.body.is_empty(), "something was rejected");
        if self.kind == Records::Events {
            // The first time the units of its evaluations are met, each is an exposure too.
            let exposures = match std::mem::replace(&mut self.is_met, true) {
                true => 0,
                false => self.records.div_ceil(EVALUATION_EVERY),
            };
            self.stored
                .set(self.stored.get() + self.records + exposures);
        }
        self.records
    }
}

const EVALUATION_EVERY: u64 = 10;
const NUMBER: &str = "0000000000000000";

/// `front` as it is and `rest` compressed, as one gzip member; and where `front` stands in it.
fn gzip(front: &[u8], rest: &[u8]) -> (Vec<u8>, usize) {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let length = u16::try_from(front.len()).unwrap();
    packed.push(0);
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    let at = packed.len();
    packed.extend(front);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(rest).unwrap();
    packed.extend(encoder.finish().unwrap());
    packed.extend([0; 4]);
    let plain = u32::try_from(front.len() + rest.len()).unwrap();
    packed.extend(plain.to_le_bytes());
    (packed, at)
}

/// Whether a record is a flag evaluation: a tenth are.
fn is_evaluation(kind: Records, index: u64) -> bool {
    kind == Records::Events && index % EVALUATION_EVERY == 0
}

fn record(kind: Records, index: u64, unit: u64, random: &mut Random) -> Vec<u8> {
    let mut record = Vec::new();
    let is_evaluation = is_evaluation(kind, index);
    record.push(0x09);
    record.extend((now_us() * 1000 + index).to_le_bytes());
    let unit = format!("user-{unit:07}");
    let attributes = if is_evaluation {
        [
            ("feature_flag.key", "new-checkout".to_owned()),
            ("feature_flag.result.variant", "on".to_owned()),
            ("feature_flag.result.reason", "split".to_owned()),
            ("feature_flag.context.id", unit),
            ("feature_flag.provider.name", "tidegate".to_owned()),
            ("feature_flag.set.id", "default".to_owned()),
            ("feature_flag.version", "17".to_owned()),
        ]
    } else {
        [
            ("tidegate.unit", unit),
            (
                "shop.country",
                ["DE", "FR", "US"][random.below(3) as usize].to_owned(),
            ),
            (
                "shop.device",
                ["mobile", "desktop"][random.below(2) as usize].to_owned(),
            ),
            ("shop.page", format!("/products/{}", random.below(5000))),
            ("shop.release", format!("2026.11.{}", random.below(20))),
            ("shop.items", random.below(12).to_string()),
            (
                "shop.campaign",
                format!(
                    "autumn-{}-campaign-for-old-and-new-friends",
                    random.below(40)
                ),
            ),
        ]
    };
    field(
        &mut record,
        5,
        &text_field(
            1,
            "something happened in the shop, and this is what was said about it at the time, for people",
        ),
    );
    for (key, value) in &attributes {
        field(&mut record, 6, &attribute(key, value));
    }
    if is_evaluation {
        field(&mut record, 12, b"feature_flag.evaluation");
    } else if kind == Records::Events {
        field(&mut record, 12, b"item_added");
    }
    record
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = text_field(1, key);
    field(&mut bytes, 2, &text_field(1, value));
    bytes
}

fn text_field(number: u64, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    field(&mut bytes, number, text.as_bytes());
    bytes
}

fn field(into: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(into, number << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}
