//! The file of one block: what it is of, its rows, and a keyed digest over both.
//!
//! Whoever reads it knows what must stand in the header, byte for byte, so nothing in the file is ever
//! interpreted: what differs is refused.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use engine::{KvElement, KvLayout, TokenId};

use super::fingerprint::Fingerprint;

/// The secret that digests are made with.
pub(super) type Key = [u8; 32];
/// A digest over a chain of tokens, from the first one on.
pub(super) type Digest = [u8; 32];

const MAGIC: &[u8; 8] = b"HEARTHKV";
/// Raised with every change of the format or of what the rows mean. Part of each fingerprint too, so that
/// blocks of older formats are not even looked for.
pub(super) const FORMAT_VERSION: u32 = 1;
const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// Why a block file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is not there, or cannot be read.
    Missing,
    /// It is not what was written, or not written here.
    Damaged,
    /// It was computed by another model, or by this one in another way.
    OtherModel,
    /// Its rows lie otherwise.
    OtherLayout,
    /// It stands for other tokens, or for these behind others.
    OtherTokens,
}

/// What a block is of.
pub(super) struct Content<'a> {
    pub(super) model: &'a Fingerprint,
    /// The chain that ends where this block begins.
    pub(super) parent: Digest,
    /// The chain that ends with this block.
    pub(super) chain: Digest,
    pub(super) start: usize,
    pub(super) tokens: &'a [TokenId],
    pub(super) layout: &'a KvLayout,
}

impl Content<'_> {
    /// The parts of the header, so that one that differs can be named.
    fn header(&self) -> [(Vec<u8>, Doubt); 4] {
        let number = |number: usize| (number as u64).to_le_bytes();
        let format = [MAGIC.as_slice(), &FORMAT_VERSION.to_le_bytes()].concat();
        let mut layout = number(self.layout.tensors.len()).to_vec();
        for tensor in &self.layout.tensors {
            let element: u64 = match tensor.element {
                KvElement::F32 => 1,
                KvElement::F16 => 2,
            };
            layout.extend([number(tensor.heads), number(tensor.head_size), element.to_le_bytes()].concat());
        }
        let mut tokens = [self.parent, self.chain].concat();
        tokens.extend([number(self.start), number(self.tokens.len())].concat());
        tokens.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        [
            (format, Doubt::Damaged),
            (self.model.bytes().to_vec(), Doubt::OtherModel),
            (layout, Doubt::OtherLayout),
            (tokens, Doubt::OtherTokens),
        ]
    }

    fn header_bytes(&self) -> Vec<u8> {
        self.header().into_iter().flat_map(|(part, _)| part).collect()
    }

    fn data_bytes(&self) -> usize {
        self.tokens.len() * self.layout.row_bytes()
    }
}

/// The chain that ends with `tokens` behind `parent`.
pub(super) fn chain(key: &Key, parent: &Digest, tokens: &[TokenId]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"chain").update(parent);
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    *hasher.update(&bytes).finalize().as_bytes()
}

/// Names the tail of `owner` behind `parent`: it stands in one place and its tokens change.
pub(super) fn tail(key: &Key, parent: &Digest, owner: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(key);
    *hasher.update(b"tail").update(parent).update(owner.as_bytes()).finalize().as_bytes()
}

/// The bytes of a block's file.
pub(super) fn size(content: &Content<'_>) -> u64 {
    (content.header_bytes().len() + content.data_bytes() + DIGEST_BYTES) as u64
}

/// Writes a block.
pub(super) fn write(file: &mut File, key: &Key, content: &Content<'_>, data: &[u8]) -> std::io::Result<()> {
    let header = content.header_bytes();
    file.write_all(&header)?;
    file.write_all(data)?;
    file.write_all(digest(key, &header, data).as_bytes())
}

/// Reads the rows of the block that `content` describes, if the file holds that very block.
pub(super) fn read(path: &Path, key: &Key, content: &Content<'_>) -> Result<Vec<u8>, Doubt> {
    let (header, data) = read_parts(path, key, content.header_bytes().len(), content.data_bytes())?;
    compare(&header, content)?;
    Ok(data)
}

/// The rows of a tail whose file has `bytes`; `None` where no number of rows takes them. `content` names no
/// tokens.
pub(super) fn rows_of_tail(bytes: u64, content: &Content<'_>) -> Option<usize> {
    let row = size_of::<TokenId>() + content.layout.row_bytes();
    let rows = usize::try_from(bytes.checked_sub(size(content))?).ok()?;
    (rows > 0 && rows.is_multiple_of(row)).then_some(rows / row)
}

/// Reads the tokens and the rows of a tail of `rows` rows that `content` describes but for its tokens.
pub(super) fn read_tail(
    path: &Path,
    key: &Key,
    content: &Content<'_>,
    rows: usize,
) -> Result<(Vec<TokenId>, Vec<u8>), Doubt> {
    let header_bytes = content.header_bytes().len() + rows * size_of::<TokenId>();
    let (header, data) = read_parts(path, key, header_bytes, rows * content.layout.row_bytes())?;
    let (_, tokens) = header.split_at(content.header_bytes().len());
    let tokens: Vec<TokenId> =
        tokens.as_chunks().0.iter().map(|&token| TokenId::from_le_bytes(token)).collect();
    compare(&header, &Content { tokens: &tokens, ..*content })?;
    Ok((tokens, data))
}

/// Reads header and rows of a file that has exactly these sizes and is what was written.
fn read_parts(
    path: &Path,
    key: &Key,
    header_bytes: usize,
    data_bytes: usize,
) -> Result<(Vec<u8>, Vec<u8>), Doubt> {
    // A name may lead to a pipe or a device, which would be waited for.
    if !path.symlink_metadata().map_err(|_| Doubt::Missing)?.is_file() {
        return Err(Doubt::Damaged);
    }
    let mut file = File::open(path).map_err(|_| Doubt::Missing)?;
    // Before memory is taken for it: it has exactly the size that it must have.
    let expected = (header_bytes + data_bytes + DIGEST_BYTES) as u64;
    if file.metadata().map_err(|_| Doubt::Missing)?.len() != expected {
        return Err(Doubt::Damaged);
    }
    let (mut header, mut data) = (vec![0; header_bytes], vec![0; data_bytes]);
    let mut kept_digest = [0; DIGEST_BYTES];
    for part in [header.as_mut_slice(), &mut data, &mut kept_digest] {
        file.read_exact(part).map_err(|_| Doubt::Damaged)?;
    }
    if digest(key, &header, &data) != blake3::Hash::from_bytes(kept_digest) {
        return Err(Doubt::Damaged);
    }
    Ok((header, data))
}

/// Names the first part of a header that is not what it must be.
fn compare(header: &[u8], content: &Content<'_>) -> Result<(), Doubt> {
    let mut rest = header;
    for (part, doubt) in content.header() {
        match rest.strip_prefix(part.as_slice()) {
            Some(behind) => rest = behind,
            None => return Err(doubt),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Doubt::OtherTokens) }
}

fn digest(key: &Key, header: &[u8], data: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"block").update(header).update(data);
    hasher.finalize()
}
