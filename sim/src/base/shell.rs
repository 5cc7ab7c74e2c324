//! Paths in commands that a message suggests.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as one word of a shell command line, without line breaks.
///
/// A plain name is unchanged. Another is quoted; one with control characters or bytes that are not
/// UTF-8 in the form `$'...'`, which bash, zsh, ksh and POSIX since 2024 read. A relative path that
/// begins with a dash gets the prefix `./`, so that it is not read as an option.
pub(crate) fn word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let dash = if bytes.starts_with(b"-") { "./" } else { "" };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte);
    match path.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(plain) => format!("{dash}{text}"),
        Some(text) if text.chars().all(is_shown) => {
            format!("'{dash}{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let mut word = format!("$'{dash}");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => word.extend(['\\', byte.into()]),
                    b' '..=b'~' => word.push(byte.into()),
                    // Three digits, so that a digit after it is not read as part of it.
                    _ => write!(word, "\\{byte:03o}").expect("a string takes all"),
                }
            }
            word.push('\'');
            word
        }
    }
}

/// Whether a character is displayed as itself.
fn is_shown(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().eq([c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::process::Command;

    #[test]
    fn a_shell_reads_a_word_as_its_path() {
        let names: [&[u8]; 12] = [
            b"x.img.0",
            b"/tmp/a-b_c,d+e:f@g%h=i",
            b"",
            b"two words",
            b"it's \\ \"quoted\" $(touch x) `y` ;&|<>*?[]{}!#~",
            b"-rf",
            b"a\nb; touch c",
            b"\x1b[2J\x7f'\\1",
            b"\xff\xfe9",
            "Gerät \u{202e}gmi".as_bytes(),
            b"~",
            b"\t",
        ];
        for name in names {
            let word = word(Path::new(OsStr::from_bytes(name)));
            assert!(!word.chars().any(char::is_control), "{word:?}");
            let mut command = Command::new("bash");
            let output = command.args(["-c", &format!("printf %s {word}")]).output();
            let read = output.expect("there is a bash").stdout;
            let read = read.strip_prefix(b"./").unwrap_or(&read);
            assert_eq!(read, name, "{word}");
        }
        assert_eq!(word(Path::new("x.img.0")), "x.img.0");
        assert_eq!(word(Path::new("-rf")), "./-rf");
    }
}
