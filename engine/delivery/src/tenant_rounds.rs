use std::collections::{HashMap, VecDeque};

use hawser_wire::{StreamId, TenantId};

/// What a tenant may send in one round, and each of its streams in one of that tenant's; the last record
/// may exceed it, which the next rounds make up for.
pub(crate) const QUANTUM_BYTES: u64 = 64 << 10;
const QUANTUM: i64 = 64 << 10;

/// A stream, and whose it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StreamKey {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub stream: StreamId,
}

#[derive(Debug)]
struct StreamAccount {
    /// What it may send before others of its tenant; below zero it owes.
    deficit_bytes: i64,
    waits: bool,
}

#[derive(Debug)]
struct TenantAccount {
    tenant: TenantId,
    /// What its streams may send before those of others; below zero it owes.
    deficit_bytes: i64,
    /// Of its streams.
    waiting: usize,
    /// Those that wait and those that left with a debt; whose turn it is comes first.
    ring: VecDeque<Seat>,
}

/// A stream in its tenant's ring, and the place of its account.
#[derive(Clone, Copy, Debug)]
struct Seat {
    stream: StreamId,
    place: usize,
}

/// Of all streams, by their places.
#[derive(Debug, Default)]
struct Accounts {
    accounts: Vec<StreamAccount>,
    /// Places that are free.
    free: Vec<usize>,
}

impl Accounts {
    fn open(&mut self, account: StreamAccount) -> usize {
        if let Some(place) = self.free.pop()
            && let Some(free) = self.accounts.get_mut(place)
        {
            *free = account;
            return place;
        }
        self.accounts.push(account);
        self.accounts.len().saturating_sub(1)
    }

    fn close(&mut self, place: usize) {
        self.free.push(place);
    }

    fn get(&self, place: usize) -> Option<&StreamAccount> {
        self.accounts.get(place)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut StreamAccount> {
        self.accounts.get_mut(place)
    }

    fn clear(&mut self) {
        self.accounts.clear();
        self.free.clear();
    }
}

/// Whose turn it is among streams that want what is too little for all: deficit round robin (Shreedhar
/// and Varghese, 1995) between tenants, then between each one's streams, by bytes.
///
/// Who wants nothing more leaves, and its turn with it; what is left of a tenant's is for its other
/// streams, what is left of a stream's is lost. A debt stays until rounds have paid it, or nobody waits.
///
/// A turn costs the same however many wait that can use it; those that cannot, and tenants, are looked
/// through. Memory is kept for who comes next.
#[derive(Debug, Default)]
pub struct TenantRounds {
    /// Whose turn it is comes first.
    tenants: VecDeque<TenantAccount>,
    accounts: Accounts,
    /// Where each stream has its account. To hash a name takes longer than all else that a turn does: it is
    /// asked for none that stands in a ring's front.
    places: HashMap<StreamKey, usize>,
    waiting: usize,
    /// Of tenants that are gone, for those to come.
    spare: Vec<VecDeque<Seat>>,
}

impl TenantRounds {
    /// Nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// One stream waits, and no other.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.waiting == 1
    }

    /// A stream begins to wait, that had `sent_bytes` of its first quantum before anybody did. Nothing
    /// changes if it waits already.
    pub fn wait(&mut self, who: StreamKey, sent_bytes: u64) {
        let deficit_bytes = QUANTUM.saturating_sub(signed(sent_bytes));
        let known = self.place(who);
        let account = known.and_then(|place| self.accounts.get_mut(place));
        if account.as_ref().is_some_and(|account| account.waits) {
            return;
        }
        let at = self.tenants.iter().position(|account| account.tenant == who.tenant);
        let at = at.unwrap_or_else(|| {
            let ring = self.spare.pop().unwrap_or_default();
            let account = TenantAccount { tenant: who.tenant, deficit_bytes, waiting: 0, ring };
            self.tenants.push_back(account);
            self.tenants.len().saturating_sub(1)
        });
        let Some(tenant) = self.tenants.get_mut(at) else { return };
        if let Some(account) = account {
            account.waits = true;
        } else {
            let place = self.accounts.open(StreamAccount { deficit_bytes, waits: true });
            self.places.insert(who, place);
            tenant.ring.push_back(Seat { stream: who.stream, place });
        }
        tenant.waiting = tenant.waiting.saturating_add(1);
        self.waiting = self.waiting.saturating_add(1);
    }

