//! The content of one transfer, block by block.
//!
//! In mode octet these are slices of the file that everybody shares; nothing is copied. In mode netascii as much of it is converted as one window
//! holds, so a transfer never has more of its own than that, however large the file is.

use bytes::Bytes;

use super::request::Mode;

/// What is sent.
#[derive(Debug)]
pub(super) struct Content {
    blksize: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Octet(Bytes),
    Netascii(Netascii),
}

#[derive(Debug)]
struct Netascii {
    /// What is not converted yet.
    rest: Bytes,
    /// The second one of two bytes, when the first one ended the last fill.
    second: Option<u8>,
    /// Converted, from the first block that is not acknowledged.
    converted: Vec<u8>,
    /// Converted bytes, and blocks, that were acknowledged.
    acknowledged: u64,
    blocks: u64,
    /// Whether the last block was.
    is_over: bool,
}

impl Content {
    pub(super) fn new(file: Bytes, mode: Mode, blksize: usize) -> Self {
        let form = match mode {
            Mode::Octet => Form::Octet(file),
            Mode::Netascii => Form::Netascii(Netascii {
                rest: file,
                second: None,
                converted: Vec::new(),
                acknowledged: 0,
                blocks: 0,
                is_over: false,
            }),
        };
        Self {
            blksize: blksize.max(1),
            form,
        }
    }

    pub(super) fn blksize(&self) -> usize {
        self.blksize
    }

    /// The data of a window behind the `acknowledged` first blocks, without the first `skipped` ones of it, and how many blocks that are. The
    /// last block of all is shorter than the others, maybe empty; behind it there are none.
    pub(super) fn blocks(&mut self, acknowledged: u64, skipped: u64, window: u64) -> (u64, Bytes) {
        let blksize = self.blksize as u64;
        match &mut self.form {
            Form::Octet(file) => {
                let length = file.len() as u64;
                let blocks = window.min((length / blksize + 1).saturating_sub(acknowledged));
                let from = ((acknowledged + skipped.min(blocks)) * blksize).min(length);
                let until = ((acknowledged + blocks) * blksize).min(length);
                (
                    blocks.saturating_sub(skipped),
                    file.slice(from as usize..until as usize),
                )
            }
            Form::Netascii(text) if text.is_over => (0, Bytes::new()),
            Form::Netascii(text) => {
                let wanted = window * blksize;
                text.fill(wanted as usize);
                let length = text.converted.len() as u64;
                // Exactly a window may be all there is; that shows with the next one.
                let blocks = window.min(length / blksize + 1);
                let (from, until) = ((skipped * blksize).min(length), length.min(wanted));
                let data = text.converted.get(from as usize..until as usize).unwrap_or_default();
                (blocks.saturating_sub(skipped), Bytes::copy_from_slice(data))
            }
        }
    }

    /// So many more blocks are acknowledged, and will not be asked for again.
    pub(super) fn release(&mut self, blocks: u64) {
        if let Form::Netascii(text) = &mut self.form {
            let whole = blocks as usize * self.blksize;
            let bytes = whole.min(text.converted.len());
            text.is_over |= bytes < whole;
            text.converted.drain(..bytes);
            text.acknowledged += bytes as u64;
            text.blocks += blocks;
        }
    }

    /// Whether so many blocks are all.
    pub(super) fn ends_with(&self, blocks: u64) -> bool {
        match &self.form {
            Form::Octet(file) => blocks > file.len() as u64 / self.blksize as u64,
            // Less than a block is left of what was sent last.
            Form::Netascii(text) => {
                text.is_over
                    || (text.rest.is_empty()
                        && text.second.is_none()
                        && blocks > text.blocks + text.converted.len() as u64 / self.blksize as u64)
            }
        }
    }

    /// Bytes that the client has when it has so many blocks.
    pub(super) fn bytes(&self, acknowledged: u64) -> u64 {
        match &self.form {
            Form::Octet(file) => (acknowledged * self.blksize as u64).min(file.len() as u64),
            Form::Netascii(text) => text.acknowledged,
        }
    }

