//! The loop around the ledger: opens a stream, feeds it events, carries out what follows, and tries again.
//!
//! One task does all of it, so that what is held is changed by one hand. It reads no faster than it answers: while many
//! answers wait for the operator to take them, nothing more is read.

use super::{
    backoff::{Attempt, Backoff},
    connect::{self, OpenError, Stream},
    ledger::{Held, Ledger, Reaction, Update, Verdict},
    metrics::Metrics,
};
use crate::{
    identity::{Credentials, Identity, Operator, TrustBundle},
    upstream::{directory::Directory, own::Own},
};
use conduit_model::{Target, Version, wire};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tonic::Status;

/// While this many answers wait, nothing more is read.
const ANSWERS: usize = 256;

/// Whom to ask, and how long to go on asking about what is not used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the operator serves discovery.
    pub operator: Operator,
    /// What the proxy proves itself by, and what hears of the roots of the mesh.
    pub identity: Arc<Identity>,
    /// A destination that nothing has used for this long is unsubscribed from.
    pub idle: Duration,
}

/// What the client holds at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whether the operator's stream is open.
    pub connected: bool,
    /// How the last attempt to open one failed, while none is open.
    pub failure: Option<String>,
    /// The proxy's own configuration.
    pub inbound: Versions,
    /// Each destination that is subscribed to.
    pub outbound: Vec<(SocketAddr, Versions)>,
}

/// What is in force of one target.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// Version of its configuration.
    pub config: Option<Version>,
    /// Version of its endpoints.
    pub endpoints: Option<Version>,
    /// How long ago either changed.
    pub age: Option<Duration>,
}

/// Asks a running client what it holds.
#[derive(Clone, Debug)]
pub struct Inquiry(mpsc::Sender<oneshot::Sender<Snapshot>>);

/// The client; [`Client::run`] is its life.
pub struct Client {
    config: Config,
    metrics: Metrics,
    sink: Sink,
    events: Events,
    ledger: Ledger,
    failure: Option<String>,
}

/// Where what the operator says comes into force.
struct Sink {
    directory: Arc<Directory>,
    own: Arc<Own>,
    identity: Arc<Identity>,
}

/// What happens without the operator.
struct Events {
    wanted: mpsc::UnboundedReceiver<SocketAddr>,
    questions: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    sweep: Interval,
}

enum Event {
    Wanted(SocketAddr),
    Question(oneshot::Sender<Snapshot>),
    Sweep,
}

impl Inquiry {
    /// What the client holds now; none once it has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, snapshot) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        snapshot.await.ok()
    }
}

impl Client {
    /// A client that fills `directory` and `own`. `wanted` came with the directory. Needs a runtime with time.
    pub fn new(
        config: Config,
        directory: Arc<Directory>,
        wanted: mpsc::UnboundedReceiver<SocketAddr>,
        own: Arc<Own>,
        metrics: Metrics,
    ) -> (Self, Inquiry) {
        let identity = config.identity.clone();
        let (questions_tx, questions) = mpsc::channel(1);
        // Often enough for nothing to stay much longer than it may, and too seldom to be seen in an idle pod.
        let mut sweep = interval((config.idle / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let client = Self {
            config,
            metrics,
            sink: Sink { directory, own, identity },
            events: Events { wanted, questions, sweep },
            ledger: Ledger::new(),
            failure: None,
        };
        (client, Inquiry(questions_tx))
    }

    /// Holds a stream to the operator for as long as it is polled.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let attempt = self.attempt().await;
            let pause = backoff.after(attempt, fastrand::f64());
            self.without_stream(tokio::time::sleep(pause)).await;
        }
    }

    /// Opens a stream and follows it to its end.
    async fn attempt(&mut self) -> Attempt {
        let operator = self.config.operator.clone();
        let credentials = self.credentials().await;
        let stream = match self.without_stream(connect::open(&operator, &credentials)).await {
            Ok(stream) => stream,
            Err(e) => {
                if matches!(e, OpenError::Certificate(..)) {
                    self.config.identity.refused();
                }
                self.metrics.failed();
                self.failed(e.to_string());
                self.sink.directory.set_online(false);
                return Attempt { lived: Duration::ZERO, orderly: false };
            }
        };
        let opened = Instant::now();
        tracing::info!(operator = %operator.address, "discovery: connected");
        self.failure = None;
        self.metrics.connected();
        self.sink.directory.set_online(true);

        let end = self.follow(stream).await;

        // An operator that ends a stream, or a replica that leaves, is not one that is away: whether there is one, the next
        // attempt shows. Until then new destinations wait for it, rather than to be taken for unknown.
        self.ledger.closed();
        self.metrics.disconnected(Instant::now());
        let orderly = end.is_ok();
        match end {
            Ok(()) => tracing::debug!(operator = %operator.address, "discovery: the operator ended the stream"),
            Err(status) => {
                let reason = format!("the stream broke: {:?}: {}", status.code(), status.message());
                tracing::warn!(operator = %operator.address, "discovery: {reason}");
                self.failure = Some(reason);
            }
        }
        Attempt { lived: opened.elapsed(), orderly }
    }

    /// What the proxy proves itself by, once it has a certificate that is valid.
    async fn credentials(&mut self) -> Arc<Credentials> {
        let identity = self.config.identity.clone();
        let mut progress = identity.progress();
        loop {
            // Before the look at what there is, so that nothing that comes after it is missed.
            let failure = progress.borrow_and_update().failure.clone();
            match identity.valid_credentials() {
                Ok(credentials) => return credentials,
                Err(missing) if let Some(failure) = failure => {
                    self.failed(format!("{missing}: {failure}"));
                    self.sink.directory.set_online(false);
                }
                Err(_) => {}
            }
            // The identity is held, so that there is always a next change to wait for.
            let _ = self.without_stream(progress.changed()).await;
        }
    }

