//! SHA-256, for content addresses and fingerprints.

use sha2::{Digest as _, Sha256};

/// Returns the SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.add(bytes);
    digest.hex()
}

/// The SHA-256 of what comes in pieces.
#[derive(Default)]
pub(crate) struct Digest(Sha256);

impl Digest {
    /// Goes on with more bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns it as 64 lower-case hexadecimal digits.
    pub(crate) fn hex(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_digests() {
        // FIPS 180-2, appendix B, and the digest of nothing.
        let cases = [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
        ];
        for (text, digest) in cases {
            assert_eq!(sha256_hex(text.as_bytes()), digest, "`{text}`");
            let mut in_pieces = Digest::default();
            for byte in text.bytes() {
                in_pieces.add(&[byte]);
            }
            assert_eq!(in_pieces.hex(), digest, "`{text}`");
        }
    }
}