    /// Bytes that this transfer has for itself.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match &self.form {
            Form::Octet(_) => 0,
            Form::Netascii(text) => text.converted.capacity(),
        }
    }
}

impl Netascii {
    /// Converts until so many bytes are there, or nothing is left.
    fn fill(&mut self, wanted: usize) {
        if self.converted.len() >= wanted {
            return;
        }
        self.converted
            .reserve_exact(wanted.min(self.converted.len() + 2 * self.rest.len() + 1) - self.converted.len());
        self.converted.extend(self.second.take());
        let mut taken = 0;
        for &byte in &self.rest {
            if self.converted.len() >= wanted {
                break;
            }
            taken += 1;
            let (first, second) = match byte {
                b'\n' => (b'\r', Some(b'\n')),
                b'\r' => (b'\r', Some(0)),
                other => (other, None),
            };
            self.converted.push(first);
            if self.converted.len() < wanted {
                self.converted.extend(second);
            } else {
                self.second = second;
            }
        }
        self.rest = self.rest.slice(taken..);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All blocks, with windows of so many.
    fn all(content: &mut Content, window: u64) -> Vec<Vec<u8>> {
        let (mut blocks, mut acknowledged) = (Vec::new(), 0);
        loop {
            let (count, data) = content.blocks(acknowledged, 0, window);
            for skipped in 1..=window {
                let from = data.len().min(skipped as usize * content.blksize);
                let rest = (count.saturating_sub(skipped), data.slice(from..));
                assert_eq!(content.blocks(acknowledged, skipped, window), rest);
            }
            assert!(count <= window && data.len() <= window as usize * content.blksize);
            let blksize = content.blksize;
            for block in 0..count as usize {
                let is_last = data.len() < (block + 1) * blksize;
                assert_eq!(content.ends_with(acknowledged + block as u64 + 1), is_last);
                let end = data.len().min((block + 1) * blksize);
                blocks.push(data[block * blksize..end].to_vec());
            }
            acknowledged += count;
            content.release(count);
            if blocks.last().unwrap().len() < blksize {
                assert_eq!(content.blocks(acknowledged, 0, window).0, 0);
                return blocks;
            }
        }
    }

    #[test]
    fn a_file_ends_with_a_block_that_is_not_full() {
        for (length, blocks) in [(0, 1), (1, 1), (7, 1), (8, 2), (9, 2), (16, 3)] {
            let file = Bytes::from(vec![7; length]);
            for window in [1, 2, 16] {
                let mut content = Content::new(file.clone(), Mode::Octet, 8);
                let all = all(&mut content, window);
                assert_eq!((all.len(), all.concat().len()), (blocks, length));
                assert_eq!(content.bytes(all.len() as u64), length as u64);
                assert_eq!(content.blocks(all.len() as u64, 0, window), (0, Bytes::new()));
            }
        }
    }

    #[test]
    fn ends_of_lines_are_those_of_a_terminal_wherever_blocks_end() {
        let file = Bytes::from("one\ntwo\r\nthree\r\rfour\n\n\n");
        let wanted = b"one\r\ntwo\r\0\r\nthree\r\0\r\0four\r\n\r\n\r\n";
        for blksize in 1..40 {
            for window in [1, 2, 3, 16] {
                let mut content = Content::new(file.clone(), Mode::Netascii, blksize);
                assert_eq!(all(&mut content, window).concat(), wanted, "{blksize} {window}");
                assert_eq!(content.bytes(0), wanted.len() as u64);
            }
        }
    }

    #[test]
    fn no_more_is_converted_than_a_window() {
        let mut content = Content::new(Bytes::from(vec![b'\n'; 1 << 20]), Mode::Netascii, 512);
        let (count, data) = content.blocks(0, 0, 4);
        assert_eq!((count, data.len()), (4, 2048));
        assert!(content.held() <= 2048);
        content.release(3);
        assert_eq!(content.blocks(3, 0, 4).0, 4);
        assert!(content.held() <= 4096);
    }
}