    /// Feeds the ledger until the stream ends: in order, or with the status that broke it.
    async fn follow(&mut self, mut stream: Stream) -> Result<(), Status> {
        let mut answers: VecDeque<wire::WatchRequest> = self.ledger.opened().send.into();
        loop {
            let reaction = tokio::select! {
                room = stream.requests.reserve(), if !answers.is_empty() => {
                    // A closed queue is a stream that has ended, of which the responses tell.
                    let Ok(room) = room else { return stream.responses.message().await.map(drop) };
                    if let Some(answer) = answers.pop_front() {
                        room.send(answer);
                    }
                    continue;
                }
                message = stream.responses.message(), if answers.len() < ANSWERS => match message? {
                    Some(message) => self.hear(message),
                    None => return Ok(()),
                },
                event = self.events.next() => self.tend(event),
            };
            answers.extend(reaction);
        }
    }

    /// Waits for `done` while everything but the operator goes on.
    async fn without_stream<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => return done,
                // With no stream open there is nobody to tell.
                event = self.events.next() => drop(self.tend(event)),
            }
        }
    }

    /// Takes a message; what to answer.
    fn hear(&mut self, message: wire::WatchResponse) -> Vec<wire::WatchRequest> {
        let target = describe(message.target.clone());
        let reaction = self.ledger.told(message, Instant::now());
        if let Some(verdict) = &reaction.verdict {
            self.metrics.update(verdict);
            match verdict {
                Verdict::Applied => tracing::debug!("discovery: {target}: an update is in force"),
                Verdict::Stale => tracing::debug!("discovery: {target}: an update of what is not subscribed to"),
                Verdict::Rejected(reason) => {
                    tracing::warn!("discovery: {target}: an update was refused, what was held stays: {reason}");
                }
                Verdict::Invalid(reason) => {
                    tracing::warn!("discovery: {target}: the operator cannot read an object: {reason}");
                }
            }
        }
        self.carry_out(reaction)
    }

    /// Deals with what happens on this side; what to tell the operator.
    fn tend(&mut self, event: Event) -> Vec<wire::WatchRequest> {
        let requests = match event {
            Event::Wanted(address) => {
                let reaction = self.ledger.wanted(address);
                self.carry_out(reaction)
            }
            Event::Sweep => self.sweep(),
            Event::Question(answer) => {
                // Who asked may have gone.
                let _ = answer.send(self.snapshot());
                Vec::new()
            }
        };
        self.metrics.destinations(self.ledger.destinations());
        requests
    }

    /// Lets go of what nothing has used for a while.
    fn sweep(&mut self) -> Vec<wire::WatchRequest> {
        let Sink { directory, .. } = &self.sink;
        let gone = directory.idle(self.config.idle).into_iter().filter(|address| directory.remove(*address));
        gone.flat_map(|address| self.ledger.unused(address).send).collect()
    }

    fn carry_out(&mut self, reaction: Reaction) -> Vec<wire::WatchRequest> {
        if let Some(update) = reaction.apply {
            self.sink.apply(update);
        }
        reaction.send
    }

    /// Says why there is no stream, loudly when it is news.
    fn failed(&mut self, reason: String) {
        match self.failure.as_ref() == Some(&reason) {
            true => tracing::debug!("discovery: {reason}"),
            false => tracing::warn!("discovery: {reason}"),
        }
        self.failure = Some(reason);
    }

    fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let versions = |held: &Held| Versions {
            config: held.config,
            endpoints: held.endpoints,
            age: held.changed.map(|changed| now.duration_since(changed)),
        };
        Snapshot {
            connected: self.ledger.is_open(),
            failure: self.failure.clone(),
            inbound: versions(self.ledger.inbound()),
            outbound: self.ledger.outbound().map(|(address, held)| (address, versions(held))).collect(),
        }
    }
}

impl Sink {
    fn apply(&self, update: Update) {
        // A destination that is not in the directory any more is about to be unsubscribed from.
        match update {
            Update::Inbound(inbound, bundle) => {
                self.own.apply(inbound);
                self.trust(bundle);
            }
            Update::Surroundings(inbound, bundle) => {
                self.own.apply_surroundings(&inbound);
                self.trust(bundle);
            }
            Update::Outbound(address, outbound) => {
                self.directory.get(address).into_iter().for_each(|d| d.apply_config(outbound.clone()));
            }
            Update::Endpoints(address, endpoints) => {
                self.directory.get(address).into_iter().for_each(|d| d.replace_endpoints(endpoints.clone()));
            }
        }
    }

    fn trust(&self, bundle: Option<Arc<TrustBundle>>) {
        if let Some(bundle) = bundle
            && let Err(e) = self.identity.trust(bundle)
        {
            tracing::error!("the roots of the mesh that the operator streamed are not in force: {e}");
        }
    }
}

/// A target as log lines name it.
fn describe(target: Option<wire::Target>) -> String {
    match target.map(Target::from_wire) {
        Some(Ok(Target::Inbound)) => "inbound".to_owned(),
        Some(Ok(Target::Outbound(address))) => address.to_string(),
        Some(Err(_)) | None => "no target".to_owned(),
    }
}

impl Events {
    /// The next event. Nothing is lost if it is not waited for.
    async fn next(&mut self) -> Event {
        tokio::select! {
            Some(address) = self.wanted.recv() => Event::Wanted(address),
            Some(question) = self.questions.recv() => Event::Question(question),
            _ = self.sweep.tick() => Event::Sweep,
        }
    }
}
