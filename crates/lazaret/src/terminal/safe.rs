//! What an agent prints, made safe for a terminal: parsed by a terminal's own state machine, and written anew from
//! what is on a list. Whatever isn't on it, or isn't finished, never reaches the terminal.
//!
//! A terminal obeys what it is shown: OSC 52 writes the clipboard, a title can be read back as input, a device report
//! types its answer into whatever reads next, a link shows one address and opens another. None of these pass.

use vte::{Params, Parser, Perform};

/// A filter for one stream.
pub(crate) struct Safe {
    parser: Parser,
    writer: Writer,
    /// The begin of a character whose rest hasn't come.
    begun: Vec<u8>,
}

struct Writer {
    mode: Mode,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Text,
    Screen,
}

impl Safe {
    /// For plain output: text, tabs and new lines pass; every control sequence is left out.
    pub(crate) fn text() -> Self {
        Self::of(Mode::Text)
    }

    /// For a terminal that is lent to the agent: what full-screen programs need to draw passes.
    pub(crate) fn screen() -> Self {
        Self::of(Mode::Screen)
    }

    fn of(mode: Mode) -> Self {
        Self { parser: Parser::new(), writer: Writer { mode, out: Vec::new() }, begun: Vec::new() }
    }

    /// What may be written to the terminal for the next bytes.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.begun);
        whole.extend_from_slice(bytes);
        // The parser gets whole characters: of one in two pieces it may lose what follows.
        self.begun = whole.split_off(whole.len() - unfinished(&whole));
        self.parser.advance(&mut self.writer, &whole);
        std::mem::take(&mut self.writer.out)
    }

    /// What puts a terminal back after [`Self::screen`], whatever the agent did: colours, cursor, keys, mouse, paste,
    /// character set, scrolling region, main screen.
    pub(crate) const RESET: &[u8] = b"\x1b[?2026l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?1015l\
        \x1b[?2004l\x1b[?1l\x1b[?6l\x1b[?7h\x1b>\x1b(B\x0f\x1b[4l\x1b[r\x1b[?1049l\x1b[?25h\x1b[0 q\x1b[0m\r\n";
}

/// How many bytes at the end are the begin of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let begins = |back: &usize| {
        let tail = bytes.len().checked_sub(*back).and_then(|at| bytes.get(at..)).unwrap_or_default();
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=3).find(begins).unwrap_or(0)
}

/// A text on one line in which every character shows itself: control characters, and those that turn text around, hide it or
/// show nothing, are written out. For what people decide on: names, patches, questions.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\t') || policy::is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide text: <https://trojansource.codes>, CVE-2021-42574.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{2028}' | '\u{2029}')
}

/// Private modes that change only what is drawn or how keys are sent, and that [`Safe::RESET`] puts back: cursor keys,
/// origin, wrap, blink, cursor, alternate screen, mouse, focus, bracketed paste, synchronised update.
const PRIVATE_MODES: &[u16] =
    &[1, 6, 7, 12, 25, 47, 1000, 1002, 1003, 1004, 1006, 1015, 1047, 1048, 1049, 2004, 2026];

