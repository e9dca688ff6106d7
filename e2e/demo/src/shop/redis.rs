//! As much of a Redis client as carts need: commands out, replies in, over RESP2 and a few connections that are kept.
//!
//! Specification: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. It must not know what is stored.

use std::sync::Mutex;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A command and its reply take this long at most, connecting included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections that are kept.
const MAX_IDLE: usize = 16;

/// The longest bulk string and the longest array that a reply may announce.
const MAX_LENGTH: usize = 1024 * 1024;

/// A server, by host and port.
pub(super) struct Redis {
    address: String,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A simple string, or a bulk string.
    Text(Vec<u8>),
    Integer(i64),
    Nil,
    List(Vec<Reply>),
}

/// Why a command has no reply.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("redis: {0}")]
    Io(#[from] std::io::Error),
    #[error("redis: no reply within {TIMEOUT:?}")]
    Timeout,
    #[error("redis: expected a reply, got {0:?}")]
    Protocol(String),
    #[error("redis answered: {0}")]
    Server(String),
}

impl Redis {
    /// No connection is made before the first command.
    pub(super) fn new(address: String) -> Self {
        Self { address, idle: Mutex::new(Vec::new()) }
    }

    /// Sends one command and reads its reply. A kept connection that the server has closed meanwhile is replaced.
    pub(super) async fn command(&self, words: &[&str]) -> Result<Reply, Error> {
        tokio::time::timeout(TIMEOUT, self.exchange(&encoded(words))).await.map_err(|_| Error::Timeout)?
    }

    async fn exchange(&self, command: &[u8]) -> Result<Reply, Error> {
        while let Some(mut kept) = self.take_idle() {
            if is_open(kept.get_ref()) {
                return self.on(&mut kept, command).await.inspect(|_| self.keep(kept));
            }
        }
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut connection = BufReader::new(stream);
        self.on(&mut connection, command).await.inspect(|_| self.keep(connection))
    }

    async fn on(&self, connection: &mut BufReader<TcpStream>, command: &[u8]) -> Result<Reply, Error> {
        connection.get_mut().write_all(command).await?;
        read_reply(connection).await
    }

    fn take_idle(&self) -> Option<BufReader<TcpStream>> {
        self.idle.lock().ok()?.pop()
    }

    fn keep(&self, connection: BufReader<TcpStream>) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < MAX_IDLE
        {
            idle.push(connection);
        }
    }
}

/// Whether an idle connection may still be used: anything to read on it is its end, or a reply to nothing.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn encoded(words: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    command
}

async fn read_reply<R: tokio::io::AsyncBufRead + Unpin>(reader: &mut R) -> Result<Reply, Error> {
    match read_item(reader).await? {
        Item::Whole(reply) => Ok(reply),
        Item::List(length) => {
            let mut items = Vec::with_capacity(length.min(64));
            for _ in 0..length {
                match read_item(reader).await? {
                    Item::Whole(item) => items.push(item),
                    Item::List(_) => return Err(Error::Protocol("a list within a list".into())),
                }
            }
            Ok(Reply::List(items))
        }
    }
}

enum Item {
    Whole(Reply),
    /// The items follow.
    List(usize),
}

async fn read_item<R: tokio::io::AsyncBufRead + Unpin>(reader: &mut R) -> Result<Item, Error> {
    let line = read_line(reader).await?;
    let Some((kind, rest)) = line.split_at_checked(1) else { return Err(Error::Protocol(line)) };
    match kind {
        "+" => Ok(Item::Whole(Reply::Text(rest.into()))),
        "-" => Err(Error::Server(rest.into())),
        ":" => rest.parse().map(|number| Item::Whole(Reply::Integer(number))).map_err(|_| Error::Protocol(line)),
        "$" | "*" if rest == "-1" => Ok(Item::Whole(Reply::Nil)),
        "$" => {
            let mut bulk = vec![0; length(rest)? + 2];
            reader.read_exact(&mut bulk).await?;
            bulk.truncate(bulk.len() - 2);
            Ok(Item::Whole(Reply::Text(bulk)))
        }
        "*" => Ok(Item::List(length(rest)?)),
        _ => Err(Error::Protocol(line)),
    }
}

async fn read_line<R: tokio::io::AsyncBufRead + Unpin>(reader: &mut R) -> Result<String, Error> {
    let mut line = String::new();
    reader.take(MAX_LENGTH as u64).read_line(&mut line).await?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None if line.is_empty() => Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into())),
        None => Err(Error::Protocol(line)),
    }
}

fn length(text: &str) -> Result<usize, Error> {
    text.parse()
        .ok()
        .filter(|length| *length <= MAX_LENGTH)
        .ok_or_else(|| Error::Protocol(format!("a length of {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(bytes: &[u8]) -> Result<Reply, Error> {
        read_reply(&mut BufReader::new(bytes)).await
    }

    #[tokio::test]
    async fn every_kind_of_reply_is_read() {
        let text = |text: &str| Reply::Text(text.into());
        assert_eq!(reply(b"+OK\r\n").await.unwrap(), text("OK"));
        assert_eq!(reply(b":-3\r\n").await.unwrap(), Reply::Integer(-3));
        assert_eq!(reply(b"$-1\r\n").await.unwrap(), Reply::Nil);
        assert_eq!(reply(b"$4\r\na\r\nb\r\n").await.unwrap(), text("a\r\nb"));
        let list = Reply::List(vec![text("mug"), Reply::Integer(2)]);
        assert_eq!(reply(b"*2\r\n$3\r\nmug\r\n:2\r\n").await.unwrap(), list);
    }

    #[tokio::test]
    async fn an_error_of_the_server_is_passed_on() {
        assert_eq!(reply(b"-ERR no\r\n").await.unwrap_err().to_string(), "redis answered: ERR no");
    }

    #[tokio::test]
    async fn what_is_no_reply_is_refused() {
        assert!(matches!(reply(b"HTTP/1.1 200 OK\r\n").await, Err(Error::Protocol(_))));
        assert!(matches!(reply(b"$99999999\r\n").await, Err(Error::Protocol(_))));
        assert!(matches!(reply(b"$4\r\nab").await, Err(Error::Io(_))));
        assert!(matches!(reply(b"").await, Err(Error::Io(_))));
    }

    #[test]
    fn commands_carry_their_lengths_in_bytes() {
        assert_eq!(encoded(&["GET", "tée"]), "*2\r\n$3\r\nGET\r\n$4\r\ntée\r\n".as_bytes());
    }
}
