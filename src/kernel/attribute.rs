//! Writes and reads netlink attributes (`struct nlattr`), for families that no crate covers: nf_tables, netem, generic
//! netlink.

/// NLA_F_NESTED.
pub(super) const NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK: a type without the flags for nesting and byte order.
const KIND: u16 = 0x3fff;

/// Attributes to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Starts with other bytes, such as the header of the message.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.put(kind, |it| it.extend(value))
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.put(kind, |it| {
            it.extend(text.as_bytes());
            it.push(0);
        })
    }

    /// A number in network byte order, as in nf_tables.
    pub(super) fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Numbers in the byte order of the machine.
    pub(super) fn words(&mut self, kind: u16, words: &[u32]) -> &mut Self {
        self.put(kind, |it| it.extend(words.iter().flat_map(|it| it.to_ne_bytes())))
    }

    pub(super) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        self.put(kind | NESTED, |it| {
            let mut attributes = Attributes(std::mem::take(it));
            inner(&mut attributes);
            *it = attributes.0;
        })
    }

    fn put(&mut self, kind: u16, value: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        value(&mut self.0);
        // The longest is a distribution table of netem: 32 KiB.
        let length = (self.0.len() - start) as u16;
        for (to, from) in self.0.iter_mut().skip(start).zip(length.to_ne_bytes()) {
            *to = from;
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Received attributes in order: type and value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a>(pub(super) &'a [u8]);

impl<'a> Received<'a> {
    pub(super) fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find(|(it, _)| *it == kind).map(|(_, value)| value)
    }

    pub(super) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.bytes(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    pub(super) fn number(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(kind)?.try_into().ok()?))
    }

    pub(super) fn nest(self, kind: u16) -> Option<Received<'a>> {
        self.bytes(kind).map(Received)
    }
}

impl<'a> Iterator for Received<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back() {
        let mut sent = Attributes::default();
        sent.text(1, "a").number(2, 0x0102_0304).nest(3, |it| it.bytes(1, &[7; 5]).nest(2, |it| it));
        let number = [8, 0, 2, 0, 1, 2, 3, 4];
        let nest = [20, 0, 3, 0x80, 9, 0, 1, 0, 7, 7, 7, 7, 7, 0, 0, 0, 4, 0, 2, 0x80];
        let text = [6, 0, 1, 0, b'a', 0, 0, 0];
        // As on a little-endian machine.
        if cfg!(target_endian = "little") {
            assert_eq!(sent.as_bytes(), [&text[..], &number, &nest].concat());
        }
        let received = Received(sent.as_bytes());
        assert_eq!((received.text(1), received.number(2)), (Some("a"), Some(0x0102_0304)));
        let nest = received.nest(3).unwrap();
        assert_eq!((nest.bytes(1), nest.bytes(2)), (Some(&[7; 5][..]), Some(&[][..])));
        assert_eq!((received.bytes(4), received.number(1)), (None, None));
    }

    #[test]
    fn a_truncated_attribute_ends_the_list() {
        let mut sent = Attributes::default();
        sent.number(1, 5).number(2, 6);
        for length in 0..sent.as_bytes().len() {
            let received = Received(&sent.as_bytes()[..length]);
            assert_eq!(received.count(), length / 8, "{length} bytes");
        }
        // A length shorter than the header.
        assert_eq!(Received(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
    }
}
