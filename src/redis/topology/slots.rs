//! Hash slots: which of the 16,384 a key belongs to, and who serves them.

use std::collections::HashMap;

use redis::Value;

use crate::redis::link::Slot;
use crate::redis::node::Node;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// Returns the slot of a key: that of its tag, the text in its first pair of braces, if there is any.
pub(in crate::redis) fn slot_of(key: &[u8]) -> Slot {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    Slot(crc16(tag.unwrap_or(key)) % SLOTS)
}

/// CRC-16/XMODEM, as Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// Who serves which slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// Ranges with both ends included, sorted.
    ranges: Vec<(u16, u16, Node)>,
    /// What was learned since, one by one.
    moved: HashMap<u16, Node>,
}

impl SlotMap {
    /// Reads the answer of `told_by` to `CLUSTER SLOTS`.
    pub(super) fn read(answer: &Value, told_by: &Node) -> Option<Self> {
        let Value::Array(rows) = answer else {
            return None;
        };
        let mut ranges = rows
            .iter()
            .map(|row| range(row, told_by))
            .collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        Some(Self {
            ranges,
            moved: HashMap::new(),
        })
    }

    /// Returns who serves a slot.
    pub(super) fn owner(&self, Slot(slot): Slot) -> Option<&Node> {
        if let Some(node) = self.moved.get(&slot) {
            return Some(node);
        }
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, node) = self.ranges.get(after.checked_sub(1)?)?;
        (*last >= slot).then_some(node)
    }

    /// Notes that a slot is served elsewhere now.
    pub(super) fn moved(&mut self, Slot(slot): Slot, to: Node) {
        self.moved.insert(slot, to);
    }

    /// Returns everybody who serves something, each once.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let ranges = self.ranges.iter().map(|(.., node)| node);
        let mut nodes: Vec<Node> = ranges.chain(self.moved.values()).cloned().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Returns whether every slot is served.
    pub(super) fn is_complete(&self) -> bool {
        let served: u32 = self
            .ranges
            .iter()
            .map(|(first, last, _)| u32::from(last - first) + 1)
            .sum();
        served >= u32::from(SLOTS)
    }
}

/// Reads first slot, last slot and master of one row; replicas follow.
fn range(row: &Value, told_by: &Node) -> Option<(u16, u16, Node)> {
    let Value::Array(row) = row else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = row.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), more @ ..] = master.as_slice() else {
        return None;
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let port = u16::try_from(*port).ok()?;
    let host = match text(host) {
        // The server does not know its name: an address may stand in the metadata.
        Some("?") => more.get(1).and_then(address).unwrap_or_default(),
        host => host.unwrap_or_default(),
    };
    let node = Node::announced_as(host, port, told_by)?;
    (first <= last && last < SLOTS).then_some((first, last, node))
}

/// Finds the `ip` among a node's metadata: names and values in turn.
fn address(metadata: &Value) -> Option<&str> {
    match metadata {
        Value::Array(pairs) => pairs
            .chunks_exact(2)
            .find(|pair| text(&pair[0]) == Some("ip"))
            .and_then(|pair| text(&pair[1])),
        Value::Map(pairs) => pairs
            .iter()
            .find(|(name, _)| text(name) == Some("ip"))
            .and_then(|(_, value)| text(value)),
        _ => None,
    }
}

/// Returns a text; `None` for nil and everything else.
pub(in crate::redis) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
        // As `CLUSTER KEYSLOT` answers.
        for (key, slot) in [
            ("foo", 12_182),
            ("bar", 5_061),
            ("hello", 866),
            ("somekey", 11_058),
            ("foo{hash_tag}", 2_515),
            ("bar{hash_tag}", 2_515),
        ] {
            assert_eq!(slot_of(key.as_bytes()), Slot(slot), "{key}");
        }
    }

    #[test]
    fn the_first_pair_of_braces_with_something_in_it_is_the_tag() {
        let same = |a: &str, b: &str| slot_of(a.as_bytes()) == slot_of(b.as_bytes());
        assert!(same("{user1000}.following", "{user1000}.followers"));
        assert!(same("a:{q}:r0", "q"));
        assert!(same("foo{{bar}}zap", "{bar"));
        assert!(same("foo{bar}{zap}", "bar"));
        assert!(!same("foo{}{bar}", "bar"));
        assert!(!same("foo{bar", "bar"));
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn row(first: i64, last: i64, host: Value, port: i64) -> Value {
        let metadata = Value::Array(vec![
            bulk("hostname"),
            bulk("h"),
            bulk("ip"),
            bulk("10.0.0.9"),
        ]);
        let master = Value::Array(vec![host, Value::Int(port), bulk("id"), metadata]);
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            master.clone(),
            master,
        ])
    }

    #[test]
    fn a_map_is_read_whatever_a_server_calls_itself() {
        let here = Node::tcp("10.0.0.1", 7_000);
        let answer = Value::Array(vec![
            row(200, 299, bulk(""), 7_001),
            row(0, 99, bulk("10.0.0.2"), 7_002),
            row(300, 399, Value::Nil, 7_003),
            row(400, 16_383, bulk("?"), 7_004),
        ]);
        let mut map = SlotMap::read(&answer, &here).unwrap();
        let owner = |map: &SlotMap, slot| map.owner(Slot(slot)).map(Node::to_string);
        assert_eq!(owner(&map, 0).as_deref(), Some("10.0.0.2:7002"));
        assert_eq!(owner(&map, 99).as_deref(), Some("10.0.0.2:7002"));
        assert_eq!(owner(&map, 100), None);
        assert_eq!(owner(&map, 250).as_deref(), Some("10.0.0.1:7001"));
        assert_eq!(owner(&map, 399).as_deref(), Some("10.0.0.1:7003"));
        assert_eq!(owner(&map, 16_383).as_deref(), Some("10.0.0.9:7004"));
        assert!(!map.is_complete());
        map.moved(Slot(100), here.clone());
        assert_eq!(map.owner(Slot(100)), Some(&here));
        assert_eq!(map.nodes().len(), 5);
        for wrong in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![row(5, 4, bulk("h"), 1)]),
        ] {
            assert_eq!(SlotMap::read(&wrong, &here), None);
        }
    }
}