    /// A stream wants nothing more, if it did.
    pub fn leave(&mut self, who: StreamKey) {
        let account = self.account_mut(who).filter(|account| account.waits);
        let Some(account) = account else { return };
        account.waits = false;
        account.deficit_bytes = account.deficit_bytes.min(0);
        if let Some(tenant) = self.tenant_mut(who.tenant) {
            tenant.waiting = tenant.waiting.saturating_sub(1);
        }
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.clear();
        }
    }

    /// Nobody waits, and nobody owes anything.
    pub fn clear(&mut self) {
        self.waiting = 0;
        self.accounts.clear();
        self.places.clear();
        for mut tenant in self.tenants.drain(..) {
            tenant.ring.clear();
            self.spare.push(tenant.ring);
        }
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = StreamId> {
        let seats = self.tenants.iter().flat_map(|tenant| &tenant.ring);
        let waits = |seat: &&Seat| self.accounts.get(seat.place).is_some_and(|it| it.waits);
        seats.filter(waits).map(|seat| seat.stream)
    }

    /// A stream that waits has sent so much.
    pub fn spend(&mut self, who: StreamKey, bytes: u64) {
        let Some(account) = self.account_mut(who) else { return };
        account.deficit_bytes = account.deficit_bytes.saturating_sub(signed(bytes));
        if let Some(tenant) = self.tenant_mut(who.tenant) {
            tenant.deficit_bytes = tenant.deficit_bytes.saturating_sub(signed(bytes));
        }
    }

    /// The stream that comes first has its turn, and something left of it.
    #[must_use]
    pub fn is_turn_of(&self, who: StreamKey) -> bool {
        self.first().is_some_and(|(first, left)| first == who && left)
    }

    /// Whose turn it is from now on, of those that `can` use it: the same stream's while something is left
    /// of it. Who cannot keeps what it has.
    pub fn next(&mut self, mut can: impl FnMut(StreamId) -> bool) -> Option<StreamKey> {
        if let Some((first, true)) = self.first()
            && can(first.stream)
        {
            return Some(first);
        }
        // Else debts would be paid by rounds in which nothing can be sent.
        let Self { tenants, accounts, .. } = self;
        if !tenants.iter().any(|tenant| tenant.has_able(accounts, &mut can)) {
            return None;
        }
        loop {
            let tenant = self.tenants.front_mut()?;
            if tenant.deficit_bytes > 0 {
                if tenant.has_able(&self.accounts, &mut can) {
                    return tenant.next(&mut self.accounts, &mut self.places, &mut can);
                }
            } else {
                tenant.deficit_bytes = tenant.deficit_bytes.saturating_add(QUANTUM);
            }
            if tenant.waiting == 0 && tenant.deficit_bytes >= 0 {
                for Seat { stream, place } in tenant.ring.drain(..) {
                    self.places.remove(&StreamKey { tenant: tenant.tenant, stream });
                    self.accounts.close(place);
                }
                self.spare.extend(self.tenants.pop_front().map(|tenant| tenant.ring));
            } else {
                self.tenants.rotate_left(1);
            }
        }
    }

    /// The stream whose turn it was last, if it waits, and whether something is left of it.
    fn first(&self) -> Option<(StreamKey, bool)> {
        let tenant = self.tenants.front()?;
        let &Seat { stream, place } = tenant.ring.front()?;
        let first = StreamKey { tenant: tenant.tenant, stream };
        let account = self.accounts.get(place).filter(|account| account.waits)?;
        let left = tenant.deficit_bytes > 0 && account.deficit_bytes > 0;
        Some((first, left))
    }

    /// Where a stream has its account.
    fn place(&self, who: StreamKey) -> Option<usize> {
        let first = self.tenants.front().filter(|tenant| tenant.tenant == who.tenant);
        let seat = first.and_then(|tenant| tenant.ring.front());
        match seat.filter(|seat| seat.stream == who.stream) {
            Some(seat) => Some(seat.place),
            None => self.places.get(&who).copied(),
        }
    }

    fn account_mut(&mut self, who: StreamKey) -> Option<&mut StreamAccount> {
        self.place(who).and_then(|place| self.accounts.get_mut(place))
    }

    fn tenant_mut(&mut self, tenant: TenantId) -> Option<&mut TenantAccount> {
        self.tenants.iter_mut().find(|account| account.tenant == tenant)
    }
}

impl TenantAccount {
    fn has_able(&self, accounts: &Accounts, can: &mut impl FnMut(StreamId) -> bool) -> bool {
        let waits = |seat: &Seat| accounts.get(seat.place).is_some_and(|account| account.waits);
        self.waiting > 0 && self.ring.iter().any(|seat| waits(seat) && can(seat.stream))
    }

    /// Whose turn it is of its streams, of which one can use it.
    fn next(
        &mut self,
        accounts: &mut Accounts,
        places: &mut HashMap<StreamKey, usize>,
        can: &mut impl FnMut(StreamId) -> bool,
    ) -> Option<StreamKey> {
        loop {
            let &Seat { stream, place } = self.ring.front()?;
            let who = StreamKey { tenant: self.tenant, stream };
            let account = accounts.get_mut(place)?;
            if account.deficit_bytes > 0 {
                if account.waits && can(stream) {
                    return Some(who);
                }
            } else {
                account.deficit_bytes = account.deficit_bytes.saturating_add(QUANTUM);
            }
            if !account.waits && account.deficit_bytes >= 0 {
                self.ring.pop_front();
                places.remove(&who);
                accounts.close(place);
            } else {
                self.ring.rotate_left(1);
            }
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
