//! The nodes of one graph that are their operand times 0 or one number.

use candle_core::{DType, Result, Tensor, Var};

use crate::measure::{graph::Graph, noise::epsilon, values::to_f64_vec};

pub(crate) const DROPPED: u8 = 0;
pub(crate) const KEPT: u8 = 1;
pub(crate) const UNSEEN: u8 = 2;

/// Elements beyond these are not looked at: rows from the first on, as many as fit.
const MOST_ELEMENTS: usize = 1 << 16;

/// One node that is its operand under a mask.
pub(crate) struct Product {
    pub(crate) node: usize,
    pub(crate) place: String,
    pub(crate) dims: Vec<usize>,
    /// What the kept values are multiplied by; `None` where all are dropped.
    pub(crate) factor: Option<f64>,
    pub(crate) precision: f64,
    pub(crate) mask: Vec<u8>,
    pub(crate) of_input: bool,
    /// The dropped values lie on one side of the kept ones, by value or by size.
    pub(crate) is_threshold: bool,
    /// The nodes right before it, and those right after it, that are constant factors in this pass, the nearest first.
    pub(crate) neighbours: [Vec<usize>; 2],
}

/// All of one pass.
pub(crate) struct Products {
    pub(crate) nodes: usize,
    pub(crate) products: Vec<Product>,
    pub(crate) reached: Vec<String>,
    pub(crate) unreached: Vec<String>,
}

impl Products {
    /// Reads the graph behind `root`. With `wanted` only the nodes that an earlier pass found are looked at.
    pub(crate) fn of(
        root: &Tensor,
        variables: &[(String, Var)],
        input: &[Tensor],
        wanted: Option<&Products>,
    ) -> Result<Self> {
        let graph = Graph::of(root, variables);
        let nodes = graph.nodes().len();
        let mut pass = Self::empty(nodes);
        if let Some(wanted) = wanted {
            if wanted.nodes == nodes {
                for product in &wanted.products {
                    let found = read(&graph, product.node)?;
                    pass.products.extend(found.map(|found| found.product(product)));
                }
            }
            return Ok(pass);
        }
        pass.unreached = graph.unreached().into_iter().map(str::to_owned).collect();
        let reached = variables.iter().map(|(name, _)| name);
        pass.reached = reached.filter(|name| !pass.unreached.contains(name)).cloned().collect();
        let modules = graph.modules();
        let mut found: Vec<Option<Read>> = Vec::with_capacity(nodes);
        for node in 0..nodes {
            found.push(read(&graph, node)?);
        }
        let place = |node: usize| match graph.place(node, &modules) {
            Some(name) => name,
            None => "before the first layer".to_owned(),
        };
        let of_input = depends_on(&graph, input);
        for (node, read) in found.iter().enumerate() {
            let Some(read) = read else { continue };
            pass.products.push(Product {
                node,
                place: place(node),
                dims: graph.nodes()[node].tensor.dims().to_vec(),
                factor: read.factor,
                precision: read.precision,
                mask: read.mask.clone(),
                of_input: of_input[node],
                is_threshold: read.is_threshold,
                neighbours: neighbours(&graph, node, &found),
            });
        }
        Ok(pass)
    }

    fn empty(nodes: usize) -> Self {
        Self { nodes, products: Vec::new(), reached: Vec::new(), unreached: Vec::new() }
    }

    pub(crate) fn at(&self, node: usize) -> Option<&Product> {
        // They come in the order of the nodes.
        let at = self.products.binary_search_by_key(&node, |product| product.node).ok()?;
        Some(&self.products[at])
    }
}

/// Which nodes were computed from the input. Of an input of ids the graph does not tell: then all are but those that are a
/// variable, element by element.
fn depends_on(graph: &Graph, input: &[Tensor]) -> Vec<bool> {
    let is_traced = input.iter().any(Tensor::is_variable);
    let mut found: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let of_input = match (is_traced, &node.operands[..]) {
            (true, operands) => {
                let is_input = input.iter().any(|input| input.id() == node.tensor.id());
                is_input || operands.iter().any(|operand| found[*operand])
            }
            (false, []) => false,
            (false, [operand]) => {
                let operand_elements = graph.nodes()[*operand].tensor.elem_count();
                found[*operand] || operand_elements != node.tensor.elem_count()
            }
            (false, _) => true,
        };
        found.push(of_input);
    }
    found
}

struct Read {
    factor: Option<f64>,
    precision: f64,
    mask: Vec<u8>,
    is_threshold: bool,
}

impl Read {
    fn is_constant(&self) -> bool {
        !self.mask.contains(&DROPPED)
    }

