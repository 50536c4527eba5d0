//! Holds what clients sent, were told and saw against the logs that came of it.

use std::collections::{BTreeMap, HashMap};

use crate::log::Log;
use crate::member::Diary;
use crate::publisher::Account;
use crate::words::Words;

/// What clients and logs say of one time.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) accounts: Vec<Account>,
    pub(crate) diaries: Vec<Diary>,
    pub(crate) logs: Vec<Log>,
    /// Places of readers that are not what they were once told to be.
    pub(crate) stepped_back: Vec<String>,
    /// Places of readers that somebody was told.
    pub(crate) places: usize,
}

impl Evidence {
    /// Everything that breaks a promise, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.stepped_back.clone();
        faults.extend(self.accounts.iter().flat_map(|account| account.faults.iter().cloned()));
        faults.extend(self.diaries.iter().flat_map(|diary| diary.faults.iter().cloned()));
        for log in &self.logs {
            let places = places(log, &mut faults);
            for account in self.accounts.iter().filter(|account| account.room == log.room) {
                acknowledged(account, log, &mut faults);
                order(account, &places, &mut faults);
            }
            let known: HashMap<_, _> =
                self.accounts.iter().map(|account| (account.publisher, account)).collect();
            for words in places.keys() {
                let account = known.get(&words.publisher).filter(|account| account.room == log.room);
                if account.is_none_or(|account| words.number >= account.sent.len() as u64) {
                    faults.push(format!("{}: holds {words:?}, which nobody said there", log.room));
                }
            }
            for diary in self.diaries.iter().filter(|diary| diary.room == log.room) {
                seen(diary, log, &mut faults);
            }
        }
        faults
    }

    /// Panics if a promise was broken; says how much it was about otherwise.
    pub(crate) fn judge(&self, what: &str) {
        let faults = self.faults();
        let shown: Vec<_> = faults.iter().take(20).collect();
        assert!(faults.is_empty(), "{what}: {} promises broken, among them {shown:#?}", faults.len());
        let sum = |count: &dyn Fn(&Account) -> u32| self.accounts.iter().map(count).sum::<u32>();
        let told: usize = self.diaries.iter().map(|diary| diary.told_losses.len()).sum();
        println!(
            "{what}: {} messages acknowledged in {} rooms, {} of them on repetition; {} connections of {} publishers; {} \
             messages seen by {} members, who recovered {} times and were told {told} times that they could not; {} \
             receipts; 0 lost, 0 repeated, 0 out of order, 0 stepped back",
            self.accounts.iter().map(|account| account.sent.len()).sum::<usize>(),
            self.logs.len(),
            sum(&|account| account.duplicates),
            sum(&|account| account.connections),
            self.accounts.len(),
            self.diaries.iter().map(|diary| diary.seen.len()).sum::<usize>(),
            self.diaries.len(),
            self.diaries.iter().map(|diary| diary.recoveries).sum::<u32>(),
            self.places,
        );
    }
}

/// Where in the log each message is: without holes, and none twice.
fn places(log: &Log, faults: &mut Vec<String>) -> BTreeMap<Words, u64> {
    let mut places = BTreeMap::new();
    for (message, offset) in log.messages.iter().zip(1..) {
        if message.offset != offset {
            faults.push(format!("{}: offset {} where {offset} belongs", log.room, message.offset));
        }
        match Words::read(&message.text) {
            None => faults.push(format!("{}: nobody wrote what is at {offset}: {message:?}", log.room)),
            Some(words) => {
                if let Some(first) = places.insert(words, offset) {
                    faults.push(format!("{}: {words:?} is there twice, at {first} and {offset}", log.room));
                }
            }
        }
    }
    if log.head != log.messages.len() as u64 {
        faults.push(format!("{}: {} messages up to {}", log.room, log.messages.len(), log.head));
    }
    places
}

/// What was acknowledged is where that was said, under that id.
fn acknowledged(account: &Account, log: &Log, faults: &mut Vec<String>) {
    for (sent, number) in account.sent.iter().zip(0..) {
        let words = Words { publisher: account.publisher, number };
        let Some(receipt) = &sent.receipt else {
            faults.push(format!("{}: {words:?} was never acknowledged", log.room));
            continue;
        };
        let place = usize::try_from(receipt.offset).ok().and_then(|offset| offset.checked_sub(1));
        let found = place.and_then(|place| log.messages.get(place));
        let same = found.is_some_and(|found| found.id == receipt.id && found.text == words.text());
        if !same || receipt.epoch != log.epoch {
            faults
                .push(format!("{}: lost {words:?}, acknowledged as {receipt:?}; there: {found:?}", log.room));
        }
    }
}

/// A publisher's messages are in the order in which it sent them. Where one was refused and sent again later, either
/// order is right among those between its first and last attempt.
fn order(account: &Account, places: &BTreeMap<Words, u64>, faults: &mut Vec<String>) {
    let of = |number: u64| places.get(&Words { publisher: account.publisher, number });
    let mut placed: Vec<_> =
        (0..account.sent.len() as u64).filter_map(|number| Some((*of(number)?, number))).collect();
    placed.sort_unstable();
    let strict = account.sent.iter().all(|sent| sent.refused == 0);
    let mut latest_first_attempt = 0;
    for pair in placed.windows(2) {
        let [(_, before), (offset, after)] = [pair[0], pair[1]];
        latest_first_attempt = latest_first_attempt.max(account.sent[before as usize].attempts.0);
        let too_late = account.sent[after as usize].attempts.1 < latest_first_attempt;
        if too_late || (strict && after < before) {
            let publisher = account.publisher;
            faults.push(format!("{}: {after} of {publisher} at {offset} comes after {before}", account.room));
        }
    }
}

