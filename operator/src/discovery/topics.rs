//! Every topic that some stream subscribes to, and who has which version of it.
//!
//! Locks are taken in one order: the view, then the topics. A topic is compiled and put in place while the view is
//! held, so that no change can fall between what it was compiled from and its being found by that change.

use super::{
    mailbox::{Mailbox, Slot},
    metrics::Metrics,
    snapshot::{Snapshot, TopicKey},
};
use crate::{
    compile::{Programmed, Source},
    index::{Changes, Fact, Facts, Index},
};
use conduit_model::Version;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long after a first change the others that come with it are waited for, such as those of a rolling update.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// After how many compilations others get their turn.
const BATCH: usize = 32;

/// Tells one stream of this process from another.
pub(super) type StreamId = u64;

#[derive(Debug)]
pub(super) struct Topics {
    index: Index,
    metrics: Metrics,
    changes: Arc<Changes>,
    /// Held while topics are compiled again, so that who waits for it finds them done.
    recompiling: tokio::sync::Mutex<()>,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    topics: HashMap<Arc<TopicKey>, Topic>,
    dependents: HashMap<Fact, HashSet<Arc<TopicKey>>>,
}

#[derive(Debug)]
struct Topic {
    snapshot: Arc<Snapshot>,
    facts: BTreeSet<Fact>,
    subscribers: HashMap<StreamId, Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    mailbox: Arc<Mailbox>,
    slot: Slot,
    answer: Option<Answer>,
}

/// What a proxy said last of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Holds(Version),
    Refused(Version),
}

/// An object's part in all that one proxy is told.
struct Part {
    /// The proxy holds everything that it has a part in.
    held: bool,
    /// It has refused something of that.
    refused: bool,
    /// Something of that is as the object says.
    in_effect: bool,
}

impl Topics {
    pub(super) fn new(index: Index, metrics: Metrics) -> Self {
        let changes = index.changes();
        Self { index, metrics, changes, recompiling: tokio::sync::Mutex::default(), registry: Mutex::default() }
    }

    /// Compiles topics again as facts change. Ends never; is dropped to stop.
    pub(super) async fn run(&self) {
        loop {
            self.changes.changed().await;
            tokio::time::sleep(DEBOUNCE).await;
            self.catch_up().await;
        }
    }

    /// Compiles again what depends on the changes until now.
    async fn catch_up(&self) {
        let _recompiling = self.recompiling.lock().await;
        let affected = self.affected(&self.changes.take());
        for batch in affected.chunks(BATCH) {
            batch.iter().for_each(|key| self.recompile(key));
            tokio::task::yield_now().await;
        }
    }

    /// Whether the index has all that topics are compiled from.
    pub(super) fn ready(&self) -> bool {
        self.index.synced()
    }

    /// Enters a stream as a subscriber. It finds the slot in its mailbox at once.
    pub(super) fn subscribe(&self, key: &Arc<TopicKey>, stream: StreamId, mailbox: &Arc<Mailbox>, slot: Slot) {
        let view = self.index.view();
        let mut registry = self.lock();
        if !registry.topics.contains_key(key) {
            self.metrics.recompiles.inc();
            let (snapshot, facts) = Snapshot::compile(&view, key, None);
            registry.insert(Arc::clone(key), snapshot, facts);
        }
        if let Some(topic) = registry.topics.get_mut(key) {
            let subscriber = Subscriber { mailbox: Arc::clone(mailbox), slot, answer: None };
            topic.subscribers.insert(stream, subscriber);
        }
        drop((registry, view));
        mailbox.add(slot);
    }

    /// Takes a stream out. A topic without subscribers is forgotten.
    pub(super) fn unsubscribe(&self, key: &TopicKey, stream: StreamId) {
        let mut registry = self.lock();
        let Some(topic) = registry.topics.get_mut(key) else { return };
        topic.subscribers.remove(&stream);
        if topic.subscribers.is_empty() {
            registry.remove(key);
        }
    }

    /// What a topic says now; none where the stream does not subscribe to it.
    pub(super) fn current(&self, key: &TopicKey) -> Option<Arc<Snapshot>> {
        self.lock().topics.get(key).map(|topic| Arc::clone(&topic.snapshot))
    }

    /// Notes what a proxy said of a topic.
    pub(super) fn answered(&self, key: &TopicKey, stream: StreamId, answer: Answer) {
        let mut registry = self.lock();
        if let Some(subscriber) = registry.topics.get_mut(key).and_then(|topic| topic.subscribers.get_mut(&stream)) {
            subscriber.answer = Some(answer);
        }
    }

