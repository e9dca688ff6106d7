//! Streams of this room against rustls' own, and against peers that do what they may not.

use super::{TlsStream, buffer, fake, handshake};
use futures::FutureExt;
use rustls::{
    AlertDescription, ClientConfig, ContentType, Error, ServerConfig,
    client::{ClientSessionMemoryCache, ClientSessionStore, Resumption},
};
use rustls_pki_types::ServerName;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    join,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// More than a buffer, and no multiple of a record.
const SIZE: usize = 300_001;

fn name() -> ServerName<'static> {
    ServerName::try_from("peer").unwrap()
}

/// Both ends of a connection, of this room.
async fn streams() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (near, far) = duplex(64 * 1024);
    let (client, server) = fake::configs();
    let client = handshake::connect(near, client, name(), Vec::new());
    let (client, server) = join!(client, handshake::accept(far, server));
    (client.unwrap().into_stream().unwrap(), server.unwrap().into_stream().unwrap())
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

/// Sends much both ways, at once, and ends both.
async fn talk(one: &mut (impl AsyncRead + AsyncWrite + Unpin), other: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let bytes: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
    let (mut one, mut other) = (tokio::io::split(one), tokio::io::split(other));
    let (at_one, at_other, (), ()) =
        join!(receive(&mut one.0), receive(&mut other.0), send(&mut one.1, &bytes), send(&mut other.1, &bytes));
    assert!(at_one == bytes && at_other == bytes);
}

