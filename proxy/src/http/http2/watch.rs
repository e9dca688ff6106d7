//! Whether the other end of a connection is still there.
//!
//! A peer that vanished, or hangs, says nothing, which is also what a peer does that has nothing to say. Between two
//! proxies the question is a PING (RFC 9113 section 6.7), asked only after a silence. Applications are never asked: not all
//! of them take it well, and some count it as abuse.

use super::wire::Outlet;
use h2::{Ping, PingPong};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// How often it is looked whether something was heard.
const INTERVAL: Duration = Duration::from_secs(10);

/// Intervals of silence after which the peer is asked.
const ASKED_AFTER: u32 = 2;

/// Intervals of silence after which it is lost.
const LOST_AFTER: u32 = 3;

/// Watches one connection.
pub(super) struct Watch {
    pings: PingPong,
    interval: Pin<Box<Sleep>>,
    silence: Silence,
}

/// The intervals at an end in which nothing was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Silence(u32);

/// What is to be done about a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Ask,
    Lost,
}

impl Silence {
    /// An interval is over.
    fn after(&mut self, heard: bool) -> Verdict {
        self.0 = if heard { 0 } else { self.0 + 1 };
        match self.0 {
            ASKED_AFTER => Verdict::Ask,
            LOST_AFTER.. => Verdict::Lost,
            _ => Verdict::Wait,
        }
    }
}

impl Watch {
    pub(super) fn new(pings: PingPong) -> Self {
        Self { pings, interval: Box::pin(sleep(INTERVAL)), silence: Silence::default() }
    }

    /// Whether the peer has not answered. To be asked each time before the connection is driven.
    pub(super) fn has_lost(&mut self, outlet: &Outlet, cx: &mut Context<'_>) -> bool {
        while self.interval.as_mut().poll(cx).is_ready() {
            self.interval.as_mut().reset(Instant::now() + INTERVAL);
            match self.silence.after(outlet.heard()) {
                Verdict::Wait => {}
                Verdict::Ask => self.ask(),
                Verdict::Lost => return true,
            }
        }
        false
    }

    fn ask(&mut self) {
        // The answer to the question before is done with.
        let answered: Poll<_> = self.pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        drop(answered);
        // An error is a question that has no answer yet, or a connection that has ended.
        let _ = self.pings.send_ping(Ping::opaque());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Server, client::Ended, open},
        *,
    };
    use crate::listen::pairs::connected;
    use tokio::time::timeout;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_proxy_that_hangs_is_given_up_after_half_a_minute() {
        let (client, _hangs) = connected().await;
        tokio::time::pause();
        let (_requests, driven) = open(client.into(), Server::Proxy).await.unwrap();
        let start = Instant::now();
        let ended = timeout(HOUR, driven).await.unwrap();
        assert!(matches!(ended, Err(Ended::Silent)), "{ended:?}");
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[test]
    fn a_proxy_that_says_something_is_left_in_peace() {
        let mut silence = Silence::default();
        let mut after = |heard| silence.after(heard);
        assert_eq!([after(true), after(false), after(true), after(false)], [Verdict::Wait; 4]);
        assert_eq!([after(false), after(true), after(false)], [Verdict::Ask, Verdict::Wait, Verdict::Wait]);
        assert_eq!([after(false), after(false)], [Verdict::Ask, Verdict::Lost]);
    }

    #[tokio::test]
    async fn an_application_is_not_asked() {
        let (client, _hangs) = connected().await;
        tokio::time::pause();
        let (_requests, driven) = open(client.into(), Server::Application).await.unwrap();
        assert!(timeout(HOUR, driven).await.is_err());
    }
}
