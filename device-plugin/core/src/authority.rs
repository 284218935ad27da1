//! The kubelet's `:authority`, made such that an HTTP/2 server takes it.
//!
//! The kubelet's plugin watcher dials a socket by its path, and gRPC in Go then sends that path, percent-encoded, as the
//! authority: `%2Fvar%2Flib%2F…`. RFC 3986 has no percent sign there without a user, so the server resets the stream
//! before any service sees it. Nothing depends on the value. So each of its characters is replaced by a harmless one, of
//! the same length in the encoding too: frames keep their lengths, and entries of the header table keep their sizes, or
//! the two ends would soon disagree on what has been evicted from it.
//!
//! Only literal values under the name's index in the static table are replaced: it is how Go always sends them.

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame's head.
const HEAD: usize = 9;
/// The longest payload of a frame, while no setting says otherwise (RFC 9113, `SETTINGS_MAX_FRAME_SIZE`).
const LONGEST: usize = 16_384;
/// Kinds of frames.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Flags of a HEADERS frame.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY: usize = 1;

/// Why a connection isn't handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It doesn't begin as HTTP/2 does.
    NotHttp2,
    /// A frame is longer than 16 KiB, which nobody allowed.
    TooLong,
    /// A header block goes on in a further frame.
    Continuation,
    /// A header block can't be read.
    Malformed,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotHttp2 => "the connection doesn't begin as HTTP/2 does",
            Self::TooLong => "a frame is longer than 16 KiB",
            Self::Continuation => {
                "a header block goes on in a CONTINUATION frame, which the kubelet never sends"
            }
            Self::Malformed => "a header block can't be read",
        })
    }
}

impl std::error::Error for Refused {}

/// One connection's bytes on their way from the kubelet to the server. It holds back at most one HEADERS frame.
#[derive(Debug, Default)]
pub struct Authority {
    place: Place,
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// So much of the preface went by.
    #[default]
    Preface,
    /// Before a frame's head, or in it.
    Head,
    /// In the payload of a frame that is handed on as it comes: so much is left of it.
    Payload(usize),
    /// In a HEADERS frame that will have this length with its head.
    Headers(usize),
}

impl Authority {
    /// Takes the next bytes, and adds to `out` what can be handed on.
    ///
    /// # Errors
    /// When the connection should end. Nothing after that is handed on.
    pub fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Preface => self.preface(bytes, out)?,
                Place::Head => self.head(bytes, out)?,
                Place::Payload(left) => self.payload(left, bytes, out),
                Place::Headers(length) => self.headers(length, bytes, out)?,
            };
        }
        Ok(())
    }

    fn preface<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Refused> {
        let rest = self.hold(bytes, PREFACE.len());
        if !PREFACE.starts_with(&self.held) {
            return Err(Refused::NotHttp2);
        }
        if self.held.len() == PREFACE.len() {
            out.append(&mut self.held);
            self.place = Place::Head;
        }
        Ok(rest)
    }

    fn head<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Refused> {
        let rest = self.hold(bytes, HEAD);
        let &[high, middle, low, kind, flags, ..] = self.held.as_slice() else { return Ok(rest) };
        if self.held.len() < HEAD {
            return Ok(rest);
        }
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            _ if length > LONGEST => return Err(Refused::TooLong),
            CONTINUATION => return Err(Refused::Continuation),
            HEADERS if flags & END_HEADERS == 0 => return Err(Refused::Continuation),
            // An empty one has nothing to wait for.
            HEADERS if length > 0 => self.place = Place::Headers(HEAD + length),
            _ => {
                out.append(&mut self.held);
                self.place = if length == 0 { Place::Head } else { Place::Payload(length) };
            }
        }
        Ok(rest)
    }

    fn payload<'a>(&mut self, left: usize, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let (now, rest) = bytes.split_at(left.min(bytes.len()));
        out.extend(now);
        self.place = if now.len() == left { Place::Head } else { Place::Payload(left - now.len()) };
        rest
    }

    fn headers<'a>(
        &mut self,
        length: usize,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], Refused> {
        let rest = self.hold(bytes, length);
        if self.held.len() == length {
            replace(block(&mut self.held).ok_or(Refused::Malformed)?).ok_or(Refused::Malformed)?;
            out.append(&mut self.held);
            self.place = Place::Head;
        }
        Ok(rest)
    }

    /// Holds bytes back until there are so many; gives the rest of them.
    fn hold<'a>(&mut self, bytes: &'a [u8], until: usize) -> &'a [u8] {
        let (now, rest) = bytes.split_at(until.saturating_sub(self.held.len()).min(bytes.len()));
        self.held.extend(now);
        rest
    }
}

