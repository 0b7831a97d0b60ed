//! What a file's bytes must hash to.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// The digest of a whole file: never a path, never a text from a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    /// Of the content: what a hub tells of large files.
    Sha256([u8; 32]),
    /// Of the git blob: what a hub tells of small files. `sha1("blob " + length + NUL + content)`.
    GitSha1([u8; 20]),
}

impl Digest {
    /// Reads 64 hexadecimal digits as SHA-256.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn sha256(text: &str) -> Result<Self> {
        hexadecimal(text).map(Self::Sha256)
    }

    /// Reads 40 hexadecimal digits as the SHA-1 of a git blob.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn git_sha1(text: &str) -> Result<Self> {
        hexadecimal(text).map(Self::GitSha1)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes): (_, &[u8]) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::GitSha1(bytes) => ("git-sha1", bytes),
        };
        write!(formatter, "{kind}:")?;
        bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.split_once(':') {
            Some(("sha256", digits)) => Self::sha256(digits),
            Some(("git-sha1", digits)) => Self::git_sha1(digits),
            _ => Err(Error::Name { name: text, reason: "it is no digest".into() }),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

fn hexadecimal<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH]> {
    let refused = || Error::Name {
        name: text.to_owned(),
        reason: format!("a digest of this kind has {} hexadecimal digits", LENGTH * 2),
    };
    let mut bytes = [0; LENGTH];
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == LENGTH * 2).ok_or_else(refused)?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] * 16 + pair[1]) as u8;
    }
    Ok(bytes)
}

/// Computes the digest of a file while its bytes come.
#[derive(Debug, Clone)]
pub struct FileHasher(Algorithm);

#[derive(Debug, Clone)]
enum Algorithm {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl FileHasher {
    /// Begins a digest of the kind of `expected`, of a file of `size` bytes.
    pub fn like(expected: &Digest, size: u64) -> Self {
        Self(match expected {
            Digest::Sha256(_) => Algorithm::Sha256(Sha256::new()),
            Digest::GitSha1(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {size}\0"));
                Algorithm::GitSha1(hasher)
            }
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(hasher) => hasher.update(bytes),
            Algorithm::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self.0 {
            Algorithm::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Algorithm::GitSha1(hasher) => Digest::GitSha1(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, FileHasher};

    fn digest_of(expected: &str, pieces: &[&[u8]]) -> String {
        let expected = Digest::try_from(expected.to_owned()).unwrap();
        let mut hasher = FileHasher::like(&expected, pieces.iter().map(|piece| piece.len() as u64).sum());
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish().to_string()
    }

    #[test]
    fn digests_are_those_of_the_published_vectors() {
        // `printf 'Hello, World!' | git hash-object --stdin`; the SHA-256 is of FIPS 180-2, B.1.
        let git = "git-sha1:b45ef6fec89518d314f546fd6c3025367b721684";
        assert_eq!(digest_of(git, &[b"Hello, ", b"World!"]), git);
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(sha256, &[b"a", b"", b"bc"]), sha256);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "sha256:", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e", "../../etc/passwd"] {
            assert!(Digest::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!(Digest::sha256(&"g".repeat(64)).is_err());
        assert!(Digest::git_sha1(&"0".repeat(64)).is_err(), "a SHA-256 is no git digest");
    }
}
