//! Lines as a table: a number and three columns that share the width.
//!
//! A cell that is too long continues in the next row of its column, indented.

use super::line::Line;
use super::style::{Painter, Tone, broken, columns, shared};

/// The indent of a long cell's continuation rows, in characters.
const INDENT: usize = 2;
/// The space between two columns, in characters.
const GAP: usize = 2;
/// The minimum width of each column, if there is room.
const ROOMY: [usize; 3] = [20, 18, 9];

/// Draws the table, no row of it wider than `width`.
pub(super) fn draw(lines: &[Line], width: usize, painter: &Painter<'_>) -> String {
    let digits = lines.last().map_or(1, |line| line.number.to_string().len()).max(4);
    // A space before the number, two after it, and a gap after each of the first two columns.
    let margin = digits + 3;
    let room = width - margin - 2 * GAP;
    let mut wishes = ROOMY;
    for line in lines {
        for (wish, cell) in wishes.iter_mut().zip(line.cells()) {
            *wish = (*wish).max(columns(cell));
        }
    }
    let widths = shared(wishes, room);
    let mut out = String::new();
    let head = ["guest", "device", "host disk"].map(|name| vec![name.to_owned()]);
    rows(&mut out, &head, widths, "", digits, |_, text| text.to_owned());
    for line in lines {
        let mut cells: [Vec<String>; 3] = std::array::from_fn(|column| {
            let mut cell = broken(line.cells()[column], widths[column], INDENT);
            if cell == [""] {
                cell.clear();
            }
            cell
        });
        if line.across {
            ruled(&mut cells, widths);
        }
        let tone = match (line.broken, line.across && line.crashes) {
            (true, _) => Tone::Broken,
            (_, true) => Tone::Loss,
            _ => Tone::Plain,
        };
        let number = line.number.to_string();
        rows(&mut out, &cells, widths, &number, digits, |_, text| painter.paint(text, tone));
    }
    out
}

/// Turns the guest's cell into a rule across the first two columns, with the text in its middle.
fn ruled(cells: &mut [Vec<String>; 3], widths: [usize; 3]) {
    let whole = widths[0] + GAP + widths[1];
    let text = cells[0].join(" ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let label = format!(" {text} ");
    let label = if columns(&label) > whole { text } else { label };
    let line = format!("{label:-^whole$}");
    let cut = line.char_indices().nth(widths[0] + GAP).map_or(line.len(), |(at, _)| at);
    cells[0] = vec![line[..cut].to_owned()];
    cells[1] = vec![line[cut..].to_owned()];
}

fn rows(
    out: &mut String,
    cells: &[Vec<String>; 3],
    widths: [usize; 3],
    number: &str,
    digits: usize,
    paint: impl Fn(usize, &str) -> String,
) {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
    for row in 0..height {
        let shown = if row == 0 { number } else { "" };
        out.push_str(&format!(" {shown:>digits$}  "));
        let last = (0..3).rfind(|&column| cells[column].len() > row).unwrap_or(0);
        for column in 0..=last {
            let text = cells[column].get(row).map_or("", String::as_str);
            out.push_str(&paint(column, text));
            // A rule across two columns fills the gap between them.
            let filled = columns(text);
            if column < last {
                out.push_str(&" ".repeat((widths[column] + GAP).saturating_sub(filled)));
            }
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
}
