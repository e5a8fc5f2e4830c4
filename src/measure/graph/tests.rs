use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap, linear};

use super::*;
use crate::{Seed, variables::sorted};

fn mlp() -> Result<(Vec<(String, Var)>, Tensor)> {
    let (vars, vb): (VarMap, VarBuilder<'_>) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let l1 = linear(3, 4, vb.pp("block.l1"))?;
    let l2 = linear(4, 2, vb.pp("block.l2"))?;
    let x = Seed::new(2).normal("x", (5, 3), DType::F32, &Device::Cpu)?;
    let loss = l2.forward(&l1.forward(&x)?.relu()?)?.sqr()?.mean_all()?;
    Ok((sorted(&vars), loss))
}

#[test]
fn nodes_know_their_operands_and_their_variables() -> Result<()> {
    let (vars, loss) = mlp()?;
    let graph = Graph::of(&loss, &vars);
    assert!(graph.unreached().is_empty());
    for (at, node) in graph.nodes().iter().enumerate() {
        assert!(node.operands.iter().all(|operand| *operand < at));
        let is_variable = vars.iter().any(|(_, var)| var.id() == node.tensor.id());
        assert_eq!(node.operands.is_empty(), is_variable);
    }
    Ok(())
}

#[test]
fn modules_are_named_after_the_prefixes_of_their_variables() -> Result<()> {
    let (vars, loss) = mlp()?;
    let graph = Graph::of(&loss, &vars);
    let modules = graph.modules();
    let named: Vec<(&str, Vec<usize>)> = (modules.iter())
        .map(|(name, node)| (name.as_str(), graph.nodes()[*node].tensor.dims().to_vec()))
        .collect();
    assert_eq!(named, [("block.l1", vec![5, 4]), ("block", vec![5, 2]), ("block.l2", vec![5, 2])]);
    let relu = (0..graph.nodes().len()).find(|at| {
        let [operand] = graph.nodes()[*at].operands[..] else { return false };
        let node = &graph.nodes()[*at].tensor;
        operation::is_unary("relu", node, &graph.nodes()[operand].tensor).unwrap()
    });
    assert_eq!(graph.place(relu.unwrap(), &modules).as_deref(), Some("after block.l1"));
    Ok(())
}

#[test]
fn a_module_of_one_weight_is_named_at_its_result_and_not_at_the_weight() -> Result<()> {
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let embedding = candle_nn::embedding(7, 4, vb.pp("embed"))?;
    let head = candle_nn::linear_no_bias(4, 7, vb.pp("head"))?;
    let ids = Seed::new(2).tokens("ids", 7, (2, 3), &Device::Cpu)?;
    let output = head.forward(&embedding.forward(&ids)?)?;
    let graph = Graph::of(&output, &sorted(&vars));
    let dims: Vec<(String, Vec<usize>)> = (graph.modules().into_iter())
        .map(|(name, node)| (name, graph.nodes()[node].tensor.dims().to_vec()))
        .collect();
    assert_eq!(dims[0], ("embed".to_owned(), vec![6, 4]));
    assert_eq!(dims[1].0, "head");
    Ok(())
}

#[test]
fn operands_of_a_concatenation_are_found() -> Result<()> {
    let a = Var::new(&[1f32, 2.], &Device::Cpu)?;
    let b = Var::new(&[3f32], &Device::Cpu)?;
    let both = Tensor::cat(&[&a.sqr()?, &b.exp()?], 0)?;
    let vars = vec![("a".to_owned(), a), ("b".to_owned(), b)];
    let graph = Graph::of(&both, &vars);
    let root = graph.nodes().last().unwrap();
    assert_eq!(root.operands.len(), 2);
    Ok(())
}

#[test]
fn the_first_value_that_is_not_finite_is_found_behind_a_relu() -> Result<()> {
    let x = Var::new(&[-1f32, 2.], &Device::Cpu)?;
    // candle's relu makes 0 of NaN: the result is finite.
    let y = (x.as_tensor() * 2.0)?.log()?.relu()?.sum_all()?;
    let graph = Graph::of(&y, &[("x".to_owned(), x)]);
    let node = graph.first_not_finite()?.unwrap();
    let [operand] = graph.nodes()[node].operands[..] else { panic!("log has one operand") };
    let (node, operand) = (&graph.nodes()[node].tensor, &graph.nodes()[operand].tensor);
    assert_eq!(operation::of(node, &[operand])?, Some("log"));
    Ok(())
}

#[test]
fn views_share_their_storage() -> Result<()> {
    let a = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
    let doubled = (a.t()? * 2.0)?.reshape(6)?;
    let graph = Graph::of(&doubled, &[("a".to_owned(), a)]);
    let views: Vec<bool> = (0..graph.nodes().len()).map(|at| graph.is_view(at)).collect();
    assert_eq!(views.iter().filter(|view| **view).count(), 2);
    Ok(())
}

/// What the walk of each node by itself shows of its operands.
fn operands_by_own_walks(graph: &Graph) -> Vec<Vec<usize>> {
    let place = |tensor: &&Tensor| {
        graph.nodes().iter().position(|node| node.tensor.id() == tensor.id()).unwrap()
    };
    let own = |node: &Node| {
        let start = std::ptr::from_ref(&*node.tensor).addr();
        let memory = start..start + size_of_val(&*node.tensor);
        let below = node.tensor.sorted_nodes();
        let within = below.iter().filter(|n| memory.contains(&std::ptr::from_ref(**n).addr()));
        let mut own: Vec<usize> = within.map(place).collect();
        own.sort_unstable();
        own
    };
    graph.nodes().iter().map(own).collect()
}

#[test]
fn one_walk_for_many_nodes_shows_what_a_walk_for_each_does() -> Result<()> {
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    let (l1, l2) = (linear(4, 4, vb.pp("l1"))?, linear(4, 4, vb.pp("l2"))?);
    let x = Seed::new(2).normal("x", (5, 4), DType::F32, &Device::Cpu)?;
    let mut h = l1.forward(&x)?;
    for step in 0..6 {
        // A weight that is used again and again, a branch that comes second, and one that comes first.
        let branch = l2.forward(&h)?.tanh()?;
        h = if step % 2 == 0 { (&h + branch)? } else { (branch * &h)? };
        let scale = h.sqr()?.mean_keepdim(1)?.broadcast_add(&h.max_keepdim(1)?)?;
        h = h.broadcast_div(&scale.exp()?)?;
        if step == 3 {
            let inner = Tensor::cat(&[&h, &h.relu()?], 1)?;
            let parts = Tensor::cat(&[&inner, &l1.forward(&h)?], 1)?;
            h = (parts.narrow(1, 2, 4)? + &h)?;
        }
    }
    let mask = h.gt(0.0)?;
    let loss = mask.where_cond(&h, &h.neg()?)?.sum_all()?;
    let graph = Graph::of(&loss, &sorted(&vars));
    for (node, own) in graph.nodes().iter().zip(operands_by_own_walks(&graph)) {
        // A concatenation keeps its operands elsewhere.
        if !own.is_empty() {
            assert_eq!(node.operands, own);
        }
    }
    let is_variable = |node: &Node| node.tensor.is_variable();
    assert!(graph.nodes().iter().all(|node| node.operands.is_empty() == is_variable(node)));
    Ok(())
}
