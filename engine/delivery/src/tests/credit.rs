//! When a destination grants more, to the record: what the source has spent, and who reads.

use super::*;

const LIMITED: FrameFlags = FrameFlags::CREDIT_LIMITED;

/// A record of one message; two are more than the least that a stream is granted.
fn record(base: u64) -> Record {
    let builder = RecordBuilder::new(TENANT, STREAM, BootEpoch(1));
    let mut lengths = Vec::new();
    put_varint(&mut lengths, 40_000);
    let payload = vec![0; 40_000].into();
    builder.record(PRODUCER, base + 1, StreamOffset(base), 1, lengths.into(), payload)
}

/// A destination that holds two records at first, if not said otherwise, and eight at most.
struct End {
    receiver: StreamReceiver,
    budget: WindowBudget,
}

impl End {
    fn new(consumers: &[&str]) -> Self {
        Self::with_window(consumers, 2, 8)
    }

    fn with_window(consumers: &[&str], records: u64, records_max: u64) -> Self {
        let limits = DeliveryLimits {
            window_initial_bytes: records * record(0).charge_bytes(),
            window_bytes: records_max * record(0).charge_bytes(),
            ..DeliveryLimits::default()
        };
        let mut receiver =
            StreamReceiver::new(TENANT, STREAM, BootEpoch(1), false, std::iter::empty(), limits);
        for consumer in consumers {
            receiver.attach(consumer, ConsumerStart::Resume).unwrap();
        }
        let mut end = Self { receiver, budget: plenty() };
        assert_eq!(end.hear(1, Some(0)), records);
        end
    }

    /// The source of that life says where it goes on, or asks; records that it is granted.
    fn hear(&mut self, epoch: u64, base: Option<u64>) -> u64 {
        let base = base.map(StreamOffset);
        let fence_epoch = BootEpoch(epoch);
        let sync =
            StreamSync { stream: STREAM, fence_epoch, base, end: None, producers: Vec::new() };
        self.receiver.handle_sync(&sync, LIMITED);
        self.answer().unwrap()
    }

    /// A record comes and is acknowledged.
    fn take(&mut self, base: u64, flags: FrameFlags) -> u64 {
        let bytes = record(base).to_bytes();
        self.receiver.handle_record(at(0), &RecordView::decode(&bytes).unwrap(), flags);
        self.answer().unwrap()
    }

    /// Records that the source is granted in all, if it is told anything now.
    fn answer(&mut self) -> Option<u64> {
        let ack = self.receiver.poll_ack(at(0), &mut self.budget)?;
        Some(ack.credit_bytes / record(0).charge_bytes())
    }

    /// The consumer takes the next record and confirms it.
    fn consume(&mut self) {
        let end = self.receiver.poll_deliver(CONSUMER).unwrap().header.stream_end();
        self.receiver.handle_commit(at(0), CONSUMER, end).unwrap();
    }

    /// A consumer is handed all that there is.
    fn hand_out(&mut self, consumer: &str) {
        while self.receiver.poll_deliver(consumer).is_some() {}
    }
}

#[test]
fn one_that_was_handed_all_gets_more_at_once_if_the_source_has_spent_its_credit() {
    // Just what was granted: nothing more comes before there is a grant.
    for (taken, granted) in [(1, None), (2, Some(4))] {
        let mut end = End::new(&[CONSUMER]);
        for base in 0..taken {
            assert_eq!(end.take(base, NONE), 2);
        }
        end.hand_out(CONSUMER);
        assert_eq!(end.answer(), granted, "{taken} taken");
    }
}

#[test]
fn the_source_is_told_nothing_if_there_is_nothing_to_grant() {
    let mut end = End::with_window(&[CONSUMER], 2, 2);
    end.take(0, NONE);
    end.take(1, LIMITED);
    end.hand_out(CONSUMER);
    assert_eq!(end.answer(), None);
    end.receiver.detach(CONSUMER);
    assert_eq!(end.answer(), None);
}

#[test]
fn who_comes_next_finds_more_once_the_last_that_read_is_gone() {
    for (taken, leaves, granted) in
        [(2, &["a", "b"][..], Some(4)), (2, &["a"], None), (1, &["a", "b"], None)]
    {
        let mut end = End::new(&["a", "b"]);
        for base in 0..taken {
            assert_eq!(end.take(base, LIMITED), 2, "they read nothing");
        }
        for consumer in leaves {
            end.receiver.detach(consumer);
        }
        assert_eq!(end.answer(), granted, "{taken} taken, {leaves:?} left");
    }
}

