//! The threads that carry traffic: each a runtime of its own, on which everything that a connection needs stays. What
//! they serve they are given.

use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use std::{io, thread};
use tokio::{sync::oneshot, task::LocalSet};

/// The running workers. Threads are not joined: what they had open ends with the process.
pub(super) struct Workers {
    ends: FuturesUnordered<LocalBoxFuture<'static, Result<(), WorkerError>>>,
}

/// A worker that could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    /// The thread or its runtime cannot be started, or its listeners cannot be used.
    #[error("worker {0}: {1}")]
    Io(usize, io::Error),
    /// It ended without being told to.
    #[error("worker {0} ended by itself")]
    Ended(usize),
}

impl Workers {
    /// Starts one worker for each of `serve`, which is called on the worker's thread and runs until it is drained.
    pub(super) fn start<Serve>(serve: impl IntoIterator<Item = Serve>) -> Result<Self, WorkerError>
    where
        Serve: AsyncFnOnce() -> io::Result<()> + Send + 'static,
    {
        let ends = serve.into_iter().enumerate().map(|(index, serve)| {
            let (tell, told) = oneshot::channel();
            let body = move || {
                // Nobody listens any more where the process is about to end.
                let _ = tell.send(work(serve));
            };
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(body)
                .map_err(|e| WorkerError::Io(index, e))?;
            let end = async move {
                match told.await {
                    Ok(end) => end.map_err(|e| WorkerError::Io(index, e)),
                    Err(_) => Err(WorkerError::Ended(index)),
                }
            };
            Ok(end.boxed_local())
        });
        Ok(Self { ends: ends.collect::<Result<_, WorkerError>>()? })
    }

    /// Waits until every worker has ended, or one could not go on.
    pub(super) async fn ended(&mut self) -> Result<(), WorkerError> {
        while let Some(end) = self.ends.next().await {
            end?;
        }
        Ok(())
    }
}

fn work<Serve: AsyncFnOnce() -> io::Result<()>>(serve: Serve) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[tokio::test]
    async fn workers_run_apart_until_the_last_has_ended() {
        let (drain, drained) = tokio::sync::watch::channel(false);
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let serve = |mut drained: tokio::sync::watch::Receiver<bool>| {
            let started = started.clone();
            async move || {
                let not_send = Rc::new(());
                let task = tokio::task::spawn_local(async move { drop(not_send) });
                task.await.map_err(io::Error::other)?;
                started.send(thread::current().name().map(str::to_owned)).map_err(io::Error::other)?;
                drained.wait_for(|drained| *drained).await.map(drop).map_err(io::Error::other)
            }
        };
        let mut workers = Workers::start([serve(drained.clone()), serve(drained)]).unwrap();
        let mut names = [starts.recv().await.unwrap().unwrap(), starts.recv().await.unwrap().unwrap()];
        names.sort();
        assert_eq!(names, ["worker-0", "worker-1"]);
        assert!(workers.ended().now_or_never().is_none());
        drain.send_replace(true);
        workers.ended().await.unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_cannot_go_on_is_reported_with_the_reason() {
        let fail = async || Err(io::Error::other("no descriptors"));
        let mut workers = Workers::start([fail]).unwrap();
        assert_eq!(workers.ended().await.unwrap_err().to_string(), "worker 0: no descriptors");
    }
}
