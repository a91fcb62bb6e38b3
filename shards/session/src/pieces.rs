use crate::mask::copy_masked;

/// Bytes that lie in two parts, one behind the other, taken from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces<'a> {
    parts: [&'a [u8]; 2],
}

impl<'a> Pieces<'a> {
    pub(crate) const fn of(parts: [&'a [u8]; 2]) -> Self {
        Self { parts }
    }

    pub(crate) const fn len(&self) -> usize {
        let [first, second] = self.parts;
        first.len() + second.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes before the second part, or all if nothing is before it.
    pub(crate) const fn until_part(&self) -> usize {
        let [first, second] = self.parts;
        if first.is_empty() { second.len() } else { first.len() }
    }

    /// Takes up to `max_bytes`.
    pub(crate) fn take(&mut self, max_bytes: usize) -> Self {
        let [first, second] = self.parts;
        let (first, first_rest) = first.split_at(first.len().min(max_bytes));
        let (second, second_rest) = second.split_at(second.len().min(max_bytes - first.len()));
        self.parts = [first_rest, second_rest];
        Self { parts: [first, second] }
    }

    /// All of them, if they lie in one part.
    pub(crate) const fn whole(&self) -> Option<&'a [u8]> {
        match self.parts {
            [[], bytes] | [bytes, []] => Some(bytes),
            _ => None,
        }
    }

    /// Copies them to `to`, which is as long, masked if there is a mask (RFC 6455 §5.3).
    pub(crate) fn copy_to(&self, to: &mut [u8], mask: Option<[u8; 4]>) {
        let [first, second] = self.parts;
        let (to_first, to_second) = to.split_at_mut(first.len());
        match mask {
            Some(mut mask) => {
                copy_masked(to_first, first, mask);
                mask.rotate_left(first.len() % 4);
                copy_masked(to_second, second, mask);
            }
            None => {
                to_first.copy_from_slice(first);
                to_second.copy_from_slice(second);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_the_bytes_in_their_order() {
        let bytes: Vec<u8> = (0..40).collect();
        for split in 0..=bytes.len() {
            for size in 1..=bytes.len() {
                let (first, second) = bytes.split_at(split);
                let (mut pieces, mut got) = (Pieces::of([first, second]), Vec::new());
                while !pieces.is_empty() {
                    let piece = pieces.take(size);
                    let mut copy = vec![0; piece.len()];
                    piece.copy_to(&mut copy, None);
                    assert!(piece.len() <= size);
                    assert!(piece.whole().is_none_or(|whole| whole == copy));
                    got.extend(copy);
                }
                assert_eq!(got, bytes, "{split} {size}");
            }
        }
    }

    #[test]
    fn the_mask_goes_on_from_one_part_to_the_next() {
        let bytes: Vec<u8> = (0..40).collect();
        let mut expected = vec![0; bytes.len()];
        copy_masked(&mut expected, &bytes, [1, 20, 77, 200]);
        for split in 0..=bytes.len() {
            let (first, second) = bytes.split_at(split);
            let mut masked = vec![0; bytes.len()];
            Pieces::of([first, second]).copy_to(&mut masked, Some([1, 20, 77, 200]));
            assert_eq!(masked, expected, "{split}");
        }
    }
}