#[test]
fn a_source_that_asks_where_to_go_on_is_granted_nothing_before_it_has_said_it() {
    for reads in [true, false] {
        let mut end = End::new(&[CONSUMER]);
        end.take(0, NONE);
        end.take(1, NONE);
        assert_eq!(end.hear(2, None), 0);
        if reads {
            end.hand_out(CONSUMER);
        } else {
            end.receiver.detach(CONSUMER);
        }
        assert_eq!(end.answer(), None, "it reads: {reads}");
        // It has room for two, which are there.
        assert_eq!(end.hear(2, Some(2)), 0);
    }
}

#[test]
fn a_record_that_comes_again_says_nothing_of_what_limits_the_source_now() {
    let mut end = End::new(&[CONSUMER]);
    end.take(0, NONE);
    assert_eq!(end.take(1, LIMITED), 2, "nothing is consumed yet");
    end.consume();
    assert_eq!(end.take(1, LIMITED), 3, "what was consumed, and no more");
    assert_eq!(end.take(2, LIMITED), 5, "twice as much is here at once");
}

#[test]
fn a_source_that_does_not_wait_for_credit_is_granted_what_is_consumed_and_no_more() {
    let mut end = End::new(&[CONSUMER]);
    for base in 0..20 {
        end.take(base, NONE);
        end.consume();
        assert_eq!(end.hear(1, Some(0)), base + 3);
    }
    end.take(20, LIMITED);
    end.consume();
    assert_eq!(end.hear(1, Some(0)), 25, "if it does the window doubles");
}

#[test]
fn what_came_early_has_its_place_in_what_was_granted() {
    let mut end = End::with_window(&[CONSUMER], 4, 4);
    assert_eq!(end.take(0, NONE), 4);
    assert_eq!(end.take(2, NONE), 4);
    end.consume();
    assert_eq!(end.hear(1, Some(0)), 5, "what is consumed is granted anew, gap or not");
}

#[test]
fn what_came_early_counts_while_the_stream_rests() {
    let mut end = End::new(&[CONSUMER]);
    end.take(1, NONE);
    assert_eq!(end.receiver.poll_ack(at(20_000), &mut end.budget), None);
    assert_eq!(end.budget.used_bytes(), record(1).charge_bytes() + (64 << 10));
}

#[test]
fn a_source_that_waits_for_credit_is_heard_though_its_last_record_overtakes_another() {
    let mut end = End::new(&[CONSUMER]);
    end.take(0, NONE);
    end.consume();
    assert_eq!(end.hear(1, Some(0)), 3);
    assert_eq!(end.take(2, LIMITED), 5);
}

#[test]
fn consumers_that_skip_what_others_were_handed_wait_for_more_with_them() {
    for attaches in [true, false] {
        let mut end = End::new(&[CONSUMER, "b"]);
        end.take(0, NONE);
        end.take(1, NONE);
        end.hand_out(CONSUMER);
        assert_eq!(end.answer(), None, "the other one has all of it ahead");
        if attaches {
            end.receiver.attach("b", ConsumerStart::At(StreamOffset(2))).unwrap();
        } else {
            end.receiver.handle_commit(at(0), "b", StreamOffset(2)).unwrap();
        }
        assert_eq!(end.answer(), Some(4));
    }
}

#[test]
fn what_is_consumed_is_told_by_quarters_of_a_window_and_the_rest_in_its_time() {
    let mut end = End::with_window(&[CONSUMER], 8, 8);
    for base in 0..8 {
        assert_eq!(end.take(base, NONE), 8);
    }
    end.consume();
    assert_eq!(end.answer(), None);
    end.consume();
    assert_eq!(end.answer(), Some(10));
    end.consume();
    assert_eq!(end.answer(), None);
    let later = at(0).saturating_add(DeliveryLimits::default().consumed_ack_after);
    assert_eq!(end.receiver.poll_timeout(), Some(later));
    let ack = end.receiver.poll_ack(later, &mut end.budget).unwrap();
    assert_eq!((ack.consumed, ack.credit_bytes), (StreamOffset(3), 11 * record(0).charge_bytes()));
}

#[test]
fn a_consumer_that_has_confirmed_in_an_earlier_life_what_comes_now_keeps_up() {
    let mut known = StreamReceiver::new(
        TENANT,
        STREAM,
        BootEpoch(2),
        true,
        [(CONSUMER, StreamOffset(3))],
        DeliveryLimits {
            window_initial_bytes: 2 * record(0).charge_bytes(),
            ..DeliveryLimits::default()
        },
    );
    known.attach(CONSUMER, ConsumerStart::Resume).unwrap();
    let mut end = End { receiver: known, budget: plenty() };
    assert_eq!(end.hear(1, Some(0)), 2);
    for base in 0..3 {
        assert_eq!(end.take(base, NONE), base + 3, "nobody has to take it");
    }
    assert_eq!(end.take(3, LIMITED), 7);
}
