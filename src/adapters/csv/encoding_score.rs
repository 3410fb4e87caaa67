//! Compares encodings of one byte a character by the letters that they yield. Pure; used by [`super::encoding`].
//!
//! The detector of browsers knows neither MacRoman nor the code pages of DOS, and reads them as Windows-1252: `Jürgen`
//! becomes `JŸrgen`. What gives a wrong encoding away is the neighbours: a capital letter after a small one, a symbol
//! within a word, a control character.

use std::sync::LazyLock;

use encoding_rs::{Encoding, MACINTOSH};

/// Characters for the bytes from 0x80 to 0xFF.
pub(super) type HighHalf = [char; 128];

/// Upper half of the code page 850, from Unicode's mapping table CP850.TXT. Letters of the code page 437 are at the
/// same places, as far as it has them.
const CP850: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀Óß\
                     ÔÒõÕµþÞÚÛÙýÝ¯´\u{AD}±‗¾¶§÷¸°¨·¹³²■\u{A0}";

/// Letters of Western European languages: the most common ones in files with an old encoding.
const COMMON: &str = "äöüßéèêëàâáãåæøçíìîïñóòôõúùûÄÖÜÉÈÀÂÁÅÆØÇÍÓÚÑ";

/// Symbols that belong to texts and may be next to a letter.
const TEXT_SYMBOLS: &str = "’‘“”„–—«»º°·´`ª\u{A0}";

static CP850_HALF: LazyLock<HighHalf> = LazyLock::new(|| {
    let mut half = ['\u{FFFD}'; 128];
    half.iter_mut().zip(CP850.chars()).for_each(|(place, c)| *place = c);
    half
});

/// Neighbour of a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    Lower,
    Upper,
    BeyondAscii,
    /// A separator, a digit, or an end of the file.
    Boundary,
}

impl Neighbour {
    const COUNT: usize = 4;

    const fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            0x80.. => Self::BeyondAscii,
            _ => Self::Boundary,
        }
    }
}

/// How often each byte beyond ASCII occurs between which neighbours.
pub(super) struct ByteContexts {
    /// At `(before * 4 + after) * 128 + byte - 128`.
    counts: Box<[u64; Neighbour::COUNT * Neighbour::COUNT * 128]>,
    before: Neighbour,
    /// A byte whose neighbour after it isn't known yet, and the one before it.
    pending: Option<(Neighbour, u8)>,
}

impl ByteContexts {
    pub(super) fn new() -> Self {
        Self { counts: Box::new([0; _]), before: Neighbour::Boundary, pending: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let neighbour = Neighbour::of(byte);
            self.settle(neighbour);
            if byte >= 0x80 {
                self.pending = Some((self.before, byte));
            }
            self.before = neighbour;
        }
    }

    fn settle(&mut self, after: Neighbour) {
        if let Some((before, byte)) = self.pending.take() {
            let context = before as usize * Neighbour::COUNT + after as usize;
            self.counts[context * 128 + usize::from(byte) - 128] += 1;
        }
    }

    /// Ends the input, and returns what was counted.
    pub(super) fn finish(mut self) -> FinishedContexts {
        self.settle(Neighbour::Boundary);
        FinishedContexts { counts: self.counts }
    }
}

/// The counts of a whole file.
pub(super) struct FinishedContexts {
    counts: Box<[u64; Neighbour::COUNT * Neighbour::COUNT * 128]>,
}

