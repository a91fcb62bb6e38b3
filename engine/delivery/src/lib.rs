//! Exactly once from publisher to consumer: sender, receiver, duplicate removal, credit.
