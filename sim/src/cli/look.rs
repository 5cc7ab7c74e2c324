//! What the terminal can show.

use std::env;
use std::io::IsTerminal as _;

use crate::report::Look;

/// When stories are coloured.
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
    /// How a story on standard output is to look.
    pub(super) fn look(self, all: bool) -> Look {
        let terminal = std::io::stdout().is_terminal();
        let colour = match self {
            Colour::Auto => {
                // An empty NO_COLOR counts as none: https://no-color.org
                let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
                terminal && !refused && !dumb
            }
            Colour::Always => true,
            Colour::Never => false,
        };
        let plain = Look { colour, all, ..Look::default() };
        match terminal_size::terminal_size_of(std::io::stdout()) {
            // A terminal that does not know its width says zero.
            Some((width, _)) if terminal && width.0 > 0 => Look { width: width.0.into(), ..plain },
            _ => plain,
        }
    }
}
