//! Event files that `TensorBoard` reads.
//!
//! A file is a list of records: the length, its checksum, the bytes of an `Event` message, their
//! checksum (`TFRecord`). Field numbers are those of `event.proto` and `summary.proto`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, ErrorKind};

/// Bins of a histogram.
const BINS: usize = 60;

/// One event file, open to be added to.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Makes a new event file in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        let failed = |path: &Path, e: std::io::Error| {
            let what = format!("cannot write `{}`", path.display());
            Error::new(ErrorKind::Io, what).because(e)
        };
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let seconds = now();
        // A second run within one second gets a number of its own.
        for number in 0..1000 {
            let name = format!(
                "events.out.tfevents.{:010}.regraft.{number}",
                seconds as u64
            );
            let path = folder.join(name);
            match File::create_new(&path) {
                Ok(file) => {
                    let mut this = Self { file, path };
                    let mut event = Message::default();
                    event.double(1, seconds);
                    event.bytes(3, b"brain.Event:2");
                    this.record(&event.0)?;
                    return Ok(this);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(&path, e)),
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            format!("too many event files in `{}`", folder.display()),
        ))
    }

    /// Adds numbers at a step.
    pub(super) fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<(), Error> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, *value as f32);
            summary.bytes(1, &entry.0);
        }
        self.event(step, &summary)
    }

    /// Adds the distribution of numbers at a step.
    pub(super) fn histogram(
        &mut self,
        step: usize,
        tag: &str,
        numbers: impl Iterator<Item = f32>,
    ) -> Result<(), Error> {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.bytes(5, &histogram(numbers).0);
        let mut summary = Message::default();
        summary.bytes(1, &entry.0);
        self.event(step, &summary)
    }

    fn event(&mut self, step: usize, summary: &Message) -> Result<(), Error> {
        let mut event = Message::default();
        event.double(1, now());
        event.number(2, step as u64);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut all = length.to_vec();
        all.extend(masked_checksum(&length).to_le_bytes());
        all.extend(bytes);
        all.extend(masked_checksum(bytes).to_le_bytes());
        self.file.write_all(&all).map_err(|e| {
            let what = format!("cannot write `{}`", self.path.display());
            Error::new(ErrorKind::Io, what).because(e)
        })
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

/// A `HistogramProto`: equal bins from the smallest to the largest number.
fn histogram(numbers: impl Iterator<Item = f32>) -> Message {
    let all: Vec<f64> = numbers.filter(|x| x.is_finite()).map(f64::from).collect();
    let (least, most) = all
        .iter()
        .fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    let (least, most) = if all.is_empty() {
        (0.0, 0.0)
    } else {
        (least, most)
    };
    let width = ((most - least) / BINS as f64).max(f64::MIN_POSITIVE);
    let mut counts = vec![0.0; BINS];
    for x in &all {
        counts[(((x - least) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let limits: Vec<f64> = (1..=BINS).map(|i| least + width * i as f64).collect();
    let mut message = Message::default();
    message.double(1, least);
    message.double(2, most);
    message.double(3, all.len() as f64);
    message.double(4, all.iter().sum());
    message.double(5, all.iter().map(|x| x * x).sum());
    message.doubles(6, &limits);
    message.doubles(7, &counts);
    message
}

/// A message under way.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn number(&mut self, field: u64, n: u64) {
        self.key(field, 0);
        self.varint(n);
    }

    fn double(&mut self, field: u64, x: f64) {
        self.key(field, 1);
        self.0.extend(x.to_le_bytes());
    }

    fn float(&mut self, field: u64, x: f32) {
        self.key(field, 5);
        self.0.extend(x.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn doubles(&mut self, field: u64, list: &[f64]) {
        let bytes: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.bytes(field, &bytes);
    }
}

/// The checksum of a record, turned and shifted as the format has it.
fn masked_checksum(bytes: &[u8]) -> u32 {
    checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes an epoch.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc = (crc >> 1) ^ if odd { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_follow_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path()).unwrap();
        events
            .scalars(3, &[("loss", 0.5), ("accuracy", 0.25)])
            .unwrap();
        events
            .histogram(3, "w", [0.0, 1.0, 1.0, f32::NAN].into_iter())
            .unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let mut rest = &bytes[..];
        let mut n = 0;
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let (sum, after) = after.split_at(4);
            assert_eq!(sum, masked_checksum(length).to_le_bytes());
            let len = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (data, after) = after.split_at(len);
            let (sum, after) = after.split_at(4);
            assert_eq!(sum, masked_checksum(data).to_le_bytes());
            rest = after;
            n += 1;
        }
        assert_eq!(n, 3);
        assert!(bytes.windows(13).any(|w| w == b"brain.Event:2"));
        // A second file does not touch the first.
        let second = EventFile::create(folder.path()).unwrap();
        assert_ne!(second.path, events.path);
    }
    /// Prints what the package `tensorboard` finds in a folder: steps and values of the scalars, and of the
    /// histograms the number of values, their least and largest, and how many lie in each bucket.
    const READER: &str = r"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, HISTOGRAMS
found = EventAccumulator(sys.argv[1], size_guidance={HISTOGRAMS: 0})
found.Reload()
for tag in sorted(found.Tags()['scalars']):
    print(tag, [(e.step, e.value) for e in found.Scalars(tag)])
for tag in sorted(found.Tags()['histograms']):
    for e in found.Histograms(tag):
        h = e.histogram_value
        print(tag, e.step, h.num, h.min, h.max, sum(h.bucket))
";

    #[test]
    fn the_package_tensorboard_reads_them() {
        let Some(python) = std::env::var_os("REGRAFT_PYTHON") else {
            println!("skipped: REGRAFT_PYTHON names no interpreter that has `tensorboard`");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path()).unwrap();
        for (step, loss) in [(3, 0.5), (4, 0.125)] {
            events
                .scalars(step, &[("loss", loss), ("accuracy", 0.25)])
                .unwrap();
        }
        let weights = [0.0, -1.5, 2.0, 2.0, f32::NAN];
        events.histogram(4, "conv", weights.into_iter()).unwrap();
        let found = std::process::Command::new(python)
            .args(["-c", READER])
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(found.stdout).unwrap();
        let errors = String::from_utf8_lossy(&found.stderr);
        let expected = "accuracy [(3, 0.25), (4, 0.25)]\nloss [(3, 0.5), (4, 0.125)]\n\
                        conv 4 4.0 -1.5 2.0 4.0\n";
        assert_eq!(text, expected, "{errors}");
    }
}
