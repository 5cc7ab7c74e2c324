//! How a story looks: its width, its colours, and how text is broken to fit.
//!
//! Whoever tells a story says how it is to look; nothing here asks the environment. Text is broken
//! first and coloured after, so a width never counts an escape.

use anstyle::AnsiColor;

/// How a story looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// No line is wider than this many columns, or than [`NARROWEST`](Self::NARROWEST).
    pub width: usize,
    /// Whether escapes for colours are written.
    pub colour: bool,
    /// Every event, and not only those that matter for what was broken.
    pub all: bool,
}

impl Style {
    /// Below this a table of three lanes cannot be read.
    pub const NARROWEST: usize = 60;

    /// The columns there are.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.width.max(Style::NARROWEST)
    }
}

/// As a pipe wants it: 100 columns, no colours, what matters.
impl Default for Style {
    fn default() -> Style {
        Style { width: 100, colour: false, all: false }
    }
}

/// What a piece of text is, for those who see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Where the promise is broken.
    Broken,
    /// Where power is lost.
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

/// Colours text that is already as long as it will be.
pub(super) struct Painter<'a> {
    pub(super) colour: bool,
    /// The names of the requests that the promise is about.
    pub(super) names: &'a [String],
}

impl Painter<'_> {
    /// The text in its tone; names stand out of plain text.
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

/// The columns a text takes. Stories hold no wide and no combining characters.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a text at spaces, and within a word only where the word alone is too long. Every line but
/// the first begins with `indent` spaces. Runs of spaces inside a line stay.
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

/// Shares `room` columns among lanes that would like to be so wide: those that ask for less than
/// their share get it, the others share what is left.
pub(super) fn shared<const N: usize>(wishes: [usize; N], room: usize) -> [usize; N] {
    let mut widths = [0; N];
    let mut order: [usize; N] = std::array::from_fn(|lane| lane);
    order.sort_by_key(|&lane| (wishes[lane], lane));
    let mut left = room;
    for (nth, lane) in order.into_iter().enumerate() {
        widths[lane] = wishes[lane].min(left / (N - nth));
        left -= widths[lane];
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
    fn a_narrow_lane_gives_what_it_does_not_need() {
        assert_eq!(shared([10, 10, 10], 93), [10, 10, 10]);
        assert_eq!(shared([50, 10, 50], 60), [25, 10, 25]);
        assert_eq!(shared([5, 90, 20], 60), [5, 35, 20]);
    }

    #[test]
    fn only_names_of_the_promise_stand_out_and_plain_text_stays_plain() {
        let names = ["w1".to_owned()];
        let painter = Painter { colour: true, names: &names };
        assert_eq!(painter.paint("w1 w12", Tone::Plain), "\u{1b}[1mw1\u{1b}[0m w12");
        let plain = Painter { colour: false, names: &names };
        assert_eq!(plain.paint("w1", Tone::Broken), "w1");
    }
}
