//! Dimensions in brackets, with marks under those that are wrong.

/// A dimension to be marked, and the note that says why.
pub(super) struct Mark {
    pub(super) dim: usize,
    pub(super) note: String,
}

/// `[batch=8, time=12]`, and under it carets below each marked dimension, followed by the notes.
pub(super) fn bracket(dims: &[String], marks: &[Mark]) -> String {
    let mut text = String::from("[");
    let mut carets = String::new();
    for (at, dim) in dims.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        if marks.iter().any(|mark| mark.dim == at) {
            let gap = text.chars().count() - carets.chars().count();
            carets.extend(std::iter::repeat_n(' ', gap));
            carets.extend(std::iter::repeat_n('^', dim.chars().count()));
        }
        text.push_str(dim);
    }
    text.push(']');
    if marks.is_empty() {
        return text;
    }
    let notes: Vec<&str> =
        marks.iter().map(|mark| mark.note.as_str()).filter(|note| !note.is_empty()).collect();
    format!("{text}\n{carets} {}", notes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_lie_under_what_they_mark() {
        let dims = ["batch=8", "time=12", "64"].map(str::to_owned);
        let marks = [(1, "16 in x"), (2, "expected 32")]
            .map(|(dim, note)| Mark { dim, note: note.to_owned() });
        assert_eq!(
            bracket(&dims, &marks),
            "[batch=8, time=12, 64]\n          ^^^^^^^  ^^ 16 in x, expected 32"
        );
        assert_eq!(bracket(&[], &[]), "[]");
    }
}
