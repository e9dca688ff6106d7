//! A look-up from one value to the several objects that have it.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// From keys to sets of values, in which no empty set stays behind.
#[derive(Debug)]
pub(super) struct Lookup<K, V>(HashMap<K, BTreeSet<V>>);

impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone, V: Ord + Clone> Lookup<K, V> {
    /// The values of a key, in their order.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> impl Iterator<Item = &V> + use<'_, K, V, Q>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten()
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, value: &V)
    where
        K: Borrow<Q>,
    {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn insert_all<'a>(&mut self, keys: impl IntoIterator<Item = &'a K>, value: &V)
    where
        K: 'a,
    {
        for key in keys {
            self.insert(key.clone(), value.clone());
        }
    }

    pub(super) fn remove_all<'a>(&mut self, keys: impl IntoIterator<Item = &'a K>, value: &V)
    where
        K: 'a,
    {
        for key in keys {
            self.remove(key, value);
        }
    }
}
