//! What the kubelet sends, and whatever else anybody might.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Characters by the length of their codes, in the order of the codes, and the first code (RFC 7541, appendix B).
const ALPHABET: [(usize, u32, &str); 7] = [
    (5, 0x0, "012aceiost"),
    (6, 0x14, " %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, "&*,;XZ"),
    (10, 0x3f8, "!\"()?"),
    (11, 0x7fa, "'+|"),
    (13, 0x1ff8, "\0$@[]~"),
];

/// What Go lets into an authority.
const OF_GO: &str = "[A-Za-z0-9%_.~!$&'()*+,;=:@-]{1,200}";

fn to_huffman(text: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for character in text.chars() {
        let found = ALPHABET.iter().find_map(|&(length, first, characters)| {
            characters.find(character).map(|at| (length, first + u32::try_from(at).unwrap()))
        });
        let (length, code) = found.unwrap_or_else(|| panic!("{character:?}"));
        bits.extend((0..length).rev().map(|place| code >> place & 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(1);
    }
    let byte = |bits: &[u32]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::try_from(*bit).unwrap());
    bits.chunks(8).map(byte).collect()
}

fn from_huffman(bytes: &[u8]) -> String {
    let (mut at, mut text) = (0, String::new());
    while at < bytes.len() * 8 {
        let rest = bytes.len() * 8 - at;
        let found = ALPHABET.iter().find_map(|&(length, first, characters)| {
            let place = (length <= rest).then(|| read(bytes, at, length).checked_sub(first))??;
            characters.chars().nth(usize::try_from(place).unwrap()).map(|character| (length, character))
        });
        let Some((length, character)) = found else { break };
        at += length;
        text.push(character);
    }
    text
}

/// A literal field: its kind's bits, its name's index, whether it is in Huffman's code, its value.
fn literal(kind: u8, name: u8, huffman: bool, value: &[u8]) -> Vec<u8> {
    let mut field = vec![kind | name];
    let mark = if huffman { 0x80 } else { 0 };
    match value.len() {
        short @ 0..0x7f => field.push(mark | u8::try_from(short).unwrap()),
        long => {
            let rest = long - 0x7f;
            field.extend([
                mark | 0x7f,
                u8::try_from(rest & 0x7f | 0x80).unwrap(),
                u8::try_from(rest >> 7).unwrap(),
            ]);
        }
    }
    field.extend(value);
    field
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn pass(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    Authority::default().take(bytes, &mut out).map(|()| out)
}

/// What becomes of a frame after the preface.
fn passed(frame: &[u8]) -> Result<Vec<u8>, Refused> {
    pass(&[PREFACE, frame].concat()).map(|out| out[PREFACE.len()..].to_vec())
}

#[test]
fn the_kubelets_authority_becomes_one_that_is_taken() {
    let path = "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fplasma.sock";
    let (before, after) =
        ([0x83, 0x86], literal(0x40, 4, false, b"/pluginregistration.Registration/GetInfo"));
    for (huffman, value) in [(true, to_huffman(path)), (false, path.as_bytes().to_vec())] {
        let field = literal(0x40, 1, huffman, &value);
        let sent = frame(HEADERS, END_HEADERS, &[&before[..], &field, &after].concat());
        let got = passed(&sent).unwrap();
        assert_eq!(got.len(), sent.len());
        let (start, end) = (HEAD + before.len() + field.len() - value.len(), got.len() - after.len());
        assert_eq!((&got[..start], &got[end..]), (&sent[..start], &after[..]), "the rest is as it was");
        let value = &got[start..end];
        let text = if huffman { from_huffman(value) } else { String::from_utf8(value.to_vec()).unwrap() };
        assert_eq!(text.len(), path.len(), "{text}: the table's entry keeps its size");
        assert!(text.chars().all(|character| "abkX!+~".contains(character)), "{text}");
    }
}

#[test]
fn padding_and_priority_are_no_part_of_the_block() {
    let field = literal(0x40, 1, false, b"%2F");
    let payload = [&[3, 0, 0, 0, 9, 16][..], &field, &[0, 0, 0]].concat();
    let got = passed(&frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)).unwrap();
    assert!(got.ends_with(b"aaa\0\0\0"), "{got:?}");
    let too_much = frame(HEADERS, END_HEADERS | PADDED, &[9, 0x83]);
    assert_eq!(passed(&too_much), Err(Refused::Malformed));
}

#[test]
fn what_is_not_understood_is_refused() {
    assert_eq!(pass(b"GET / HTTP/1.1\r\n"), Err(Refused::NotHttp2));
    assert_eq!(passed(&frame(HEADERS, 0, &[0x83])), Err(Refused::Continuation));
    assert_eq!(passed(&frame(CONTINUATION, END_HEADERS, &[0x83])), Err(Refused::Continuation));
    assert_eq!(passed(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1]), Err(Refused::TooLong));
    for (what, block) in [
        ("a value beyond its frame", &[0x41, 5, b'x'][..]),
        ("a field without its value", &[0x41]),
        ("an endless number", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a code that Go never sends there", &[0x41, 0x83, 0xff, 0xff, 0xf0]),
    ] {
        assert_eq!(passed(&frame(HEADERS, END_HEADERS, block)), Err(Refused::Malformed), "{what}");
    }
}

#[test]
fn other_frames_and_other_fields_go_by_as_they_are() {
    let block = [
        &[0x82, 0x3f, 0xe1, 0x1f][..],
        &literal(0, 0, false, b"name"),
        &[1, b'%'],
        &literal(0x10, 2, true, &to_huffman("%2F")),
    ];
    for sent in [
        frame(4, 0, &[0, 3, 0, 0, 0, 100]),
        frame(0, 1, b"%2F"),
        frame(0, 1, b""),
        frame(HEADERS, END_HEADERS, &block.concat()),
        frame(HEADERS, END_HEADERS, b""),
    ] {
        let twice = [sent.clone(), sent].concat();
        assert_eq!(passed(&twice), Ok(twice.clone()));
    }
}

proptest! {
    #[test]
    fn whatever_comes_nothing_panics_and_lengths_stay(
        frames in vec((0..11_u8, any::<u8>(), vec(any::<u8>(), 0..60)), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let sent: Vec<u8> = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let sent = [PREFACE, &sent].concat();
        let whole = pass(&sent);
        if let Ok(out) = &whole {
            prop_assert_eq!(out.len(), sent.len(), "whole frames go by whole");
        }
        // The same in two pieces, wherever they are cut.
        let (first, second) = sent.split_at(cut.index(sent.len()));
        let (mut authority, mut out) = (Authority::default(), Vec::new());
        let pieces = authority.take(first, &mut out).and_then(|()| authority.take(second, &mut out));
        prop_assert_eq!(pieces.map(|()| out), whole);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), after_preface in any::<bool>()) {
        let start = if after_preface { PREFACE } else { &[] };
        let sent = [start, &bytes].concat();
        let (mut authority, mut out) = (Authority::default(), Vec::new());
        let _ = authority.take(&sent, &mut out);
        prop_assert!(out.len() + authority.held.len() <= sent.len());
    }

    #[test]
    fn any_authority_of_gos_keeps_its_size_in_both_ways_of_writing(
        text in OF_GO,
        kind in prop::sample::select(vec![0x40_u8, 0x00, 0x10]),
        other in vec(any::<u8>(), 0..40),
    ) {
        let value = to_huffman(&text);
        prop_assert_eq!(from_huffman(&value), text.clone());
        let block = [literal(kind, 1, true, &value), literal(0x40, 4, false, &other), vec![0x83]].concat();
        let sent = frame(HEADERS, END_HEADERS, &block);
        let got = passed(&sent).unwrap();
        let from = HEAD + literal(kind, 1, true, &value).len() - value.len();
        let replaced = from_huffman(&got[from..from + value.len()]);
        prop_assert_eq!(replaced.len(), text.len());
        prop_assert!(replaced.chars().all(|character| "abkX!+~".contains(character)), "{}", replaced);
        prop_assert_eq!(&got[from + value.len()..], &sent[from + value.len()..]);
    }
}
