//! The buffers of a worker, taken while bytes move and given back at once: a connection that waits holds none.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Bytes of a buffer: as many are read at once. Larger reads save system calls for bulk; 64 KiB is where the gain ends.
pub(crate) const SIZE: usize = 64 * 1024;

/// Buffers that a worker keeps for the next connection.
const MOST_POOLED: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of the worker's pool, given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn take() -> Self {
        let pooled = POOL.with_borrow_mut(Vec::pop);
        Self(pooled.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // The pool is gone while the thread ends; the buffer then simply goes too.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MOST_POOLED {
                pool.push(buffer);
            }
        });
    }
}

/// How many buffers wait in the pool of this thread.
#[cfg(test)]
pub(crate) fn pooled() -> usize {
    POOL.with_borrow(Vec::len)
}
