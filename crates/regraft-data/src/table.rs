//! CSV tables: numeric features, one row per sample, and optionally a label column.
//!
//! Comma, semicolon or tab, whichever the first line has most of. A header is a
//! first line without any number, or one that names the label column. A UTF-8
//! byte order mark is skipped.

use std::collections::BTreeMap;
use std::path::Path;

use csv_core::{ReadFieldResult, Reader, ReaderBuilder};

use crate::error::DataError;
use crate::file::{Stream, reserve};
use crate::limits::{self, Budget};

/// Which column of a table holds the class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LabelColumn {
    /// The first column whose header is `label`, `labels`, `class`, `target` or
    /// `y`; without such a header there are no labels.
    #[default]
    Auto,
    /// No column: all are features.
    None,
    /// The column with this header.
    Name(String),
    /// The column with this number, from 0.
    Index(usize),
}

const LABEL_NAMES: [&str; 5] = ["label", "labels", "class", "target", "y"];
/// Those that say that there are classes.
const CLASS_NAMES: [&str; 3] = ["label", "labels", "class"];

/// A table as read; labels still are positions in `label_texts`.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) n_features: usize,
    pub(crate) values: Vec<f32>,
    pub(crate) labels: Option<Vec<u32>>,
    pub(crate) label_texts: Vec<String>,
    /// The label column as numbers, until something in it is none.
    pub(crate) numbers: Option<Vec<f32>>,
    /// True if the label column holds more different numbers than there may be classes: it has no
    /// `labels` then.
    pub(crate) is_numeric: bool,
    /// True if the label column's name does not say that it holds classes.
    pub(crate) may_count: bool,
}

impl Table {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.n_features.max(1)
    }
}

/// Reads a whole table.
pub(crate) fn read(
    path: &Path,
    label_column: &LabelColumn,
    budget: &mut Budget,
) -> Result<Table, DataError> {
    let mut stream = Stream::open(path, &budget.limits)?;
    let file = stream.name().to_owned();
    let buffer_len = usize::try_from(budget.limits.max_field_bytes)
        .unwrap_or(usize::MAX)
        .clamp(1, 1 << 24);
    let mut parser = Parser {
        file,
        core: Reader::new(),
        field: vec![0; buffer_len],
        filled: 0,
        row: Row::default(),
        label_column,
        label_at: None,
        columns: None,
        header_rows: 0,
        ids: BTreeMap::new(),
        table: Table::default(),
    };
    let mut first = true;
    stream.for_all(|chunk| {
        let body = if std::mem::take(&mut first) {
            parser.begin(chunk)?
        } else {
            chunk
        };
        parser.feed(body, budget)
    })?;
    if first {
        return Err(parser.malformed("the file is empty"));
    }
    parser.feed(&[], budget)?;
    if parser.table.values.is_empty() {
        return Err(parser.malformed("there is no row of numbers"));
    }
    Ok(parser.finish())
}

#[derive(Debug, Default)]
struct Row {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Row {
    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(a, &b)| &self.bytes[a..b])
    }
}

struct Parser<'a> {
    file: String,
    core: Reader,
    field: Vec<u8>,
    filled: usize,
    row: Row,
    label_column: &'a LabelColumn,
    label_at: Option<usize>,
    /// Columns of the first row, features and label.
    columns: Option<usize>,
    header_rows: usize,
    ids: BTreeMap<String, u32>,
    table: Table,
}