/// The header block of a HEADERS frame: what is left without padding and priority.
fn block(frame: &mut [u8]) -> Option<&mut [u8]> {
    let flags = *frame.get(4)?;
    let (mut from, mut to) = (HEAD, frame.len());
    if flags & PADDED != 0 {
        to = to.checked_sub(usize::from(*frame.get(from)?))?;
        from += 1;
    }
    if flags & PRIORITY != 0 {
        from += 5;
    }
    frame.get_mut(from..to)
}

/// Replaces each literal value of `:authority`. `None` where the block can't be read.
fn replace(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        match first {
            // A field that the table holds, or the table's new size.
            0x80.. => drop(number(block, &mut at, 7)?),
            0x20..=0x3f => drop(number(block, &mut at, 5)?),
            _ => {
                let prefix = if first & 0x40 == 0 { 4 } else { 6 };
                let name = number(block, &mut at, prefix)?;
                if name == 0 {
                    text(block, &mut at)?;
                }
                let (huffman, value) = text(block, &mut at)?;
                match (name, huffman) {
                    (AUTHORITY, true) => replace_huffman(value)?,
                    (AUTHORITY, false) => value.fill(b'a'),
                    _ => {}
                }
            }
        }
    }
    Some(())
}

/// An integer with a prefix of so many bits (RFC 7541, 5.1), no larger than anything in a frame can be.
fn number(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let mut next = || {
        let byte = block.get(*at).copied()?;
        *at += 1;
        Some(usize::from(byte))
    };
    let most = (1 << prefix) - 1;
    let mut number = next()? & most;
    if number < most {
        return Some(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A string, and whether it is in Huffman's code (RFC 7541, 5.2).
fn text<'a>(block: &'a mut [u8], at: &mut usize) -> Option<(bool, &'a mut [u8])> {
    let huffman = block.get(*at)? & 0x80 != 0;
    let length = number(block, at, 7)?;
    let from = *at;
    *at = from.checked_add(length)?;
    Some((huffman, block.get_mut(from..*at)?))
}

/// Codes of RFC 7541, appendix B: how long, the first and the last of that length, and the one to use instead. Codes of
/// other lengths stand for nothing that Go lets into an authority.
const CODES: [(usize, u32, u32, u32); 7] = [
    (5, 0x0, 0x9, 0x3),           // a
    (6, 0x14, 0x2d, 0x23),        // b
    (7, 0x5c, 0x7b, 0x75),        // k
    (8, 0xf8, 0xfd, 0xfc),        // X
    (10, 0x3f8, 0x3fc, 0x3f8),    // !
    (11, 0x7fa, 0x7fc, 0x7fb),    // +
    (13, 0x1ff8, 0x1ffd, 0x1ffd), // ~
];

/// Replaces each character by one whose code is as long.
fn replace_huffman(value: &mut [u8]) -> Option<()> {
    let bits = value.len() * 8;
    let mut at = 0;
    while at < bits {
        let rest = bits - at;
        // What is left over of the last byte is ones.
        if rest < 8 && read(value, at, rest) == (1 << rest) - 1 {
            return Some(());
        }
        let fits = |&&(length, first, last, _): &&(usize, u32, u32, u32)| {
            length <= rest && (first..=last).contains(&read(value, at, length))
        };
        let &(length, .., instead) = CODES.iter().find(fits)?;
        write(value, at, length, instead);
        at += length;
    }
    Some(())
}

fn read(value: &[u8], at: usize, length: usize) -> u32 {
    (at..at + length).fold(0, |code, bit| code << 1 | u32::from(value[bit / 8] >> (7 - bit % 8) & 1))
}

fn write(value: &mut [u8], at: usize, length: usize, code: u32) {
    for (bit, place) in (at..at + length).zip((0..length).rev()) {
        let mask = 1 << (7 - bit % 8);
        if code >> place & 1 == 1 {
            value[bit / 8] |= mask;
        } else {
            value[bit / 8] &= !mask;
        }
    }
}

#[cfg(test)]
mod tests;
