//! What a connection does while no request is under way.

use super::*;
use crate::listen::{
    drain,
    pairs::{KINDS, Pair},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Debug)]
struct Nothing;

impl Finish for Nothing {
    fn finish(self) {}
}

async fn serve_nothing(io: Io) -> Result<(), Broken> {
    let (_signal, drain) = drain::channel();
    let answer = |_| async { Response::new(ResponseBody::<Nothing>::Empty) };
    serve(io, answer, drain, Duration::ZERO).await
}

#[tokio::test]
async fn a_head_that_has_begun_and_does_not_end_is_given_up_and_told_so() {
    for kind in KINDS {
        let Pair { mut far, near } = Pair::accepted(kind).await;
        far.write_all(b"GET / HTTP/1.1\r\nHost: w").await.unwrap();
        far.flush().await.unwrap();
        near.counted().stream.readable().await.unwrap();
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        let heard = async {
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            drop(far);
            answer
        };
        let (served, answer) = tokio::join!(serve_nothing(near), heard);
        assert!(matches!(served, Err(Broken::Refused(Failure::RequestTooSlow, None))), "{served:?}");
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("conduit-error: request-timeout\r\n"), "{answer}");
        assert!(before.elapsed() >= limits::HEAD_TIME);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_stays_open() {
    let Pair { far: _far, near } = Pair::accepted(crate::listen::pairs::Kind::Plain).await;
    tokio::time::pause();
    assert!(timeout(Duration::from_secs(24 * 60 * 60), serve_nothing(near)).await.is_err());
}
