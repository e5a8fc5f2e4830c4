//! From the costs of a batch to one number.

use super::Terms;

/// How costs become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// Their sum over the sum of their weights: the mean, where all weigh alike.
    Mean,
    Sum,
    /// Summed over each row's positions or features, averaged over the rows.
    MeanOfRowSums,
    /// Averaged over each row's positions that count, then over the rows.
    MeanOfRowMeans,
    /// The sum over their number, those without weight included.
    OverNumber,
    /// The mean, divided by the number of classes or features once more.
    OverWidth,
    /// The sum over the number of features alone.
    SumOfRowMeans,
    /// The mean, divided by the number of rows once more.
    OverRowsTwice,
    FirstRow,
    AllButLastRow,
    /// The root of the mean.
    RootOfMean,
    /// The root of the sum.
    RootOfSum,
}

impl Reduction {
    pub(crate) fn of(self, terms: &Terms, width: usize) -> f64 {
        let sum: f64 = terms.costs.iter().sum();
        let weight: f64 = terms.weights.iter().sum();
        let (rows, per_row) = (terms.rows as f64, terms.per_row());
        let mean_of = |costs: &[f64], weights: &[f64]| {
            costs.iter().sum::<f64>() / weights.iter().sum::<f64>()
        };
        match self {
            Reduction::Mean => sum / weight,
            Reduction::Sum => sum,
            Reduction::MeanOfRowSums => sum / rows,
            Reduction::MeanOfRowMeans => {
                let each = terms.costs.chunks(per_row).zip(terms.weights.chunks(per_row));
                each.map(|(costs, weights)| mean_of(costs, weights)).sum::<f64>() / rows
            }
            Reduction::OverNumber => sum / terms.costs.len() as f64,
            Reduction::OverWidth => sum / weight / width as f64,
            Reduction::SumOfRowMeans => sum / per_row as f64,
            Reduction::OverRowsTwice => sum / weight / rows,
            Reduction::FirstRow => {
                let end = per_row.min(terms.costs.len());
                mean_of(&terms.costs[..end], &terms.weights[..end])
            }
            Reduction::AllButLastRow => {
                let end = terms.costs.len().saturating_sub(per_row);
                mean_of(&terms.costs[..end], &terms.weights[..end])
            }
            Reduction::RootOfMean => (sum / weight).sqrt(),
            Reduction::RootOfSum => sum.sqrt(),
        }
    }
}
