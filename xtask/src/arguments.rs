//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::error::{Error, Result};

const HELP: &str = "\
The commands of Hearth's workspace. All of them may be repeated; what is done is skipped.

cargo xtask setup
    Installs what building needs: system packages (Debian, Ubuntu), the interface's packages, the ONNX
    Runtime library. HEARTH_ONNXRUNTIME=/path/to/library takes that library instead.

cargo xtask run [-- ARGUMENTS]
    Sets up, builds for release and starts the window; without a display, the terminal chat.
    What follows `--` goes to the program.

cargo xtask test [--only CHECK...] [--list] [--screenshots] [--fuzz] [--nightly]
    Sets up and runs every check in order, or only those named; --list names them. --screenshots leaves a
    picture of each state of the window in ui/screenshots. --fuzz runs each fuzz target for a minute besides.
    --nightly takes hours: tests that try the same again and again try it as often as before a release. Their
    numbers are HEARTH_KILLS (kills, 10,000), HEARTH_FLIPS (flipped bits, 20,000), HEARTH_CUTS (cut files,
    4,000) and HEARTH_NIGHTLY (all others); what the environment says of one of them holds.

cargo xtask bench [--models FOLDER...] [--prompt N] [--new N] [--depth N...] [--threads N] [--rounds N]
                  [--peers PYTHON --peers-script FILE [--peers-models FOLDER] [--llama-libraries FOLDER]]
                  [--markdown FILE]
    Measures `hearth bench` on the model folders, round by round in turn with the script of other
    programs, and prints the medians as a table. Without --models: the built-in model. A folder
    NAME-prepared is compared with NAME. --markdown writes the table into the file, between its two marks.
    docs/performance.md shows how to make the models and the other programs ready.

cargo xtask bench resume [--models FOLDER...] [--threads N]
    Measures how soon a conversation of 4,000 tokens goes on after a restart, and how long reading it again
    takes.

cargo xtask bench history
    Measures how quick starting, searching and opening are with 10,000 conversations of 200,000 messages.

cargo xtask bench download
    Measures a download of 1 GB from this machine beside a plain copy of the same bytes. Takes 2 GB of the disk
    meanwhile.

cargo xtask pin-catalog [--write]
    Asks the hub (or HF_ENDPOINT) for the files of every model in models/catalog.json at its pinned commit, and
    fails where they are others. --write fills in the sizes and digests that are not known yet.";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    Help(&'static str),
    Setup,
    Run { program_arguments: Vec<OsString> },
    Test(Selection),
    Bench(BenchPlan),
    PinCatalog { write: bool },
}

/// Which checks to run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selection {
    /// Names of checks; none means all.
    pub(crate) only: Vec<String>,
    /// Name the checks instead of running them.
    pub(crate) list: bool,
    /// Keep pictures of the window.
    pub(crate) screenshots: bool,
    /// Try everything as often as before a release.
    pub(crate) nightly: bool,
    /// Run the fuzz targets too.
    pub(crate) fuzz: bool,
}

/// What to measure; lengths in tokens.
#[derive(Debug, PartialEq)]
pub(crate) struct BenchPlan {
    /// Model folders; none means the built-in model.
    pub(crate) models: Vec<PathBuf>,
    pub(crate) prompt: usize,
    pub(crate) new: usize,
    /// The tokens in the KV cache before each measurement.
    pub(crate) depths: Vec<usize>,
    /// `None` leaves the number to the program.
    pub(crate) threads: Option<usize>,
    pub(crate) rounds: usize,
    pub(crate) peers: Option<Peers>,
    /// The file that the table is written into.
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) subject: Subject,
}

/// What `bench` is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// How fast models read and write.
    #[default]
    Speed,
    /// How soon a conversation goes on after a restart.
    Resume,
    /// How quick a long history is.
    History,
    /// How quick a download is.
    Download,
}

/// A script that measures other programs on the same models.
#[derive(Debug, PartialEq)]
pub(crate) struct Peers {
    pub(crate) python: PathBuf,
    pub(crate) script: PathBuf,
    /// The folder of the model folders; `None` takes the one that holds the first model.
    pub(crate) models: Option<PathBuf>,
    /// Ready-built libraries of llama.cpp; `None` leaves it to the interpreter's own package.
    pub(crate) llama_libraries: Option<PathBuf>,
}

