//! Which node of a cluster a user or a room prefers: rendezvous (highest random weight) hashing.
//!
//! Nobody has to ask anybody: every node, and every program that knows the nodes' names, computes the same answer. It is
//! a preference only: every node serves everybody, and how clients are brought to the preferred one is told in
//! `docs/operating/affinity.md` of the repository, with this algorithm for other languages.
//!
//! Invariants: the answer depends on the names and the key alone, not on the order of the names, and never changes
//! between versions; a node that comes takes from every other its share of the keys, and no key moves between two
//! others; a node that goes gives its keys to all others alike. Who lives, and under what name, is the cluster's to know.
//!
//! ```
//! use outspoke_hub::affinity::{prefer, user_key};
//!
//! let nodes = ["hub-1", "hub-2", "hub-3"];
//! assert_eq!(prefer(&nodes, &user_key("", "bob")), Some(2));
//! ```

use std::cmp::Reverse;

/// The node that `key` prefers, as its place in `nodes`; `None` if there is no node.
///
/// The one of the greatest [`weight`]; of several with the same weight the one whose name comes first, byte by byte.
///
/// # Cost
/// Time in proportion to the bytes of all names and, for each node, of the key; no allocation.
#[must_use]
pub fn prefer(nodes: &[&str], key: &str) -> Option<usize> {
    let named = nodes.iter().enumerate();
    // Of equal elements `min_by_key` takes the first, which makes a repeated name one node.
    named.min_by_key(|(_, node)| (Reverse(weight(node, key)), **node)).map(|(place, _)| place)
}

/// How strongly `key` prefers `node`.
///
/// The 64-bit FNV-1a hash of the name's bytes, one zero byte and the key's bytes (both UTF-8), finished by the 64-bit
/// finaliser of MurmurHash3: FNV alone differs too little between names that differ in their last characters.
#[must_use]
pub fn weight(node: &str, key: &str) -> u64 {
    fmix64(fnv1a(fnv1a(fnv1a(FNV_BASIS, node.as_bytes()), &[0]), key.as_bytes()))
}

/// The key of a user: `user:TENANT/ID`, with nothing before the slash where there are no tenants.
///
/// Tenants' names have no slash, so no two users share a key.
#[must_use]
pub fn user_key(tenant: &str, id: &str) -> String {
    format!("user:{tenant}/{id}")
}

/// The key of a room: `room:TENANT/NAME`, with nothing before the slash where there are no tenants.
#[must_use]
pub fn room_key(tenant: &str, name: &str) -> String {
    format!("room:{tenant}/{name}")
}

