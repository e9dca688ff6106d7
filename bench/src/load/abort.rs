//! Clients that go away in the middle of something, each in another way. Must not care what becomes of it.

use super::{Client, Protocol, To, wire};
use crate::measure::{Timer, nanoseconds, now};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::LocalSet};

/// How long an exchange that is to be broken off may take to begin.
const PATIENCE: Duration = Duration::from_secs(2);

/// Break off exchanges in the middle; prints how many as JSON.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    pub(crate) to: To,
    /// How many a second.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

/// How it went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Aborted {
    /// Exchanges that were broken off.
    pub(crate) aborted: u64,
}

/// When a client goes away.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Before it said anything.
    Silent,
    /// With the first half of what it has to say.
    Half,
    /// Once all is said, and nothing is answered yet.
    Unanswered,
    /// After a whole exchange, by a reset.
    Afterwards,
}

const MOMENTS: [Moment; 4] = [Moment::Silent, Moment::Half, Moment::Unanswered, Moment::Afterwards];

/// Breaks off exchanges, one after another.
///
/// # Errors
///
/// The timer does not work.
pub(crate) async fn run(abort: &Abort) -> Result<Aborted> {
    let run = async {
        let (timer, first) = (Timer::new()?, now());
        let mut aborted = 0;
        for (number, moment) in MOMENTS.into_iter().cycle().enumerate() {
            let due = first + nanoseconds(number as f64 / abort.rate);
            if due >= first + nanoseconds(abort.seconds) {
                break;
            }
            timer.until(due).await?;
            let broken_off = tokio::time::timeout(PATIENCE, break_off(&abort.to, moment)).await;
            aborted += u64::from(matches!(broken_off, Ok(Ok(()))));
        }
        Ok(Aborted { aborted })
    };
    LocalSet::new().run_until(run).await
}

async fn break_off(to: &To, moment: Moment) -> Result<()> {
    match (moment, to.protocol) {
        (Moment::Afterwards, _) | (Moment::Unanswered, Protocol::Http2 | Protocol::Grpc) => {
            let mut client = Client::connect(&to.target()).await?;
            let mut exchange = std::pin::pin!(client.exchange());
            match moment {
                // Polled once, it has sent its request.
                Moment::Unanswered => drop(futures::poll!(exchange.as_mut())),
                _ => exchange.await?,
            }
            Ok(())
        }
        _ => {
            let mut stream = TcpStream::connect(to.to).await?;
            // What is sent is followed by a reset and not by an end.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            let said = said(to);
            let part = match moment {
                Moment::Silent => 0,
                Moment::Half => said.len() / 2,
                Moment::Unanswered | Moment::Afterwards => said.len(),
            };
            Ok(stream.write_all(&said[..part]).await?)
        }
    }
}

fn said(to: &To) -> Vec<u8> {
    match to.protocol {
        Protocol::Http1 => format!("GET /api/v1/items HTTP/1.1\r\nhost: {}\r\n\r\n", to.authority).into(),
        Protocol::Http2 | Protocol::Grpc => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        Protocol::Tcp => [&[wire::ECHO], vec![b'm'; to.size].as_slice()].concat(),
    }
}
