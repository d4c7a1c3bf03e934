//! Archives of `NumPy` arrays: `x_train`, `y_train`, `x_test`, `y_test`, or
//! `x`, `y`, or one array.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use std::fs::File;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::elements::Elements;
use crate::error::DataError;
use crate::file::{Stream, open_file, sniff};
use crate::limits::{self, Budget};
use crate::named_arrays::{ArrayValues, NamedArray};
use crate::npy::{self, Header, Number};

/// An open archive and the headers of its arrays by name.
pub(crate) struct Npz {
    file: String,
    archive: ZipArchive<BufReader<File>>,
    /// Array name without `.npy`, entry index and header.
    pub(crate) arrays: BTreeMap<String, (usize, Header)>,
}

/// Opens an archive and reads the headers of its arrays.
pub(crate) fn open(path: &Path, budget: &Budget) -> Result<Npz, DataError> {
    let file = path.display().to_string();
    if !sniff(path, 4, &budget.limits)?.starts_with(b"PK") {
        return Err(DataError::malformed(
            &file,
            "npz",
            "it is not a zip archive",
        ));
    }
    let (handle, _) = open_file(path, &budget.limits)?;
    let archive = ZipArchive::new(BufReader::new(handle)).map_err(|e| zip_error(&file, &e))?;
    limits::check(
        &file,
        "number of files",
        archive.len() as u64,
        budget.limits.max_files,
        "max_files",
    )?;
    let mut npz = Npz {
        file,
        archive,
        arrays: BTreeMap::new(),
    };
    for index in 0..npz.archive.len() {
        let mut stream = npz.entry(index, budget)?;
        let shown = stream.name().to_owned();
        let header = npy::read_header(&mut stream, &budget.limits)?;
        drop(stream);
        let entry = npz.entry_name(index)?;
        let name = entry.strip_suffix(".npy").unwrap_or(&entry).to_owned();
        if npz.arrays.insert(name, (index, header)).is_some() {
            return Err(DataError::malformed(
                &shown,
                "npz",
                "the entry is there twice",
            ));
        }
    }
    Ok(npz)
}

impl Npz {
    /// Reads the values of the array `name`.
    pub(crate) fn values(
        &mut self,
        name: &str,
        budget: &mut Budget,
    ) -> Result<Elements, DataError> {
        let (index, header) = self.array(name)?;
        let mut stream = self.entry(index, budget)?;
        npy::read_header(&mut stream, &budget.limits)?;
        npy::read_values(&mut stream, &header, budget)
    }

    /// Reads the array `name` as labels.
    pub(crate) fn labels(
        &mut self,
        name: &str,
        budget: &mut Budget,
    ) -> Result<Vec<u32>, DataError> {
        let (index, header) = self.array(name)?;
        let mut stream = self.entry(index, budget)?;
        npy::read_header(&mut stream, &budget.limits)?;
        npy::read_labels(&mut stream, &header, budget)
    }

    /// Reads the array `name` in the type of its kind.
    pub(crate) fn named_array(
        &mut self,
        name: &str,
        budget: &mut Budget,
    ) -> Result<NamedArray, DataError> {
        let (index, header) = self.array(name)?;
        let mut stream = self.entry(index, budget)?;
        npy::read_header(&mut stream, &budget.limits)?;
        let shape = npy::usize_shape(stream.name(), &header.shape)?;
        let values = if header.number.is_integer() {
            let integers = npy::read_integers(&mut stream, &header, budget)?;
            match header.number {
                Number::Bool => ArrayValues::Bool(integers.iter().map(|&x| x != 0).collect()),
                _ => ArrayValues::I64(integers),
            }
        } else {
            let elements = npy::read_values(&mut stream, &header, budget)?;
            let mut floats = Vec::new();
            elements.append_to(0, elements.len(), &mut floats);
            ArrayValues::F32(floats)
        };
        Ok(NamedArray { shape, values })
    }

    fn array(&self, name: &str) -> Result<(usize, Header), DataError> {
        self.arrays.get(name).cloned().ok_or_else(|| {
            DataError::malformed(&self.file, "npz", format!("array `{name}` is missing"))
        })
    }

    fn entry_name(&self, index: usize) -> Result<String, DataError> {
        let name = match self.archive.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            Some(Err(e)) => return Err(zip_error(&self.file, &e)),
            None => String::new(),
        };
        if name.contains(['\0', '\u{fffd}']) {
            return Err(DataError::malformed(
                &self.file,
                "npz",
                format!("the name of entry {index} is not UTF-8"),
            ));
        }
        Ok(name)
    }

    fn entry(&mut self, index: usize, budget: &Budget) -> Result<Stream<'_>, DataError> {
        let entry = self.entry_name(index)?;
        let shown = format!("{}[{}]", self.file, entry.escape_debug());
        let file = self
            .archive
            .by_index(index)
            .map_err(|e| zip_error(&shown, &e))?;
        let compressed = file.compressed_size();
        Ok(Stream::entry(shown, file, compressed, &budget.limits))
    }
}

fn zip_error(file: &str, error: &ZipError) -> DataError {
    DataError::Compression {
        file: file.to_owned(),
        format: "zip",
        reason: error.to_string().replace(['\n', '\r'], " "),
    }
}
