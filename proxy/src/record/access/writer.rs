//! Lines on their way out: gathered in memory by the workers, written by a thread of their own.
//!
//! What is at the other end of standard output may be slow, or stop reading. So no worker ever writes: it appends to a
//! buffer under a lock that is held for a copy, and where the buffer is full the line is lost. The thread takes the whole
//! buffer at a time, and waits a moment for more before it does: one wake-up and one write for many lines.

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Most bytes that wait. As many again may be on their way.
const MOST: usize = 1024 * 1024;

/// From here on nothing more is waited for.
const MANY: usize = MOST / 4;

/// How long more lines are waited for after the first.
const GATHERING: Duration = Duration::from_millis(50);

/// Takes lines.
pub(super) struct Writer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    /// Told of the first line, of many, and of the end.
    to_thread: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    ending: bool,
    ended: bool,
}

impl Writer {
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        thread::Builder::new().name("access-log".to_owned()).spawn(move || of_thread.run(to))?;
        Ok(Self(shared))
    }

    /// Whether there was room for `line`.
    pub(super) fn write(&self, line: &[u8]) -> bool {
        let mut gathered = self.0.lock();
        let before = gathered.bytes.len();
        if gathered.ending || before + line.len() > MOST {
            return false;
        }
        gathered.bytes.extend_from_slice(line);
        let now = gathered.bytes.len();
        drop(gathered);
        if before == 0 || before < MANY && now >= MANY {
            self.0.to_thread.notify_one();
        }
        true
    }

    /// Takes no more, and waits for as long as `within` until all is written.
    pub(super) fn end(&self, within: Duration) {
        let mut gathered = self.0.lock();
        gathered.ending = true;
        self.0.to_thread.notify_one();
        let waited = self.0.ended.wait_timeout_while(gathered, within, |gathered| !gathered.ended);
        drop(waited);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Shared {
    fn run(&self, mut to: impl Write) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            if let Err(error) = to.write_all(&batch).and_then(|()| to.flush()) {
                tracing::warn!(%error, "the access log cannot be written, and ends");
                break;
            }
            batch.clear();
            batch.shrink_to(MANY);
        }
        *self.lock() = Gathered { bytes: Vec::new(), ending: true, ended: true };
        self.ended.notify_all();
    }

    /// Waits for lines, and takes them all; whether there are any, or none will come.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let nothing = |gathered: &mut Gathered| gathered.bytes.is_empty() && !gathered.ending;
        let few = |gathered: &mut Gathered| gathered.bytes.len() < MANY && !gathered.ending;
        let gathered = self.to_thread.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let waited = self.to_thread.wait_timeout_while(gathered, GATHERING, few);
        let (mut gathered, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut gathered.bytes, batch);
        !batch.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // Nothing panics while holding it, and a buffer is never left half changed.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(20);

    /// Takes a write only when it is let, and shows it.
    struct Slow {
        lets: Receiver<()>,
        shows: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lets.recv().map_err(io::Error::other)?;
            self.shows.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Writer, Sender<()>, Receiver<Vec<u8>>) {
        let ((lets, let_in), (shows, shown)) = (channel(), channel());
        (Writer::start(Slow { lets: let_in, shows }).unwrap(), lets, shown)
    }

    #[test]
    fn all_that_was_taken_is_written_before_the_end() {
        let (writer, lets, shown) = slow();
        for _ in 0..8 {
            lets.send(()).unwrap();
        }
        for number in 0..1000 {
            assert!(writer.write(format!("{number}\n").as_bytes()));
        }
        writer.end(LONG);
        let all: Vec<u8> = shown.try_iter().flatten().collect();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        assert!(!writer.write(b"late\n"), "what comes after is lost, and says so");
    }

    #[test]
    fn a_reader_that_stops_costs_a_bounded_memory_and_no_time() {
        let (writer, lets, shown) = slow();
        let line = [b'x'; 1000];
        let taken = (0..10_000).filter(|_| writer.write(&line)).count();
        assert!((MOST / line.len()..=2 * MOST / line.len()).contains(&taken), "{taken}");
        drop(lets);
        writer.end(LONG);
        assert_eq!(shown.try_iter().count(), 0);
        assert!(!writer.write(&line), "nothing is gathered for nobody");
        assert_eq!(writer.0.lock().bytes.capacity(), 0, "nor kept");
    }
}
