//! Names for nodes, after the prefixes of the variables they depend on.

use std::collections::BTreeSet;

use super::{Graph, Set};

impl Graph {
    /// The output of every module: for each prefix of a variable's name the earliest node that depends on every
    /// variable under it, in the order they were computed.
    ///
    /// A module that was called twice is named at its first call.
    pub(crate) fn modules(&self) -> Vec<(String, usize)> {
        let mut prefixes = BTreeSet::new();
        for variable in self.variables.iter().filter(|variable| variable.node.is_some()) {
            let name = variable.name.as_str();
            prefixes.extend(name.match_indices('.').map(|(at, _)| &name[..at]));
        }
        let mut modules: Vec<(String, usize)> = (prefixes.into_iter())
            .filter_map(|prefix| Some((prefix.to_owned(), self.output_of(prefix)?)))
            .collect();
        modules.sort_by_key(|(_, node)| *node);
        modules
    }

    /// The earliest node that depends on every variable under `prefix`.
    fn output_of(&self, prefix: &str) -> Option<usize> {
        let mut under = Set::new(self.variables.len());
        let mut entrances = Vec::new();
        for (at, variable) in self.variables.iter().enumerate() {
            let is_under = variable.name.strip_prefix(prefix).is_some_and(|r| r.starts_with('.'));
            if let Some(node) = variable.node.filter(|_| is_under) {
                under.insert(at);
                entrances.push(node);
            }
        }
        let first = *entrances.iter().max()?;
        (first..self.nodes.len()).find(|node| {
            self.nodes[*node].depends_on.includes(&under)
                && !self.is_the_variable(*node, &entrances)
        })
    }

    /// Whether the node is one of these variables still: itself, a view of it, or it element by element (a cast, a
    /// scaling), before anything else came in.
    fn is_the_variable(&self, node: usize, variables: &[usize]) -> bool {
        let mut dims = self.nodes[node].tensor.dims().to_vec();
        dims.sort_unstable();
        let mut at = node;
        loop {
            if variables.contains(&at) {
                return true;
            }
            let [operand] = self.nodes[at].operands[..] else { return false };
            let mut of_operand = self.nodes[operand].tensor.dims().to_vec();
            of_operand.sort_unstable();
            if of_operand != dims && !self.is_view(at) {
                return false;
            }
            at = operand;
        }
    }

    /// The module whose output a node is, or the last one before it: `fc1`, `after fc1`.
    pub(crate) fn place(&self, node: usize, modules: &[(String, usize)]) -> Option<String> {
        let named = |at: usize| {
            // Of nested modules with one output the innermost says most.
            modules.iter().filter(|(_, n)| *n == at).map(|(name, _)| name).max_by_key(|n| n.len())
        };
        if let Some(name) = named(node) {
            return Some(name.clone());
        }
        // The latest of all before it: a product's other operand may be a weight, which nothing comes before.
        let before = self.ancestors(node);
        before.into_iter().rev().find_map(|at| Some(format!("after {}", named(at)?)))
    }
}
