//! A search tree over masks and values: each node looks at bits that all of its encodings fix.

use super::Entry;

/// Widest field that one node looks at, in bits.
const WIDEST: u32 = 8;

/// The tree. Node 0 is the root.
#[derive(Debug)]
pub(super) struct Index {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    /// Bits `shift..` under `mask` choose among nodes.
    Branch { shift: u32, mask: u128, children: Vec<usize> },
    /// Encodings left, in the table's order.
    Leaf(Vec<u16>),
}

impl Index {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let all: Vec<u16> = (0..entries.len()).filter_map(|entry| u16::try_from(entry).ok()).collect();
        let mut index = Self { nodes: Vec::new() };
        index.grow(entries, all, 0);
        index
    }

    /// Adds a node for `members`, whose bits under `known` are equal, and returns its place.
    fn grow(&mut self, entries: &[Entry], members: Vec<u16>, known: u128) -> usize {
        let entry = |member: u16| entries.get(usize::from(member));
        let place = self.nodes.len();
        // Only the first word: shorter encodings have no bits beyond it.
        let first_word = u128::from(u32::MAX);
        let common =
            members.iter().filter_map(|&m| entry(m)).fold(first_word & !known, |bits, e| bits & e.mask);
        if common == 0 || members.len() <= 2 {
            self.nodes.push(Node::Leaf(members));
            return place;
        }
        let high = u128::BITS - common.leading_zeros();
        let run = (common << (u128::BITS - high)).leading_ones().min(WIDEST);
        let (shift, mask) = (high - run, (1_u128 << run) - 1);
        self.nodes.push(Node::Leaf(Vec::new()));
        let mut groups: Vec<Vec<u16>> = vec![Vec::new(); 1 << run];
        for &member in &members {
            let bits = entry(member).map_or(0, |e| (e.value >> shift) & mask);
            if let Some(group) = usize::try_from(bits).ok().and_then(|bits| groups.get_mut(bits)) {
                group.push(member);
            }
        }
        let children =
            groups.into_iter().map(|group| self.grow(entries, group, known | (mask << shift))).collect();
        if let Some(node) = self.nodes.get_mut(place) {
            *node = Node::Branch { shift, mask, children };
        }
        place
    }

    /// The encodings that may match `word`.
    pub(super) fn lookup(&self, word: u128) -> &[u16] {
        let mut place = 0;
        loop {
            match self.nodes.get(place) {
                Some(Node::Branch { shift, mask, children }) => {
                    let child =
                        usize::try_from((word >> shift) & mask).ok().and_then(|bits| children.get(bits));
                    match child {
                        // Children lie after their parent, so the walk ends.
                        Some(&child) => place = child,
                        None => return &[],
                    }
                }
                Some(Node::Leaf(entries)) => return entries,
                None => return &[],
            }
        }
    }
}
