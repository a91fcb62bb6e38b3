use std::collections::BTreeMap;

use crate::publishers::CallId;

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) consumer: Box<str>,
    pub(crate) manual_commit: bool,
    /// Payload bytes granted and delivered in all.
    pub(crate) granted_bytes: u64,
    pub(crate) delivered_bytes: u64,
    /// The end of the stream was delivered.
    pub(crate) ended: bool,
}

/// The calls that are subscribed to one stream. A consumer has one at most.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    calls: BTreeMap<CallId, Subscription>,
}

impl Subscriptions {
    /// Begins a subscription; the one that it takes over from, if that is to be told.
    pub(crate) fn open(&mut self, call: CallId, subscription: Subscription) -> Option<CallId> {
        let earlier = self
            .calls
            .iter()
            .find(|(_, other)| other.consumer == subscription.consumer)
            .map(|(&call, other)| (call, other.ended));
        if let Some((earlier, _)) = earlier {
            self.calls.remove(&earlier);
        }
        self.calls.insert(call, subscription);
        earlier.filter(|(_, ended)| !ended).map(|(call, _)| call)
    }

    pub(crate) fn get_mut(&mut self, call: CallId) -> Option<&mut Subscription> {
        self.calls.get_mut(&call)
    }

    pub(crate) fn remove(&mut self, call: CallId) -> Option<Subscription> {
        self.calls.remove(&call)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Subscriptions that may be given more.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut Subscription)> {
        self.calls.iter_mut().map(|(&call, subscription)| (call, subscription))
    }

    /// Removes every call; those that have not been told of an end yet.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = CallId> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().filter(|(_, subscription)| !subscription.ended).map(|(call, _)| call)
    }
}
