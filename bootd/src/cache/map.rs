//! Object files as memory: what the page cache has of them goes to a socket without being copied on the way.
//!
//! Gives out only what is in memory at that moment. What is not is read the other way, by threads that may wait for a disk, and through calls that can
//! fail: touching a mapped page of a disk that fails ends the process. A page that goes after it was given out is touched by the kernel alone,
//! while it sends, where a failure is an error of that call; so no other than plain connections get these bytes.
//! Contains unsafe code: the mapping, and the question what of it is in memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// An object's file.
pub(super) struct Map(Arc<Mmap>);

/// A part of it that is being sent.
struct Part {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl Map {
    /// Of a file that is to be so long.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the cache alone writes these files, in a folder of its own. It never makes one shorter, and writes no byte twice; what is not
        // written yet is never looked at, since readers stay below the watermark. They are removed by name, which leaves the mapping its pages.
        let map = unsafe { MmapOptions::new().len(len).map(file) }?;
        Ok(Self(Arc::new(map)))
    }

    /// These bytes, if all of them are in memory.
    pub(super) fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.0.get(range.clone())?;
        let is_here = self.is_in_memory(&range).unwrap_or(false);
        let part = Part {
            map: Arc::clone(&self.0),
            range,
        };
        is_here.then(|| Bytes::from_owner(part))
    }

    fn is_in_memory(&self, range: &Range<usize>) -> io::Result<bool> {
        let page = rustix::param::page_size();
        let start = range.start - range.start % page;
        let mut pages = [0_u8; PAGES];
        let wanted = (range.end - start).div_ceil(page);
        let Some(pages) = pages.get_mut(..wanted) else {
            return Ok(false);
        };
        let from = self.0.as_ptr().wrapping_add(start).cast_mut().cast();
        // SAFETY: the range is within the mapping, as its caller made sure, and begins at a page; there is a byte for each page. The call looks at no
        // byte of the mapping.
        let result = unsafe { libc::mincore(from, range.end - start, pages.as_mut_ptr()) };
        match result {
            0 => Ok(pages.iter().all(|page| page & 1 == 1)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }
}

/// Of the smallest kind that a part may reach over.
const PAGES: usize = 257;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_at_hand_and_what_is_not_there_is_not() {
        let mut file = tempfile::tempfile().unwrap();
        let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let map = Map::of(&file, 1 << 20).unwrap();
        assert_eq!(map.at_hand(0..1), None);
        io::Write::write_all(&mut file, &body).unwrap();
        for range in [0..1, 0..300_000, 4095..4097, 123_457..299_999] {
            let wanted = &body[range.start as usize..range.end as usize];
            assert_eq!(map.at_hand(range).unwrap(), wanted);
        }
        // Behind the end of the file, of the mapping, and of what is asked about at once.
        for range in [299_999..400_000, 0..(1 << 20) + 1, 0..1 << 21] {
            assert_eq!(map.at_hand(range), None);
        }
        drop(file);
        assert_eq!(map.at_hand(0..4).unwrap(), body[..4]);
    }
}
