//! `plasma-device-plugin check`: asks NVML everything that the plugin relies on, in less than a minute, whatever the driver does.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    aside::Fault,
    inspect::{Looking, Output, print},
    nvml::{Answer, COUNT, LOAD, Library, Source, ask_all, of_gpu, of_library},
    vital,
};

/// All questions together may take so long; what is left then is not asked.
const ALL: Duration = Duration::from_secs(55);

/// Asks everything, and prints each answer; then what was never answered, and what wasn't asked.
///
/// # Errors
/// In words: NVML can't be used; or a question was never answered, or never asked.
pub(crate) fn check(looking: &Looking) -> Result<(), Fault> {
    let (say, hear) = mpsc::channel();
    let source = looking.nvml();
    thread::spawn(move || {
        let asked = vital::caught(|| ask(&source, &say));
        // Whoever listens may have given up on us: nobody is left to be told.
        let _ = say.send(Said::Ended(asked));
    });
    let checked = collect(&hear, looking.patience(), ALL);
    let rows = checked.rows();
    print(&match looking.output {
        Output::Json => {
            let all: Vec<Value> = rows.iter().map(Row::json).collect();
            serde_json::to_string_pretty(&all).map_err(|fault| fault.to_string())?
        }
        Output::Table => rows.iter().map(Row::line).collect::<Vec<_>>().join("\n"),
    })?;
    let is_loaded = checked.answers.first().is_some_and(|first| first.answer.is_ok());
    match checked.end {
        End::Panicked(why) => Err(Fault::Refused(format!("not everything was asked: {why}"))),
        End::Late(why) => Err(Fault::Hangs(why)),
        End::All if is_loaded => Ok(()),
        End::All => {
            Err(Fault::Refused("NVML can't be used: is the driver installed, and loaded?".to_owned()))
        }
    }
}