impl FinishedContexts {
    /// Share of characters, from 0 to 1, that are plausible between their neighbours.
    pub(super) fn plausibility(&self, half: &HighHalf) -> f64 {
        const NEIGHBOURS: [Neighbour; Neighbour::COUNT] =
            [Neighbour::Lower, Neighbour::Upper, Neighbour::BeyondAscii, Neighbour::Boundary];
        let (mut plausible, mut total) = (0.0, 0.0);
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (context, byte) = (index / 128, index % 128);
            let (before, after) = (NEIGHBOURS[context / Neighbour::COUNT], NEIGHBOURS[context % Neighbour::COUNT]);
            plausible += weight(half[byte], before, after) * *count as f64;
            total += *count as f64;
        }
        if total > 0.0 { plausible / total } else { 0.0 }
    }

    /// Number of control characters.
    pub(super) fn controls(&self, half: &HighHalf) -> u64 {
        self.totals().into_iter().zip(half).filter(|(_, c)| c.is_control()).map(|(count, _)| count).sum()
    }

    /// The characters that occur, the most frequent first.
    pub(super) fn characters(&self, half: &HighHalf) -> Vec<char> {
        let mut found: Vec<_> = self.totals().into_iter().zip(half).filter(|(count, _)| *count > 0).collect();
        found.sort_by_key(|(count, c)| (std::cmp::Reverse(*count), **c));
        found.into_iter().map(|(_, c)| *c).collect()
    }

    fn totals(&self) -> [u64; 128] {
        let mut totals = [0; 128];
        for (index, count) in self.counts.iter().enumerate() {
            totals[index % 128] += count;
        }
        totals
    }
}

/// How plausible a character is between its neighbours, from 0 to 1.
fn weight(c: char, before: Neighbour, after: Neighbour) -> f64 {
    let is_next_to_letter = [before, after].iter().any(|side| matches!(side, Neighbour::Lower | Neighbour::Upper));
    if c.is_control() || c == '\u{FFFD}' {
        return 0.0;
    }
    if !c.is_alphabetic() {
        return if TEXT_SYMBOLS.contains(c) || !is_next_to_letter { 0.5 } else { 0.0 };
    }
    let is_wrong_case = if c.is_uppercase() {
        before == Neighbour::Lower
    } else {
        before == Neighbour::Upper && after == Neighbour::Upper
    };
    match (is_wrong_case, COMMON.contains(c)) {
        (true, _) => 0.0,
        (false, true) => 1.0,
        (false, false) => 0.7,
    }
}

/// Returns the characters of an encoding of one byte a character; `None` for others.
pub(super) fn high_half(encoding: &'static Encoding) -> Option<HighHalf> {
    if !encoding.is_single_byte() {
        return None;
    }
    let mut half = ['\u{FFFD}'; 128];
    for (place, byte) in half.iter_mut().zip(0x80_u8..=0xFF) {
        let bytes = [byte];
        *place = encoding.decode_without_bom_handling(&bytes).0.chars().next().unwrap_or('\u{FFFD}');
    }
    Some(half)
}

/// An encoding that browsers' detectors don't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldEncoding {
    MacRoman,
    /// A code page of DOS: 850 or 437.
    Dos,
}

/// Returns the old encoding that fits clearly better than the detector's guess.
pub(super) fn better_old_encoding(contexts: &FinishedContexts, guess: &'static Encoding) -> Option<OldEncoding> {
    /// Least plausibility: nearly every character is a letter in its place.
    const PLAUSIBILITY_MIN: f64 = 0.8;
    /// Least difference to the guess. One letter that is uncommon in one of both (`š` or `ö`) decides nothing.
    const MARGIN: f64 = 0.35;
    let of_guess = high_half(guess).map_or(0.6, |half| contexts.plausibility(&half));
    let of_mac = high_half(MACINTOSH).map_or(0.0, |half| contexts.plausibility(&half));
    let of_dos = contexts.plausibility(&CP850_HALF);
    let (best, old) = if of_dos > of_mac { (of_dos, OldEncoding::Dos) } else { (of_mac, OldEncoding::MacRoman) };
    (best >= PLAUSIBILITY_MIN && best - of_guess >= MARGIN).then_some(old)
}

/// Returns bytes of the code page 850, for tests.
#[cfg(test)]
pub(super) fn encode_cp850(text: &str) -> Vec<u8> {
    let byte = |c: char| match u8::try_from(c) {
        Ok(byte) if byte < 0x80 => byte,
        _ => 0x80 + u8::try_from(CP850.chars().position(|known| known == c).unwrap()).unwrap(),
    };
    text.chars().map(byte).collect()
}
