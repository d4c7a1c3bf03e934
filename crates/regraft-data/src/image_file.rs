//! One PNG or JPEG file, told apart by its content.
//!
//! 16-bit, palette, alpha and CMYK images become 8-bit grey or RGB (alpha is
//! dropped). EXIF rotation is not applied and of an animated PNG the default
//! image is read: training pipelines see the same pixels.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::{DynamicImage, ImageDecoder, ImageError};

use crate::error::DataError;
use crate::file::{self, open_file};
use crate::limits::{self, Limits};
use crate::pixels::Planes;
use crate::preprocess::{Layout, Size};

/// What an image's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    pub(crate) size: Size,
    /// 1 for grey, else 3.
    pub(crate) channels: usize,
}

/// Returns whether a file name ends like a PNG or JPEG file.
pub(crate) fn has_image_name(name: &str) -> bool {
    named_format(name).is_some()
}

fn named_format(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    match extension.as_str() {
        "png" => Some("PNG"),
        "jpg" | "jpeg" => Some("JPEG"),
        _ => None,
    }
}

/// Returns the header of an image, size checked.
pub(crate) fn read_header(path: &Path, limits: &Limits) -> Result<ImageHeader, DataError> {
    let head = file::sniff(path, 16, limits)?;
    let (file, _) = open_file(path, &image_limits(limits))?;
    let decoder = open_decoder(path, &head, BufReader::new(file), limits)?;
    let (width, height) = decoder.dimensions();
    let channels = match decoder.original_color_type() {
        image::ExtendedColorType::L1
        | image::ExtendedColorType::L2
        | image::ExtendedColorType::L4
        | image::ExtendedColorType::La1
        | image::ExtendedColorType::La2
        | image::ExtendedColorType::La4
        | image::ExtendedColorType::L8
        | image::ExtendedColorType::La8
        | image::ExtendedColorType::L16
        | image::ExtendedColorType::La16 => 1,
        _ => 3,
    };
    Ok(ImageHeader {
        size: Size {
            height: height as usize,
            width: width as usize,
        },
        channels,
    })
}

/// Returns the pixels of an image, 0 to 255, in 1 or 3 `channels`.
pub(crate) fn decode(path: &Path, channels: usize, limits: &Limits) -> Result<Planes, DataError> {
    let content = file::read_whole(path, &image_limits(limits))?;
    let format = format_name(path, &content)?;
    // The decoder would fill the missing part of a picture with grey.
    if format == "JPEG" && !jpeg_has_end(&content) {
        return Err(DataError::Compression {
            file: path.display().to_string(),
            format,
            reason: "it ends too early".to_owned(),
        });
    }
    let decoder = open_decoder(path, &content, Cursor::new(&content), limits)?;
    let (width, height) = decoder.dimensions();
    let image = DynamicImage::from_decoder(decoder).map_err(|e| decode_error(path, format, &e))?;
    let bytes = if channels == 1 {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    let values: Vec<f32> = bytes.into_iter().map(f32::from).collect();
    let size = Size {
        height: height as usize,
        width: width as usize,
    };
    Ok(Planes::from_stored(&values, Layout::Nhwc, channels, size))
}

/// Returns whether a JPEG's segments lead to its end marker.
///
/// # Reference
/// ITU-T T.81, annex B: a marker is `ff` and a byte other than 0 and `ff`; all
/// but the restart markers carry a length; scan data follow the scan header.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    loop {
        let marker = match bytes.get(at..) {
            Some([0xff, 0xd9, ..]) => return true,
            Some([0xff, 0xff, ..]) => {
                at += 1;
                continue;
            }
            Some([0xff, 0x01 | 0xd0..=0xd7, ..]) => {
                at += 2;
                continue;
            }
            Some([0xff, marker, high, low, ..]) => {
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                *marker
            }
            _ => return false,
        };
        if marker == START_OF_SCAN {
            let scan = bytes.get(at..).unwrap_or_default();
            let ends = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
            match scan.windows(2).position(ends) {
                Some(len) => at += len,
                None => return false,
            }
        }
    }
}

/// Bytes of file per pixel of the limit: 16-bit RGBA stored without compression.
const MAX_BYTES_PER_PIXEL: u64 = 8;

/// The limits of an image file, which decoders read as a whole.
fn image_limits(limits: &Limits) -> Limits {
    let most = limits.max_image_pixels.saturating_mul(MAX_BYTES_PER_PIXEL);
    Limits {
        max_file_bytes: limits.max_file_bytes.min(most),
        ..limits.clone()
    }
}

fn format_name(path: &Path, head: &[u8]) -> Result<&'static str, DataError> {
    let shown = path.display().to_string();
    let found = match head {
        [0x89, b'P', b'N', b'G', ..] => return Ok("PNG"),
        [0xff, 0xd8, 0xff, ..] => return Ok("JPEG"),
        [] => return Err(DataError::malformed(&shown, "image", "the file is empty")),
        [b'G', b'I', b'F', b'8', ..] => "GIF",
        [b'B', b'M', ..] => "BMP",
        [b'R', b'I', b'F', b'F', ..] => "WebP or another RIFF file",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "TIFF",
        [b'<', ..] => "markup text",
        _ => "neither PNG nor JPEG",
    };
    let named = named_format(&shown).unwrap_or("an image");
    Err(DataError::ExtensionLies {
        file: shown,
        named,
        found,
    })
}

fn open_decoder<'a>(
    path: &Path,
    head: &[u8],
    reader: impl BufRead + Seek + 'a,
    limits: &Limits,
) -> Result<Box<dyn ImageDecoder + 'a>, DataError> {
    let format = format_name(path, head)?;
    let failed = |e: ImageError| decode_error(path, format, &e);
    let mut decoder: Box<dyn ImageDecoder + 'a> = if format == "PNG" {
        Box::new(PngDecoder::new(reader).map_err(failed)?)
    } else {
        Box::new(JpegDecoder::new(reader).map_err(failed)?)
    };
    let (width, height) = decoder.dimensions();
    limits::check(
        &path.display().to_string(),
        "number of pixels",
        u64::from(width) * u64::from(height),
        limits.max_image_pixels,
        "max_image_pixels",
    )?;
    let mut guard = image::Limits::no_limits();
    // 16-bit RGBA is 8 bytes a pixel; the rest is the decoder's work space.
    guard.max_alloc = Some(limits.max_image_pixels.saturating_mul(16));
    decoder.set_limits(guard).map_err(failed)?;
    Ok(decoder)
}

fn decode_error(path: &Path, format: &'static str, error: &ImageError) -> DataError {
    let file = path.display().to_string();
    if let ImageError::IoError(e) = error
        && e.kind() == std::io::ErrorKind::UnexpectedEof
    {
        return DataError::Compression {
            file,
            format,
            reason: "it ends too early".to_owned(),
        };
    }
    // Some decoder messages span lines; an error here is one line.
    let reason = error.to_string().replace(['\n', '\r'], " ");
    DataError::malformed(&file, format, reason)
}