    fn product(self, of: &Product) -> Product {
        Product {
            node: of.node,
            place: of.place.clone(),
            dims: of.dims.clone(),
            factor: self.factor,
            precision: of.precision,
            mask: self.mask,
            of_input: of.of_input,
            is_threshold: self.is_threshold,
            neighbours: of.neighbours.clone(),
        }
    }
}

/// The node as its one operand under a mask; `None` where it is nothing of the kind.
fn read(graph: &Graph, node: usize) -> Result<Option<Read>> {
    let result = &graph.nodes()[node].tensor;
    let [operand] = graph.nodes()[node].operands[..] else { return Ok(None) };
    let operand = &graph.nodes()[operand].tensor;
    if result.dims() != operand.dims() || result.elem_count() == 0 || graph.is_view(node) {
        return Ok(None);
    }
    // A cast is as exact as the coarser of the two.
    let (Some(a), Some(b)) = (epsilon(result.dtype()), epsilon(operand.dtype())) else {
        return Ok(None);
    };
    // The mask's scale and the product are rounded once each, and so are the two numbers compared.
    let precision = 4.0 * a.max(b);
    let (result, operand) = (head(result)?, head(operand)?);
    ratio(&to_f64_vec(&result)?, &to_f64_vec(&operand)?, smallest(result.dtype()), precision)
}

/// The first rows of a large tensor.
fn head(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach();
    if tensor.elem_count() <= MOST_ELEMENTS || tensor.rank() == 0 {
        return Ok(tensor);
    }
    let rows = tensor.dims()[0];
    let fit = MOST_ELEMENTS / (tensor.elem_count() / rows).max(1);
    tensor.narrow(0, 0, fit.clamp(2.min(rows), rows))
}

/// Below this a product loses digits, or is 0 without any mask.
fn smallest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 | DType::F8E4M3 => 1e-2,
        _ => 1e-30,
    }
}

fn ratio(y: &[f64], x: &[f64], smallest: f64, precision: f64) -> Result<Option<Read>> {
    let mut factor: Option<f64> = None;
    let mut mask = Vec::with_capacity(x.len());
    let (mut kept, mut dropped) = (Extent::default(), Extent::default());
    for (y, x) in y.iter().zip(x) {
        if !x.is_finite() {
            // A masked score stays what it is.
            if y.is_finite() {
                return Ok(None);
            }
            mask.push(UNSEEN);
        } else if x.abs() < smallest {
            if y.abs() >= smallest.max(x.abs() * 1e3) {
                return Ok(None);
            }
            mask.push(UNSEEN);
        } else if *y == 0.0 {
            mask.push(DROPPED);
            dropped.add(*x);
        } else {
            let ratio = y / x;
            let first = *factor.get_or_insert(ratio);
            if !(ratio > 0.0 && (ratio / first - 1.0).abs() <= precision) {
                return Ok(None);
            }
            mask.push(KEPT);
            kept.add(*x);
        }
    }
    let is_threshold = kept.is_apart_from(&dropped);
    Ok(mask.iter().any(|m| *m != UNSEEN).then_some(Read { factor, precision, mask, is_threshold }))
}

/// The range of values, and of their sizes.
struct Extent {
    value: (f64, f64),
    size: (f64, f64),
}

impl Default for Extent {
    fn default() -> Self {
        let empty = (f64::INFINITY, f64::NEG_INFINITY);
        Self { value: empty, size: empty }
    }
}

impl Extent {
    fn add(&mut self, x: f64) {
        self.value = (self.value.0.min(x), self.value.1.max(x));
        self.size = (self.size.0.min(x.abs()), self.size.1.max(x.abs()));
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        let apart = |a: (f64, f64), b: (f64, f64)| a.1 <= b.0 || b.1 <= a.0;
        apart(self.value, other.value) || apart(self.size, other.size)
    }
}

/// The constant factors right before and right after a node; views between them are looked through.
fn neighbours(graph: &Graph, node: usize, found: &[Option<Read>]) -> [Vec<usize>; 2] {
    let is_constant = |at: usize| found[at].as_ref().is_some_and(Read::is_constant);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut at = node;
    while let [operand] = graph.nodes()[at].operands[..] {
        if is_constant(operand) {
            before.push(operand);
        } else if !graph.is_view(operand) {
            break;
        }
        at = operand;
    }
    let mut at = node;
    while let [consumer] = graph.consumers(at)[..] {
        if is_constant(consumer) {
            after.push(consumer);
        } else if !graph.is_view(consumer) {
            break;
        }
        at = consumer;
    }
    [before, after]
}
