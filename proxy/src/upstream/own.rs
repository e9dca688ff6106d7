//! What the operator told of the proxy's own workload: its ports, their Services, and whether the pod has been told to
//! stop. `discovery` writes it on the control thread; `inbound` reads it on the workers.

use arc_swap::ArcSwapOption;
use conduit_model::{Inbound, OutboundTlsMode};
use std::sync::Arc;
use tokio::sync::watch;

/// The inbound configuration as it is known now.
#[derive(Debug)]
pub struct Own {
    config: ArcSwapOption<Inbound>,
    terminating: watch::Sender<bool>,
    known: watch::Sender<bool>,
}

impl Own {
    /// Nothing known yet, and not terminating.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            config: ArcSwapOption::empty(),
            terminating: watch::Sender::new(false),
            known: watch::Sender::new(false),
        })
    }

    /// Takes the operator's newest answer. Termination is final: a pod that was told to stop does not start again, even
    /// if a replica that lags behind says so.
    pub fn apply(&self, inbound: Arc<Inbound>) {
        if inbound.terminating {
            self.terminating.send_if_modified(|terminating| !std::mem::replace(terminating, true));
        }
        self.config.store(Some(inbound));
        self.known.send_if_modified(|known| !std::mem::replace(known, true));
    }

    /// Takes what is the pod's and the mesh's from an answer that stands in for one that could not be made: what is known of
    /// ports, and whom they serve, stays. What holds for unknown destinations may hang on the object that could not be read; it
    /// is the closed one then. Nothing is taken where nothing is known.
    pub fn apply_surroundings(&self, meanwhile: &Inbound) {
        if let Some(known) = self.config() {
            let Inbound {
                workload: _,
                ports: _,
                mtls: _,
                terminating,
                probe_networks,
                trust_bundle,
                unknown_destinations,
            } = meanwhile.clone();
            self.apply(Arc::new(Inbound {
                terminating,
                probe_networks,
                trust_bundle,
                unknown_destinations,
                ..(*known).clone()
            }));
        }
    }

    /// What holds for destinations of which nothing is known, once the proxy has been told.
    pub fn unknown_destinations(&self) -> Option<OutboundTlsMode> {
        self.peek().as_ref().map(|config| config.unknown_destinations)
    }

    /// Waits until the configuration is known.
    pub(crate) async fn known(&self) {
        // The sender is this one's own, and lives.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// The configuration, once one is known.
    pub fn config(&self) -> Option<Arc<Inbound>> {
        self.config.load_full()
    }

    /// Turns true when the pod has been told to stop: serve on, and ask peers to go elsewhere.
    pub fn terminating(&self) -> watch::Receiver<bool> {
        self.terminating.subscribe()
    }

    /// The configuration without counting a reference, for one look.
    pub(crate) fn peek(&self) -> arc_swap::Guard<Option<Arc<Inbound>>> {
        self.config.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::{InboundMtls, InboundMtlsMode, Workload, WorkloadKind};

    fn inbound(terminating: bool) -> Arc<Inbound> {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        Arc::new(Inbound { terminating, ..Inbound::of(workload) })
    }

    #[test]
    fn a_pod_that_was_told_to_stop_stays_so() {
        let own = Own::new();
        let terminating = own.terminating();
        assert!(own.config().is_none());
        own.apply(inbound(false));
        assert!(!*terminating.borrow());
        own.apply(inbound(true));
        own.apply(inbound(false));
        assert!(*terminating.borrow());
        assert_eq!(own.config(), Some(inbound(false)));
    }

    #[test]
    fn what_is_the_pods_and_the_meshs_is_taken_without_what_is_said_of_ports() {
        let own = Own::new();
        let known =
            Inbound { mtls: InboundMtls { mode: InboundMtlsMode::Strict, source: None }, ..(*inbound(false)).clone() };
        let meanwhile = Inbound { unknown_destinations: OutboundTlsMode::Require, ..(*inbound(true)).clone() };
        own.apply_surroundings(&meanwhile);
        assert!(own.config().is_none(), "nothing is known of ports");
        own.apply(Arc::new(known.clone()));
        own.apply_surroundings(&meanwhile);
        let expected = Inbound { mtls: known.mtls, ..meanwhile };
        assert_eq!(own.config().as_deref(), Some(&expected));
        assert!(*own.terminating().borrow());
    }
}
