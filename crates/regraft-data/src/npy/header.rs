//! The npy header: magic, version, length, dictionary literal.

use crate::error::DataError;
use crate::file::Stream;
use crate::limits::{self, Limits};

/// More dimensions than `NumPy` itself allows.
const MAX_RANK: usize = 64;

/// The element types that become samples or labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Number {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// Returns an integer item; a `u64` past `i64::MAX` becomes `i64::MAX`,
    /// which is out of every range that is checked afterwards.
    pub(crate) fn integer(self, item: &[u8], big_endian: bool) -> i64 {
        let bits = bits(item, big_endian);
        match self {
            Self::I8 => i64::from(bits as u8 as i8),
            Self::I16 => i64::from(bits as u16 as i16),
            Self::I32 => i64::from(bits as u32 as i32),
            Self::I64 => bits as i64,
            _ => i64::try_from(bits).unwrap_or(i64::MAX),
        }
    }

    /// Returns an item of four bytes or more, or an integer, as f64.
    pub(crate) fn float(self, item: &[u8], big_endian: bool) -> f64 {
        match self {
            Self::F32 => f64::from(f32::from_bits(bits(item, big_endian) as u32)),
            Self::F64 => f64::from_bits(bits(item, big_endian)),
            _ => self.integer(item, big_endian) as f64,
        }
    }
}

fn bits(item: &[u8], big_endian: bool) -> u64 {
    let push = |acc: u64, &byte: &u8| (acc << 8) | u64::from(byte);
    if big_endian {
        item.iter().fold(0, push)
    } else {
        item.iter().rev().fold(0, push)
    }
}

/// What an npy file declares about its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: Number,
    pub(crate) big_endian: bool,
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<u64>,
    /// The dtype as written, for messages.
    pub(crate) descr: String,
}

impl Header {
    /// Returns whether these can be the labels of `n` samples: `[n]` or `[n, 1]`.
    pub(crate) fn is_labels_of(&self, n: u64) -> bool {
        self.number.is_integer() && matches!(*self.shape, [m] | [m, 1] if m == n)
    }
}

/// Reads magic, version and header, leaving the stream at the first value.
pub(crate) fn read_header(stream: &mut Stream<'_>, limits: &Limits) -> Result<Header, DataError> {
    let mut fixed = [0_u8; 8];
    stream.exact(&mut fixed)?;
    if !fixed.starts_with(b"\x93NUMPY") {
        return Err(DataError::malformed(
            stream.name(),
            "npy",
            "it does not begin with the npy magic",
        ));
    }
    let len = match fixed[6] {
        1 => {
            let mut len = [0; 2];
            stream.exact(&mut len)?;
            u64::from(u16::from_le_bytes(len))
        }
        2 | 3 => {
            let mut len = [0; 4];
            stream.exact(&mut len)?;
            u64::from(u32::from_le_bytes(len))
        }
        version => {
            return Err(DataError::malformed(
                stream.name(),
                "npy",
                format!("version {version} is unknown"),
            ));
        }
    };
    limits::check(
        stream.name(),
        "npy header length",
        len,
        limits.max_header_bytes,
        "max_header_bytes",
    )?;
    let mut text = vec![0_u8; len as usize];
    stream.exact(&mut text)?;
    let mut parser = Parser {
        file: stream.name(),
        text: &text,
        at: 0,
    };
    parser.dictionary()
}