/// What FNV-1a begins with.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// What FNV-1a multiplies by.
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Goes on with FNV-1a from `hash`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// Lets every bit of the hash decide about every bit of the result, one to one.
fn fmix64(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// The page that tells others how to compute this.
    const PAGE: &str = include_str!("../../../docs/operating/affinity.md");

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("hub-{number}")).collect()
    }

    fn preferred<'a>(nodes: &'a [String], key: &str) -> &'a str {
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        nodes[prefer(&nodes, key).unwrap()]
    }

    fn users(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|number| user_key("", &format!("user-{number}")))
    }

    // What everybody has implemented elsewhere would be wrong from one version to the next.
    #[test]
    fn affinity_fnv_is_the_published_one() {
        assert_eq!(fnv1a(FNV_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    }

    // As above; these were computed by the Python program on the page.
    #[test]
    fn affinity_weights_are_those_of_the_documentation() {
        let nodes = ["hub-1", "hub-2", "hub-3"];
        let rows = [
            (user_key("", "alice"), [0x7ea6_527f_8d42_3039, 0x06cd_8e58_02b8_22c1, 0x685d_942f_3449_4662], 0),
            (user_key("", "bob"), [0x20d2_9f8d_1960_6b0e, 0xafb9_859b_0373_7f96, 0xb625_1255_0342_f112], 2),
            (
                user_key("acme", "alice"),
                [0x0d79_b59e_bba0_66c6, 0xe0eb_52da_6c98_4f41, 0xe1ab_3279_a7c6_0ff4],
                2,
            ),
            (room_key("", "lobby"), [0xf109_14fa_5e99_ed61, 0x9ea4_7be1_26af_5cb0, 0x4ff6_ab16_a6d8_0b6d], 0),
            (
                room_key("acme", "chat/rust"),
                [0x0e58_4925_0e9f_27e7, 0x323a_7894_c8e5_469c, 0xd1bd_c9d7_cab8_c20c],
                2,
            ),
            (user_key("", "Zoë"), [0x9ce2_9b9e_1581_54da, 0xcbc2_cceb_46ab_04f9, 0x10d9_5ca5_49d3_a250], 1),
        ];
        for (key, weights, place) in rows {
            assert_eq!(nodes.map(|node| weight(node, &key)), weights, "{key}");
            assert_eq!(prefer(&nodes, &key), Some(place), "{key}");
            let [one, two, three] = weights.map(|weight| format!("`{weight:016x}`"));
            let row = format!("| `{key}` | {one} | {two} | {three} | `{}` |", nodes[place]);
            assert!(PAGE.contains(&row), "docs/operating/affinity.md lacks {row}");
        }
    }

    #[test]
    fn affinity_without_nodes_prefers_none() {
        assert_eq!(prefer(&[], "user:/alice"), None);
    }

    #[test]
    fn affinity_of_one_node_prefers_it() {
        assert_eq!(prefer(&["hub-1"], ""), Some(0));
    }

    // A list that names a node twice would tell two programs two places.
    #[test]
    fn affinity_repeated_name_is_the_first_of_them() {
        assert_eq!(prefer(&["hub-1", "hub-1"], "user:/alice"), Some(0));
    }

    // Nodes of a cluster would carry uneven load.
    #[test]
    fn affinity_shares_differ_by_a_few_per_cent() {
        for count in [2, 3, 5, 10] {
            let nodes = names(count);
            let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
            for user in users(20_000) {
                *shares.entry(preferred(&nodes, &user)).or_default() += 1;
            }
            let fair = 20_000 / count;
            for (node, share) in shares {
                // Two thousand keys a node scatter by 2 per cent when chance deals them.
                assert!(share.abs_diff(fair) * 100 <= fair * 7, "{node} of {count} has {share}, not {fair}");
            }
        }
    }

    // Every added node would reconnect half of the users.
    #[test]
    fn affinity_added_node_takes_one_share() {
        for count in [1, 2, 3, 5, 10] {
            let (before, after) = (names(count), names(count + 1));
            let moved =
                users(20_000).filter(|user| preferred(&before, user) != preferred(&after, user)).count();
            let fair = 20_000 / (count + 1);
            assert!(moved.abs_diff(fair) * 100 <= fair * 7, "{moved} of 20000 moved, not {fair}");
        }
    }

    // A node's death would burden one neighbour with all its users.
    #[test]
    fn affinity_lost_node_is_shared_by_all_others() {
        let nodes = names(5);
        let others = names(4);
        let mut heirs: BTreeMap<&str, usize> = BTreeMap::new();
        for user in users(20_000).filter(|user| preferred(&nodes, user) == "hub-5") {
            *heirs.entry(preferred(&others, &user)).or_default() += 1;
        }
        let fair = heirs.values().sum::<usize>() / 4;
        assert_eq!(heirs.len(), 4);
        assert!(heirs.values().all(|share| share.abs_diff(fair) * 10 <= fair), "{heirs:?}");
    }

    proptest! {
        #[test]
        fn affinity_order_of_nodes_does_not_matter(
            nodes in proptest::collection::btree_set("[a-z0-9.-]{1,12}", 1..9),
            key in ".{0,40}",
            by in 0_usize..9,
        ) {
            let sorted: Vec<String> = nodes.into_iter().collect();
            let mut turned = sorted.clone();
            turned.rotate_left(by % sorted.len());
            prop_assert_eq!(preferred(&sorted, &key), preferred(&turned, &key));
        }

        #[test]
        fn affinity_added_node_moves_keys_to_itself_only(
            nodes in proptest::collection::btree_set("[a-z0-9.-]{1,12}", 1..9),
            new in "[A-Z]{1,12}",
            keys in proptest::collection::vec(".{0,40}", 1..50),
        ) {
            let before: Vec<String> = nodes.iter().cloned().collect();
            let after: Vec<String> = nodes.into_iter().chain([new.clone()]).collect();
            for key in &keys {
                let now = preferred(&after, key);
                prop_assert!(now == new || now == preferred(&before, key));
            }
        }

        #[test]
        fn affinity_users_and_rooms_have_keys_of_their_own(
            names in proptest::collection::vec(("[a-z-]{0,4}", "[a-z/:]{0,4}"), 2..20),
        ) {
            let distinct: BTreeSet<_> = names.iter().cloned().collect();
            let keys = names.iter().flat_map(|(tenant, name)| [user_key(tenant, name), room_key(tenant, name)]);
            prop_assert_eq!(keys.collect::<BTreeSet<_>>().len(), 2 * distinct.len());
        }
    }
}
