//! Who speaks first on a connection whose client was silent at first, once the server is connected to.
//!
//! A server that speaks first (SMTP, MySQL) can only be relayed. But not all that a server sends unasked is a greeting:
//! it may close an idle connection, say 408 before it does, or send the SETTINGS with which an HTTP/2 server starts.

use super::{
    detect::{self, Detected},
    io::Io,
};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// What the first words were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstWords {
    /// The client spoke, and its first bytes say this.
    Client(Detected),
    /// The server greeted: it is a server-first protocol.
    Server,
    /// The server ended the connection, or answered to silence as an HTTP/1 server does: nothing to remember.
    ServerGaveUp,
}

/// What a server's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerWords {
    Greeting,
    GivingUp,
    /// An HTTP/2 server's SETTINGS: its client is to speak.
    Settings,
}

/// Waits until `client` or `server` has spoken. Once the client has started, it has `within` to show its protocol.
///
/// # Errors
/// The client's stream's; an error of the server's is left for the relay to meet.
pub(crate) async fn first_words(client: &TcpStream, server: &mut Io, within: Duration) -> io::Result<FirstWords> {
    tokio::select! {
        biased;
        readable = client.readable() => readable?,
        words = server_words(server) => match words {
            ServerWords::Greeting => return Ok(FirstWords::Server),
            ServerWords::GivingUp => return Ok(FirstWords::ServerGaveUp),
            ServerWords::Settings => client.readable().await?,
        },
    }
    detect::detect(client, within).await.map(FirstWords::Client)
}

async fn server_words(server: &mut Io) -> ServerWords {
    let mut window = [0; 9];
    match server.peek(&mut window).await {
        Ok(length) => judge(&window[..length]),
        Err(_) => ServerWords::GivingUp,
    }
}

/// What a server says that starts with `bytes`, none of which is the end of the stream. A frame's head is 9 bytes
/// (RFC 9113 section 4.1), sent in one piece.
fn judge(bytes: &[u8]) -> ServerWords {
    match bytes {
        [] => ServerWords::GivingUp,
        [_, _, _, 4, 0, 0, 0, 0, 0] => ServerWords::Settings,
        bytes if bytes.starts_with(b"HTTP/1.") => ServerWords::GivingUp,
        _ => ServerWords::Greeting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_an_idle_408_and_http2_settings_are_no_greeting() {
        for (bytes, expected) in [
            (&b""[..], ServerWords::GivingUp),
            (b"HTTP/1.1 ", ServerWords::GivingUp),
            (b"\0\0\x12\x04\0\0\0\0\0", ServerWords::Settings),
            (b"220 mail ", ServerWords::Greeting),
            (b"J\0\0\0\n8.0.", ServerWords::Greeting),
            (b"+", ServerWords::Greeting),
        ] {
            assert_eq!(judge(bytes), expected, "{bytes:?}");
        }
    }
}