impl Default for BenchPlan {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            prompt: 256,
            new: 64,
            depths: vec![0, 2048],
            threads: None,
            rounds: 3,
            peers: None,
            markdown: None,
            subject: Subject::Speed,
        }
    }
}

impl Task {
    /// # Errors
    /// [`Error::Usage`] names the argument that cannot be understood.
    pub(crate) fn parse(mut parser: Parser) -> Result<Self> {
        let task = Self::parse_words(&mut parser);
        task.map_err(|error| Error::Usage(format!("{error}\n`cargo xtask --help` shows the usage")))
    }

    fn parse_words(parser: &mut Parser) -> std::result::Result<Self, lexopt::Error> {
        let Some(first) = parser.next()? else { return Ok(Self::Help(HELP)) };
        let name = match first {
            Arg::Value(name) => name.string()?,
            Arg::Short('h') | Arg::Long("help") => return Ok(Self::Help(HELP)),
            other => return Err(other.unexpected()),
        };
        match name.as_str() {
            "help" => Ok(Self::Help(HELP)),
            "setup" => parser.next()?.map_or(Ok(Self::Setup), help_or_unexpected),
            "run" => parse_run(parser),
            "test" => parse_test(parser),
            "bench" => parse_bench(parser),
            "pin-catalog" => parse_pin_catalog(parser),
            _ => Err(format!("unknown command `{name}`").into()),
        }
    }
}

fn help_or_unexpected(argument: Arg<'_>) -> std::result::Result<Task, lexopt::Error> {
    match argument {
        Arg::Short('h') | Arg::Long("help") => Ok(Task::Help(HELP)),
        other => Err(other.unexpected()),
    }
}

fn parse_run(parser: &mut Parser) -> std::result::Result<Task, lexopt::Error> {
    let mut rest = parser.raw_args()?;
    let program_arguments = match rest.next() {
        None => Vec::new(),
        Some(word) if word == "--" => rest.collect(),
        Some(word) if word == "-h" || word == "--help" => return Ok(Task::Help(HELP)),
        Some(word) => {
            let word = word.to_string_lossy();
            return Err(
                format!("`{word}` is no option of `run`; arguments of the program follow `--`").into()
            );
        }
    };
    Ok(Task::Run { program_arguments })
}

fn parse_test(parser: &mut Parser) -> std::result::Result<Task, lexopt::Error> {
    let mut selection = Selection::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("list") => selection.list = true,
            Arg::Long("screenshots") => selection.screenshots = true,
            Arg::Long("nightly") => selection.nightly = true,
            Arg::Long("fuzz") => selection.fuzz = true,
            Arg::Long("only") => {
                for value in parser.values()? {
                    selection.only.push(value.string()?);
                }
            }
            other => return help_or_unexpected(other),
        }
    }
    Ok(Task::Test(selection))
}

fn parse_bench(parser: &mut Parser) -> std::result::Result<Task, lexopt::Error> {
    let mut plan = BenchPlan::default();
    let (mut python, mut script, mut peers_models, mut llama_libraries) = (None, None, None, None);
    let mut depths = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(word) if word == "resume" => plan.subject = Subject::Resume,
            Arg::Value(word) if word == "history" => plan.subject = Subject::History,
            Arg::Value(word) if word == "download" => plan.subject = Subject::Download,
            Arg::Long("models") => plan.models.extend(parser.values()?.map(PathBuf::from)),
            Arg::Long("prompt") => plan.prompt = parser.value()?.parse()?,
            Arg::Long("new") => plan.new = parser.value()?.parse()?,
            Arg::Long("depth") => {
                for value in parser.values()? {
                    depths.push(value.parse()?);
                }
            }
            Arg::Long("threads") => plan.threads = Some(parser.value()?.parse()?),
            Arg::Long("rounds") => plan.rounds = parser.value()?.parse()?,
            Arg::Long("peers") => python = Some(parser.value()?.into()),
            Arg::Long("peers-script") => script = Some(parser.value()?.into()),
            Arg::Long("peers-models") => peers_models = Some(parser.value()?.into()),
            Arg::Long("llama-libraries") => llama_libraries = Some(parser.value()?.into()),
            Arg::Long("markdown") => plan.markdown = Some(parser.value()?.into()),
            other => return help_or_unexpected(other),
        }
    }
    if plan.rounds == 0 {
        return Err("`--rounds` must be at least 1".into());
    }
    if !depths.is_empty() {
        plan.depths = depths;
    }
    plan.peers = match (python, script) {
        (Some(python), Some(script)) => Some(Peers { python, script, models: peers_models, llama_libraries }),
        (None, None) if peers_models.is_none() && llama_libraries.is_none() => None,
        _ => return Err("`--peers` and `--peers-script` go together, and with what belongs to them".into()),
    };
    Ok(Task::Bench(plan))
}