    /// For every object of Conduit's own kinds as the index has it now: how many proxies are told something that was made
    /// from it, and how many of those hold all of that.
    pub(super) async fn programmed(&self) -> BTreeMap<Source, Programmed> {
        self.catch_up().await;
        let view = self.index.view();
        let profiles = view.profiles().map(Source::profile);
        let policies = view.policies().map(|targeted| Source::policy(&targeted.policy));
        let mut proxies: BTreeMap<Source, HashMap<StreamId, Part>> =
            profiles.chain(policies).map(|source| (source, HashMap::new())).collect();
        let registry = self.lock();
        for topic in registry.topics.values() {
            let version = topic.snapshot.version();
            let Snapshot { sources, overridden, .. } = &*topic.snapshot;
            let in_effect = sources.iter().map(|source| (source, true));
            // A source that is of another generation than the index has it in is being compiled again just now.
            for (source, in_effect) in in_effect.chain(overridden.iter().map(|source| (source, false))) {
                let Some(of_source) = proxies.get_mut(source) else { continue };
                for (stream, subscriber) in &topic.subscribers {
                    let part =
                        of_source.entry(*stream).or_insert(Part { held: true, refused: false, in_effect: false });
                    part.held &= version.is_some() && subscriber.answer == version.map(Answer::Holds);
                    part.refused |= version.is_some() && subscriber.answer == version.map(Answer::Refused);
                    part.in_effect |= in_effect;
                }
            }
        }
        let counted = proxies.into_iter().map(|(source, streams)| {
            let of = |which: fn(&Part) -> bool| streams.values().filter(|part| which(part)).count();
            let programmed = Programmed {
                proxies: streams.len(),
                current: of(|part| part.held),
                rejected: of(|part| part.refused),
                overridden: of(|part| !part.in_effect),
            };
            (source, programmed)
        });
        counted.collect()
    }

    fn affected(&self, facts: &Facts) -> Vec<Arc<TopicKey>> {
        let registry = self.lock();
        let topics = facts.iter().filter_map(|fact| registry.dependents.get(fact)).flatten();
        let unique: HashSet<_> = topics.cloned().collect();
        unique.into_iter().collect()
    }

    fn recompile(&self, key: &Arc<TopicKey>) {
        let view = self.index.view();
        // One hand compiles again, so that what is found here is what is replaced below.
        let Some(before) = self.current(key) else { return };
        let (snapshot, facts) = Snapshot::compile(&view, key, Some(&before));
        self.metrics.recompiles.inc();
        let mut registry = self.lock();
        let Some(subscribers) = registry.replace(key, snapshot, facts) else { return };
        drop((registry, view));
        for (mailbox, slot) in subscribers {
            mailbox.add(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn insert(&mut self, key: Arc<TopicKey>, snapshot: Snapshot, facts: BTreeSet<Fact>) {
        for fact in &facts {
            self.dependents.entry(fact.clone()).or_default().insert(Arc::clone(&key));
        }
        self.topics.insert(key, Topic { snapshot: Arc::new(snapshot), facts, subscribers: HashMap::new() });
    }

    fn remove(&mut self, key: &TopicKey) {
        if let Some(topic) = self.topics.remove(key) {
            topic.facts.iter().for_each(|fact| self.no_longer_depends(key, fact));
        }
    }

    /// Puts a new snapshot in place of a topic's. Answers whom to tell: nobody, where it says the same as before.
    fn replace(
        &mut self,
        key: &Arc<TopicKey>,
        snapshot: Snapshot,
        facts: BTreeSet<Fact>,
    ) -> Option<Vec<(Arc<Mailbox>, Slot)>> {
        let topic = self.topics.get_mut(key)?;
        let same = topic.snapshot.says(&snapshot);
        topic.snapshot = Arc::new(snapshot);
        let told = topic.subscribers.values().map(|subscriber| (Arc::clone(&subscriber.mailbox), subscriber.slot));
        let told = if same { Vec::new() } else { told.collect() };
        let before = std::mem::replace(&mut topic.facts, facts.clone());
        before.difference(&facts).for_each(|fact| self.no_longer_depends(key, fact));
        for fact in facts.difference(&before) {
            self.dependents.entry(fact.clone()).or_default().insert(Arc::clone(key));
        }
        Some(told)
    }

    fn no_longer_depends(&mut self, key: &TopicKey, fact: &Fact) {
        if let Some(keys) = self.dependents.get_mut(fact) {
            keys.remove(key);
            if keys.is_empty() {
                self.dependents.remove(fact);
            }
        }
    }
}
