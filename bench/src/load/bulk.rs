//! One TCP connection with as many bytes as go through it, of which none may be lost or changed.

use super::{To, wire};
use crate::measure::{Usage, Window, now};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes that are read or written at a time.
const CHUNK: usize = 256 << 10;

/// Send or fetch many bytes; prints what it took as JSON.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(crate) to: To,
    /// Which way they go.
    #[arg(long, default_value = "down")]
    pub(crate) direction: Direction,
    /// How many.
    #[arg(long, default_value_t = 1 << 30)]
    pub(crate) bytes: u64,
    /// Compare checksums of what was sent and what came, which takes CPU from who runs this.
    #[arg(long)]
    pub(crate) checksum: bool,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What a transfer took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BulkResult {
    /// Bytes that arrived.
    pub(crate) bytes: u64,
    /// From the connection to the last byte.
    pub(crate) seconds: f64,
    /// SHA-256 of what was sent and came, in hex; empty where nobody asked.
    pub(crate) checksum: String,
    /// What the processes used meanwhile.
    pub(crate) processes: Vec<Usage>,
}

/// Bytes that are not all alike: a piece that is lost, doubled or in the wrong place changes the checksum.
pub(crate) struct Pattern {
    block: Vec<u8>,
    at: u64,
}

impl Pattern {
    /// From the beginning.
    pub(crate) fn new() -> Self {
        let bytes = (0..CHUNK as u64).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8);
        Self { block: bytes.collect(), at: 0 }
    }

    /// The next bytes, at most `left`. Each block begins with its place.
    pub(crate) fn next(&mut self, left: u64) -> &[u8] {
        self.block[..8].copy_from_slice(&self.at.to_be_bytes());
        self.at += 1;
        &self.block[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)]
    }
}

/// SHA-256 of the first bytes of the [`Pattern`].
fn expected(bytes: u64) -> [u8; 32] {
    let (mut pattern, mut hash, mut left) = (Pattern::new(), Sha256::new(), bytes);
    while left > 0 {
        let chunk = pattern.next(left);
        hash.update(chunk);
        left -= chunk.len() as u64;
    }
    hash.finalize().into()
}

/// Runs a transfer.
///
/// # Errors
///
/// The connection broke, or what arrived is not what was sent.
pub(crate) async fn run(bulk: &Bulk) -> Result<BulkResult> {
    let window = Window::open(&bulk.to.pids)?;
    let began = now();
    let mut stream = TcpStream::connect(bulk.to.to).await?;
    stream.set_nodelay(true)?;
    let (arrived, sum) = match bulk.direction {
        Direction::Up => up(&mut stream, bulk).await?,
        Direction::Down => down(&mut stream, bulk).await?,
    };
    let seconds = (now() - began) as f64 / 1e9;
    let processes = window.read()?;
    ensure!(arrived == bulk.bytes, "{arrived} bytes arrived of {}", bulk.bytes);
    let mut checksum = String::new();
    if bulk.checksum {
        ensure!(sum == expected(bulk.bytes), "what arrived is not what was sent: the checksums differ");
        checksum = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    Ok(BulkResult { bytes: arrived, seconds, checksum, processes })
}

async fn up(stream: &mut TcpStream, bulk: &Bulk) -> Result<(u64, [u8; 32])> {
    stream.write_all(&[wire::SINK, u8::from(bulk.checksum)]).await?;
    let (mut pattern, mut left) = (Pattern::new(), bulk.bytes);
    while left > 0 {
        let chunk = pattern.next(left);
        stream.write_all(chunk).await?;
        left -= chunk.len() as u64;
    }
    stream.shutdown().await?;
    let arrived = stream.read_u64().await?;
    let mut sum = [0; 32];
    stream.read_exact(&mut sum).await?;
    Ok((arrived, sum))
}

async fn down(stream: &mut TcpStream, bulk: &Bulk) -> Result<(u64, [u8; 32])> {
    stream.write_all(&[wire::SOURCE]).await?;
    stream.write_u64(bulk.bytes).await?;
    take(stream, bulk.checksum).await
}

/// Reads to the end, and gives how much came and its SHA-256, zeros where nobody asked.
pub(crate) async fn take(stream: &mut TcpStream, checksum: bool) -> Result<(u64, [u8; 32])> {
    let (mut buffer, mut arrived, mut hash) = (vec![0; CHUNK], 0, Sha256::new());
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok((arrived, if checksum { hash.finalize().into() } else { [0; 32] }));
        }
        arrived += length as u64;
        if checksum {
            hash.update(&buffer[..length]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_of_the_pattern_are_alike_and_the_last_is_as_long_as_is_left() {
        let mut pattern = Pattern::new();
        let first = pattern.next(u64::MAX).to_vec();
        assert_eq!(first.len(), CHUNK);
        assert_ne!(pattern.next(u64::MAX), first);
        assert_eq!(pattern.next(3).len(), 3);
    }

    #[test]
    fn the_expected_checksum_depends_on_every_byte() {
        assert_ne!(expected(CHUNK as u64), expected(CHUNK as u64 + 1));
        assert_eq!(expected(0), <[u8; 32]>::from(Sha256::digest([])));
    }
}
