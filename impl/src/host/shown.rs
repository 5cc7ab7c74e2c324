//! Display of paths in messages, always on one line.

use std::fmt;
use std::path::Path;

/// Displays a path unchanged, or quoted and escaped if it has white space, control characters,
/// quotes or bytes that are not UTF-8.
///
/// A name may hold a newline or terminal escape sequences; the message with it stays one line of
/// text.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = format!("{:?}", self.0);
        let plain = escaped.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match (plain, self.0.to_str()) {
            (Some(plain), Some(path)) if plain == path && !path.contains(' ') => f.write_str(path),
            _ => f.write_str(&escaped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_is_shown_in_one_line_without_control_characters() {
        let shown = |bytes: &[u8]| Shown(Path::new(OsStr::from_bytes(bytes))).to_string();
        assert_eq!(shown(b"dir/disk-1.img"), "dir/disk-1.img");
        assert_eq!(shown("Gerät.img".as_bytes()), "Gerät.img");
        assert_eq!(shown(b""), "");
        assert_eq!(shown(b"a disk"), r#""a disk""#);
        assert_eq!(shown(b"a\nb"), r#""a\nb""#);
        assert_eq!(shown(b"\x1b[2J"), r#""\u{1b}[2J""#);
        assert_eq!(shown("\u{202e}gmi".as_bytes()), r#""\u{202e}gmi""#);
        assert_eq!(shown(b"a\"b"), r#""a\"b""#);
        assert_eq!(shown(b"\xff"), r#""\xFF""#);
    }
}
