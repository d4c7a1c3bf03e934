//! What can go wrong with report.json.

use std::error::Error;

/// Why a report could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The text is not a report.
    #[error("cannot read the report")]
    Read {
        /// Where and why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A figure has no JSON form.
    #[error("cannot write the report")]
    Write {
        /// Which and why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The report has another schema.
    #[error("report has schema_version {found}, this program reads {supported}")]
    Version {
        /// The version in the file; 0 if it names none.
        found: u32,
        /// The version that this program reads.
        supported: u32,
    },
}

impl ReportError {
    pub(super) fn read(source: serde_json::Error) -> Self {
        Self::Read {
            source: Box::new(source),
        }
    }

    pub(super) fn write(source: serde_json::Error) -> Self {
        Self::Write {
            source: Box::new(source),
        }
    }
}