struct Parser<'a> {
    file: &'a str,
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn bad(&self, reason: &str) -> DataError {
        DataError::malformed(
            self.file,
            "npy",
            format!("header: {reason} at byte {}", self.at),
        )
    }

    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let hit = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, byte: u8) -> Result<(), DataError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.bad(&format!("`{}` expected", char::from(byte))))
    }

    fn dictionary(&mut self) -> Result<Header, DataError> {
        let mut descr = None;
        let mut fortran_order = None;
        let mut shape = None;
        self.expect(b'{')?;
        while !self.take(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let repeated = match key.as_str() {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return Err(self.bad("unknown key")),
            };
            if repeated {
                return Err(self.bad("repeated key"));
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.skip_space();
        if self.at != self.text.len() {
            return Err(self.bad("text after the dictionary"));
        }
        let (Some(descr), Some(fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
            return Err(self.bad("`descr`, `fortran_order` or `shape` is missing"));
        };
        let (number, big_endian) = parse_descr(self.file, &descr)?;
        Ok(Header {
            number,
            big_endian,
            fortran_order,
            shape,
            descr,
        })
    }

    /// A dtype string; a list here means a structured dtype.
    fn descr(&mut self) -> Result<String, DataError> {
        self.skip_space();
        if matches!(self.text.get(self.at), Some(b'[' | b'(' | b'{')) {
            return Err(DataError::Dtype {
                file: self.file.to_owned(),
                descr: "[...]".to_owned(),
                kind: "structured",
            });
        }
        self.string()
    }

    fn string(&mut self) -> Result<String, DataError> {
        self.skip_space();
        let Some(&quote @ (b'\'' | b'"')) = self.text.get(self.at) else {
            return Err(self.bad("a quoted word expected"));
        };
        self.at += 1;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_<>|=[]?".contains(b);
        let len = rest.iter().take_while(|b| plain(b)).count();
        if rest.get(len) != Some(&quote) {
            return Err(self.bad("a plain word in quotes expected"));
        }
        self.at += len + 1;
        Ok(rest[..len].iter().map(|&b| char::from(b)).collect())
    }

    fn boolean(&mut self) -> Result<bool, DataError> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [("True", true), ("False", false)] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.bad("`True` or `False` expected"))
    }

    fn tuple(&mut self) -> Result<Vec<u64>, DataError> {
        let mut dims = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            self.skip_space();
            let rest = self.text.get(self.at..).unwrap_or_default();
            let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let digits: String = rest[..len].iter().map(|&b| char::from(b)).collect();
            let dim = digits
                .parse()
                .map_err(|_| self.bad("a dimension from 0 to 2^64 - 1 expected"))?;
            self.at += len;
            // Python 2 wrote long integers with this suffix.
            self.at += usize::from(self.text.get(self.at) == Some(&b'L'));
            dims.push(dim);
            if dims.len() > MAX_RANK {
                return Err(self.bad("too many dimensions"));
            }
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(dims)
    }
}

fn parse_descr(file: &str, descr: &str) -> Result<(Number, bool), DataError> {
    let (order, code) = match descr.as_bytes() {
        [order @ (b'<' | b'>' | b'|' | b'='), ..] => (*order, &descr[1..]),
        _ => (b'=', descr),
    };
    let number = match code {
        "b1" | "?" => Number::Bool,
        "u1" => Number::U8,
        "i1" => Number::I8,
        "u2" => Number::U16,
        "i2" => Number::I16,
        "u4" => Number::U32,
        "i4" => Number::I32,
        "u8" => Number::U64,
        "i8" => Number::I64,
        "f2" => Number::F16,
        "f4" => Number::F32,
        "f8" => Number::F64,
        _ => return Err(bad_descr(file, descr, code)),
    };
    // The files that say `=` come from the writer's machine: little-endian.
    Ok((number, order == b'>'))
}

fn bad_descr(file: &str, descr: &str, code: &str) -> DataError {
    let kind = match code.as_bytes().first() {
        Some(b'O') => {
            return DataError::Pickled {
                file: file.to_owned(),
                descr: descr.to_owned(),
            };
        }
        Some(b'U') => "unicode text",
        Some(b'S' | b'a') => "byte text",
        Some(b'V') => "structured",
        Some(b'M') => "a date",
        Some(b'm') => "a time difference",
        Some(b'c') => "complex",
        Some(b'f' | b'g') => "an extended float",
        _ => "unknown",
    };
    DataError::Dtype {
        file: file.to_owned(),
        descr: descr.to_owned(),
        kind,
    }
}