/// Control sequences without prefix or intermediate that only move the cursor, draw or erase (ECMA-48, XTerm).
const DRAWING: &[char] = &[
    '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'P', 'S', 'T', 'X', 'Z', '`', 'a',
    'b', 'd', 'e', 'f', 'g', 'm', 'r', 's', 'u',
];

/// Most parameters in one sequence that is passed on.
const MAX_PARAMETERS: usize = 32;

impl Writer {
    fn allows(&self, params: &Params, intermediates: &[u8], action: char) -> bool {
        if self.mode == Mode::Text || params.len() > MAX_PARAMETERS {
            return false;
        }
        let single = |wanted: &dyn Fn(u16) -> bool| params.iter().flatten().all(|number| wanted(*number));
        match (intermediates, action) {
            ([], 'h' | 'l') => single(&|mode| mode == 4 || mode == 20),
            // Repeating the last character is cheap to ask for and dear to do.
            ([], 'b') => single(&|times| times <= 1000),
            ([], _) => DRAWING.contains(&action),
            ([b'?'], 'h' | 'l') => single(&|mode| PRIVATE_MODES.contains(&mode)),
            ([b'?'], 'J' | 'K') => true,
            ([b' '], 'q') | ([b'!'], 'p') => true,
            _ => false,
        }
    }

    fn sequence(&mut self, params: &Params, intermediates: &[u8], action: char) {
        let (prefix, rest): (Vec<u8>, Vec<u8>) =
            intermediates.iter().partition(|byte| (b'<'..=b'?').contains(*byte));
        self.out.extend_from_slice(b"\x1b[");
        self.out.extend(prefix);
        // A single 0 is what a missing parameter reads as, and the shorter form is understood by more terminals.
        let missing = params.len() == 1 && params.iter().flatten().all(|number| *number == 0);
        for (at, group) in params.iter().enumerate().filter(|_| !missing) {
            if at > 0 {
                self.out.push(b';');
            }
            let numbers: Vec<String> = group.iter().map(u16::to_string).collect();
            self.out.extend_from_slice(numbers.join(":").as_bytes());
        }
        self.out.extend(rest);
        self.char(action);
    }

    fn char(&mut self, c: char) {
        self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl Perform for Writer {
    fn print(&mut self, c: char) {
        if c.is_control() {
            return; // C1 controls in UTF-8 form
        }
        if turns_text(c) {
            self.out.extend(c.escape_unicode().map(|c| u8::try_from(c).unwrap_or(b'?')));
        } else {
            self.char(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        let passes = match self.mode {
            Mode::Text => matches!(byte, b'\n' | b'\t'),
            // BEL, BS, HT, LF, VT, FF, CR, and the shifts between character sets. Not ENQ, which is answered.
            Mode::Screen => matches!(byte, 0x07..=0x0f),
        };
        if passes {
            self.out.push(byte);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if !ignore && self.allows(params, intermediates, action) {
            self.sequence(params, intermediates, action);
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        let passes = match intermediates {
            [] => matches!(byte, b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'H' | b'M'),
            [b'(' | b')'] => matches!(byte, b'0' | b'B'),
            _ => false,
        };
        if passes && !ignore && self.mode == Mode::Screen {
            self.out.push(0x1b);
            self.out.extend_from_slice(intermediates);
            self.out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(Safe::text().filter(bytes)).unwrap()
    }

    fn screen(bytes: &[u8]) -> String {
        String::from_utf8(Safe::screen().filter(bytes)).unwrap()
    }

    #[test]
    fn plain_output_keeps_text_and_loses_every_control_sequence() {
        assert_eq!(text("a\tb\nc grüße ✓".as_bytes()), "a\tb\nc grüße ✓");
        assert_eq!(text(b"\x1b[31mred\x1b[0m \x1b]0;title\x07x\rover\x08\x07"), "red xover");
        assert_eq!(text("\u{9b}31mx".as_bytes()), "31mx");
        assert_eq!(text("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn drawing_passes_to_a_lent_terminal() {
        for kept in [
            "\x1b[2J\x1b[1;1Hhi\x1b[38;5;196mred\x1b[38:2:1:2:3mfine\x1b[m",
            "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000h\x1b[?2026h",
            "\x1b7\x1b8\x1b(0lqk\x1b(B\x1b[4 q\x1bM",
            "a\r\n\tb\x08\x07",
        ] {
            assert_eq!(screen(kept.as_bytes()), kept);
        }
    }

    #[test]
    fn nothing_that_reaches_beyond_the_screen_passes() {
        let cases: &[(&str, &[u8])] = &[
            ("clipboard (OSC 52)", b"\x1b]52;c;aGk=\x07"),
            ("clipboard with ST", b"\x1b]52;c;aGk=\x1b\\"),
            ("title", b"\x1b]0;rm -rf\x07"),
            ("title report", b"\x1b[21t"),
            ("window size report", b"\x1b[18t"),
            ("cursor report", b"\x1b[6n"),
            ("device attributes", b"\x1b[c"),
            ("second device attributes", b"\x1b[>c"),
            ("version report", b"\x1b[>q"),
            ("mode report", b"\x1b[?25$p"),
            ("answerback", b"\x05"),
            ("link", b"\x1b]8;;http://evil\x1b\\"),
            ("colour query", b"\x1b]10;?\x07"),
            ("status string (DECRQSS)", b"\x1bP$qm\x1b\\"),
            ("sixel", b"\x1bPq#0;2;0;0;0~\x1b\\"),
            ("application command", b"\x1b_Gi=1;AAAA\x1b\\"),
            ("privacy message", b"\x1b^x\x1b\\"),
            ("media copy", b"\x1b[5i"),
            ("tmux passthrough", b"\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"),
            ("keyboard query", b"\x1b[?u"),
            ("full reset", b"\x1bc"),
            ("unknown mode", b"\x1b[?9999h"),
            ("C1 in UTF-8", "\u{9d}52;c;aGk=\u{9c}".as_bytes()),
            ("unfinished", b"\x1b]52;c;aG"),
        ];
        for (name, bytes) in cases {
            for left in [text(bytes), screen(bytes)] {
                assert!(!left.contains(['\x1b', '\u{9b}', '\u{9d}', '\x05']), "{name}: {left:?}");
            }
        }
        assert_eq!(screen(b"a\x1b]52;c;aGk=\x07b"), "ab");
    }

    #[test]
    fn what_follows_a_character_in_two_pieces_is_not_lost() {
        for bytes in
            [&b"\xc2\x80\x1b\xa0"[..], "é\x1b[31mx".as_bytes(), b"\xe2\x82A", b"\xf0\x9f\x98\x80\x1b7"]
        {
            let whole = Safe::screen().filter(bytes);
            for at in 0..=bytes.len() {
                let mut cut = Safe::screen();
                let (head, tail) = bytes.split_at(at);
                assert_eq!([cut.filter(head), cut.filter(tail)].concat(), whole, "{bytes:?} at {at}");
            }
        }
        // What can't be the begin of a character doesn't wait for more.
        assert_eq!(screen(b"\xe2A"), "\u{fffd}A");
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(b';'), any::<u8>()], 0..80),
            at in 0..80_usize,
        ) {
            let whole = Safe::screen().filter(&bytes);
            let mut cut = Safe::screen();
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let mut parts = cut.filter(head);
            parts.extend(cut.filter(tail));
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn the_output_of_the_filter_passes_it_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let once = Safe::screen().filter(&bytes);
            prop_assert_eq!(Safe::screen().filter(&once), once.clone());
            let plain = Safe::text().filter(&bytes);
            prop_assert!(!plain.iter().any(|b| *b < 0x20 && *b != b'\n' && *b != b'\t'));
        }
    }

    #[test]
    fn a_name_with_controls_is_written_out() {
        assert_eq!(escape("a\x1b[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
    }

    #[test]
    fn characters_that_show_nothing_are_written_out() {
        let hidden = "\u{ad}\u{115f}\u{1160}\u{180e}\u{200b}\u{200c}\u{200d}\u{2060}\u{2064}\u{3164}\u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{e0001}\u{e007f}\u{e0100}\u{e01ef}";
        for c in hidden.chars() {
            assert_eq!(escape(&format!("pay{c}pal")), format!("pay{}pal", c.escape_unicode()));
        }
        assert_eq!(escape("grüße ✓ 日本語 🦀"), "grüße ✓ 日本語 🦀");
    }
}
