//! The same learner with one thing changed.

use candle_core::Tensor;

use super::{Closures, Learner, shared};

impl<'a> Learner<'a> {
    /// The same learner with its output changed before the loss sees it.
    pub(crate) fn map_output(
        &self,
        map: impl Fn(&Tensor) -> candle_core::Result<Tensor> + 'a,
    ) -> Self {
        let mut changed = self.clone();
        if let Closures::ForwardAndLoss { loss, .. } = &mut changed.closures {
            let inner = loss.clone();
            *loss = shared(Box::new(move |output: &Tensor, target: &Tensor| {
                inner.borrow_mut()(&map(output)?, target)
            }));
        }
        changed
    }

    /// The same learner with its loss changed.
    pub(crate) fn map_loss(
        &self,
        map: impl Fn(Tensor) -> candle_core::Result<Tensor> + 'a,
    ) -> Self {
        let mut changed = self.clone();
        match &mut changed.closures {
            Closures::ForwardAndLoss { loss, .. } => {
                let inner = loss.clone();
                *loss = shared(Box::new(move |output: &Tensor, target: &Tensor| {
                    map(inner.borrow_mut()(output, target)?)
                }));
            }
            Closures::Loss(loss) => {
                let inner = loss.clone();
                *loss = shared(Box::new(move || map(inner.borrow_mut()()?)));
            }
            Closures::Forward(_) => {}
        }
        changed
    }
}