fn tls_error(error: &io::Error) -> &Error {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn a_client_speaks_with_a_server_of_rustls_through_changes_of_keys_on_either_side() {
    let (near, far) = duplex(64 * 1024);
    let (client, server) = fake::configs();
    let accepted = TlsAcceptor::from(server).accept(far);
    let (client, server) = join!(handshake::connect(near, client, name(), Vec::new()), accepted);
    let (mut client, mut server) = (client.unwrap().into_stream().unwrap(), server.unwrap());
    server.get_mut().1.refresh_traffic_keys().unwrap();
    client.wear();
    talk(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_server_speaks_with_a_client_of_rustls_through_changes_of_keys_on_either_side() {
    let (near, far) = duplex(64 * 1024);
    let (client, server) = fake::configs();
    let connected = TlsConnector::from(client).connect(name(), near);
    let (client, server) = join!(connected, handshake::accept(far, server));
    let (mut client, mut server) = (client.unwrap(), server.unwrap().into_stream().unwrap());
    client.get_mut().1.refresh_traffic_keys().unwrap();
    server.wear();
    talk(&mut client, &mut server).await;
}

#[tokio::test]
async fn what_comes_with_the_end_of_the_handshake_is_read_after_it() {
    let (near, mut far) = duplex(64 * 1024);
    let (client, server) = fake::configs();
    let client = async {
        let mut client = TlsConnector::from(client).connect(name(), near).await.unwrap();
        client.write_all(b"early").await.unwrap();
        client
    };
    // Nothing is read of the end of the handshake before what follows it has come too.
    let server = async {
        let (at, mut between) = duplex(64 * 1024);
        let server = handshake::accept(at, server);
        let pump = async {
            let mut all = vec![0; 16 * 1024];
            let hello = far.read(&mut all).await.unwrap();
            between.write_all(&all[..hello]).await.unwrap();
            let flight = between.read(&mut all).await.unwrap();
            far.write_all(&all[..flight]).await.unwrap();
            // The client's last flight, and "early" in a record of its own, which is the shortest of all.
            let mut last = 0;
            while !whole(&all[..last], b"early".len() + 1 + 16) {
                last += far.read(&mut all[last..]).await.unwrap();
            }
            between.write_all(&all[..last]).await.unwrap();
            between
        };
        let (server, _between) = join!(server, pump);
        let mut server = server.unwrap().into_stream().unwrap();
        let mut early = [0; 5];
        server.read_exact(&mut early).await.unwrap();
        early
    };
    let (_client, early) = join!(client, server);
    assert_eq!(&early, b"early");
}

#[tokio::test]
async fn a_handshake_whose_messages_come_in_many_records_and_those_in_many_pieces_succeeds_on_either_side() {
    let (client, server) = without_tickets();
    let (mut small_client, mut small_server) = ((*client).clone(), (*server).clone());
    small_client.max_fragment_size = Some(64);
    small_server.max_fragment_size = Some(64);
    let (near, far) = duplex(7);
    let connected = TlsConnector::from(Arc::new(small_client)).connect(name(), near);
    let (one, other) = join!(connected, handshake::accept(far, server));
    exchange(&mut one.unwrap(), &mut other.unwrap().into_stream().unwrap()).await;
    let (near, far) = duplex(7);
    let accepted = TlsAcceptor::from(Arc::new(small_server)).accept(far);
    let (one, other) = join!(handshake::connect(near, client, name(), Vec::new()), accepted);
    exchange(&mut one.unwrap().into_stream().unwrap(), &mut other.unwrap()).await;
}

/// As [`fake::configs`], for connections that hold less than the tickets, which nobody reads within the handshake.
fn without_tickets() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let (client, mut server) = fake::configs();
    Arc::make_mut(&mut server).send_tls13_tickets = 0;
    (client, server)
}

/// Sends a little both ways, and ends both.
async fn exchange(one: &mut (impl AsyncRead + AsyncWrite + Unpin), other: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let (mut one, mut other) = (tokio::io::split(one), tokio::io::split(other));
    let (at_one, at_other, (), ()) =
        join!(receive(&mut one.0), receive(&mut other.0), send(&mut one.1, b"one"), send(&mut other.1, b"other"));
    assert!(at_one == b"other" && at_other == b"one");
}

#[tokio::test]
async fn a_record_that_has_gone_in_part_is_finished_by_whatever_is_done_next() {
    // A reader that answers a change of keys, a writer that gives up, a flush: nothing of it tears a record.
    let (near, far) = duplex(100);
    let (client, server) = without_tickets();
    let client = handshake::connect(near, client, name(), Vec::new());
    let (client, server) = join!(client, handshake::accept(far, server));
    let (mut client, mut server) = (client.unwrap().into_stream().unwrap(), server.unwrap().into_stream().unwrap());
    assert_eq!(server.write(&[1; 1000]).await.unwrap(), 1000);
    assert!(server.write(&[2; 1000]).now_or_never().is_none(), "and nothing of it is taken");
    client.say(ContentType::Handshake, &[24, 0, 0, 1, 1]);
    client.renew_outbound();
    client.flush().await.unwrap();
    assert!(server.read_u8().now_or_never().is_none());
    let (at_client, ()) = join!(receive(&mut client), send(&mut server, &[3; 1000]));
    assert_eq!(at_client, [[1; 1000], [3; 1000]].concat());
}

/// Whether `records` end with one that carries so many bytes.
fn whole(mut records: &[u8], length: usize) -> bool {
    let mut last = 0;
    while let Some((&[_, _, _, high, low], rest)) = records.split_first_chunk() {
        last = usize::from(u16::from_be_bytes([high, low]));
        let Some(rest) = rest.get(last..) else { return false };
        records = rest;
    }
    records.is_empty() && last == length
}

#[tokio::test]
async fn a_peer_that_asks_for_another_key_gets_it() {
    let (mut client, mut server) = streams().await;
    for _ in 0..3 {
        // KeyUpdate, update_requested (RFC 8446 section 4.6.3): the key that it announces is taken too.
        client.say(ContentType::Handshake, &[24, 0, 0, 1, 1]);
        client.renew_outbound();
        talk_a_little(&mut client, &mut server).await;
    }
}

async fn talk_a_little(client: &mut TlsStream<DuplexStream>, server: &mut TlsStream<DuplexStream>) {
    for byte in 0..3 {
        client.write_u8(byte).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), byte);
        server.write_u8(byte).await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), byte);
    }
}