impl Parser<'_> {
    fn malformed(&self, reason: impl Into<String>) -> DataError {
        DataError::malformed(&self.file, "CSV", reason)
    }

    fn value_error(&self, what: String, column: usize) -> DataError {
        DataError::Value {
            file: self.file.clone(),
            what,
            place: format!(
                "row {}, column {}",
                self.table.rows() + 1 + self.header_rows,
                column + 1
            ),
        }
    }

    /// Looks at the first bytes: encoding and delimiter. Returns what follows a mark.
    fn begin<'b>(&mut self, chunk: &'b [u8]) -> Result<&'b [u8], DataError> {
        if chunk.starts_with(&[0xff, 0xfe]) || chunk.starts_with(&[0xfe, 0xff]) {
            return Err(self.malformed("it is UTF-16; save it as UTF-8"));
        }
        let body = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(chunk);
        let line = body.split(|&b| b == b'\n').next().unwrap_or_default();
        let count = |d: u8| line.iter().map(|&b| usize::from(b == d)).sum::<usize>();
        let delimiter = [b';', b'\t']
            .into_iter()
            .filter(|&d| count(d) > count(b','))
            .max_by_key(|&d| count(d))
            .unwrap_or(b',');
        self.core = ReaderBuilder::new().delimiter(delimiter).build();
        Ok(body)
    }

    fn feed(&mut self, mut input: &[u8], budget: &mut Budget) -> Result<(), DataError> {
        if input.contains(&0) {
            return Err(self.malformed("it contains a NUL byte"));
        }
        // An empty input tells the parser that the file ends.
        let last = input.is_empty();
        while last || !input.is_empty() {
            let space = &mut self.field[self.filled..];
            let (result, n_in, n_out) = self.core.read_field(input, space);
            input = &input[n_in..];
            self.filled += n_out;
            match result {
                ReadFieldResult::InputEmpty if last => {}
                ReadFieldResult::InputEmpty | ReadFieldResult::End => return Ok(()),
                ReadFieldResult::OutputFull => {
                    return Err(DataError::Limit {
                        file: self.file.clone(),
                        what: "length of a field in bytes",
                        value: self.filled as u64 + 1,
                        limit: budget.limits.max_field_bytes,
                        name: "max_field_bytes",
                    });
                }
                ReadFieldResult::Field { record_end } => {
                    self.end_field(budget)?;
                    if record_end {
                        self.end_row(budget)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end_field(&mut self, budget: &Budget) -> Result<(), DataError> {
        reserve(&mut self.row.bytes, self.filled, &self.file)?;
        self.row.bytes.extend_from_slice(&self.field[..self.filled]);
        self.row.ends.push(self.row.bytes.len());
        self.filled = 0;
        let limit = budget.limits.max_columns;
        let columns = self.row.ends.len() as u64;
        limits::check(
            &self.file,
            "number of columns",
            columns,
            limit,
            "max_columns",
        )?;
        let bytes = self.row.bytes.len() as u64;
        let limit = budget.limits.max_tensor_bytes;
        limits::check(
            &self.file,
            "length of a row in bytes",
            bytes,
            limit,
            "max_tensor_bytes",
        )
    }

    fn end_row(&mut self, budget: &mut Budget) -> Result<(), DataError> {
        let row = std::mem::take(&mut self.row);
        if self.columns.is_none() {
            self.columns = Some(row.ends.len());
            let is_header = self.first_row(&row)?;
            let features = row.ends.len() - usize::from(self.label_at.is_some());
            if features == 0 {
                return Err(self.malformed("there is no feature column"));
            }
            self.table.n_features = features;
            if self.label_at.is_some() {
                self.table.labels = Some(Vec::new());
                self.table.numbers = Some(Vec::new());
            }
            if is_header {
                self.header_rows = 1;
                return Ok(());
            }
        }
        if Some(row.ends.len()) != self.columns {
            let expected = self.columns.unwrap_or_default();
            let what = format!(
                "{} fields where the first row has {expected}",
                row.ends.len()
            );
            return Err(self.value_error(what, row.ends.len().min(expected)));
        }
        budget.spend(&self.file, self.table.n_features as u64 * 4 + 8)?;
        budget.check_samples(&self.file, self.table.rows() as u64 + 1)?;
        reserve(&mut self.table.values, self.table.n_features, &self.file)?;
        let mut numbers = Vec::with_capacity(self.table.n_features);
        for (column, field) in row.fields().enumerate() {
            if Some(column) == self.label_at {
                self.push_label(field, column, budget)?;
            } else {
                numbers.push(self.number(field, column)?);
            }
        }
        self.table.values.extend(numbers);
        // The buffers are used again for the next row.
        self.row = row;
        self.row.bytes.clear();
        self.row.ends.clear();
        Ok(())
    }

    /// Finds the label column, and returns whether the first row is a header.
    fn first_row(&mut self, row: &Row) -> Result<bool, DataError> {
        let texts: Vec<String> = row
            .fields()
            .map(|f| String::from_utf8_lossy(f).trim().to_owned())
            .collect();
        let named = |wanted: &dyn Fn(&str) -> bool| texts.iter().position(|t| wanted(t));
        self.table.may_count = *self.label_column == LabelColumn::Auto
            && !texts
                .iter()
                .any(|t| CLASS_NAMES.contains(&t.to_ascii_lowercase().as_str()));
        let is_label = |t: &str| LABEL_NAMES.contains(&t.to_ascii_lowercase().as_str());
        let numeric = |t: &String| t.parse::<f64>().is_ok();
        let mut is_header = texts.iter().any(|t| is_label(t)) || !texts.iter().any(numeric);
        self.label_at = match self.label_column {
            LabelColumn::Auto => named(&is_label),
            LabelColumn::None => None,
            LabelColumn::Name(name) => {
                is_header = true;
                let at = named(&|t: &str| t == name);
                Some(at.ok_or_else(|| self.malformed(format!("no column is named `{name}`")))?)
            }
            LabelColumn::Index(index) if *index < texts.len() => Some(*index),
            LabelColumn::Index(index) => {
                let n = texts.len();
                return Err(self.malformed(format!("no label column {index}, it has {n}")));
            }
        };
        Ok(is_header)
    }

    fn push_label(
        &mut self,
        field: &[u8],
        column: usize,
        budget: &Budget,
    ) -> Result<(), DataError> {
        let text = std::str::from_utf8(field)
            .map_err(|_| self.value_error("a label that is not UTF-8".to_owned(), column))?
            .trim();
        if text.is_empty() {
            return Err(self.value_error("an empty label".to_owned(), column));
        }
        let number = text.parse::<f32>().ok().filter(|x| x.is_finite());
        match (&mut self.table.numbers, number) {
            (Some(numbers), Some(number)) => numbers.push(number),
            (numbers, _) => *numbers = None,
        }
        if self.table.is_numeric {
            let is_one = self.table.numbers.is_some();
            return if is_one {
                Ok(())
            } else {
                Err(self.too_many_classes(budget))
            };
        }
        let next = self.ids.len() as u32;
        let id = self.ids.get(text).copied().unwrap_or(next);
        if id == next {
            self.ids.insert(text.to_owned(), next);
            self.table.label_texts.push(text.to_owned());
        }
        self.table.labels.get_or_insert_default().push(id);
        if self.ids.len() as u64 <= budget.limits.max_classes {
            return Ok(());
        }
        if self.table.numbers.is_none() {
            return Err(self.too_many_classes(budget));
        }
        // So many different numbers are no classes; their texts take memory.
        self.table.is_numeric = true;
        self.table.labels = Some(Vec::new());
        self.table.label_texts = Vec::new();
        self.ids.clear();
        Ok(())
    }

    fn too_many_classes(&self, budget: &Budget) -> DataError {
        DataError::Limit {
            file: self.file.clone(),
            what: "number of classes",
            value: budget.limits.max_classes + 1,
            limit: budget.limits.max_classes,
            name: "max_classes",
        }
    }

    fn number(&self, field: &[u8], column: usize) -> Result<f32, DataError> {
        let text = std::str::from_utf8(field).unwrap_or("?").trim();
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(self.value_error(format!("`{text}` is not finite in f32"), column)),
            Err(_) if text.is_empty() => Err(self.value_error("an empty field".to_owned(), column)),
            Err(_) => {
                let short: String = text.chars().take(40).collect();
                let what = format!("`{}` is not a number", short.escape_debug());
                Err(self.value_error(what, column))
            }
        }
    }

    fn finish(self) -> Table {
        self.table
    }
}

/// Returns the class that a whole number is; `1.0` is how other tools write one.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_suffix(".0").unwrap_or(text);
    digits.parse::<i64>().ok()
}

/// Returns class names for the labels of several tables, and rewrites the labels
/// to them. Whole numbers stay what they are and need no names. Numbers with fractions, and in a
/// column that is not called after classes those below zero or past `max_classes`, are numbers
/// to find, and then no table has labels.
///
/// # Errors
/// [`DataError::LabelRange`] for any other whole number past `max_classes`.
pub(crate) fn unify_labels(
    tables: &mut [(String, Table)],
    max_classes: u64,
) -> Result<Vec<String>, DataError> {
    let texts = || tables.iter().flat_map(|(_, t)| &t.label_texts);
    let numeric = texts().all(|t| whole(t).is_some());
    let labelled = || tables.iter().filter(|(_, t)| t.labels.is_some());
    let is_class = |t: &String| whole(t).is_some_and(|c| (0..max_classes as i64).contains(&c));
    let counts = labelled().all(|(_, t)| t.may_count) && !texts().all(is_class);
    let is_numeric = labelled().any(|(_, t)| t.is_numeric) || !numeric || counts;
    if is_numeric && labelled().all(|(_, t)| t.numbers.is_some()) {
        for (_, table) in tables.iter_mut() {
            table.labels = None;
        }
        return Ok(Vec::new());
    }
    for (_, table) in tables.iter_mut() {
        table.numbers = None;
    }
    let texts = || tables.iter().flat_map(|(_, t)| &t.label_texts);
    let mut names: Vec<String> = Vec::new();
    if !numeric {
        names = texts().cloned().collect();
        names.sort();
        names.dedup();
    }
    for (file, table) in tables.iter_mut() {
        let mut map = Vec::new();
        for (first, text) in table.label_texts.iter().enumerate() {
            let class = match whole(text) {
                Some(class) if numeric => class,
                _ => names.binary_search(text).map_or(-1, |i| i as i64),
            };
            let in_range = u32::try_from(class)
                .ok()
                .filter(|&c| u64::from(c) < max_classes);
            map.push(in_range.ok_or_else(|| {
                let labels = table.labels.as_deref().unwrap_or_default();
                let sample = labels.iter().position(|&l| l as usize == first);
                DataError::LabelRange {
                    file: file.clone(),
                    label: class,
                    sample: sample.unwrap_or(0) as u64,
                    n_classes: max_classes,
                }
            })?);
        }
        for label in table.labels.iter_mut().flatten() {
            *label = map.get(*label as usize).copied().unwrap_or(*label);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn opened(text: &str, max_classes: u64) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let limits = Limits {
            max_classes,
            ..Limits::default()
        };
        let table = read(&path, &LabelColumn::Auto, &mut Budget::new(&limits))?;
        let mut tables = vec![("t.csv".to_owned(), table)];
        unify_labels(&mut tables, max_classes)?;
        Ok(tables.remove(0).1)
    }

    #[test]
    fn a_target_column_is_of_classes_or_of_numbers() {
        let classes = opened("a,target\n1,0\n2,3\n", 10).unwrap();
        assert_eq!((classes.labels, classes.numbers), (Some(vec![0, 3]), None));
        for text in [
            "a,target\n1,0.5\n2,3\n",
            "a,label\n1,0.5\n2,3\n",
            "a,target\n1,-2\n2,3\n",
            "a,target\n1,2\n2,30\n",
        ] {
            let found = opened(text, 10).unwrap();
            assert_eq!(found.labels, None, "{text}");
            assert_eq!(found.numbers.map(|n| n.len()), Some(2), "{text}");
        }
        // More numbers than there may be classes, in any order.
        for text in ["a,y\n1,1\n1,2\n1,3\n1,0.5\n", "a,y\n1,0.5\n1,1\n1,2\n1,3\n"] {
            assert_eq!(opened(text, 2).unwrap().numbers.map(|n| n.len()), Some(4));
        }
        let names = opened("a,y\n1,red\n1,0.5\n", 10).unwrap();
        assert_eq!((names.labels, names.numbers), (Some(vec![1, 0]), None));
        assert!(opened("a,y\n1,1\n1,2\n1,3\n1,red\n", 2).is_err());
    }
}
