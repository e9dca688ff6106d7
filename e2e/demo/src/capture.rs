//! `capture`: every packet of a network between two addresses, and whether words that should be secret stand in one.
//!
//! A packet socket (packet(7)) sees what a listener on the wire would see. This file must not know what is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use crate::stop_on_input;

/// Every protocol (linux/if_ether.h), in network order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();
/// The largest packet that a virtual link carries, with what stands before it.
const LARGEST: usize = 70 * 1024;
/// What the kernel keeps for a listener that is slow.
const BUFFER: usize = 64 * 1024 * 1024;
/// How often a silent wire lets the listener look whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Settings {
    /// The two addresses; only what one sends to the other counts.
    #[arg(long, num_args = 2, required = true, value_names = ["ADDRESS", "ADDRESS"])]
    between: Vec<Ipv4Addr>,
    /// What is looked for; may be repeated.
    #[arg(long)]
    word: Vec<String>,
}

/// Prints `{"listening":true}` once every packet is seen, then, when standard input ends or at `stop`, what was seen: how
/// many packets there were, in how many each word stood, and how many connections began in each direction with a TLS
/// handshake and with anything else.
///
/// # Errors
/// Without the right to open a packet socket (CAP_NET_RAW).
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL_PROTOCOLS))))
        .context("no packet socket: this takes CAP_NET_RAW")?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.set_recv_buffer_size(BUFFER)?;
    println!("{}", json!({"listening": true}));
    stop_on_input(stop.clone());
    let seen = tokio::task::spawn_blocking(move || listen(&socket, Seen::of(settings), &stop)).await??;
    println!("{}", seen.told());
    Ok(())
}

fn listen(mut socket: &Socket, mut seen: Seen, stop: &CancellationToken) -> anyhow::Result<Seen> {
    let mut packet = vec![0; LARGEST];
    while !stop.is_cancelled() {
        match socket.read(&mut packet) {
            Ok(length) => seen.packet(&packet[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("listening"),
        }
    }
    Ok(seen)
}

/// What was seen so far.
struct Seen {
    between: Vec<Ipv4Addr>,
    words: BTreeMap<String, u64>,
    packets: u64,
    tls: BTreeSet<(SocketAddrV4, SocketAddrV4)>,
    other: BTreeSet<(SocketAddrV4, SocketAddrV4)>,
}

impl Seen {
    fn of(settings: Settings) -> Self {
        Self {
            between: settings.between,
            words: settings.word.into_iter().map(|word| (word, 0)).collect(),
            packets: 0,
            tls: BTreeSet::new(),
            other: BTreeSet::new(),
        }
    }

    fn packet(&mut self, frame: &[u8]) {
        let Some((from, to, payload)) = tcp(frame) else { return };
        if from.ip() == to.ip() || ![from.ip(), to.ip()].into_iter().all(|ip| self.between.contains(ip)) {
            return;
        }
        self.packets += 1;
        for (word, times) in &mut self.words {
            *times += u64::from(payload.windows(word.len()).any(|window| window == word.as_bytes()));
        }
        let known = self.tls.contains(&(from, to)) || self.other.contains(&(from, to));
        if !payload.is_empty() && !known {
            // A record of a handshake (RFC 8446, section 5.1).
            let began = if payload.starts_with(&[22, 3]) { &mut self.tls } else { &mut self.other };
            began.insert((from, to));
        }
    }

    fn told(&self) -> Value {
        json!({"packets": self.packets, "words": self.words, "tls": self.tls.len(), "other": self.other.len()})
    }
}

/// Who sends what to whom, of an Ethernet frame that carries TCP over IPv4 (RFC 791, RFC 9293).
fn tcp(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let packet = frame.get(12..14).filter(|kind| *kind == [8, 0]).and_then(|_| frame.get(14..))?;
    let number = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if packet.get(9) != Some(&6) {
        return None;
    }
    // Short frames are padded: what counts ends where the packet says.
    let segment = packet.get(header..usize::from(number(packet, 2)?))?;
    let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
    let from = SocketAddrV4::new(address(12)?, number(segment, 0)?);
    Some((from, SocketAddrV4::new(address(16)?, number(segment, 2)?), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn frame(from: Ipv4Addr, to: Ipv4Addr, from_port: u16, payload: &[u8]) -> Vec<u8> {
        let length = (40 + payload.len()) as u16;
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(from.octets());
        frame.extend(to.octets());
        frame.extend(from_port.to_be_bytes());
        frame.extend([0x1f, 0x90]);
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    fn seen(frames: &[Vec<u8>]) -> Value {
        let mut seen = Seen::of(Settings { between: vec![HERE, THERE], word: vec!["secret".into()] });
        frames.iter().for_each(|frame| seen.packet(frame));
        seen.told()
    }

    #[test]
    fn a_word_is_found_in_what_goes_either_way_and_nowhere_else() {
        let words = seen(&[
            frame(HERE, THERE, 1, b"GET /secret"),
            frame(THERE, HERE, 2, b"a secret too"),
            frame(HERE, Ipv4Addr::new(10, 0, 0, 3), 3, b"secret"),
            frame(HERE, THERE, 4, b"s e c r e t"),
        ]);
        assert_eq!(words, json!({"packets": 3, "words": {"secret": 2}, "tls": 0, "other": 3}));
    }

    #[test]
    fn a_connection_is_told_by_its_first_bytes_alone() {
        let words = seen(&[
            frame(HERE, THERE, 1, b""),
            frame(HERE, THERE, 1, &[22, 3, 1, 0, 5]),
            frame(HERE, THERE, 1, b"more"),
            frame(HERE, THERE, 2, b"GET /"),
        ]);
        assert_eq!((&words["tls"], &words["other"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn what_is_cut_off_or_no_tcp_is_passed_over() {
        let whole = frame(HERE, THERE, 1, b"secret");
        for end in 0..whole.len() {
            assert_eq!(seen(&[whole[..end].to_vec()])["words"]["secret"], 0);
        }
        let mut padded = whole.clone();
        padded.extend(b"secret secret");
        assert_eq!(seen(&[padded])["words"]["secret"], 1);
        let mut udp = whole;
        udp[14 + 9] = 17;
        assert_eq!(seen(&[udp])["packets"], 0);
    }
}
