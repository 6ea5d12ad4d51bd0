//! Which parts wait for which.

use std::fmt;

/// The dependencies between the parts of one join, without cycles. Parts are numbered in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    dependencies: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    order: Vec<usize>,
}

/// Why parts cannot be put in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphError {
    /// Two parts have this name.
    Repeated(String),
    /// A part depends on one that is not there.
    Unknown {
        /// The part.
        part: String,
        /// What it depends on.
        dependency: String,
    },
    /// Parts that wait for each other: each for the next one, the last one is the first.
    Cycle(Vec<String>),
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(f, "there are two parts `{name}`: give one another name"),
            Self::Unknown { part, dependency } => {
                write!(f, "part `{part}` depends on `{dependency}`, which is not a part of this join")
            }
            Self::Cycle(path) => {
                write!(f, "its parts wait for each other: {}; remove one of these dependencies", path.join(" → "))
            }
        }
    }
}

impl Graph {
    /// From each part's name and the names it depends on.
    pub(super) fn new(parts: &[(&str, Vec<&str>)]) -> Result<Self, GraphError> {
        let find = |name: &str| parts.iter().position(|(known, _)| *known == name);
        let mut dependencies = Vec::with_capacity(parts.len());
        let mut dependents = vec![Vec::new(); parts.len()];
        for (index, (name, depends_on)) in parts.iter().enumerate() {
            if find(name) != Some(index) {
                return Err(GraphError::Repeated((*name).to_owned()));
            }
            let mut indices = Vec::with_capacity(depends_on.len());
            for dependency in depends_on {
                let unknown = || GraphError::Unknown { part: (*name).to_owned(), dependency: (*dependency).to_owned() };
                let found = find(dependency).ok_or_else(unknown)?;
                if !indices.contains(&found) {
                    indices.push(found);
                    dependents[found].push(index);
                }
            }
            dependencies.push(indices);
        }
        let mut graph = Self { dependencies, dependents, order: Vec::new() };
        match graph.cycle() {
            Some(path) => Err(GraphError::Cycle(path.into_iter().map(|index| parts[index].0.to_owned()).collect())),
            None => {
                graph.order = graph.in_order();
                Ok(graph)
            }
        }
    }

    /// The parts that `part` waits for.
    pub(super) fn dependencies(&self, part: usize) -> &[usize] {
        &self.dependencies[part]
    }

    /// The parts that wait for `part`.
    pub(super) fn dependents(&self, part: usize) -> &[usize] {
        &self.dependents[part]
    }

    /// An order in which each part comes after those it waits for; otherwise as they were given.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// A cycle, its first part again at its end.
    fn cycle(&self) -> Option<Vec<usize>> {
        let mut done = vec![false; self.dependencies.len()];
        (0..self.dependencies.len()).find_map(|start| self.cycle_from(start, &mut done))
    }

    /// Goes down the dependencies, with a stack of its own: there can be many.
    fn cycle_from(&self, start: usize, done: &mut [bool]) -> Option<Vec<usize>> {
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((part, next)) = path.last_mut() {
            if done[*part] {
                path.pop();
                continue;
            }
            let Some(&dependency) = self.dependencies[*part].get(*next) else {
                done[*part] = true;
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(begin) = path.iter().position(|(part, _)| *part == dependency) {
                let cycle = path[begin..].iter().map(|(part, _)| *part);
                return Some(cycle.chain([dependency]).collect());
            }
            path.push((dependency, 0));
        }
        None
    }

    fn in_order(&self) -> Vec<usize> {
        let mut placed = vec![false; self.dependencies.len()];
        let mut order = Vec::with_capacity(placed.len());
        while let Some(next) = (0..placed.len())
            .find(|&part| !placed[part] && self.dependencies[part].iter().all(|&dependency| placed[dependency]))
        {
            placed[next] = true;
            order.push(next);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(parts: &[(&str, &[&str])]) -> Result<Graph, String> {
        let parts: Vec<_> = parts.iter().map(|(name, depends_on)| (*name, depends_on.to_vec())).collect();
        Graph::new(&parts).map_err(|error| error.to_string())
    }

    #[test]
    fn each_part_comes_after_those_it_waits_for_and_otherwise_as_given() {
        let graph = graph(&[("last", &["b", "a"]), ("b", &["a", "a"]), ("a", &[]), ("alone", &[])]).unwrap();
        assert_eq!(graph.order(), [2, 1, 0, 3]);
        assert_eq!((graph.dependencies(0), graph.dependencies(1)), (&[1, 2][..], &[2][..]));
        assert_eq!(graph.dependents(2), [0, 1]);
        assert!(self::graph(&[]).unwrap().order().is_empty());
    }

    #[test]
    fn a_cycle_is_refused_with_its_path() {
        for (parts, expected) in [
            (&[("a", &["a"][..])][..], "a → a"),
            (&[("a", &["b"]), ("b", &["a"])], "a → b → a"),
            (&[("out", &["x"]), ("x", &["y", "z"]), ("y", &[]), ("z", &["w"]), ("w", &["x"])], "x → z → w → x"),
        ] {
            let error = graph(parts).unwrap_err();
            assert!(error.contains(&format!(": {expected};")), "{error}");
        }
    }

    #[test]
    fn names_that_are_not_there_or_twice_there_are_refused() {
        assert!(graph(&[("a", &["b"])]).unwrap_err().contains("part `a` depends on `b`"));
        assert!(graph(&[("a", &[]), ("a", &[])]).unwrap_err().contains("two parts `a`"));
    }
}