/// What the asking thread says.
enum Said {
    Asking(Option<u32>, &'static str),
    Answered(Answer),
    /// There is nothing left to ask; or it panicked.
    Ended(Result<(), String>),
}

fn ask(source: &Source, say: &mpsc::Sender<Said>) {
    let tell = |said| drop(say.send(said));
    tell(Said::Asking(None, LOAD));
    let begun = Instant::now();
    let library = Library::load(source);
    let took = Some(begun.elapsed());
    let answer = library.as_ref().map(|_| "loaded".to_owned()).map_err(String::clone);
    tell(Said::Answered(Answer { question: LOAD, gpu: None, answer, took }));
    if let Ok(library) = library {
        ask_all(&library, &mut |gpu, question| tell(Said::Asking(gpu, question)), &mut |answer| {
            tell(Said::Answered(answer));
        });
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Everything was asked that there is to ask.
    All,
    /// Time was over, in words.
    Late(String),
    Panicked(String),
}

/// Everything that was answered, and how that ended.
struct Checked {
    answers: Vec<Answer>,
    /// What was asked last, and of which GPU, while there is no answer to it.
    open: Option<(Option<u32>, &'static str)>,
    end: End,
}

/// Takes in answers, until all are there or one takes longer than `patience`, or all together longer than `at_most`.
fn collect(hear: &mpsc::Receiver<Said>, patience: Duration, at_most: Duration) -> Checked {
    let begun = Instant::now();
    let (mut answers, mut open) = (Vec::new(), None);
    loop {
        let left = at_most.saturating_sub(begun.elapsed());
        let end = match hear.recv_timeout(patience.min(left)) {
            Ok(Said::Asking(gpu, question)) => {
                open = Some((gpu, question));
                continue;
            }
            Ok(Said::Answered(answer)) => {
                open = None;
                answers.push(answer);
                if left.is_zero() { End::Late(slow(at_most)) } else { continue }
            }
            Ok(Said::Ended(Ok(()))) => End::All,
            Ok(Said::Ended(Err(why))) => End::Panicked(why),
            Err(_) => End::Late(match open {
                Some((gpu, question)) if patience <= left => {
                    let of_gpu = gpu.map(|gpu| format!("GPU {gpu}: ")).unwrap_or_default();
                    format!("{of_gpu}{question} has not been answered for {patience:?}: the driver hangs")
                }
                _ => slow(at_most),
            }),
        };
        return Checked { answers, open, end };
    }
}

fn slow(at_most: Duration) -> String {
    format!("not everything could be asked within {at_most:?}: the driver is slow, or hangs")
}

/// One line of what is printed.
enum Row<'a> {
    Answer(&'a Answer),
    /// A question that was not answered in time.
    Open(Option<u32>, &'static str),
    /// What wasn't asked any more.
    NotAsked(Option<u32>, &'static str),
}

impl Checked {
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = self.answers.iter().map(Row::Answer).collect();
        if self.end == End::All {
            return rows;
        }
        rows.extend(self.open.map(|(gpu, question)| Row::Open(gpu, question)));
        rows.extend(self.not_asked().into_iter().map(|(gpu, question)| Row::NotAsked(gpu, question)));
        rows
    }

    /// What of the library and of the GPU that was asked last; and of GPUs after it, everything.
    fn not_asked(&self) -> Vec<(Option<u32>, &'static str)> {
        let last = self.open.map(|(gpu, _)| gpu).or_else(|| self.answers.last().map(|last| last.gpu));
        let of = match last.flatten() {
            Some(_) => of_gpu(),
            None => of_library(),
        };
        let gpu = last.flatten();
        let is_asked = |question: &str| {
            let mut asked = self.answers.iter().map(|answer| (answer.gpu, answer.question)).chain(self.open);
            asked.any(|asked| asked == (gpu, question))
        };
        let mut not_asked: Vec<_> =
            of.into_iter().filter(|question| !is_asked(question)).map(|question| (gpu, question)).collect();
        match self.count() {
            Some(count) => {
                let next = gpu.map_or(0, |gpu| gpu + 1);
                not_asked.extend((next..count).map(|gpu| (Some(gpu), "everything")));
            }
            None => not_asked.push((None, "everything of each GPU")),
        }
        not_asked
    }

    /// How many GPUs there are, if that was answered.
    fn count(&self) -> Option<u32> {
        let counted = self.answers.iter().find(|answer| answer.question == COUNT)?;
        counted.answer.as_ref().ok()?.parse().ok()
    }
}

impl Row<'_> {
    fn json(&self) -> Value {
        match self {
            Self::Answer(answer) => json!({
                "question": answer.question, "gpu": answer.gpu, "answer": answer.answer.as_ref().ok(),
                "fault": answer.answer.as_ref().err(),
                "microseconds": answer.took.map(|took| took.as_micros() as u64),
            }),
            Self::Open(gpu, question) => Self::without_answer(*gpu, question, "never answered"),
            Self::NotAsked(gpu, question) => Self::without_answer(*gpu, question, "not asked"),
        }
    }

    fn without_answer(gpu: Option<u32>, question: &str, why: &str) -> Value {
        let nothing = Value::Null;
        json!({ "question": question, "gpu": gpu, "answer": nothing, "fault": why, "microseconds": nothing })
    }

    fn line(&self) -> String {
        let named = |gpu: Option<u32>, question: &str| match gpu {
            Some(gpu) => format!("GPU {gpu}  {question}"),
            None => question.to_owned(),
        };
        match self {
            Self::Answer(Answer { question, gpu, answer, took }) => {
                let took = took.map(|took| format!("  [{} µs]", took.as_micros())).unwrap_or_default();
                let (begin, said) = match answer {
                    Ok(told) => ("ok", told),
                    Err(fault) => ("no", fault),
                };
                format!("{begin:<6}{}: {said}{took}", named(*gpu, question))
            }
            Self::Open(gpu, question) => format!("hangs {}: never answered", named(*gpu, question)),
            Self::NotAsked(gpu, question) => format!("-     {}: not asked", named(*gpu, question)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(gpu: Option<u32>, question: &'static str) -> Said {
        let answer = Ok(if question == COUNT { "2" } else { "" }.to_owned());
        Said::Answered(Answer { question, gpu, answer, took: None })
    }

    #[test]
    fn a_driver_that_answers_slowly_for_ever_ends_it_all_the_same() {
        let (say, hear) = mpsc::channel();
        let slow = thread::spawn(move || {
            let answers = (0..).map(|_| answered(Some(0), "nvmlDeviceGetUUID"));
            let begun = [answered(None, COUNT)].into_iter().chain(answers);
            // Until nobody listens.
            for answer in begun {
                thread::sleep(Duration::from_millis(20));
                if say.send(answer).is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let checked = collect(&hear, Duration::from_secs(20), Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(matches!(&checked.end, End::Late(why) if why.contains("within 200ms")), "{:?}", checked.end);
        drop(hear);
        slow.join().unwrap();
        let lines: Vec<String> = checked.rows().iter().map(Row::line).collect();
        assert!(lines.contains(&"-     GPU 0  nvmlDeviceGetName: not asked".to_owned()), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "-     GPU 1  everything: not asked");
    }

    #[test]
    fn what_hangs_is_named_and_what_comes_after_it_is_not_asked() {
        let (say, hear) = mpsc::channel();
        let patience = Duration::from_millis(50);
        say.send(answered(None, LOAD)).unwrap();
        say.send(Said::Asking(None, COUNT)).unwrap();
        let checked = collect(&hear, patience, ALL);
        assert_eq!(
            checked.end,
            End::Late(format!("{COUNT} has not been answered for 50ms: the driver hangs"))
        );
        let lines: Vec<String> = checked.rows().iter().map(Row::line).collect();
        assert!(lines.contains(&format!("hangs {COUNT}: never answered")), "{lines:?}");
        assert!(!lines.contains(&format!("-     {COUNT}: not asked")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "-     everything of each GPU: not asked");
    }

    #[test]
    fn a_panic_is_not_the_end_of_all_questions() {
        let (say, hear) = mpsc::channel();
        say.send(answered(None, LOAD)).unwrap();
        say.send(Said::Ended(vital::caught(|| panic!("no")))).unwrap();
        let checked = collect(&hear, ALL, ALL);
        assert!(matches!(&checked.end, End::Panicked(why) if why.contains("(no)")), "{:?}", checked.end);
    }
}
