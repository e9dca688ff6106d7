//! Which of a stream's subscriptions have news for it.
//!
//! It holds names, not news: what is sent is what is newest when the proxy can take it. A subscription is in it once,
//! however often its topic changes, so that a slow proxy costs no more than its subscriptions.

use conduit_model::Target;
use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// A part of what a target is told, with a version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Part {
    Config,
    Endpoints,
}

/// One thing that a stream is told about.
pub(super) type Slot = (Target, Part);

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    slots: Mutex<Slots>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    queue: VecDeque<Slot>,
    queued: HashSet<Slot>,
}

impl Mailbox {
    /// There is news for this slot.
    pub(super) fn add(&self, slot: Slot) {
        let mut slots = self.lock();
        if slots.queued.insert(slot) {
            slots.queue.push_back(slot);
            drop(slots);
            self.added.notify_one();
        }
    }

    /// The slot that has waited longest.
    pub(super) fn take(&self) -> Option<Slot> {
        let mut slots = self.lock();
        let slot = slots.queue.pop_front()?;
        slots.queued.remove(&slot);
        Some(slot)
    }

    /// Waits until there is a slot to take. For one waiter at a time.
    pub(super) async fn ready(&self) {
        while self.lock().queue.is_empty() {
            self.added.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_of_one_slot_coalesce_and_slots_come_in_their_order() {
        let mailbox = Mailbox::default();
        let other = (Target::Outbound("10.0.0.1:80".parse().unwrap()), Part::Endpoints);
        for slot in [other, (Target::Inbound, Part::Config), other, other] {
            mailbox.add(slot);
        }
        mailbox.ready().await;
        assert_eq!(mailbox.take(), Some(other));
        assert_eq!(mailbox.take(), Some((Target::Inbound, Part::Config)));
        assert_eq!(mailbox.take(), None);
    }
}
