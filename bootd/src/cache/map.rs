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
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// An object's file.
#[derive(Clone)]
pub struct Mapped(Arc<Inner>);

/// The same for who does not keep it: its room on the disk is free when nobody reads it any more.
#[derive(Clone)]
pub struct WeakMapped(Weak<Inner>);

struct Inner {
    map: Mmap,
    file: Arc<File>,
    /// When each [`AT_ONCE`] of it was seen in memory, in seconds behind the start, from 1 on: what is read now does not leave within a second.
    seen: Box<[AtomicU32]>,
    start: Instant,
}

/// A part of it that is being sent.
struct Part {
    of: Mapped,
    range: Range<usize>,
}

impl Mapped {
    /// Of a file that is to be so long.
    pub(crate) fn of(file: &Arc<File>, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the cache alone writes these files, in a folder of its own. It never makes one shorter, and writes no byte twice; what is not
        // written yet is never looked at, since readers stay below the watermark. They are removed by name, which leaves the mapping its pages.
        let map = unsafe { MmapOptions::new().len(len).map(&**file) }?;
        let seen = (0..len.div_ceil(AT_ONCE)).map(|_| AtomicU32::new(0));
        Ok(Self(Arc::new(Inner {
            map,
            file: Arc::clone(file),
            seen: seen.collect(),
            start: Instant::now(),
        })))
    }

    /// Bytes from here on, if they are in memory: of these as many as are given at once.
    pub(crate) fn at_hand(&self, range: Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start).ok()?;
        let block = start / AT_ONCE;
        let until = usize::try_from(range.end).ok()?.min((block + 1) * AT_ONCE);
        let range = start..until;
        self.0.map.get(range.clone())?;
        self.is_in_memory(block, &range).then(|| {
            let of = self.clone();
            Bytes::from_owner(Part { of, range })
        })
    }

    fn is_in_memory(&self, block: usize, range: &Range<usize>) -> bool {
        let Inner { map, seen, start, .. } = &*self.0;
        let now = u32::try_from(start.elapsed().as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let Some(seen) = seen.get(block) else { return false };
        if seen.load(Ordering::Relaxed) == now {
            return true;
        }
        let is_here = self.is_here(range).unwrap_or(false);
        // Of one that is being filled more is asked about later.
        let whole = block * AT_ONCE..((block + 1) * AT_ONCE).min(map.len());
        if is_here && *range == whole {
            seen.store(now, Ordering::Relaxed);
        }
        is_here
    }

    /// A handle that does not keep it.
    pub fn downgrade(&self) -> WeakMapped {
        WeakMapped(Arc::downgrade(&self.0))
    }

    /// Where in the file these bytes are, if they are a part of its mapping.
    pub fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let (all, part) = (self.0.map.as_ptr_range(), bytes.as_ptr_range());
        let is_within = all.start <= part.start && part.end <= all.end;
        is_within.then(|| (part.start.addr() - all.start.addr()) as u64)
    }

    /// Has the kernel send a part of the file; how much left.
    pub fn send(&self, socket: impl AsFd, mut at: u64, len: usize) -> io::Result<usize> {
        match rustix::fs::sendfile(socket, &self.0.file, Some(&mut at), len)? {
            // There were so many bytes when it was mapped.
            0 if len > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }

    fn is_here(&self, range: &Range<usize>) -> io::Result<bool> {
        let page = rustix::param::page_size();
        let start = range.start - range.start % page;
        let mut pages = [0_u8; PAGES];
        let wanted = (range.end - start).div_ceil(page);
        let Some(pages) = pages.get_mut(..wanted) else {
            return Ok(false);
        };
        let from = self.0.map.as_ptr().wrapping_add(start).cast_mut().cast();
        // SAFETY: the range is within the mapping, as its caller made sure, and begins at a page; there is a byte for each page. The call looks at no
        // byte of the mapping.
        let result = unsafe { libc::mincore(from, range.end - start, pages.as_mut_ptr()) };
        match result {
            0 => Ok(pages.iter().all(|page| page & 1 == 1)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl WeakMapped {
    /// While parts of it are on their way, or somebody else has it.
    pub fn upgrade(&self) -> Option<Mapped> {
        self.0.upgrade().map(Mapped)
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.of.0.map.get(self.range.clone()).unwrap_or_default()
    }
}

/// What is given out at once; who stops reading holds none of it.
const AT_ONCE: usize = 1 << 20;
/// Of the smallest kind in that.
const PAGES: usize = AT_ONCE / 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_at_hand_and_what_is_not_there_is_not() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let map = Mapped::of(&file, 1 << 20).unwrap();
        assert_eq!(map.at_hand(0..1), None);
        io::Write::write_all(&mut &*file, &body).unwrap();
        for range in [0..1, 0..300_000, 4095..4097, 123_457..299_999] {
            let wanted = &body[range.start as usize..range.end as usize];
            assert_eq!(map.at_hand(range.clone()).unwrap(), wanted);
            assert_eq!(map.offset_of(&map.at_hand(range.clone()).unwrap()), Some(range.start));
        }
        assert_eq!(map.offset_of(&body), None);
        // Behind the end of the file, and of the mapping.
        for range in [299_999..400_000, 1 << 20..(1 << 20) + 1] {
            assert_eq!(map.at_hand(range), None);
        }
        drop(file);
        assert_eq!(map.at_hand(0..4).unwrap(), body[..4]);
    }

    #[test]
    fn a_large_one_is_given_in_parts_that_end_at_the_same_places_for_everybody() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let body: Vec<u8> = (0..2_500_000_u32).map(|n| (n % 251) as u8).collect();
        io::Write::write_all(&mut &*file, &body).unwrap();
        let map = Mapped::of(&file, body.len() as u64).unwrap();
        for start in [0, 5, 1 << 20, 2_400_000] {
            let mut got = Vec::new();
            while start + got.len() < body.len() {
                let from = (start + got.len()) as u64;
                let part = map.at_hand(from..body.len() as u64).unwrap();
                let end = from + part.len() as u64;
                assert!(end.is_multiple_of(1 << 20) || end == body.len() as u64);
                got.extend_from_slice(&part);
            }
            assert!(got == body[start..]);
        }
    }
}
