//! Bad input: one clear error each, that names the file; never a panic.

#![allow(
    clippy::unwrap_used,
    reason = "fixtures are functions beside the tests"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use regraft_data::{LabelColumn, Limits, OpenOptions, Preprocess, open};

/// What a case puts into an empty folder; returns the path to open.
type Make = fn(&Path) -> PathBuf;

struct Case {
    name: &'static str,
    make: Make,
    /// Must be in the message.
    message: &'static str,
    /// The file that the message must name.
    file: &'static str,
}

const fn case(name: &'static str, make: Make, message: &'static str, file: &'static str) -> Case {
    Case {
        name,
        make,
        message,
        file,
    }
}

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    file.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    file.extend(data);
    file
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(data);
    file
}

fn npz(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x as u8, y as u8, (x * y) as u8])
    });
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

/// A PNG whose header declares 60,000 x 60,000 pixels, with a correct sum.
fn png_bomb() -> Vec<u8> {
    let mut file = png(4, 4);
    file[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    file[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&file[12..29]);
    file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    file
}

fn csv(folder: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    put(folder, "t.csv", text)
}

fn cifar(labels: &[u8]) -> Vec<u8> {
    let record = |&label: &u8| [&[label][..], &[9; 3072]].concat();
    labels.iter().flat_map(record).collect()
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("no such path", |d| d.join("nothing"), "cannot read", "nothing"),
    case("empty file", |d| put(d, "a.npy", ""), "empty", "a.npy"),
    case("empty folder", Path::to_owned, "the folder is empty", ""),
    case("nothing known", |d| { put(d, "a.doc", "x"); d.to_owned() }, "none of its 1 entries", ""),
    case("HTML", |d| put(d, "a.csv", "<html>"), "markup", "a.csv"),
    case("LFS pointer", |d| put(d, "a.bin", "version https://git-lfs.github.com"), "LFS", "a.bin"),
    case("pickle", |d| put(d, "batch_1", b"\x80\x03}q\x00"), "pickle", "batch_1"),
    case("66 objects", |d| put(d, "a.npy", npy("|O", "(3,)", b"\x80\x03")), "pickled", "a.npy"),
    case("67 header", |d| {
        let mut file = b"\x93NUMPY\x03\x00".to_vec();
        file.extend(2_000_000_000_u32.to_le_bytes());
        put(d, "a.npy", file)
    }, "max_header_bytes", "a.npy"),
    case("68 overflow", |d| put(d, "a.npy", npy("<f8", "(4294967296, 4294967296)", b"")), "max_tensor_bytes", "a.npy"),
    case("69 short", |d| put(d, "a.npy", npy("<f4", "(100, 100)", &[0; 9])), "truncated", "a.npy"),
    case("70 unicode", |d| put(d, "a.npy", npy("<U3", "(3,)", b"")), "unicode", "a.npy"),
    case("70 code", |d| put(d, "a.npy", npy("<f4", "(3,) if x else y", b"")), "header", "a.npy"),
    case("scalar", |d| put(d, "a.npy", npy("<f4", "()", &[0; 4])), "two axes", "a.npy"),
    case("no samples", |d| put(d, "a.npy", npy("<f4", "(0, 3)", &[])), "no sample", "a.npy"),
    case("no values", |d| put(d, "a.npy", npy("|u1", "(3, 3, 0)", &[])), "at least one value", "a.npy"),
    case("label count", |d| {
        put(d, "x.npy", npy("|u1", "(2, 3)", &[0; 6]));
        put(d, "y.npy", npy("|u1", "(3,)", &[0; 3]));
        d.to_owned()
    }, "3 labels for 2 samples", "y.npy"),
    case("negative label", |d| {
        put(d, "x.npy", npy("|u1", "(2, 3)", &[0; 6]));
        put(d, "y.npy", npy("|i1", "(2,)", &[0, 0xff]));
        d.to_owned()
    }, "label -1", "y.npy"),
    case("two arrays", |d| {
        put(d, "a.npy", npy("|u1", "(2, 3)", &[0; 6]));
        put(d, "b.npy", npy("|u1", "(2, 3)", &[0; 6]));
        d.to_owned()
    }, "`a.npy` or `b.npy`", ""),
    case("npz objects", |d| put(d, "a.npz", npz(&[("x.npy", npy("|O", "(3,)", b""))])), "pickled", "a.npz[x.npy]"),
    case("npz short", |d| put(d, "a.npz", npz(&[("x.npy", npy("|u1", "(3, 3)", b"12"))])), "truncated", "a.npz[x.npy]"),
    case("npz no zip", |d| put(d, "a.npz", "PK\x03\x04 and no more"), "zip", "a.npz"),
    case("npz bomb", |d| {
        let data = vec![0; 64 << 20];
        put(d, "a.npz", npz(&[("x.npy", npy("|u1", "(8192, 8192)", &data))]))
    }, "compression ratio", "a.npz[x.npy]"),
    case("npz sum", |d| {
        let mut file = npz(&[("x.npy", npy("|u1", "(2, 3)", b"abcdef"))]);
        // The directory repeats the sum; the reader trusts that one.
        let at = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        file[at + 16] ^= 1;
        put(d, "a.npz", file)
    }, "hecksum", "a.npz[x.npy]"),
    case("gzip cut", |d| {
        let mut file = gzip(&idx(&[20, 5, 5], &(0..500_u32).map(|i| ((i * 7919) >> 3) as u8).collect::<Vec<_>>()));
        file.truncate(file.len() / 2);
        put(d, "train-images-idx3-ubyte.gz", file)
    }, "ends too early", "train-images-idx3-ubyte.gz"),
    case("gzip sum", |d| {
        let mut file = gzip(&idx(&[2, 2, 2], &[1; 8]));
        let at = file.len() - 8;
        file[at] ^= 1;
        put(d, "train-images-idx3-ubyte.gz", file)
    }, "gzip", "train-images-idx3-ubyte.gz"),
    case("gzip bomb", |d| {
        let data = idx(&[4096, 128, 128], &vec![0; 64 << 20]);
        put(d, "train-images-idx3-ubyte.gz", gzip(&data))
    }, "compression ratio", "train-images-idx3-ubyte.gz"),
    case("IDX overflow", |d| put(d, "a-idx3-ubyte", idx(&[u32::MAX; 4], b"")), "max_tensor_bytes", "a-idx3-ubyte"),
    case("IDX short", |d| put(d, "a-idx3-ubyte", idx(&[2, 2, 2], &[0; 7])), "7 found", "a-idx3-ubyte"),
    case("IDX long", |d| put(d, "a-idx3-ubyte", idx(&[2, 2, 2], &[0; 9])), "more bytes", "a-idx3-ubyte"),
    case("IDX floats", |d| put(d, "a-idx3-ubyte", [0, 0, 0xd, 1, 0, 0, 0, 0]), "type code", "a-idx3-ubyte"),
    case("IDX labels", |d| {
        put(d, "t10k-labels-idx1-ubyte", idx(&[3], &[0; 3]));
        put(d, "t10k-images-idx3-ubyte", idx(&[2, 2, 2], &[0; 8]));
        d.to_owned()
    }, "3 labels for 2", "t10k-labels-idx1-ubyte"),
    case("CIFAR label", |d| put(d, "data_batch_1.bin", cifar(&[3, 10])), "label 10 of sample 1", "data_batch_1.bin"),
    case("CIFAR short", |d| put(d, "data_batch_1.bin", &cifar(&[3, 1])[..4000]), "truncated", "data_batch_1.bin"),
    case("71 bomb", |d| { put(d, "a/x.png", png_bomb()); d.to_owned() }, "max_image_pixels", "x.png"),
    case("71 header cut", |d| { put(d, "a/x.png", &png(9, 9)[..20]); d.to_owned() }, "PNG", "x.png"),
    case("71 lies", |d| { put(d, "a/x.png", b"GIF89a.."); d.to_owned() }, "content is GIF", "x.png"),
    case("71 text", |d| { put(d, "a/x.jpg", b"hello"); d.to_owned() }, "neither PNG nor JPEG", "x.jpg"),
    case("71 nothing", |d| { put(d, "a/x.jpg", b""); d.to_owned() }, "empty", "x.jpg"),
    case("71 one image", |d| put(d, "x.png", png(2, 2)), "pass the folder", "x.png"),
    case("72 empty class", |d| {
        put(d, "a/x.png", png(2, 2));
        fs::create_dir(d.join("b")).unwrap();
        d.to_owned()
    }, "has no PNG or JPEG", "b"),
    case("72 beside", |d| {
        put(d, "a/x.png", png(2, 2));
        put(d, "y.png", png(2, 2));
        d.to_owned()
    }, "more than one way", "y.png"),
    case("74 ragged", |d| csv(d, "1,2\n3\n"), "1 fields where the first row has 2 at row 2", "t.csv"),
    case("74 wide", |d| csv(d, "1,2\n3,4,5\n"), "3 fields", "t.csv"),
    case("74 text", |d| csv(d, "1,2\n3,a\u{1b}[31m\n"), "is not a number at row 2, column 2", "t.csv"),
    case("74 NaN", |d| csv(d, "1,2\n3,nan\n"), "not finite", "t.csv"),
    case("74 infinity", |d| csv(d, "1,2\n3,1e999\n"), "not finite", "t.csv"),
    case("74 NUL", |d| csv(d, "1,2\n3,\0\n"), "NUL", "t.csv"),
    case("74 UTF-16", |d| csv(d, b"\xff\xfe1\0,\0"), "UTF-16", "t.csv"),
    case("74 field", |d| csv(d, vec![b'1'; (1 << 20) + 1]), "max_field_bytes", "t.csv"),
    case("74 quoted field", |d| csv(d, format!("\"{}", "1,\n".repeat(1 << 19))), "max_field_bytes", "t.csv"),
    case("74 label", |d| csv(d, "label,a\n-1,2\n"), "label -1", "t.csv"),
    case("74 huge label", |d| csv(d, "label,a\n1,1\n99999999999,2\n"), "label 99999999999 of sample 1", "t.csv"),
    case("74 empty field", |d| csv(d, "1,2\n3,\n"), "empty field", "t.csv"),
    case("74 header only", |d| csv(d, "a,b\n"), "no row", "t.csv"),
    case("74 label only", |d| csv(d, "label\n1\n"), "no feature", "t.csv"),
];

#[test]
fn every_class_is_refused_with_one_clear_error() {
    let mut failures = Vec::new();
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let path = (case.make)(folder.path());
        match open(&path, &OpenOptions::default()) {
            Ok(source) => failures.push(format!("{}: opened as {}", case.name, source.describe())),
            Err(error) => {
                let text = error.to_string();
                let good = text.contains(case.message) && text.contains(case.file);
                if !good || text.contains('\n') || text.contains('\u{1b}') {
                    failures.push(format!("{}: {text}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_truncated_image_is_refused_when_its_batch_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let whole = png(64, 64);
    put(folder.path(), "a/x.png", &whole[..whole.len() - 200]);
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([x as u8 * 3, y as u8, (x * y) as u8])
    })
    .write_to(&mut jpeg, image::ImageFormat::Jpeg)
    .unwrap();
    let jpeg = jpeg.into_inner();
    put(folder.path(), "a/y.jpg", &jpeg[..jpeg.len() / 2]);
    let source = open(folder.path(), &OpenOptions::default()).unwrap();
    let data = &source.splits[0].data;
    for (sample, name) in ["x.png", "y.jpg"].into_iter().enumerate() {
        let batch = data.batch(&[sample], &Preprocess::default());
        let error = batch.map(|_| name).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// Flips and cuts small valid files of every format: an answer or an error, no panic.
#[test]
fn damaged_files_never_panic() {
    let table = [
        ("a-idx3-ubyte", idx(&[2, 3, 3], &[7; 18])),
        ("b-images-idx3-ubyte.gz", gzip(&idx(&[2, 3, 3], &[7; 18]))),
        (
            "c.npz",
            npz(&[
                ("x.npy", npy("<f4", "(2, 3)", &[0; 24])),
                ("y.npy", npy("|u1", "(2,)", &[1; 2])),
            ]),
        ),
        ("d.csv", b"a,label,b\n1,x,2\n3,\"y\",4\n".to_vec()),
        ("e/f/g.png", png(5, 4)),
        (
            "h/i/j.jpg",
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("refs/images/rotated.jpg"))
                .unwrap(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut rng = regraft_data::SplitMix64::new(3);
    let mut refused = 0;
    for (name, whole) in table {
        for _ in 0..150 {
            let mut file = whole.clone();
            if rng.below(3) == 0 {
                file.truncate(rng.below(file.len()));
            }
            for _ in 0..rng.below(4) {
                if !file.is_empty() {
                    let at = rng.below(file.len());
                    file[at] = rng.next_u64() as u8;
                }
            }
            let path = put(folder.path(), name, file);
            let parent = path.parent().unwrap();
            let path = if name.contains('/') {
                parent.parent().unwrap()
            } else {
                &path
            };
            let read = open(path, &OpenOptions::default())
                .and_then(|source| source.splits[0].data.batch(&[0], &Preprocess::default()));
            refused += usize::from(read.is_err());
        }
    }
    assert!((300..900).contains(&refused), "{refused} of 900 refused");
}

type SetLimit = fn(&mut Limits);

#[test]
fn limits_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "a.npy", npy("|u1", "(100, 10)", &[0; 1000]));
    let table: [(SetLimit, &str); 4] = [
        (|l| l.max_file_bytes = 999, "max_file_bytes"),
        (|l| l.max_tensor_bytes = 999, "max_tensor_bytes"),
        (|l| l.max_total_bytes = 999, "max_total_bytes"),
        (|l| l.max_samples = 99, "max_samples"),
    ];
    for (set, name) in table {
        let mut options = OpenOptions::default();
        set(&mut options.limits);
        let error = open(&path, &options).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().unwrap().contains(name), "{error}");
    }
}

#[test]
fn a_label_column_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = csv(folder.path(), "a,b\n1,2\n");
    for (column, message) in [
        (LabelColumn::Name("c".to_owned()), "named `c`"),
        (LabelColumn::Index(2), "label column 2"),
    ] {
        let options = OpenOptions {
            label_column: column,
            ..OpenOptions::default()
        };
        let error = open(&path, &options).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn check(folder: &Path, message: &str) {
        let error = open(folder, &OpenOptions::default()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }

    #[test]
    fn links_are_not_followed_out_of_the_folder_or_into_folders() {
        let outside = tempfile::tempdir().unwrap();
        let secret = put(outside.path(), "secret.png", png(2, 2));
        let make = |target: &Path, name: &str, message: &str| {
            let folder = tempfile::tempdir().unwrap();
            put(folder.path(), "a/x.png", png(2, 2));
            symlink(target, folder.path().join(name)).unwrap();
            check(folder.path(), message);
        };
        make(&secret, "a/y.png", "out of the data folder");
        make(outside.path(), "b", "out of the data folder");
        make(Path::new("a"), "b", "leads to a folder");
        make(Path::new("."), "a/loop", "leads to a folder");
        make(Path::new("loop.png"), "a/loop.png", "leads nowhere");
        make(Path::new("/dev/zero"), "a/z.png", "out of the data folder");
    }

    #[test]
    fn a_link_inside_the_folder_is_its_file() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a/x.png", png(2, 2));
        symlink("x.png", folder.path().join("a/y.png")).unwrap();
        let source = open(folder.path(), &OpenOptions::default()).unwrap();
        assert_eq!(source.splits[0].data.len(), 2);
    }

    #[test]
    fn names_that_are_not_utf8_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a/x.png", png(2, 2));
        let odd = folder.path().join("a").join(OsStr::from_bytes(b"\xff.png"));
        fs::write(odd, png(2, 2)).unwrap();
        check(folder.path(), "is not UTF-8");
    }

    #[test]
    fn devices_are_not_read() {
        check(Path::new("/dev/zero"), "not a regular file");
    }
}
