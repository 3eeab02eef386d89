//! The results of pings between many nodes as a grid: a row per source, a column per destination.

use std::time::Duration;

use unicode_width::UnicodeWidthStr;

/// The result for one source and one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The source is the destination, or shares its network.
    Same,
    Answered(Duration),
    Failed,
    /// Interrupted before there was a result.
    Unfinished,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Grid<'a> {
    pub(super) sources: Vec<&'a str>,
    pub(super) targets: Vec<&'a str>,
    /// A row per source, a cell per target.
    pub(super) cells: Vec<Vec<Cell>>,
}

/// How a grid is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Columns of the terminal; None: lines may have any length.
    pub(super) width: Option<usize>,
    /// Characters other than ASCII are allowed.
    pub(super) utf8: bool,
}

/// Columns of the dense layout between two spaces.
const GROUP: usize = 10;

/// Prints round-trip times if they fit, otherwise marks below the names, otherwise marks below numbers.
pub(super) fn grid(it: &Grid<'_>, style: Style) -> String {
    let fits = |text: &String| style.width.is_none_or(|width| text.lines().all(|it| it.width() <= width));
    let times = table(it, "ms", |cell| match cell {
        Cell::Answered(time) => ms(time),
        other => mark(other, style).to_owned(),
    });
    let by_name = || table(it, "", |cell| mark(cell, style).to_owned());
    Some(times).filter(fits).or_else(|| Some(by_name()).filter(fits)).unwrap_or_else(|| dense(it, style))
}

/// In milliseconds.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

fn mark(cell: Cell, style: Style) -> &'static str {
    match (cell, style.utf8) {
        (Cell::Same, _) => "-",
        (Cell::Answered(_), true) => "✓",
        (Cell::Answered(_), false) => ".",
        (Cell::Failed, true) => "✗",
        (Cell::Failed, false) => "X",
        (Cell::Unfinished, _) => "?",
    }
}

/// A table with the names of the destinations in its first line.
fn table(it: &Grid<'_>, corner: &str, text: impl Fn(Cell) -> String) -> String {
    let header = it.targets.iter().map(|it| (*it).to_owned()).collect();
    let mut lines: Vec<(&str, Vec<String>)> = vec![(corner, header)];
    for (source, cells) in it.sources.iter().zip(&it.cells) {
        lines.push((source, cells.iter().map(|it| text(*it)).collect()));
    }
    let label = lines.iter().map(|(label, _)| label.width()).max().unwrap_or(0);
    let mut widths = vec![0; it.targets.len()];
    for (_, cells) in &lines {
        widths.iter_mut().zip(cells).for_each(|(width, it)| *width = it.width().max(*width));
    }
    let line = |(name, cells): &(&str, Vec<String>)| {
        let cells = cells.iter().zip(&widths).map(|(it, width)| format!("  {}{it}", gap(it, *width)));
        format!("{name}{}{}", gap(name, label), cells.collect::<String>()).trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

/// A mark per destination, which is identified by its number.
fn dense(it: &Grid<'_>, style: Style) -> String {
    let numbers = it.sources.len().max(it.targets.len()).to_string().len();
    let names = it.sources.iter().map(|it| it.width()).max().unwrap_or(0);
    let label = numbers + 1 + names + 2;
    // As many groups as fit, at least one.
    let room = style.width.unwrap_or(usize::MAX).saturating_sub(label).max(GROUP);
    let columns = (room + 1) / (GROUP + 1) * GROUP;
    let mut text = String::new();
    if it.sources != it.targets {
        let targets = it.targets.iter().enumerate().map(|(at, name)| format!("{} {name}\n", at + 1));
        text += &targets.collect::<String>();
        text += "\n";
    }
    for (block, first) in (0..it.targets.len()).step_by(columns).enumerate() {
        if block > 0 {
            text += "\n";
        }
        let heads = (first..it.targets.len().min(first.saturating_add(columns))).step_by(GROUP);
        let heads: String = heads.map(|it| format!("{:<1$}", it + 1, GROUP + 1)).collect();
        text += &format!("{:label$}{}\n", "", heads.trim_end());
        for (at, (source, cells)) in it.sources.iter().zip(&it.cells).enumerate() {
            let marks: Vec<&str> =
                cells.iter().skip(first).take(columns).map(|it| mark(*it, style)).collect();
            let groups: Vec<String> = marks.chunks(GROUP).map(<[_]>::concat).collect();
            text += &format!("{:>numbers$} {source}{}  {}\n", at + 1, gap(source, names), groups.join(" "));
        }
    }
    text
}

/// The spaces that a text lacks.
fn gap(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(text.width()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(it: &Grid<'_>, width: Option<usize>, utf8: bool, expected: &Expect) {
        let text = grid(it, Style { width, utf8 });
        assert!(text.lines().all(|it| width.is_none_or(|width| it.width() <= width)), "{text}");
        expected.assert_eq(&text);
    }

    #[test]
    fn times_are_shown_if_they_fit_and_marks_otherwise() {
        let ok = Cell::Answered(Duration::from_micros(52));
        let slow = Cell::Answered(Duration::from_micros(1_250_700));
        let it = Grid {
            sources: vec!["h1", "router"],
            targets: vec!["h1", "router", "web-1"],
            cells: vec![vec![Cell::Same, ok, Cell::Failed], vec![slow, Cell::Same, Cell::Unfinished]],
        };
        check(
            &it,
            None,
            true,
            &expect![[r#"
                ms            h1  router  web-1
                h1             -   0.052      ✗
                router  1250.700       -      ?
            "#]],
        );
        check(
            &it,
            Some(30),
            false,
            &expect![[r#"
                        h1  router  web-1
                h1       -       .      X
                router   .       -      ?
            "#]],
        );
        check(
            &it,
            Some(24),
            true,
            &expect![[r#"
                1 h1
                2 router
                3 web-1

                          1
                1 h1      -✓✗
                2 router  ✓-?
            "#]],
        );
    }

    #[test]
    fn many_nodes_are_marks_below_numbers_in_blocks() {
        let names: Vec<String> = (1..=25).map(|it| format!("n-{it}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ok = Cell::Answered(Duration::from_micros(52));
        let row = |row: usize| (0..25).map(|it| if it == row { Cell::Same } else { ok }).collect();
        let it = Grid { sources: names.clone(), targets: names, cells: (0..2).map(row).collect() };
        let text = grid(&it, Style { width: Some(40), utf8: false });
        let expected = [
            "         1          11",
            " 1 n-1   -......... ..........",
            " 2 n-2   .-........ ..........",
            "",
            "         21",
            " 1 n-1   .....",
            " 2 n-2   .....",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