fn parse_pin_catalog(parser: &mut Parser) -> std::result::Result<Task, lexopt::Error> {
    let mut write = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("write") => write = true,
            other => return help_or_unexpected(other),
        }
    }
    Ok(Task::PinCatalog { write })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Task> {
        Task::parse(Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn what_follows_the_two_dashes_goes_to_the_program_untouched() {
        let task = parse("run -- --model ember -- --list").unwrap();
        let expected = ["--model", "ember", "--", "--list"].map(OsString::from).to_vec();
        assert_eq!(task, Task::Run { program_arguments: expected });
        assert_eq!(parse("run").unwrap(), Task::Run { program_arguments: Vec::new() });
    }

    #[test]
    fn an_argument_that_nobody_reads_is_refused() {
        for words in [
            "walk",
            "setup now",
            "run --model ember",
            "test --fast",
            "test format",
            "bench --rounds 0",
            "pin-catalog all",
        ] {
            assert!(matches!(parse(words), Err(Error::Usage(_))), "`{words}` was accepted");
        }
    }

    #[test]
    fn pins_are_written_only_where_that_is_asked_for() {
        assert_eq!(parse("pin-catalog").unwrap(), Task::PinCatalog { write: false });
        assert_eq!(parse("pin-catalog --write").unwrap(), Task::PinCatalog { write: true });
    }

    #[test]
    fn several_checks_may_be_named_at_once_or_one_by_one() {
        let expected = Selection { only: vec!["format".into(), "lint".into()], ..Selection::default() };
        assert_eq!(parse("test --only format lint").unwrap(), Task::Test(expected));
        let expected =
            Selection { only: vec!["format".into(), "lint".into()], list: true, ..Selection::default() };
        assert_eq!(parse("test --only format --only lint --list").unwrap(), Task::Test(expected));
        let expected = Selection { only: vec!["rust-tests".into()], nightly: true, ..Selection::default() };
        assert_eq!(parse("test --nightly --only rust-tests").unwrap(), Task::Test(expected));
    }

    #[test]
    fn what_is_measured_is_named_and_speed_without_a_name() {
        let Task::Bench(plan) = parse("bench resume --models a --threads 2").unwrap() else {
            panic!("not a measurement");
        };
        assert_eq!(
            plan,
            BenchPlan {
                subject: Subject::Resume,
                models: vec!["a".into()],
                threads: Some(2),
                ..BenchPlan::default()
            }
        );
        for (words, subject) in [("bench history", Subject::History), ("bench download", Subject::Download)] {
            let Task::Bench(plan) = parse(words).unwrap() else { panic!("not a measurement") };
            assert_eq!(plan, BenchPlan { subject, ..BenchPlan::default() });
        }
        assert!(matches!(parse("bench"), Ok(Task::Bench(plan)) if plan.subject == Subject::Speed));
        assert!(matches!(parse("bench again"), Err(Error::Usage(_))));
    }

    #[test]
    fn peers_need_an_interpreter_and_a_script() {
        for words in ["bench --peers python3", "bench --llama-libraries folder"] {
            assert!(matches!(parse(words), Err(Error::Usage(_))), "`{words}` was accepted");
        }
        let Task::Bench(plan) = parse("bench --models a b --peers p --peers-script s --threads 2").unwrap()
        else {
            panic!("not a measurement");
        };
        assert_eq!(plan.models, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(
            plan.peers,
            Some(Peers { python: "p".into(), script: "s".into(), models: None, llama_libraries: None })
        );
        assert_eq!(plan.threads, Some(2));
        assert_eq!(plan.depths, [0, 2048]);
        let Task::Bench(plan) = parse("bench --depth 0 512 --rounds 1").unwrap() else {
            panic!("not a measurement");
        };
        assert_eq!(plan.depths, [0, 512]);
    }
}
