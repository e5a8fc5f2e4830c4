//! Rows of words under one another.

/// The rows as lines, with every column but the last as wide as its widest word.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let words = row.iter().zip(&widths).map(|(word, width)| format!("{word:<width$}"));
        words.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [["a", "bc", "d"], ["efg", "é", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), ["a    bc  d", "efg  é"]);
        assert!(columns::<2>(&[]).is_empty());
    }
}
