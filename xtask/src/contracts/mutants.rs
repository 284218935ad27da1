//! Mutants of the contracts: small mistakes of the kind that people make, each at one place of one file.

use std::ops::Range;

/// One mistake: what stands at a place is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The file, from `contracts/src/`.
    pub(super) file: String,
    /// The first line is 1.
    pub(super) line: usize,
    pub(super) before: String,
    pub(super) after: String,
    /// The whole line as it is, so that a mutant can be known again when lines move.
    pub(super) context: String,
    place: Range<usize>,
}

impl Mutant {
    /// The file's text with the mistake in it.
    pub(super) fn applied_to(&self, text: &str) -> String {
        format!("{}{}{}", &text[..self.place.start], self.after, &text[self.place.end..])
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (file, line, before) = (&self.file, self.line, one_line(&self.before));
        let after = if self.after.is_empty() { "nothing".to_owned() } else { one_line(&self.after) };
        write!(formatter, "contracts/src/{file}:{line}: `{before}` became `{after}`")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Operators, the longer ones first, and what each is mistaken for.
const OPERATORS: &[(&str, &[&str])] = &[
    ("=>", &[]),
    ("&&", &["||"]),
    ("||", &["&&"]),
    ("==", &["!="]),
    ("!=", &["=="]),
    ("<=", &["<", ">"]),
    (">=", &[">", "<"]),
    ("<<", &[">>"]),
    (">>", &["<<"]),
    ("++", &["--"]),
    ("+=", &["-=", "="]),
    ("-=", &["+=", "="]),
    ("+", &["-"]),
    ("-", &["+"]),
    ("*", &["/"]),
    ("/", &["*"]),
    ("%", &["*"]),
    ("<", &["<=", ">="]),
    (">", &[">=", "<="]),
    ("&", &["|"]),
    ("|", &["&"]),
];
/// What guards a function from its head.
const GUARDS: &[&str] = &["nonReentrant", "onlyOwner", "onlyFaults"];
/// Calls whose arguments' order says nothing, or that take a condition and an error.
const UNORDERED: &[&str] = &["add", "_least", "require", "if", "for", "returns"];
/// A number with more digits is an address.
const MOST_DIGITS: usize = 20;

/// All mutants of a file, in the order of their places.
pub(super) fn of(file: &str, text: &str) -> Vec<Mutant> {
    let code = without_words(text);
    let statements = statements(&code);
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for statement in &statements {
        let body = &code[statement.place.clone()];
        match statement.kind {
            Kind::Declared => {}
            Kind::Head => changes.extend(guards(body, statement.place.start)),
            Kind::Constant | Kind::Variable => changes.extend(inside(text, body, statement.place.start)),
            Kind::Deed => {
                changes.push((statement.place.clone(), String::new()));
                changes.extend(inside(text, body, statement.place.start));
            }
        }
    }
    changes.sort_by_key(|(place, after)| (place.start, place.end, after.clone()));
    changes.dedup();
    changes.into_iter().map(|(place, after)| mutant(file, text, place, after)).collect()
}

fn mutant(file: &str, text: &str, place: Range<usize>, after: String) -> Mutant {
    let start = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[place.start..].find('\n').map_or(text.len(), |at| place.start + at);
    Mutant {
        file: file.to_owned(),
        line: text[..place.start].matches('\n').count() + 1,
        before: text[place.clone()].to_owned(),
        after,
        context: text[start..end].trim().to_owned(),
        place,
    }
}

/// The text with comments and strings blanked, byte for byte.
fn without_words(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(string) = rest.strip_prefix('"') {
            string.find('"').map_or(rest.len(), |end| end + 2)
        } else {
            at += 1;
            continue;
        };
        // A string keeps its quotes: it is an argument still.
        let kept = usize::from(rest.starts_with('"'));
        code[at + kept..at + length - kept]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
        at += length;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// What a statement is, as far as mistakes in it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing is done there: imports, types, events.
    Declared,
    /// A function's head.
    Head,
    /// A value of the contract.
    Constant,
    /// A local variable and its value: without it nothing compiles.
    Variable,
    /// Something is done, and could be left out.
    Deed,
}

#[derive(Debug)]
struct Statement {
    place: Range<usize>,
    kind: Kind,
}

/// Cuts the code at `;`, `{` and `}` outside of parentheses.
fn statements(code: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let (mut start, mut parentheses, mut blocks) = (0, 0_i32, Vec::new());
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => parentheses += 1,
            b')' | b']' => parentheses -= 1,
            b';' | b'{' | b'}' if parentheses == 0 => {
                let from = start + code[start..at].len() - code[start..at].trim_start().len();
                let word = first_word(&code[from..at]);
                let kind = kind(&code[from..at], word, byte, &blocks);
                let end = if byte == b';' { at + 1 } else { at };
                if from < at {
                    found.push(Statement { place: from..end, kind });
                }
                match byte {
                    b'{' => blocks.push(word.to_owned()),
                    b'}' => drop(blocks.pop()),
                    _ => {}
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn first_word(text: &str) -> &str {
    text.split(|letter: char| !is_part_of_name(letter)).next().unwrap_or_default()
}

fn kind(text: &str, word: &str, ended_by: u8, blocks: &[String]) -> Kind {
    let in_type = blocks.last().is_some_and(|block| matches!(block.as_str(), "struct" | "enum"));
    let declares = [
        "pragma",
        "import",
        "using",
        "event",
        "error",
        "struct",
        "enum",
        "contract",
        "library",
        "abstract",
        "interface",
        "modifier",
    ];
    if in_type || declares.contains(&word) {
        Kind::Declared
    } else if matches!(word, "function" | "constructor" | "receive") {
        Kind::Head
    } else if blocks.len() < 2 {
        Kind::Constant
    } else if ended_by != b';' || word == "return" || declares_a_variable(text, word) {
        Kind::Variable
    } else {
        Kind::Deed
    }
}

/// Whether two names come one after the other: a type and a variable's name.
fn declares_a_variable(text: &str, word: &str) -> bool {
    if matches!(word, "delete" | "emit" | "revert" | "if" | "require") {
        return false;
    }
    let mut depth = 0;
    let left: String = text
        .chars()
        .take_while(|letter| *letter != '=')
        .filter(|letter| {
            depth += i32::from(*letter == '[') - i32::from(*letter == ']');
            depth == 0 && *letter != ']'
        })
        .collect();
    left.trim_start_matches("++").split_whitespace().count() > 1 && !left.trim_end().ends_with(['+', '-'])
        || text.starts_with('(') && left.contains(' ')
}

fn is_part_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'
}

fn guards(head: &str, offset: usize) -> Vec<(Range<usize>, String)> {
    let place =
        |guard: &&str| head.find(guard).map(|at| (offset + at..offset + at + guard.len(), String::new()));
    GUARDS.iter().filter_map(place).collect()
}

/// Operators, numbers, truth values, conditions and arguments of a statement.
fn inside(text: &str, body: &str, offset: usize) -> Vec<(Range<usize>, String)> {
    let mut changes = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let letter = rest.chars().next().unwrap_or(' ');
        let length = if letter.is_ascii_digit() {
            let number = first_word(rest);
            let place = offset + at..offset + at + number.len();
            changes.extend(neighbours(number).into_iter().map(|other| (place.clone(), other)));
            number.len()
        } else if is_part_of_name(letter) {
            let name = first_word(rest);
            let place = offset + at..offset + at + name.len();
            match name {
                "true" => changes.push((place, "false".to_owned())),
                "false" => changes.push((place, "true".to_owned())),
                _ => changes.extend(of_call(text, body, at, name, offset)),
            }
            name.len()
        } else if let Some((operator, others)) =
            OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator))
        {
            let place = offset + at..offset + at + operator.len();
            changes.extend(others.iter().map(|other| (place.clone(), (*other).to_owned())));
            operator.len()
        } else {
            letter.len_utf8()
        };
        at += length;
    }
    changes
}

/// One more and one less.
fn neighbours(number: &str) -> Vec<String> {
    let digits = number.replace('_', "");
    if digits.len() > MOST_DIGITS {
        return Vec::new();
    }
    let (digits, base) = digits.strip_prefix("0x").map_or((digits.as_str(), 10), |digits| (digits, 16));
    let Ok(value) = u128::from_str_radix(digits, base) else { return Vec::new() };
    [value.checked_add(1), value.checked_sub(1)]
        .into_iter()
        .flatten()
        .map(|other| other.to_string())
        .collect()
}

/// A condition turned around, or neighbouring arguments in each other's place.
fn of_call(text: &str, body: &str, at: usize, name: &str, offset: usize) -> Vec<(Range<usize>, String)> {
    let open = at + name.len() + body[at + name.len()..].len() - body[at + name.len()..].trim_start().len();
    if !body[open..].starts_with('(') || body[open..].starts_with("({") {
        return Vec::new();
    }
    let Some(arguments) = arguments(body, open) else { return Vec::new() };
    let original = |place: &Range<usize>| text[offset + place.start..offset + place.end].to_owned();
    if name == "if" {
        return arguments
            .iter()
            .map(|place| (offset + place.start..offset + place.end, format!("!({})", original(place))))
            .collect();
    }
    if UNORDERED.contains(&name) {
        return Vec::new();
    }
    let swapped = |pair: &[Range<usize>]| {
        let (one, other) = (original(&pair[0]), original(&pair[1]));
        let between = original(&(pair[0].end..pair[1].start));
        (one != other)
            .then(|| (offset + pair[0].start..offset + pair[1].end, format!("{other}{between}{one}")))
    };
    arguments.windows(2).filter_map(swapped).collect()
}

/// Where the arguments are that follow an opening parenthesis.
fn arguments(body: &str, open: usize) -> Option<Vec<Range<usize>>> {
    let (mut depth, mut start, mut found) = (0, open + 1, Vec::new());
    for (at, byte) in body.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && byte == b',' {
            let argument = &body[start..at];
            let first = start + argument.len() - argument.trim_start().len();
            found.push(first..first + argument.trim().len());
            start = at + 1;
        }
        if depth == 0 {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = "
// Not 1 + 1.
contract A {
    uint256 constant MOST = 10;
    error Wrong(uint256 a, uint256 b);
    struct S { uint8 a; }
    function f(uint256 a, uint256 b) external onlyOwner returns (uint256 c) {
        uint256 d = g(a, b) + 1;
        require(d <= MOST, Wrong(a, b));
        if (a == b) return 0;
        total[a] += d;
        emit Said(\"1 + 1\", a);
    }
}";

    fn changes() -> Vec<String> {
        let short = |mutant: &Mutant| {
            format!("{}: {} -> {}", mutant.line, one_line(&mutant.before), one_line(&mutant.after))
        };
        of("A.sol", CONTRACT).iter().map(short).collect()
    }

    #[test]
    fn mistakes_are_made_in_what_is_done_and_nowhere_else() {
        let expected = [
            "4: 10 -> 11",
            "4: 10 -> 9",
            "7: onlyOwner -> ",
            "8: a, b -> b, a",
            "8: + -> -",
            "8: 1 -> 0",
            "8: 1 -> 2",
            "9: require(d <= MOST, Wrong(a, b)); -> ",
            "9: <= -> <",
            "9: <= -> >",
            "9: a, b -> b, a",
            "10: if (a == b) return 0; -> ",
            "10: a == b -> !(a == b)",
            "10: == -> !=",
            "10: 0 -> 1",
            "11: total[a] += d; -> ",
            "11: += -> -=",
            "11: += -> =",
            "12: emit Said(\"1 + 1\", a); -> ",
            "12: \"1 + 1\", a -> a, \"1 + 1\"",
        ];
        assert_eq!(changes(), expected);
    }

    #[test]
    fn a_mutant_changes_its_place_alone() {
        let mutants = of("A.sol", CONTRACT);
        let plus = mutants.iter().find(|mutant| mutant.before == "+").expect("a plus");
        assert_eq!(plus.applied_to(CONTRACT), CONTRACT.replace("g(a, b) + 1", "g(a, b) - 1"));
        assert_eq!(plus.to_string(), "contracts/src/A.sol:8: `+` became `-`");
    }

    #[test]
    fn an_address_has_no_neighbours_and_a_mask_has() {
        assert!(neighbours("0x000000000000000000000000000000000000dEaD").is_empty());
        assert_eq!(neighbours("0x0f"), ["16", "14"]);
        assert_eq!(neighbours("1_000"), ["1001", "999"]);
        assert_eq!(neighbours("0"), ["1"]);
    }
}
