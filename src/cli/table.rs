//! Tables: a heading, columns as wide as their widest cell, two blanks between.

use std::fmt;

/// How a column stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Cells are text of one line; a row may be shorter than the heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    /// Said in place of an empty table.
    empty: &'static str,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)], empty: &'static str) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), empty }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell.into())).collect());
    }
}

/// What a peer named must not move the cursor.
pub(crate) fn clean(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "{}", self.empty);
        }
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (heading, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| width(cell)).max().unwrap_or(0).max(width(heading))
            })
            .collect();
        let headings: Vec<String> = self.columns.iter().map(|(h, _)| (*h).to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, (_, align)), width_max) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let fill = " ".repeat(width_max.saturating_sub(width(cell)));
                match align {
                    Align::Left => line.extend([cell.as_str(), &fill]),
                    Align::Right => line.extend([fill.as_str(), cell]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("NAME", Align::Left), ("BYTES", Align::Right)], "nothing");
        table.row(["a", "5"]);
        table.row(["longer", "123456"]);
        assert_eq!(table.to_string(), "NAME     BYTES\na            5\nlonger  123456\n");
    }

    #[test]
    fn an_empty_table_says_so() {
        let table = Table::new(&[("NAME", Align::Left)], "no links");
        assert_eq!(table.to_string(), "no links\n");
    }

    #[test]
    fn control_characters_are_shown_as_such() {
        let mut table = Table::new(&[("NAME", Align::Left)], "");
        table.row(["a\x1b[2Jb\n"]);
        assert_eq!(table.to_string(), "NAME\na\u{fffd}[2Jb\u{fffd}\n");
    }
}
