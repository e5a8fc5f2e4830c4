//! Which position of the output depends on which of the input, and how much.

/// For every output and input position the largest move that was seen; 0 is none.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    outputs: usize,
    inputs: usize,
    moves: Vec<f64>,
}

/// So many positions fit beside a text.
const SHOWN: usize = 16;

impl Matrix {
    pub(super) fn new(outputs: usize, inputs: usize) -> Self {
        Self { outputs, inputs, moves: vec![0.0; outputs * inputs] }
    }

    pub(super) fn raise(&mut self, input: usize, moved: &[f64]) {
        for (output, moved) in moved.iter().enumerate() {
            let own = &mut self.moves[output * self.inputs + input];
            *own = own.max(*moved);
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn get(&self, output: usize, input: usize) -> f64 {
        self.moves[output * self.inputs + input]
    }

    pub(super) fn depends(&self, output: usize, input: usize) -> bool {
        self.get(output, input) > 0.0
    }

    /// All pairs of an output and an input, output by output.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let inputs = self.inputs;
        (0..self.outputs).flat_map(move |output| (0..inputs).map(move |input| (output, input)))
    }

    /// The largest move of those pairs; `None` where there are none.
    pub(super) fn median(&self, of: impl Fn(usize, usize) -> bool) -> Option<f64> {
        let moves = self.pairs().filter(|(output, input)| of(*output, *input));
        let mut moves: Vec<f64> = moves.map(|(output, input)| self.get(output, input)).collect();
        moves.sort_by(f64::total_cmp);
        moves.get(moves.len() / 2).copied()
    }

    /// A line an output, a sign an input; at most 16 of each, with a pair of them in view.
    pub(super) fn picture(
        &self,
        view: (usize, usize),
        sign: impl Fn(usize, usize, bool) -> char,
    ) -> Vec<String> {
        let (top, left) = (first_shown(view.0, self.outputs), first_shown(view.1, self.inputs));
        // The diagonal stays one where both are in view.
        let both = self.outputs == self.inputs && view.0.abs_diff(view.1) < SHOWN;
        let (top, left) = if both {
            let first = first_shown(view.0.min(view.1), self.outputs);
            let first = first.max((view.0.max(view.1) + 1).saturating_sub(SHOWN));
            (first, first)
        } else {
            (top, left)
        };
        let bottom = (top + SHOWN).min(self.outputs);
        let right = (left + SHOWN).min(self.inputs);
        let digits = (bottom.max(1) - 1).to_string().len();
        let line = |output: usize| {
            let signs = (left..right).map(|input| sign(output, input, self.depends(output, input)));
            format!("{output:>digits$} {}", signs.collect::<String>())
        };
        let mut lines: Vec<String> = (top..bottom).map(line).collect();
        if (left, right) != (0, self.inputs) {
            lines.insert(0, format!("inputs {left} to {}", right - 1));
        }
        lines
    }
}

fn first_shown(at: usize, of: usize) -> usize {
    at.saturating_sub(SHOWN / 4).min(of.saturating_sub(SHOWN))
}

/// `0, 3 to 5, 9`, at most six parts.
pub(super) fn ranges(indices: &[usize]) -> String {
    const PARTS: usize = 6;
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for index in indices {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == *index => *end = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let text = |(start, end): &(usize, usize)| match end - start {
        0 => start.to_string(),
        1 => format!("{start}, {end}"),
        _ => format!("{start} to {end}"),
    };
    let shown: Vec<String> = parts.iter().take(PARTS).map(text).collect();
    let left: usize = parts.iter().skip(PARTS).map(|(start, end)| end - start + 1).sum();
    match left {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_listed_in_ranges() {
        assert_eq!(ranges(&[0, 3, 4, 5, 9, 10]), "0, 3 to 5, 9, 10");
        assert_eq!(ranges(&[]), "");
        let odd: Vec<usize> = (0..10).map(|i| 2 * i + 1).collect();
        assert_eq!(ranges(&odd), "1, 3, 5, 7, 9, 11 and 4 more");
    }

    #[test]
    fn a_picture_keeps_the_pair_in_view() {
        let mut matrix = Matrix::new(40, 40);
        let mut moved = vec![0.0; 40];
        moved[20] = 1.0;
        matrix.raise(25, &moved);
        let sign = |_, _, depends| if depends { 'X' } else { '.' };
        let lines = matrix.picture((20, 25), sign);
        assert_eq!(lines[0], "inputs 16 to 31");
        assert_eq!(lines[5], "20 .........X......");
        assert_eq!(lines.len(), 17);
        let far = matrix.picture((0, 39), sign);
        assert_eq!(far[0], "inputs 24 to 39");
        assert!(far[1].starts_with(" 0 "));
    }
}
