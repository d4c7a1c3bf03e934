//! Where the cases come from: a folder of the ONNX backend suite, or the packed file beside it.

use std::path::{Path, PathBuf};

/// The kinds of cases, as the suite names its folders.
pub(crate) const KINDS: [&str; 4] = ["node", "pytorch-converted", "pytorch-operator", "simple"];

/// One set of inputs with the outputs that belong to them, encoded tensors in port order.
#[derive(Debug, Default)]
pub(crate) struct DataSet {
    pub(crate) inputs: Vec<Vec<u8>>,
    pub(crate) outputs: Vec<Vec<u8>>,
}

/// A model and its data.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    pub(crate) sets: Vec<DataSet>,
}

/// Returns the cases below `root`, the folder that holds one folder a kind, sorted.
pub(crate) fn folders(root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for kind in KINDS {
        for folder in entries(&root.join(kind)) {
            if folder.join("model.onnx").is_file() {
                found.push((kind.to_owned(), folder));
            }
        }
    }
    found
}

/// Returns the case in a folder.
pub(crate) fn load(kind: &str, folder: &Path) -> Case {
    let sets = entries(folder)
        .into_iter()
        .filter(|entry| name_of(entry).starts_with("test_data_set_"))
        .map(|set| DataSet {
            inputs: numbered(&set, "input"),
            outputs: numbered(&set, "output"),
        })
        .collect();
    Case {
        kind: kind.to_owned(),
        name: name_of(folder),
        model: bytes_of(&folder.join("model.onnx")),
        sets,
    }
}

/// Returns the files `{what}_0.pb`, `{what}_1.pb` and so on.
fn numbered(folder: &Path, what: &str) -> Vec<Vec<u8>> {
    let paths = (0..).map(|i| folder.join(format!("{what}_{i}.pb")));
    paths
        .take_while(|path| path.is_file())
        .map(|path| bytes_of(&path))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(listed) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads the packed cases; see `refs/conformance/make.py` for the layout.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn number(&mut self) -> usize {
        let (head, tail) = self.0.split_at(4);
        self.0 = tail;
        u32::from_le_bytes(head.try_into().expect("four bytes")) as usize
    }

    fn bytes(&mut self) -> &'a [u8] {
        let n = self.number();
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("UTF-8")
    }

    fn list(&mut self) -> Vec<Vec<u8>> {
        (0..self.number()).map(|_| self.bytes().to_vec()).collect()
    }
}

/// Returns the cases in a packed file.
pub(crate) fn unpack(bytes: &[u8]) -> Vec<Case> {
    let mut packed = Packed(bytes);
    (0..packed.number())
        .map(|_| Case {
            kind: packed.text(),
            name: packed.text(),
            model: packed.bytes().to_vec(),
            sets: (0..packed.number())
                .map(|_| DataSet {
                    inputs: packed.list(),
                    outputs: packed.list(),
                })
                .collect(),
        })
        .collect()
}
