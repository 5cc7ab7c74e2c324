//! The colours and width of the terminal.

use std::env;
use std::io::IsTerminal as _;

use crate::report::Style;

/// When to colour stories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// The style of a story on standard output.
    pub(super) fn style(self, all: bool) -> Style {
        let terminal = std::io::stdout().is_terminal();
        let colour = match self {
            Colour::Auto => {
                // An empty NO_COLOR counts as unset: https://no-color.org
                let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
                terminal && !refused && !dumb
            }
            Colour::Always => true,
            Colour::Never => false,
        };
        let plain = Style { colour, all, ..Style::default() };
        match terminal_size::terminal_size_of(std::io::stdout()) {
            // A terminal of unknown width reports zero.
            Some((width, _)) if terminal && width.0 > 0 => Style { width: width.0.into(), ..plain },
            _ => plain,
        }
    }
}
