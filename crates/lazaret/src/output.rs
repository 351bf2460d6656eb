//! What commands answer on standard output: JSON or a table. Whoever reads it may go away early.

use std::io::{self, Write as _};

use crate::failure::{Failure, Outcome};

/// One JSON document.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
    print_lines([text])
}

/// A table, its columns as wide as they must be.
pub(crate) fn print_table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Outcome {
    let head = head.map(str::to_owned);
    let mut widths = [0_usize; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    print_lines(std::iter::once(&head).chain(rows).map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }))
}

/// Lines of text.
pub(crate) fn print_lines(lines: impl IntoIterator<Item = String>) -> Outcome {
    let mut out = io::stdout().lock();
    for line in lines {
        if let Err(error) = writeln!(out, "{line}") {
            return Err(if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::unread()
            } else {
                Failure::new(format!("the output can't be written: {error}"))
            });
        }
    }
    Ok(0)
}
