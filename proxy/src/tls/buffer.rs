//! The buffers of a worker, taken while bytes move and given back at once: a connection that waits holds none.
//!
//! How large they are decides what a byte costs more than how often the kernel is asked. What is written at once goes down
//! the network stack as one packet, to be cut into segments at its end, as long as it is no longer than 64 KiB with its
//! headers, in whole segments: 65,160 bytes where the MTU is 1500, 62,643 where it is 9001. Whatever is left over goes as a
//! second packet, with a wakeup and an acknowledgement of its own. So 60 KiB are read and sealed at once, which stay
//! below that as TLS; and the other side has room for just as much, so that it reads whole records.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Bytes that are moved at once, in plain.
pub(crate) const PLAIN: usize = 60 * 1024;
/// Bytes of a buffer: as many as [`PLAIN`] becomes under TLS, in four records.
pub(crate) const SIZE: usize = PLAIN + 4 * OVERHEAD;
/// What a record of TLS 1.3 has beside what it carries, without padding: a header, the real kind, and the proof (RFC 8446
/// section 5.2) of any suite that is spoken here.
const OVERHEAD: usize = 5 + 1 + 16;

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