/// What a member saw is the log, from its coming to its end, without what it was told that it lost.
fn seen(diary: &Diary, log: &Log, faults: &mut Vec<String>) {
    let user = &diary.user;
    if diary.epoch != log.epoch {
        faults.push(format!("{user}: was in epoch {}, the log's is {}", diary.epoch, log.epoch));
    }
    let told = |offset: u64| diary.told_losses.iter().any(|&(after, to)| after < offset && offset <= to);
    let expected = log.messages.iter().filter(|message| message.offset > diary.from && !told(message.offset));
    let mut seen = diary.seen.iter();
    for message in expected {
        match seen.next() {
            Some(seen) if seen == message => {}
            other => {
                faults.push(format!("{user}: saw {other:?} instead of {message:?}"));
                return;
            }
        }
    }
    faults.extend(seen.next().map(|more| format!("{user}: saw {more:?}, which is not in the log")));
}

#[cfg(test)]
mod tests {
    //! A judge that finds nothing proves nothing.

    use super::*;
    use crate::member::Seen;
    use crate::publisher::{Receipt, Sent};

    /// Two messages of publisher 0, acknowledged, seen by one member.
    fn innocent() -> Evidence {
        let message = |number: u64| Seen {
            offset: number + 1,
            id: format!("id {number}"),
            text: Words { publisher: 0, number }.text(),
        };
        let sent = |number: u64| Sent {
            attempts: (number, number),
            receipt: Some(Receipt { id: format!("id {number}"), epoch: "e".into(), offset: number + 1 }),
            ..Sent::default()
        };
        let messages = vec![message(0), message(1), message(2)];
        Evidence {
            accounts: vec![Account {
                room: "r".into(),
                sent: vec![sent(0), sent(1), sent(2)],
                ..Account::default()
            }],
            diaries: vec![Diary {
                room: "r".into(),
                epoch: "e".into(),
                seen: messages.clone(),
                ..Diary::default()
            }],
            logs: vec![Log { room: "r".into(), epoch: "e".into(), head: 3, messages }],
            ..Evidence::default()
        }
    }

    #[test]
    fn judge_finds_nothing_where_nothing_is() {
        assert_eq!(innocent().faults(), Vec::<String>::new());
    }

    #[test]
    fn judge_finds_every_fault() {
        let swap = |evidence: &mut Evidence| {
            let messages = &mut evidence.logs[0].messages;
            messages.swap(0, 1);
            (messages[0].offset, messages[1].offset) = (1, 2);
        };
        let receipt = |evidence: &mut Evidence, number: usize, offset: u64| {
            evidence.accounts[0].sent[number].receipt.as_mut().unwrap().offset = offset;
        };
        type Crime<'a> = (&'a str, Box<dyn Fn(&mut Evidence) + 'a>);
        let crimes: Vec<Crime<'_>> = vec![
            (
                "lost at the end",
                Box::new(|e| {
                    e.logs[0].messages.pop();
                    e.logs[0].head = 2;
                }),
            ),
            ("a hole", Box::new(|e| drop(e.logs[0].messages.remove(1)))),
            ("acknowledged elsewhere", Box::new(|e| receipt(e, 1, 3))),
            ("acknowledged nowhere", Box::new(|e| receipt(e, 1, 0))),
            ("another id", Box::new(|e| e.logs[0].messages[1].id = "other".into())),
            ("another epoch", Box::new(|e| e.logs[0].epoch = "f".into())),
            (
                "twice in the log",
                Box::new(|e| {
                    let again =
                        Seen { offset: 4, id: "again".into(), text: e.logs[0].messages[0].text.clone() };
                    e.logs[0].messages.push(again);
                    e.logs[0].head = 4;
                }),
            ),
            ("wrong bytes", Box::new(|e| e.logs[0].messages[2].text.push('x'))),
            ("out of nowhere", Box::new(|e| drop(e.accounts[0].sent.pop()))),
            (
                "out of order",
                Box::new(|e| {
                    swap(e);
                    receipt(e, 0, 2);
                    receipt(e, 1, 1);
                    e.diaries.clear();
                }),
            ),
            (
                "out of order after a refusal",
                Box::new(|e| {
                    e.accounts[0].sent[2].refused = 1;
                    swap(e);
                    e.diaries.clear();
                }),
            ),
            ("never acknowledged", Box::new(|e| e.accounts[0].sent[2].receipt = None)),
            ("not seen", Box::new(|e| drop(e.diaries[0].seen.remove(1)))),
            (
                "seen twice",
                Box::new(|e| {
                    let again = e.diaries[0].seen[0].clone();
                    e.diaries[0].seen.push(again);
                }),
            ),
            (
                "seen and gone",
                Box::new(|e| {
                    let gone = Seen { offset: 4, id: "gone".into(), text: "gone".into() };
                    e.diaries[0].seen.push(gone);
                }),
            ),
            ("seen where it was told to be lost", Box::new(|e| e.diaries[0].told_losses.push((1, 2)))),
        ];
        for (name, crime) in crimes {
            let mut evidence = innocent();
            crime(&mut evidence);
            assert_ne!(evidence.faults(), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn judge_lets_a_refused_message_come_later() {
        let mut evidence = innocent();
        let [messages, seen] = [&mut evidence.logs[0].messages, &mut evidence.diaries[0].seen];
        for messages in [messages, seen] {
            messages.swap(0, 1);
            (messages[0].offset, messages[1].offset) = (1, 2);
        }
        let sent = &mut evidence.accounts[0].sent;
        (sent[0].refused, sent[0].attempts) = (1, (0, 3));
        sent[0].receipt.as_mut().unwrap().offset = 2;
        sent[1].receipt.as_mut().unwrap().offset = 1;
        assert_eq!(evidence.faults(), Vec::<String>::new());
    }
}
