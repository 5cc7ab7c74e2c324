//! The layout of a story: its width, its colours, and its line breaks.
//!
//! The caller chooses the style; nothing here reads the environment. Text is broken into lines
//! before it is coloured, so a width never counts an escape sequence.

use anstyle::AnsiColor;

/// The layout of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The maximum line width in columns; at least [`NARROWEST`](Self::NARROWEST) are used.
    pub width: usize,
    /// Whether to write colour escapes.
    pub colour: bool,
    /// Show every event, not only those that bear on the broken promise.
    pub all: bool,
}

impl Style {
    /// The narrowest width, in columns, at which a table of three columns is legible.
    pub const NARROWEST: usize = 60;

    /// The width in use, in columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.width.max(Style::NARROWEST)
    }
}

/// The style for a pipe: 100 columns, no colours, only the events that matter.
impl Default for Style {
    fn default() -> Style {
        Style { width: 100, colour: false, all: false }
    }
}

/// The role of a piece of text, which chooses its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// The line that shows the broken promise.
    Broken,
    /// A power loss or a backend kill.
    Loss,
    /// The name of a request that the promise is about.
    Name,
}

impl Tone {
    fn style(self) -> anstyle::Style {
        match self {
            Tone::Plain => anstyle::Style::new(),
            Tone::Broken => AnsiColor::Red.on_default().bold(),
            Tone::Loss => AnsiColor::Yellow.on_default(),
            Tone::Name => anstyle::Style::new().bold(),
        }
    }
}

/// Colours text that has its final length.
pub(super) struct Painter<'a> {
    pub(super) colour: bool,
    /// The names of the requests that the promise is about.
    pub(super) names: &'a [String],
}

impl Painter<'_> {
    /// The text in its tone. Names in plain text are bold.
    pub(super) fn paint(&self, text: &str, tone: Tone) -> String {
        if !self.colour || text.trim().is_empty() {
            return text.to_owned();
        }
        if tone != Tone::Plain {
            return wrapped_in(text, tone.style());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric();
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_name) {
            let len = rest[start..].find(|c| !is_name(c)).unwrap_or(rest.len() - start);
            let (before, word) = (&rest[..start], &rest[start..start + len]);
            out.push_str(before);
            if self.names.iter().any(|name| name == word) {
                out.push_str(&wrapped_in(word, Tone::Name.style()));
            } else {
                out.push_str(word);
            }
            rest = &rest[start + len..];
        }
        out + rest
    }
}

fn wrapped_in(text: &str, style: anstyle::Style) -> String {
    format!("{style}{text}{style:#}")
}

/// The columns that a text takes. Stories hold no wide and no combining characters.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a text at spaces, and within a word only if the word alone is too long. Every line but
/// the first begins with `indent` spaces. Runs of spaces inside a line are kept.
pub(crate) fn broken(text: &str, width: usize, indent: usize) -> Vec<String> {
    let width = width.max(indent + 1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut gap = String::new();
    for piece in text.split_inclusive(' ') {
        let word = piece.trim_end_matches(' ');
        let mut word = word;
        if !word.is_empty() && columns(&line) + columns(&gap) + columns(word) > width {
            if !line.trim().is_empty() {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
            gap.clear();
            while columns(&line) + columns(word) > width {
                let room = width - columns(&line);
                let cut = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                line.push_str(&word[..cut]);
                word = &word[cut..];
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
        }
        if !word.is_empty() {
            line.push_str(&gap);
            line.push_str(word);
            gap.clear();
        }
        if piece.ends_with(' ') {
            gap.push(' ');
        }
    }
    if !line.trim().is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Divides `room` character columns among table columns of the desired widths `wishes`. A wish
/// below the fair share is met in full; the others share the rest.
pub(super) fn shared<const N: usize>(wishes: [usize; N], room: usize) -> [usize; N] {
    let mut widths = [0; N];
    let mut order: [usize; N] = std::array::from_fn(|column| column);
    order.sort_by_key(|&column| (wishes[column], column));
    let mut left = room;
    for (nth, column) in order.into_iter().enumerate() {
        widths[column] = wishes[column].min(left / (N - nth));
        left -= widths[column];
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_spaces_and_long_words_anywhere() {
        assert_eq!(broken("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(broken("one two three", 7, 2), ["one two", "  three"]);
        assert_eq!(broken("abcdefghij", 4, 1), ["abcd", " efg", " hij"]);
        assert_eq!(broken("a   b", 5, 0), ["a   b"]);
        assert_eq!(broken("", 5, 0), [""]);
    }

    #[test]
    fn no_letter_is_lost_and_no_line_is_too_wide() {
        let text = "forgets 0-1,4,11,21,33-34,39-40 and a   wide gap, averyveryverylongword ✗";
        let letters = |text: &str| text.replace(' ', "");
        for width in 1..90 {
            for indent in [0, 2, 6] {
                let lines = broken(text, width, indent);
                assert_eq!(letters(&lines.concat()), letters(text), "{width} {indent}");
                let widest = lines.iter().map(|line| columns(line)).max();
                assert!(widest <= Some(width.max(indent + 1)), "{width} {indent}: {lines:?}");
            }
        }
    }

    #[test]
    fn a_narrow_column_leaves_its_spare_width_to_the_others() {
        assert_eq!(shared([10, 10, 10], 93), [10, 10, 10]);
        assert_eq!(shared([50, 10, 50], 60), [25, 10, 25]);
        assert_eq!(shared([5, 90, 20], 60), [5, 35, 20]);
    }

    #[test]
    fn only_names_of_the_promise_are_bold_and_plain_style_adds_no_escapes() {
        let names = ["w1".to_owned()];
        let painter = Painter { colour: true, names: &names };
        assert_eq!(painter.paint("w1 w12", Tone::Plain), "\u{1b}[1mw1\u{1b}[0m w12");
        let plain = Painter { colour: false, names: &names };
        assert_eq!(plain.paint("w1", Tone::Broken), "w1");
    }
}