#[tokio::test]
async fn a_record_that_was_changed_on_the_way_ends_the_connection_with_an_alert() {
    let (mut client, mut server) = streams().await;
    let mut record = vec![23, 3, 3, 0, 40];
    record.extend([7; 40]);
    client.get_mut().write_all(&record).await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(tls_error(&error), &Error::DecryptError);
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(tls_error(&error), &Error::AlertReceived(AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn what_is_no_protected_record_or_too_long_is_refused_before_it_has_come() {
    for (bytes, said) in [
        (&[21, 3, 3, 0, 2, 1, 0][..], AlertDescription::UnexpectedMessage),
        (b"HTTP/1.1 200 OK", AlertDescription::UnexpectedMessage),
        (&[23, 3, 3, 0xff, 0xff], AlertDescription::RecordOverflow),
    ] {
        let (mut client, mut server) = streams().await;
        client.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(tls_error(&error), &Error::AlertReceived(said));
    }
}

#[tokio::test]
async fn messages_that_only_a_handshake_has_are_refused_and_so_is_a_flood_of_those_that_may_come() {
    // A Finished; a ticket for a server; a message that never ends; data within a message.
    for message in [&[20, 0, 0, 0][..], &[4, 0, 0, 1, 0], &[24, 0, 0, 2, 0, 0]] {
        let (mut client, mut server) = streams().await;
        client.say(ContentType::Handshake, message);
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{message:?}");
    }
    let (mut client, mut server) = streams().await;
    client.say(ContentType::Handshake, &[24, 0, 0]);
    client.write_all(b"data").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let (mut client, mut server) = streams().await;
    for _ in 0..40 {
        client.say(ContentType::Handshake, &[24, 0, 0, 1, 0]);
        client.renew_outbound();
    }
    client.flush().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_peer_that_is_refused_after_its_handshake_is_told_why() {
    let (client, mut server) = streams().await;
    client.refuse(AlertDescription::CertificateExpired);
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(tls_error(&error), &Error::AlertReceived(AlertDescription::CertificateExpired));
}

#[tokio::test]
async fn a_ticket_is_kept_unless_it_or_the_chain_of_who_gives_it_is_too_long() {
    for (ticket, certificates, is_kept) in [(1000, 1, true), (5000, 1, false), (1000, 40, false)] {
        let (near, far) = duplex(64 * 1024);
        let (mut client, mut server) = fake::configs_with_chain(certificates);
        let store = Arc::new(ClientSessionMemoryCache::new(8));
        Arc::make_mut(&mut client).resumption = Resumption::store(store.clone());
        Arc::make_mut(&mut server).send_tls13_tickets = 0;
        let client = handshake::connect(near, client, name(), Vec::new());
        let (client, server) = join!(client, handshake::accept(far, server));
        let (mut client, mut server) = (client.unwrap().into_stream().unwrap(), server.unwrap().into_stream().unwrap());
        // NewSessionTicket: lifetime, what is added to its age, a nonce, the ticket, no extensions (RFC 8446 section 4.6.1).
        let [high, low] = u16::to_be_bytes(ticket);
        let body = [&[0, 0, 1, 0, 0, 0, 0, 0, 1, 7, high, low][..], &vec![5; ticket.into()], &[0, 0]].concat();
        let [high, low] = u16::to_be_bytes(body.len().try_into().unwrap());
        server.say(ContentType::Handshake, &[&[4, 0, high, low][..], &body].concat());
        talk_a_little(&mut client, &mut server).await;
        assert_eq!(store.take_tls13_ticket(&name()).is_some(), is_kept, "{ticket} bytes, {certificates} certificates");
    }
}

#[tokio::test]
async fn what_came_before_an_error_is_read_and_nothing_after_it_and_nothing_is_sent_any_more() {
    // A fatal alert (access_denied); a Finished; a record of no kind that follows a handshake.
    for (kind, message) in [
        (ContentType::Alert, &[2, 49][..]),
        (ContentType::Handshake, &[20, 0, 0, 0]),
        (ContentType::ChangeCipherSpec, &[1]),
    ] {
        let (mut client, mut server) = streams().await;
        client.say(ContentType::ApplicationData, b"before");
        client.say(kind, message);
        client.say(ContentType::ApplicationData, b"after");
        client.flush().await.unwrap();
        let mut before = [0; 6];
        server.read_exact(&mut before).await.unwrap();
        assert_eq!(&before, b"before");
        let first = server.read_u8().await.unwrap_err();
        let again = server.read_u8().await.unwrap_err();
        assert_eq!(tls_error(&first), tls_error(&again), "{kind:?}");
        assert_eq!(server.write(b"answer").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe, "{kind:?}");
    }
}

#[tokio::test]
async fn nothing_is_read_after_the_peer_has_said_that_it_ended_and_it_still_hears_what_is_sent() {
    let (mut client, mut server) = streams().await;
    client.say(ContentType::Alert, &[1, 0]);
    client.say(ContentType::ApplicationData, b"after");
    client.flush().await.unwrap();
    assert!(receive(&mut server).await.is_empty());
    server.write_u8(7).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), 7);
}

#[tokio::test]
async fn a_stream_that_waits_within_a_record_holds_no_buffer() {
    let (mut client, mut server) = streams().await;
    client.get_mut().write_all(&[23, 3, 3, 0x40, 0, 1, 2, 3]).await.unwrap();
    let read = tokio::time::timeout(std::time::Duration::from_millis(10), server.read_u8()).await;
    assert!(read.is_err());
    assert_eq!(buffer::pooled(), 1, "one was taken, and given back");
}

#[tokio::test]
async fn a_stream_is_small() {
    assert!(size_of::<TlsStream<()>>() <= 800, "{} bytes", size_of::<TlsStream<()>>());
}
