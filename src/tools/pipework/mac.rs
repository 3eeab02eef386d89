//! MAC addresses made from a text: `U:TEXT`.

use crate::addr::{BadMac, Mac};

/// `02:` and the first 40 bits of the MD5 hash of the text and a newline. White space at both ends does not count, and
/// any other white space counts as one space: a shell has always split the text into words and joined them again.
pub(in crate::tools) fn of_text(text: &str) -> Result<Mac, BadMac> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [a, b, c, d, e, ..] = md5(format!("{}\n", words.join(" ")).as_bytes());
    Mac::new([0x02, a, b, c, d, e])
}

/// How far each step of a round rotates, in turn.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The hash of RFC 1321.
fn md5(data: &[u8]) -> [u8; 16] {
    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend((data.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in message.chunks_exact(64) {
        let words: Vec<u32> = block
            .chunks_exact(4)
            .map(|it| it.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            .collect();
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64_usize {
            let (mixed, at) = match step / 16 {
                0 => (b & c | !b & d, step),
                1 => (d & b | !d & c, 5 * step + 1),
                2 => (b ^ c ^ d, 3 * step + 5),
                _ => (c ^ (b | !d), 7 * step),
            };
            // The constants of the standard are the first 32 bits of sines.
            let sine = (((step + 1) as f64).sin().abs() * (1_u64 << 32) as f64) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(words[at % 16]);
            let turned = b.wrapping_add(sum.rotate_left(ROTATIONS[step / 16][step % 4]));
            (a, b, c, d) = (d, turned, b, c);
        }
        for (before, more) in state.iter_mut().zip([a, b, c, d]) {
            *before = before.wrapping_add(more);
        }
    }
    let mut hash = [0; 16];
    for (to, word) in hash.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        let hash = |text: &str| md5(text.as_bytes()).map(|it| format!("{it:02x}")).concat();
        // RFC 1321, A.5.
        for (text, expected) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (&"1234567890".repeat(8), "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(hash(text), expected, "{text}");
        }
        // Around the length where the padding needs one more block; the hashes are those of md5sum.
        for (length, expected) in [
            (55, "ef1772b6dff9a122358552954ad0df65"),
            (56, "3b0c8ac703f828b04c6c197006d17218"),
            (64, "014842d480b571495a4a0363793f7367"),
            (119, "8a7bd0732ed6a28ce75f6dabc90e1613"),
            (120, "5f61c0ccad4cac44c75ff505e1f1e537"),
        ] {
            assert_eq!(hash(&"a".repeat(length)), expected, "{length}");
        }
    }

    #[test]
    fn a_text_gives_the_recorded_address() {
        for (text, expected) in [
            ("myhost.foo.com", "02:72:6c:cd:9b:8d"),
            ("b", "02:3b:5d:5c:37:12"),
            // An unquoted variable in a shell.
            ("a b", "02:75:57:d2:f3:a6"),
            ("  a \t b\n", "02:75:57:d2:f3:a6"),
        ] {
            assert_eq!(of_text(text).unwrap().to_string(), expected, "{text:?}");
        }
    }
}
