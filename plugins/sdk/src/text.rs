//! Texts across the border: lent for a call ([`abi::Str`]), or given away with the means to free them ([`abi::Buf`]). Used by both sides.
//! And texts for people.
#![allow(unsafe_code)]

use std::borrow::Cow;

use bootd_abi as abi;

/// Lends a text for the length of a call.
pub fn borrowed(text: &str) -> abi::Str {
    abi::Str {
        ptr: text.as_ptr(),
        len: text.len(),
    }
}

/// A buffer that nobody has written to.
pub fn empty() -> abi::Buf {
    abi::Buf {
        ptr: std::ptr::null_mut(),
        len: 0,
        owner: std::ptr::null_mut(),
        release: None,
    }
}

/// Copies a buffer that was given to us and releases it. One of more than `most` bytes is released unread: `None`.
///
/// # Safety
/// The buffer must be as the ABI says: `len` readable bytes at `ptr` until `release`, which nobody else calls.
pub unsafe fn taken(buf: abi::Buf, most: usize) -> Option<String> {
    // SAFETY: the caller's promise.
    unsafe { read(buf, most, |text| text.into_owned()) }
}

/// Reads a buffer that was given to us where it is, and releases it. One of more than `most` bytes is released unread: `None`.
///
/// # Safety
/// As for [`taken`].
pub unsafe fn read<T>(buf: abi::Buf, most: usize, reader: impl FnOnce(Cow<'_, str>) -> T) -> Option<T> {
    /// Releases also when the reader panics.
    struct Release(abi::Buf);
    impl Drop for Release {
        fn drop(&mut self) {
            if let Some(release) = self.0.release {
                // SAFETY: the promise of whoever called `read`; called once, here.
                unsafe { release(self.0.owner, self.0.ptr, self.0.len) };
            }
        }
    }
    let buf = Release(buf);
    let (ptr, len) = (buf.0.ptr, buf.0.len);
    if ptr.is_null() || len == 0 {
        Some(reader("".into()))
    } else if len > most {
        None
    } else {
        // SAFETY: the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(ptr, len) };
        Some(reader(String::from_utf8_lossy(bytes)))
    }
}

/// Gives a text away.
pub fn given(text: String) -> abi::Buf {
    unsafe extern "C" fn release(_owner: *mut std::ffi::c_void, ptr: *mut u8, len: usize) {
        // SAFETY: `ptr` and `len` are those of the boxed slice made below; release is called once.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(ptr, len)) });
    }
    let bytes = Box::into_raw(text.into_bytes().into_boxed_slice());
    abi::Buf {
        ptr: bytes.cast(),
        len: bytes.len(),
        owner: std::ptr::null_mut(),
        release: Some(release),
    }
}

/// Reads a borrowed text for the length of a call. `None`: not UTF-8.
///
/// # Safety
/// `text` must be readable as the ABI says.
pub unsafe fn lent<'a>(text: abi::Str) -> Option<&'a str> {
    if text.len == 0 {
        return Some("");
    }
    if text.ptr.is_null() {
        return None;
    }
    // SAFETY: the caller lends `len` bytes at `ptr` until the call returns.
    std::str::from_utf8(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }).ok()
}

/// Characters that change how a line looks and are not seen themselves: directions, joiners, line separators.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What somebody else sent, as it may stand in a log line or a message: at most 200 characters, control characters escaped.
pub fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let mut out = String::with_capacity(text.len().min(MOST));
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            out.push('…');
            break;
        }
        if c.is_control() || is_unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// How many of something there are, for people: `1 group`, `2 groups`. `one`: a word whose plural ends with an s.
pub fn counted(count: usize, one: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {one}{s}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [0, 1, 2].map(|n| super::counted(n, "group")),
            ["0 groups", "1 group", "2 groups"]
        );
    }

    #[test]
    fn what_others_sent_stays_on_its_line() {
        assert_eq!(super::shown("a\nb\u{1b}[31m größe"), "a\\nb\\u{1b}[31m größe");
        assert_eq!(super::shown("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
        assert_eq!(super::shown(&"x".repeat(1000)).chars().count(), 201);
    }
}
