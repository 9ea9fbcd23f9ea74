//! Reading the log back: after a start, and while it is being written.
//!
//! Rule per frame: the expected sequence and a good checksum make an event stretch. Anything
//! else ends the segment. If a later segment exists, it must begin exactly where this one
//! ended. In the last segment, an end that is not followed by any good frame of a later sequence
//! is the tail: clean if nothing was begun there, torn otherwise. A good later frame behind it
//! means acknowledged data is gone, which is an error.
//!
//! What was read is not yet durable: a killed process, or a failed sync, leaves its last frame
//! in the page cache alone, possibly marked clean, and a segment's name likewise. The directory is
//! therefore synced, and the last frame written again and synced, before anything may follow.

use super::frame::FrameHeader;
use super::recent_ids::RecentIds;
use super::segment::{self, FIRST_FRAME, Segment};
use super::{CommitSink, Committed, LogError, LogOptions};
use crate::io::LakeIo;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tidegate_metrics::Event;

/// What was found when a log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: usize,
    /// Frames read.
    pub frames: u64,
    /// Events read.
    pub events: u64,
    /// The first sequence still in the log.
    pub first_sequence: u64,
    /// The sequence the next event gets.
    pub next_sequence: u64,
    /// Where an unfinished, never acknowledged write was cut.
    pub torn_tail: Option<TornTail>,
}

/// An unfinished write at the end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TornTail {
    /// The segment's file name.
    pub segment: String,
    /// Where in it.
    pub offset: u64,
}

#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) report: RecoveryReport,
    pub(super) current: Option<(Segment, u64)>,
    pub(super) sealed: Vec<Segment>,
    pub(super) free: Vec<String>,
    pub(super) recent: RecentIds,
    last_frame: Option<(u64, u64)>,
}

pub(super) fn recover(
    io: &dyn LakeIo,
    dir: &Path,
    options: &LogOptions,
    sink: &mut dyn CommitSink,
) -> Result<Recovered, LogError> {
    let names = segment::list(io, dir)?;
    io.sync_dir(dir).map_err(|e| LogError::io(dir, e))?;
    let mut recovered = Recovered {
        report: RecoveryReport {
            first_sequence: names.segments.first().copied().unwrap_or(0),
            next_sequence: names.segments.first().copied().unwrap_or(0),
            segments: names.segments.len(),
            ..RecoveryReport::default()
        },
        current: None,
        sealed: Vec::new(),
        free: names.free,
        recent: RecentIds::new(options.recent_ids),
        last_frame: None,
    };
    for first_sequence in names.segments {
        let opened = Segment::open(io, dir, first_sequence)?;
        if let Some((before, end)) = recovered.current.take() {
            check_joint(&before, end, recovered.report.next_sequence, first_sequence)?;
            recovered.sealed.push(before);
        }
        let (end, _) = recovered.take_segment(&opened, sink)?;
        recovered.current = Some((opened, end));
    }
    if let Some((last, end)) = &recovered.current {
        recovered.report.torn_tail = tail(last, *end, recovered.report.next_sequence)?;
        make_durable(last, recovered.last_frame)?;
    }
    if let Some(torn) = &recovered.report.torn_tail {
        tracing::warn!(
            log.segment = torn.segment,
            log.offset = torn.offset,
            "cut an unfinished write at the end of the log; it was never acknowledged"
        );
    }
    Ok(recovered)
}

fn make_durable(last: &Segment, frame: Option<(u64, u64)>) -> Result<(), LogError> {
    let Some((offset, bytes)) = frame else {
        return Ok(());
    };
    let mut frame = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let rewritten = last
        .file
        .read_exact_at(&mut frame, offset)
        .and_then(|()| last.file.write_all_at(&frame, offset))
        .and_then(|()| last.file.sync_data());
    rewritten.map_err(|e| LogError::io(&last.path, e))
}

fn check_joint(before: &Segment, end: u64, reached: u64, next: u64) -> Result<(), LogError> {
    if reached == next {
        return Ok(());
    }
    let detail = format!("frame is damaged, but a later segment begins at sequence {next}");
    Err(before.corrupt(end, reached, &detail))
}

