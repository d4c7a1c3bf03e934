//! Bad outputs, killed writers, damaged run directories.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn fingerprint() -> Fingerprint {
    Fingerprint {
        model_sha256: sha256_hex(b"model"),
        data: "data".to_owned(),
        config: "config".to_owned(),
        tool_version: "0.1.0".to_owned(),
        seed: 7,
        threads: 2,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_written_file_is_whole_and_alone() {
    let dir = folder();
    let path = dir.path().join("small.onnx");
    for bytes in [vec![1; 100_000], vec![2; 3], Vec::new()] {
        write_atomic(&path, &bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(names(dir.path()), ["small.onnx"]);
}

#[test]
fn outputs_that_may_not_be_written() {
    use Overwrite::{Refuse, Replace};
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("there"), "old").unwrap();
    fs::write(at("input"), "model").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let input = at("input");
    let check = |name: &str, overwrite| {
        let error = check_output(&at(name), &[&input], overwrite).err();
        error.map_or("ok".to_owned(), |e| {
            assert!(e.hint().is_some(), "{e}");
            let text = e.to_string().replace(dir.path().to_str().unwrap(), "DIR");
            text.replace('\\', "/")
        })
    };
    let cases = [
        ("new", Refuse, "ok"),
        ("there", Refuse, "output `DIR/there` exists already"),
        ("there", Replace, "ok"),
        (
            "input",
            Replace,
            "output `DIR/input` is the input `DIR/input`",
        ),
        (
            "folder/../input",
            Replace,
            "output `DIR/folder/../input` is the input `DIR/input`",
        ),
        (
            "folder",
            Replace,
            "output `DIR/folder` is not a regular file",
        ),
        ("no/new", Refuse, "directory `DIR/no` does not exist"),
        ("there/new", Refuse, "directory `DIR/there` does not exist"),
        (
            "folder/..",
            Refuse,
            "output `DIR/folder/..` is not a regular file",
        ),
    ];
    for (name, overwrite, message) in cases {
        assert_eq!(check(name, overwrite), message, "{name}");
    }
    assert_eq!(names(dir.path()), ["folder", "input", "there"]);
    assert_eq!(fs::read(at("there")).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("input"), "model").unwrap();
    fs::hard_link(at("input"), at("hard")).unwrap();
    std::os::unix::fs::symlink(at("input"), at("soft")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();

    let input = at("input");
    for name in ["hard", "soft"] {
        let error = check_output(&at(name), &[&input], Overwrite::Replace).unwrap_err();
        assert!(
            matches!(error, StorageError::IsInput { .. }),
            "{name}: {error}"
        );
    }
    for name in ["soft", "dangling"] {
        let error = check_output(&at(name), &[], Overwrite::Replace).unwrap_err();
        assert!(
            matches!(error, StorageError::Symlink { .. }),
            "{name}: {error}"
        );
        let error = write_atomic(&at(name), b"new").unwrap_err();
        assert!(
            matches!(error, StorageError::Symlink { .. }),
            "{name}: {error}"
        );
    }
    assert_eq!(fs::read(at("input")).unwrap(), b"model");
    assert!(!at("nowhere").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn places_that_take_no_file() {
    // A device, and a file system that lets nobody make files, not even root.
    let error = write_atomic(Path::new("/dev/full"), b"new").unwrap_err();
    assert!(matches!(error, StorageError::NotAFile { .. }), "{error}");
    let error = check_output(Path::new("/proc/small.onnx"), &[], Overwrite::Refuse).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io { .. } | StorageError::ReadOnly { .. }
        ),
        "{error}"
    );
}

#[test]
fn what_the_system_says_becomes_a_kind() {
    use std::io::ErrorKind;
    let message = |kind: ErrorKind| {
        StorageError::io("write", Path::new("small.onnx"), kind.into()).to_string()
    };
    let cases = [
        (
            ErrorKind::StorageFull,
            "no space left to write `small.onnx`",
        ),
        (
            ErrorKind::QuotaExceeded,
            "no space left to write `small.onnx`",
        ),
        (
            ErrorKind::ReadOnlyFilesystem,
            "not allowed to write `small.onnx`",
        ),
        (
            ErrorKind::PermissionDenied,
            "not allowed to write `small.onnx`",
        ),
        (ErrorKind::TimedOut, "cannot write `small.onnx`"),
    ];
    for (kind, text) in cases {
        assert_eq!(message(kind), text);
    }
}

#[test]
fn orphans_are_swept_and_living_writers_are_not() {
    let dir = folder();
    let path = dir.path().join("small.onnx");
    let orphan = dir.path().join(".small.onnx.tmp-1-0");
    let living = dir.path().join(".small.onnx.tmp-2-0");
    let foreign = dir.path().join(".other.onnx.tmp-1-0");
    for file in [&orphan, &living, &foreign] {
        fs::write(file, "half").unwrap();
    }
    let held = fs::File::open(&living).unwrap();
    held.lock().unwrap();
    write_atomic(&path, b"whole").unwrap();
    assert_eq!(
        names(dir.path()),
        [".other.onnx.tmp-1-0", ".small.onnx.tmp-2-0", "small.onnx"]
    );
}

#[test]
fn units_come_back_after_a_restart() {
    let dir = folder();
    let run = dir.path().join("runs/first");
    let mut open = RunDir::open(&run, &fingerprint()).unwrap();
    assert_eq!(open.get("calibrate").unwrap(), None);
    open.put("rebuild/block/12", b"block").unwrap();
    open.put("calibrate", b"old").unwrap();
    open.put("calibrate", b"new \x00 bytes").unwrap();
    open.put("empty", b"").unwrap();
    drop(open);

    let open = RunDir::open(&run, &fingerprint()).unwrap();
    let keys: Vec<&str> = open.keys().collect();
    assert_eq!(keys, ["calibrate", "empty", "rebuild/block/12"]);
    assert_eq!(open.get("calibrate").unwrap().unwrap(), b"new \x00 bytes");
    assert_eq!(open.get("rebuild/block/12").unwrap().unwrap(), b"block");
    assert_eq!(open.get("empty").unwrap().unwrap(), b"");
    assert_eq!(open.get("tune").unwrap(), None);
}

/// A training puts a state every epoch; they must not fill the disk.
#[test]
fn what_is_replaced_again_and_again_leaves_two_files() {
    let dir = folder();
    let run = dir.path().join("run");
    let mut open = RunDir::open(&run, &fingerprint()).unwrap();
    open.put("other", b"state 3").unwrap();
    for epoch in 0..10 {
        open.put("state", format!("state {epoch}").as_bytes())
            .unwrap();
        open.put("seconds", b"60").unwrap();
    }
    assert_eq!(open.get("state").unwrap().unwrap(), b"state 9");
    assert_eq!(open.get("seconds").unwrap().unwrap(), b"60");
    // Another key has the same bytes as one that went.
    assert_eq!(open.get("other").unwrap().unwrap(), b"state 3");
    assert_eq!(names(&run.join("units")).len(), 4);
}

#[test]
fn a_second_user_is_turned_away() {
    let dir = folder();
    let first = RunDir::open(dir.path(), &fingerprint()).unwrap();
    let error = RunDir::open(dir.path(), &fingerprint()).unwrap_err();
    let StorageError::Busy { pid, .. } = error else {
        panic!("{error}");
    };
    // The second user is this process too.
    assert_eq!(pid, Some(std::process::id()));
    drop(first);
    // The lock file is still there, with the number of a process that has ended its run.
    assert!(RunDir::open(dir.path(), &fingerprint()).is_ok());
}

/// The part that differs, and what makes it differ.
type Change = (&'static str, fn(&mut Fingerprint));

#[test]
fn other_runs_are_refused() {
    let dir = folder();
    // One that finished nothing is free.
    let mut first = fingerprint();
    first.seed = 99;
    drop(RunDir::open(dir.path(), &first).unwrap());
    let mut open = RunDir::open(dir.path(), &fingerprint()).unwrap();
    open.put("first", b"unit").unwrap();
    drop(open);
    let changes: [Change; 6] = [
        ("the model", |f| f.model_sha256 = sha256_hex(b"other")),
        ("the data", |f| f.data = "other".to_owned()),
        ("the configuration", |f| f.config = "other".to_owned()),
        ("the version", |f| f.tool_version = "0.2.0".to_owned()),
        ("the seed", |f| f.seed = 8),
        ("the number of threads", |f| f.threads = 1),
    ];
    for (part, change) in changes {
        let mut other = fingerprint();
        change(&mut other);
        match RunDir::open(dir.path(), &other).unwrap_err() {
            StorageError::Fingerprint { field, .. } => assert_eq!(field, part),
            error => panic!("{part}: {error}"),
        }
    }
    assert!(RunDir::open(dir.path(), &fingerprint()).is_ok());
}

/// Damages a run directory with two units, and compares the error of opening it and reading them.
fn check_damage(damage: impl FnOnce(&Path), message: &str) {
    let dir = folder();
    let mut open = RunDir::open(dir.path(), &fingerprint()).unwrap();
    for key in ["first", "second", "third"] {
        open.put(key, key.as_bytes()).unwrap();
    }
    drop(open);
    damage(dir.path());
    let result = RunDir::open(dir.path(), &fingerprint()).and_then(|open| {
        let keys: Vec<String> = open.keys().map(str::to_owned).collect();
        keys.iter().try_for_each(|key| {
            let bytes = open.get(key)?.unwrap();
            assert_eq!(bytes, key.as_bytes());
            Ok(())
        })?;
        Ok(keys.len())
    });
    let text = match result {
        Ok(count) => format!("{count} units"),
        Err(error) => {
            assert!(error.hint().is_some(), "{error}");
            error.to_string()
        }
    };
    assert!(text.contains(message), "{text}\nis not: {message}");
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_torn_last_line_is_not_done() {
    let journal = |dir: &Path| dir.join("journal.jsonl");
    check_damage(|_| {}, "3 units");
    // The last line is 139 bytes long, its end included.
    for cut in [1, 2, 20, 60, 138, 139] {
        check_damage(
            |dir| edit(&journal(dir), |bytes| bytes.truncate(bytes.len() - cut)),
            "2 units",
        );
    }
    check_damage(
        |dir| edit(&journal(dir), |bytes| bytes.truncate(bytes.len() - 140)),
        "1 units",
    );
    check_damage(|dir| fs::write(journal(dir), "").unwrap(), "0 units");
    check_damage(|dir| fs::remove_file(journal(dir)).unwrap(), "0 units");
    check_damage(
        |dir| edit(&journal(dir), |bytes| bytes.extend([0; 4096])),
        "3 units",
    );
}

#[test]
fn writing_goes_on_behind_a_torn_line() {
    let dir = folder();
    let mut open = RunDir::open(dir.path(), &fingerprint()).unwrap();
    open.put("first", b"1").unwrap();
    open.put("second", b"2").unwrap();
    drop(open);
    edit(&dir.path().join("journal.jsonl"), |bytes| {
        bytes.truncate(bytes.len() - 9);
    });
    let mut open = RunDir::open(dir.path(), &fingerprint()).unwrap();
    assert_eq!(open.keys().collect::<Vec<_>>(), ["first"]);
    open.put("second", b"2").unwrap();
    open.put("third", b"3").unwrap();
    drop(open);
    let open = RunDir::open(dir.path(), &fingerprint()).unwrap();
    assert_eq!(open.keys().count(), 3);
}

#[test]
fn other_damage_is_an_error() {
    let journal = |dir: &Path| dir.join("journal.jsonl");
    let unit = |dir: &Path| dir.join(format!("units/{}.bin", sha256_hex(b"second")));
    let flip = |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1;
    check_damage(
        |dir| edit(&journal(dir), |bytes| flip(bytes, 20)),
        "is damaged in line 1: its checksum does not fit",
    );
    check_damage(
        |dir| edit(&journal(dir), |bytes| flip(bytes, 0)),
        "is damaged in line 1: it is not an entry",
    );
    check_damage(
        |dir| {
            edit(&journal(dir), |bytes| {
                let first = bytes.iter().position(|b| *b == b'\n').unwrap();
                bytes.drain(..=first);
            });
        },
        "is damaged in line 1: its checksum does not fit",
    );
    check_damage(
        |dir| edit(&unit(dir), |bytes| flip(bytes, 0)),
        "unit `second` in",
    );
    check_damage(
        |dir| edit(&unit(dir), |bytes| bytes.push(0)),
        "its file has another length",
    );
    check_damage(
        |dir| fs::remove_file(unit(dir)).unwrap(),
        "its file is missing",
    );
    let manifest = |dir: &Path| dir.join("manifest.json");
    check_damage(
        |dir| edit(&manifest(dir), |bytes| bytes.truncate(30)),
        "manifest",
    );
    check_damage(
        |dir| {
            let newer = r#"{"format":"regraft-run","version":2,"fingerprint":[]}"#;
            fs::write(manifest(dir), newer).unwrap();
        },
        "has format version 2, this program knows 1",
    );
    check_damage(
        |dir| fs::write(manifest(dir), r#"{"format":"x","version":1}"#).unwrap(),
        "its format is `x`",
    );
    check_damage(
        |dir| fs::remove_file(manifest(dir)).unwrap(),
        "is not a run directory: it holds",
    );
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let dir = folder();
    fs::write(dir.path().join("photo.png"), "x").unwrap();
    let error = RunDir::open(dir.path(), &fingerprint()).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    assert_eq!(names(dir.path()), ["photo.png"]);
    // What a run leaves that was killed before its manifest.
    let dir = folder();
    fs::write(dir.path().join("lock"), "1\n").unwrap();
    fs::write(dir.path().join(".manifest.json.tmp-1-0"), "{").unwrap();
    assert!(RunDir::open(dir.path(), &fingerprint()).is_ok());
}

/// Says to this test binary, started again, that it is the child and where it shall write.
const CHILD_DIR: &str = "REGRAFT_TEST_CHILD_DIR";

fn child_unit(index: usize) -> Vec<u8> {
    vec![index as u8; 50_000 + index]
}

#[test]
fn a_killed_writer_leaves_a_directory_that_resumes() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let mut open = RunDir::open(Path::new(&dir), &fingerprint()).unwrap();
        let done = open.keys().count();
        for index in done..100_000 {
            open.put(&format!("unit/{index:06}"), &child_unit(index))
                .unwrap();
        }
        return;
    }
    let dir = folder();
    let mut finished = 0;
    for round in 0..4_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "storage::tests::a_killed_writer_leaves_a_directory_that_resumes",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Kill it somewhere in the middle of its writing, however slow the machine is.
        let journal = dir.path().join("journal.jsonl");
        let len = || fs::metadata(&journal).map_or(0, |m| m.len());
        let (before, start) = (len(), Instant::now());
        while len() == before && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(u64::from(round) * 2_700));
        child.kill().unwrap();
        child.wait().unwrap();

        let open = RunDir::open(dir.path(), &fingerprint()).unwrap();
        let keys: Vec<String> = open.keys().map(str::to_owned).collect();
        assert!(keys.len() > finished, "round {round}: nothing was kept");
        finished = keys.len();
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(*key, format!("unit/{index:06}"));
            assert_eq!(open.get(key).unwrap().unwrap(), child_unit(index));
        }
        let halves = names(&dir.path().join("units"));
        assert!(halves.iter().all(|name| !name.starts_with('.')));
    }
}
