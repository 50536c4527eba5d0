//! What is published: text that says whose it is and which, so that no message can be taken for another.

/// Whose, and which: the publisher's number and the message's place among its own, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Words {
    pub(crate) publisher: usize,
    pub(crate) number: u64,
}

impl Words {
    /// The text. Of different lengths, all of it decided by whose and which.
    pub(crate) fn text(self) -> String {
        let Self { publisher, number } = self;
        let mut rng = fastrand::Rng::with_seed(publisher as u64 * 1_000_003 + number);
        let padding: String = (0..rng.usize(..200)).map(|_| rng.alphanumeric()).collect();
        format!("{publisher}/{number}/{padding}")
    }

    /// Reads a text back; `None` if not every character of it is as written.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let words = Self { publisher: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? };
        (words.text() == text).then_some(words)
    }

    /// The idempotency key it is sent with.
    pub(crate) fn key(self) -> String {
        format!("{}-{}", self.publisher, self.number)
    }
}

#[test]
fn words_are_read_back_only_whole() {
    let words = Words { publisher: 3, number: 17 };
    let text = words.text();
    assert_eq!(Words::read(&text), Some(words));
    assert_eq!(Words::read(&format!("{text}x")), None);
    assert_eq!(Words::read(&text.replacen("17", "18", 1)), None);
    assert_eq!(Words::read(""), None);
}
