//! The floor: bytes from one socket to another by `splice(2)`, with no protocol and no TLS. Nothing that forwards
//! connections through two processes costs less.

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use socket2::SockRef;
use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::AsFd,
};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
};

/// Bytes that a pipe holds.
const PIPE: usize = 256 << 10;

/// Relay plain TCP.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Relay {
    /// Where to listen and where to connect to; may be repeated.
    #[arg(long = "map", value_name = "LISTEN=CONNECT", value_parser = pair, required = true)]
    pub(crate) maps: Vec<(SocketAddr, SocketAddr)>,
}

fn pair(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let expected = || format!("expected IP:PORT=IP:PORT, got {text:?}");
    let (listen, connect) = text.split_once('=').ok_or_else(expected)?;
    let address = |text: &str| text.parse().map_err(|_| expected());
    Ok((address(listen)?, address(connect)?))
}

/// Relays until it is killed.
///
/// # Errors
///
/// A port is taken.
pub(crate) async fn relay(relay: &Relay) -> Result<()> {
    let mut serving = tokio::task::JoinSet::new();
    for (listen, connect) in relay.maps.clone() {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen at {listen}"))?;
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(both_ways(stream, connect));
            }
        });
    }
    while serving.join_next().await.is_some() {}
    Ok(())
}

async fn both_ways(client: TcpStream, connect: SocketAddr) -> Result<()> {
    let server = TcpStream::connect(connect).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::try_join!(one_way(&client, &server), one_way(&server, &client))?;
    Ok(())
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&writer, PIPE)?;
    loop {
        let mut held = from.async_io(Interest::READABLE, || step(from, &writer, PIPE)).await?;
        if held == 0 {
            return Ok(SockRef::from(to).shutdown(Shutdown::Write)?);
        }
        while held > 0 {
            held -= to.async_io(Interest::WRITABLE, || step(&reader, to, held)).await?;
        }
    }
}

fn step(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, length, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_sent_comes_out_at_the_other_end_both_ways_and_so_does_the_end() {
        let [outer, inner] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let listen = outer.local_addr().unwrap();
        let connect = inner.local_addr().unwrap();
        drop(outer);
        inner.set_nonblocking(true).unwrap();
        let inner = TcpListener::from_std(inner).unwrap();
        tokio::spawn(async move { relay(&Relay { maps: vec![(listen, connect)] }).await });
        let mut client = loop {
            match TcpStream::connect(listen).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (mut server, _) = inner.accept().await.unwrap();
        client.write_all(b"there").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        server.write_all(b"and back").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("there", "and back"));
    }
}
