//! The tree of a conversation's messages, without their texts.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use uuid::Uuid;

use super::lenient;

/// Names a row within its file.
pub(super) type Number = i64;

/// One message of the tree.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) number: Number,
    pub(super) id: Uuid,
    pub(super) parent: Option<Number>,
    pub(super) chosen: bool,
}

/// The messages of one conversation, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    children: HashMap<Option<Number>, Vec<usize>>,
    places: HashMap<Number, usize>,
}

impl Tree {
    /// Reads the tree of the conversation in row `conversation`.
    pub(super) fn read(connection: &Connection, conversation: Number) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT number, id, parent, chosen FROM message WHERE conversation = ?1 ORDER BY number",
        )?;
        let nodes = statement.query_map([conversation], |row| {
            let number = row.get(0)?;
            Ok(Node {
                number,
                id: lenient::id_or_number(row, 1, number),
                parent: lenient::whole(row, 2),
                chosen: lenient::whole(row, 3) != Some(0),
            })
        })?;
        Ok(Self::of(nodes.collect::<rusqlite::Result<_>>()?))
    }

    fn of(mut nodes: Vec<Node>) -> Self {
        let known: HashSet<Number> = nodes.iter().map(|node| node.number).collect();
        let mut tree = Self::default();
        for (place, node) in nodes.iter_mut().enumerate() {
            // A message whose parent is lost stays visible, as a beginning of its own.
            node.parent = node.parent.filter(|parent| known.contains(parent) && *parent < node.number);
            tree.children.entry(node.parent).or_default().push(place);
            tree.places.insert(node.number, place);
        }
        tree.nodes = nodes;
        tree
    }

    /// The current branch from the first message to the last.
    pub(super) fn branch(&self) -> Vec<&Node> {
        self.below(None)
    }

    /// The current branch below a message.
    fn below(&self, mut parent: Option<Number>) -> Vec<&Node> {
        let mut branch = Vec::new();
        // Parents are older than their children, so this ends.
        while let Some(children) = self.children.get(&parent) {
            let nodes = || children.iter().rev().map(|&place| &self.nodes[place]);
            let Some(node) = nodes().find(|node| node.chosen).or_else(|| nodes().next()) else { break };
            branch.push(node);
            parent = Some(node.number);
        }
        branch
    }

    /// Every version of a message, the oldest first.
    pub(super) fn versions(&self, node: &Node) -> Vec<Uuid> {
        let children = self.children.get(&node.parent).map(Vec::as_slice).unwrap_or_default();
        children.iter().map(|&place| self.nodes[place].id).collect()
    }

    /// The message `id`.
    pub(super) fn find(&self, id: Uuid) -> Option<&Node> {
        self.nodes.iter().rev().find(|node| node.id == id)
    }

    /// The message and all above it, the nearest first.
    pub(super) fn ancestors(&self, node: &Node) -> Vec<&Node> {
        let mut above = Vec::new();
        let mut next = Some(node.number);
        while let Some(node) = next.and_then(|number| self.places.get(&number)) {
            let node = &self.nodes[*node];
            above.push(node);
            next = node.parent;
        }
        above
    }
}
