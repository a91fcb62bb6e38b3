use std::sync::mpsc;

use hawser_wire::StreamOffset;
use tempfile::TempDir;

use super::{after_a_crash, member_record, stream, stream_record};
use crate::{Admitted, Store, StoreError, StoreHandle, StoreThread, TokenRecord};

fn started() -> (TempDir, StoreThread, StoreHandle) {
    let dir = TempDir::new().unwrap();
    let (thread, handle) = StoreThread::start(Store::open(dir.path()).unwrap()).unwrap();
    (dir, thread, handle)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Holds the thread up until the sender says so, so that what is asked meanwhile makes a group.
fn hold_up(handle: &StoreHandle) -> (mpsc::Sender<()>, impl Future<Output = ()> + use<>) {
    let (release, held) = mpsc::channel();
    let handle = handle.clone();
    (release, async move {
        handle
            .run(move |_| {
                held.recv().unwrap();
                Ok(())
            })
            .await
            .unwrap();
    })
}

#[test]
fn deferred_commits_reach_the_disk_together() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let deferred = store.deferred();
    deferred.put_stream(&stream_record(1)).unwrap();
    deferred.put_stream(&stream_record(2)).unwrap();
    assert_eq!(store.streams().unwrap().len(), 2);
    assert_eq!(after_a_crash(&store).1.streams().unwrap(), []);
    store.sync().unwrap();
    assert_eq!(after_a_crash(&store).1.streams().unwrap(), [stream_record(1), stream_record(2)]);
}

#[test]
fn answers_are_given_when_the_group_is_on_disk() {
    let (_dir, thread, handle) = started();
    block_on(tokio::task::LocalSet::new().run_until(async {
        let (release, held) = hold_up(&handle);
        let held = tokio::task::spawn_local(held);
        tokio::task::yield_now().await;
        let mut puts = tokio::task::JoinSet::new();
        for number in 0..200_u8 {
            let handle = handle.clone();
            puts.spawn_local(async move {
                handle.run(move |store| store.put_stream(&stream_record(number))).await.unwrap();
                number
            });
        }
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        held.await.unwrap();
        while let Some(number) = puts.join_next().await {
            let number = number.unwrap();
            // Within the next job, the file is as the answer promised.
            if number % 50 == 0 {
                handle
                    .run(move |store| {
                        let (_dir, crashed) = after_a_crash(store);
                        assert!(crashed.streams()?.contains(&stream_record(number)));
                        Ok(())
                    })
                    .await
                    .unwrap();
            }
        }
    }));
    drop(handle);
    thread.join().unwrap();
}

#[test]
fn work_is_done_in_order_and_sees_what_was_done_before() {
    let (dir, thread, handle) = started();
    block_on(async {
        let steps = (0..50).map(|step| {
            handle.run(move |store| {
                assert_eq!(store.next_boot()?, step + 1);
                store.put_stream(&stream_record(1))?;
                let offset = StreamOffset(step + 1);
                store.put_consumers(&[(stream(1), "c".to_owned(), offset)])?;
                assert_eq!(store.consumers(stream(1))?[0].1, offset);
                Ok(())
            })
        });
        for step in steps {
            step.await.unwrap();
        }
    });
    drop(handle);
    thread.join().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.next_boot().unwrap(), 51);
    assert_eq!(store.consumers(stream(1)).unwrap()[0].1, StreamOffset(50));
}

#[test]
fn a_token_is_used_once_within_a_group() {
    let (_dir, _thread, handle) = started();
    block_on(async {
        let token = TokenRecord { expires_unix_s: 1000, node: None };
        handle.run(move |store| store.put_token([1; 32], token)).await.unwrap();
        let mut attempts = tokio::task::JoinSet::new();
        for by in 0..50 {
            let handle = handle.clone();
            attempts.spawn(async move {
                handle.run(move |store| store.admit([1; 32], 0, &member_record(by))).await.unwrap()
            });
        }
        let answers = attempts.join_all().await;
        let granted = answers.iter().filter(|answer| **answer == Admitted::Granted).count();
        assert_eq!((granted, answers.len()), (1, 50));
    });
}

#[test]
fn work_goes_on_when_nobody_waits_for_it() {
    let (dir, thread, handle) = started();
    block_on(tokio::task::LocalSet::new().run_until(async {
        let asked = tokio::task::spawn_local({
            let handle = handle.clone();
            async move { handle.run(|store| store.put_peer("a:1")).await }
        });
        tokio::task::yield_now().await;
        asked.abort();
    }));
    drop(handle);
    thread.join().unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().peers().unwrap(), ["a:1"]);
}

#[test]
fn one_job_that_fails_does_not_fail_its_group() {
    let (_dir, _thread, handle) = started();
    block_on(tokio::task::LocalSet::new().run_until(async {
        let (release, held) = hold_up(&handle);
        let held = tokio::task::spawn_local(held);
        tokio::task::yield_now().await;
        let ask = |fails: bool| {
            let handle = handle.clone();
            tokio::task::spawn_local(async move {
                handle
                    .run(move |store| {
                        store.put_peer("a:1")?;
                        if fails { Err(StoreError::Stopped) } else { Ok(()) }
                    })
                    .await
            })
        };
        let (good, bad) = (ask(false), ask(true));
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        held.await.unwrap();
        assert!(good.await.unwrap().is_ok());
        assert!(matches!(bad.await.unwrap(), Err(StoreError::Stopped)));
    }));
}

#[test]
fn after_a_panic_the_store_is_stopped() {
    let (_dir, thread, handle) = started();
    block_on(async {
        let error = handle.run(|_| -> Result<(), _> { panic!("on purpose") }).await.unwrap_err();
        assert!(matches!(error, StoreError::Stopped), "{error}");
        let error = handle.run(|store| store.peers()).await.unwrap_err();
        assert!(matches!(error, StoreError::Stopped), "{error}");
    });
    assert!(thread.join().is_err());
}
