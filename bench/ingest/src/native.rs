//! Events as JSON: bodies made once, in which id, time and unit are written anew each time.
//!
//! An event of a batch is about 520 bytes with eight properties, as analytics events are; a
//! million units take part, each with one variant. Every twentieth batch is sent a second time,
//! as by a sender whose answer was lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::{Answer, Requests};
use crate::server::TOKEN;

const PATH: &str = "/api/v1/events";
const UNITS: u64 = 1_000_000;
const RESEND_EVERY: u64 = 20;

/// Numbers nobody has used for an id.
pub type Ids = Rc<Cell<u64>>;

/// A body of so many events, sent over and over with new ids.
pub struct Batches {
    request: Vec<u8>,
    slots: Vec<Slot>,
    ids: Ids,
    sent: u64,
    is_repeat: bool,
    random: Random,
}

/// Where in a body an event's own parts stand.
struct Slot {
    id: usize,
    time: usize,
    unit: usize,
    variant: u64,
}

impl Batches {
    pub fn new(events: usize, ids: &Ids, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut body = String::new();
        let mut slots = Vec::new();
        if events > 1 {
            body.push('[');
        }
        for index in 0..events {
            if index > 0 {
                body.push(',');
            }
            slots.push(event(&mut body, &mut random));
        }
        if events > 1 {
            body.push(']');
        }
        let head = head(PATH, "application/json", "", body.len());
        for slot in &mut slots {
            slot.id += head.len();
            slot.time += head.len();
            slot.unit += head.len();
        }
        Self {
            request: [head, body].concat().into_bytes(),
            slots,
            ids: Rc::clone(ids),
            sent: 0,
            is_repeat: false,
            random,
        }
    }

    pub fn bytes_per_event(&self) -> usize {
        self.request.len() / self.slots.len()
    }
}

impl Requests for Batches {
    fn next(&mut self) -> &[u8] {
        self.is_repeat = self.sent % RESEND_EVERY == RESEND_EVERY - 1;
        self.sent += 1;
        if self.is_repeat {
            return &self.request;
        }
        let now_us = now_us();
        let first = self.ids.replace(self.ids.get() + self.slots.len() as u64);
        for (id, slot) in (first..).zip(&self.slots) {
            write_digits(&mut self.request[slot.id..slot.id + 12], id, 16);
            let unit = self.random.below(UNITS / 2) * 2 + slot.variant;
            write_digits(&mut self.request[slot.unit..slot.unit + 7], unit, 10);
            // It happened within the last ten seconds.
            let of_day_us = (now_us - self.random.below(10_000_000)) % 86_400_000_000;
            write_time_of_day(&mut self.request[slot.time..slot.time + 15], of_day_us);
        }
        &self.request
    }

    fn answered(&mut self, answer: &Answer<'_>) -> u64 {
        let text = String::from_utf8_lossy(answer.body);
        assert_eq!(answer.status, 202, "{text}");
        let said: serde_json::Value = serde_json::from_slice(answer.body).unwrap();
        let (accepted, duplicates) = (&said["accepted"], &said["duplicates"]);
        let events = self.slots.len() as u64;
        if self.is_repeat {
            assert_eq!(
                (accepted.as_u64(), duplicates.as_u64()),
                (Some(0), Some(events))
            );
            return 0;
        }
        assert_eq!(
            (accepted.as_u64(), duplicates.as_u64()),
            (Some(events), Some(0))
        );
        events
    }
}

/// The head of a request whose body is so long.
pub fn head(path: &str, kind: &str, more: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: {kind}\r\n{more}content-length: {length}\r\n\r\n"
    )
}

fn event(body: &mut String, random: &mut Random) -> Slot {
    const NAMES: [&str; 8] = [
        "checkout_completed",
        "page_viewed",
        "search_performed",
        "item_added",
        "item_removed",
        "payment_failed",
        "profile_opened",
        "video_played",
    ];
    const PLACES: [&str; 6] = ["DE", "FR", "US", "GB", "PL", "JP"];
    const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
    const BROWSERS: [&str; 4] = ["Firefox 139", "Chrome 141", "Safari 19", "Edge 141"];
    let variant = random.below(2);
    let served = ["off", "on"][variant as usize];
    let mut place = |text: &str| {
        body.push_str(text);
        body.len()
    };
    let id = place(r#"{"id":"01991f7e-7c00-7000-8000-"#);
    let time = place(&format!(r#"000000000000","time":"{}T"#, today()));
    let unit = place(r#"00:00:00.000000Z","unit":"user-"#);
    let kind = match random.below(10) {
        0 => r#"exposure","name":"new-checkout""#.to_owned(),
        1 | 2 => format!(
            r#"request","name":"GET /products/{{id}}","value":{}.{}"#,
            random.below(400),
            random.below(1000)
        ),
        _ => {
            let name = NAMES[random.below(8) as usize];
            format!(r#"track","name":"{name}","value":{}.5"#, random.below(1000))
        }
    };
    place(&format!(
        r#"0000000","kind":"{kind},"properties":{{"country":"{}","device":"{}","browser":"{}","release":"2026.11.{}","page":"/products/{}","referrer":"https://search.example/?q=shoes-{}","experiment_arm":"arm-{}","items":{},"returning":{}}},"flags":{{"new-checkout":"{served}","search-ranking":"{}"}}}}"#,
        PLACES[random.below(6) as usize],
        DEVICES[random.below(3) as usize],
        BROWSERS[random.below(4) as usize],
        random.below(20),
        random.below(5000),
        random.below(500),
        random.below(4),
        random.below(12),
        random.below(2) == 0,
        ["control", "v2"][random.below(2) as usize],
    ));
    Slot {
        id,
        time,
        unit,
        variant,
    }
}

fn write_digits(place: &mut [u8], mut number: u64, base: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
    }
}

fn write_time_of_day(place: &mut [u8], us: u64) {
    let seconds = us / 1_000_000;
    write_digits(&mut place[0..2], seconds / 3600, 10);
    write_digits(&mut place[3..5], seconds / 60 % 60, 10);
    write_digits(&mut place[6..8], seconds % 60, 10);
    write_digits(&mut place[9..15], us % 1_000_000, 10);
}

pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_micros() as u64
}

/// Today as RFC 3339 writes it.
pub fn today() -> String {
    date((now_us() / 86_400_000_000) as i64)
}

/// Days since 1970 as a date, by Hinnant's `civil_from_days`.
fn date(days: i64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Xorshift: cheap, and random enough for units.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