impl Recovered {
    fn take_segment(
        &mut self,
        segment: &Segment,
        sink: &mut dyn CommitSink,
    ) -> Result<(u64, u64), LogError> {
        let report = &mut self.report;
        let recent = &mut self.recent;
        let last_frame = &mut self.last_frame;
        *last_frame = None;
        each_frame(
            segment,
            segment.first_sequence,
            0,
            &mut |offset, header, events| {
                *last_frame = Some((offset, header.frame_bytes()));
                report.frames += 1;
                report.events += u64::from(header.events);
                report.next_sequence = header.sequence + u64::from(header.events);
                for event in &events {
                    recent.insert(event.id);
                }
                sink.committed(&Arc::new(Committed {
                    first_sequence: header.sequence,
                    events,
                }));
                true
            },
        )
    }
}

/// Reads the frames of a segment from its start, passing over those that end at or below
/// `skip_below` by their headers alone; returns where they end, as byte and as sequence.
fn each_frame(
    segment: &Segment,
    first_sequence: u64,
    skip_below: u64,
    each: &mut dyn FnMut(u64, &FrameHeader, Vec<Event>) -> bool,
) -> Result<(u64, u64), LogError> {
    let (mut offset, mut expected) = (FIRST_FRAME, first_sequence);
    while let Some(header) = segment.header_at(offset)? {
        if header.sequence != expected {
            break;
        }
        if expected + u64::from(header.events) <= skip_below {
            offset += header.frame_bytes();
            expected += u64::from(header.events);
            continue;
        }
        let Some(body) = segment.intact_body(&header, offset)? else {
            break;
        };
        let events = header
            .decode(&body)
            .map_err(|error| segment.corrupt(offset, expected, &error.to_string()))?;
        let start = offset;
        offset += header.frame_bytes();
        expected += u64::from(header.events);
        if !each(start, &header, events) {
            break;
        }
    }
    Ok((offset, expected))
}

fn tail(last: &Segment, end: u64, expected: u64) -> Result<Option<TornTail>, LogError> {
    if let Some(offset) = later_frame(last, end, expected)? {
        let detail = format!("frame is damaged, but a good one follows at byte {offset}");
        return Err(last.corrupt(end, expected, &detail));
    }
    let begun = last.header_at(end)?;
    Ok(begun
        .filter(|header| header.sequence == expected)
        .map(|_| TornTail {
            segment: last
                .path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            offset: end,
        }))
}

const SCAN_BYTES: usize = 1 << 20;

// Frames are aligned to 8 bytes, so a later one can only begin at such a position. Old frames of
// a recycled segment have lower sequences and are passed over.
fn later_frame(segment: &Segment, end: u64, expected: u64) -> Result<Option<u64>, LogError> {
    let mut offset = end + 8;
    let mut window = vec![0; SCAN_BYTES];
    while offset + 32 <= segment.bytes {
        let left = usize::try_from(segment.bytes - offset).unwrap_or(SCAN_BYTES);
        let length = left.min(SCAN_BYTES);
        let Some(view) = window.get_mut(..length) else {
            break;
        };
        let read = segment.file.read_exact_at(view, offset);
        read.map_err(|e| LogError::io(&segment.path, e))?;
        for (index, start) in view.chunks_exact(8).enumerate() {
            if !start.starts_with(b"TGF1") {
                continue;
            }
            let position = offset + 8 * index as u64;
            if let Some(header) = segment.header_at(position)?
                && header.sequence > expected
                && segment.intact_body(&header, position)?.is_some()
            {
                return Ok(Some(position));
            }
        }
        offset += length.next_multiple_of(8) as u64;
    }
    Ok(None)
}

/// Reads the durable events of `[sequence, end)`, whole frames.
pub(super) fn read_range(
    io: &dyn LakeIo,
    dir: &Path,
    sequence: u64,
    end: u64,
    each: &mut dyn FnMut(Committed) -> bool,
) -> Result<(), LogError> {
    let firsts = segment::list(io, dir)?.segments;
    for (index, first) in firsts.iter().enumerate() {
        let ends_before = firsts.get(index + 1).is_some_and(|next| *next <= sequence);
        if ends_before || *first >= end {
            continue;
        }
        let opened = Segment::open(io, dir, *first)?;
        let mut go_on = true;
        let (stopped, reached) =
            each_frame(&opened, *first, sequence, &mut |_, header, events| {
                let frame_end = header.sequence + u64::from(header.events);
                if header.sequence < end {
                    go_on = each(Committed {
                        first_sequence: header.sequence,
                        events,
                    });
                }
                go_on && frame_end < end
            })?;
        let segment_end = firsts.get(index + 1).copied().unwrap_or(end).min(end);
        if !go_on {
            return Ok(());
        }
        if reached < segment_end {
            return Err(opened.corrupt(stopped, reached, "frame is damaged"));
        }
    }
    Ok(())
}
