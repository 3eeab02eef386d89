//! Sets of small numbers.

/// A set of numbers below a length that is fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn has(&self, it: usize) -> bool {
        self.0.get(it / 64).is_some_and(|word| word >> (it % 64) & 1 == 1)
    }

    /// Was it not there before?
    pub(super) fn insert(&mut self, it: usize) -> bool {
        let Some(word) = self.0.get_mut(it / 64) else { return false };
        let before = *word;
        *word |= 1 << (it % 64);
        *word != before
    }

    /// Does it grow?
    pub(super) fn add_all(&mut self, other: &Self) -> bool {
        let mut grown = 0;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            grown |= more & !*word;
            *word |= more;
        }
        grown != 0
    }

    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, only)| *word &= only);
    }

    pub(super) fn remove_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, less)| *word &= !less);
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// How many are in this set and in neither of the others.
    pub(super) fn count_without(&self, a: &Self, b: &Self) -> usize {
        let words = self.0.iter().zip(a.0.iter().zip(&b.0));
        words.map(|(word, (a, b))| (word & !a & !b).count_ones() as usize).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|it| it.count_ones() as usize).sum()
    }

    /// In rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(idx, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(idx * 64 + bit)
            })
        })
    }
}
