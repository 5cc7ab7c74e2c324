//! Layouts of a request: the ways to cut it into descriptors.
//!
//! The layout carries no meaning (virtio 1.4, 2.7.4; VS-01): every layout here is legal, so each
//! must give the same answer. Pieces are in ring order: readable ones first, then writable ones.

use std::fmt;
use std::str::FromStr;

use crate::base::choose::{Choose, Site};

/// A way to cut a request. Each field selects one of several cuts; zero is the simplest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Layout {
    /// The header: whole, 8+8, 4+4+8, 1+15.
    pub header: u8,
    /// The data: whole, by sectors, at an odd byte, in halves.
    pub data: u8,
    /// 1: the header and readable data share a descriptor, or writable data and the status do.
    pub glued: u8,
    /// Indirection: none, a table for all, the header direct and a table for the rest, a table
    /// whose descriptor has a WRITE flag without a meaning (VS-07).
    pub indirect: u8,
    /// 1: an empty piece precedes the last piece.
    pub empty: u8,
}

impl Layout {
    /// Header, data and status in one descriptor each.
    pub const PLAIN: Layout = Layout { header: 0, data: 0, glued: 0, indirect: 0, empty: 0 };

    /// Draws a layout; every second one is plain.
    pub fn draw<C: Choose>(choose: &mut C, indirect: bool) -> Layout {
        // One number holds all fields, because a draw per field would cost more than the layout
        // itself.
        let number = choose.below(1 << 11, Site::Layout);
        if number & 1 == 0 {
            let table = u8::from(indirect && number & 6 != 0);
            return Layout { indirect: table, ..Layout::PLAIN };
        }
        // One in 16 has many pieces: a long chain, if the queue allows one.
        let many = number >> 1 & 15 == 0;
        Layout {
            header: if many { (number >> 10 & 1) as u8 * 4 } else { (number >> 1 & 3) as u8 },
            data: if many { 4 } else { (number >> 3 & 3) as u8 },
            glued: (number >> 5 & 1) as u8,
            indirect: if indirect { (number >> 6 & 3) as u8 } else { 0 },
            empty: u8::from(number >> 8 & 7 == 0),
        }
    }
}

/// `plain`, or five digits: header, data, glued, indirect, empty.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Layout::PLAIN {
            return f.write_str("plain");
        }
        let Layout { header, data, glued, indirect, empty } = self;
        write!(f, "h{header}d{data}g{glued}i{indirect}e{empty}")
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Layout, String> {
        if text == "plain" {
            return Ok(Layout::PLAIN);
        }
        let bytes = text.as_bytes();
        let digit = |at: usize, letter: u8, below: u8| {
            (bytes.len() == 10 && bytes[at] == letter)
                .then(|| bytes[at + 1].wrapping_sub(b'0'))
                .filter(|&digit| digit < below)
                .ok_or_else(|| format!("`{text}` is not a layout, as `plain` or `h1d2g0i1e0`"))
        };
        Ok(Layout {
            header: digit(0, b'h', 5)?,
            data: digit(2, b'd', 5)?,
            glued: digit(4, b'g', 2)?,
            indirect: digit(6, b'i', 4)?,
            empty: digit(8, b'e', 2)?,
        })
    }
}

/// One piece of a request: a buffer in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Piece {
    /// The guest address.
    pub at: u32,
    /// Bytes; may be zero.
    pub len: u32,
    /// Whether the buffer is device-writable.
    pub writable: bool,
}

/// A request cut into pieces. The allocation is reused.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    pieces: Vec<Piece>,
}

impl Cut {
    /// The pieces.
    #[inline]
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Removes all pieces.
    #[inline]
    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Adds a piece, merged into the one before if `glue` is set and it continues that one.
    #[inline]
    pub fn push(&mut self, piece: Piece, glue: bool) {
        if glue
            && let Some(last) = self.pieces.last_mut()
            && last.writable == piece.writable
            && last.at + last.len == piece.at
        {
            last.len += piece.len;
            return;
        }
        self.pieces.push(piece);
    }

    /// Adds a range cut into pieces of the given lengths; the last piece takes the rest.
    #[inline]
    fn push_cut(&mut self, at: u32, len: u32, writable: bool, lens: &[u32], glue: bool) {
        let (mut at, end) = (at, at + len);
        let mut glue = glue;
        for &piece in lens {
            if piece >= end - at {
                break;
            }
            self.push(Piece { at, len: piece, writable }, glue);
            glue = false;
            at += piece;
        }
        self.push(Piece { at, len: end - at, writable }, glue);
    }

    /// Adds the header as `layout` cuts it.
    #[inline]
    pub fn header(&mut self, at: u32, len: u32, layout: Layout) {
        let lens: &[u32] = match layout.header {
            0 => &[],
            1 => &[8],
            2 => &[4, 4],
            3 => &[1],
            _ => &[1; 16],
        };
        self.push_cut(at, len, false, lens, false);
    }

    /// Adds the data as `layout` cuts it.
    #[inline]
    pub fn data(&mut self, at: u32, len: u32, writable: bool, layout: Layout) {
        if len == 0 {
            return;
        }
        let half = [len / 2];
        let lens: &[u32] = match layout.data {
            0 => &[],
            1 => &[512; 7],
            2 => &[(len / 3) | 1],
            3 if half[0] > 0 => &half,
            3 => &[],
            // Many pieces, of odd lengths.
            _ => &[(len / 40) | 1; 39],
        };
        self.push_cut(at, len, writable, lens, layout.glued == 1);
    }

    /// Splits the piece that holds the data, `at..at + len`, into pieces of `size` bytes.
    #[cold]
    pub(super) fn split_data(&mut self, at: u32, len: u32, size: u32) {
        for piece in std::mem::take(&mut self.pieces) {
            if (piece.at, piece.len) != (at, len) {
                self.push(piece, false);
                continue;
            }
            for start in (0..len).step_by(size as usize) {
                let len = size.min(len - start);
                self.push(Piece { at: at + start, len, ..piece }, false);
            }
        }
    }

    /// Adds the status byte, and an empty piece before it if `layout` has one.
    #[inline]
    pub fn status(&mut self, at: u32, layout: Layout) {
        if layout.empty == 1 {
            self.push(Piece { at, len: 0, writable: true }, false);
        }
        self.push(Piece { at, len: 1, writable: true }, layout.glued == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::choose::Seeded;

    #[test]
    fn a_layout_reads_back_as_it_is_written() {
        let mut source = Seeded::new(3);
        for _ in 0..500 {
            let layout = Layout::draw(&mut source, true);
            assert_eq!(layout.to_string().parse(), Ok(layout));
        }
        for nonsense in ["", "h9d0g0i0e0", "h1d2g0i1e", "plainer"] {
            assert!(nonsense.parse::<Layout>().is_err());
        }
    }

    #[test]
    fn every_cut_covers_the_request_exactly() {
        let mut source = Seeded::new(4);
        for _ in 0..2000 {
            let layout = Layout::draw(&mut source, true);
            let len = source.between(0, 8, Site::Request) * 512;
            let writable = source.below(2, Site::Request) == 1;
            let mut cut = Cut::default();
            cut.header(1000, 16, layout);
            cut.data(1016, len, writable, layout);
            cut.status(1016 + len, layout);
            let mut at = 1000;
            for piece in cut.pieces().iter().filter(|piece| piece.len > 0) {
                assert_eq!(piece.at, at, "{layout}");
                at += piece.len;
            }
            assert_eq!(at, 1016 + len + 1);
            assert!(cut.pieces().is_sorted_by_key(|piece| piece.writable));
        }
    }
}
