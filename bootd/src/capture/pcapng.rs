//! The file: pcapng (draft-ietf-opsawg-pcapng), little-endian, of bare IP packets, with comments.

/// A file's beginning: the section, with what is said about all of it, and the one interface.
pub(super) fn begin(about: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    // The section's length is not told.
    section.extend([0xff; 8]);
    option(&mut section, COMMENT, about.as_bytes());
    option(
        &mut section,
        APPLICATION,
        concat!("bootd ", env!("CARGO_PKG_VERSION")).as_bytes(),
    );
    end_of_options(&mut section);
    block(&mut file, SECTION, &section);

    let mut interface = Vec::new();
    interface.extend(BARE_IP.to_le_bytes());
    interface.extend([0; 6]);
    option(&mut interface, NAME, b"bootd");
    // Times are in thousandths of a second.
    option(&mut interface, RESOLUTION, &[3]);
    end_of_options(&mut interface);
    block(&mut file, INTERFACE, &interface);
    file
}

/// A packet at this time, in milliseconds since 1970.
pub(super) fn packet(file: &mut Vec<u8>, at: u64, frame: &[u8], said: &str) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = Vec::with_capacity(frame.len() + 64);
    body.extend([0; 4]);
    let [a, b, c, d, e, f, g, h] = at.to_be_bytes();
    body.extend(u32::from_be_bytes([a, b, c, d]).to_le_bytes());
    body.extend(u32::from_be_bytes([e, f, g, h]).to_le_bytes());
    body.extend(length);
    body.extend(length);
    padded(&mut body, frame);
    if !said.is_empty() {
        option(&mut body, COMMENT, said.as_bytes());
        end_of_options(&mut body);
    }
    block(file, PACKET, &body);
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = u32::try_from(12 + body.len()).unwrap_or(u32::MAX).to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(length);
    file.extend(body);
    file.extend(length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(MOST_VALUE)).unwrap_or_default();
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    padded(body, value);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// To a multiple of four bytes.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
/// LINKTYPE_RAW.
const BARE_IP: u16 = 101;
/// Bytes of a comment.
const MOST_VALUE: usize = 4096;
