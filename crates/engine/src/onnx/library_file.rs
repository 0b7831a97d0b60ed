//! A look at a library's file before the system's loader maps it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The header of a 64-bit file and of one of its segments.
/// Layout: Tool Interface Standard, "Executable and Linking Format", 1.2, with the 64-bit fields of the
/// System V ABI.
const FILE_HEADER: usize = 64;
const SEGMENT_HEADER: usize = 56;
const LOADED: u32 = 1;

/// Whether an ELF file ends before a segment that it promises, as an interrupted copy does. The loader of
/// Linux maps such a file and the process dies by a signal; other files and other systems fail with an
/// error, so for them this is `false`.
pub(super) fn is_cut_short(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; FILE_HEADER];
    if length < FILE_HEADER as u64 {
        return Ok(false);
    }
    file.read_exact(&mut header)?;
    let is_64_bit_little_endian_elf = header.starts_with(b"\x7fELF\x02\x01");
    let (start, count) = (number(&header, 32, 8), number(&header, 56, 2));
    if !is_64_bit_little_endian_elf || number(&header, 54, 2) != SEGMENT_HEADER as u64 {
        return Ok(false);
    }
    let table = count * SEGMENT_HEADER as u64;
    if start.saturating_add(table) > length {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut segments = vec![0; table as usize];
    file.read_exact(&mut segments)?;
    Ok(segments.chunks_exact(SEGMENT_HEADER).any(|segment| {
        let end = number(segment, 8, 8).saturating_add(number(segment, 32, 8));
        number(segment, 0, 4) == u64::from(LOADED) && end > length
    }))
}

/// The little-endian number of `size` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, size: usize) -> u64 {
    bytes[offset..offset + size].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
