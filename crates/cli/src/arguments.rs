//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use backend::{ExecutionProviderChoice, Overrides, ReplyOptions, Sampling, TokenId};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

/// Chats with language models on this machine.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Chats: in this terminal, for one turn (--prompt), or with one message a line from stdin (--input).
    Chat(ChatArguments),
    /// Continues text as it is, without the model's chat template.
    Complete(CompleteArguments),
    /// Turns texts into vectors that lie close together where the texts mean something close.
    Embed(EmbedArguments),
    /// The conversations that were kept.
    Conversations {
        #[command(subcommand)]
        command: ConversationsCommand,
    },
    /// Models: which there are, fetching more, and keeping them right.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Says what runs how and where, and what is wrong.
    Doctor,
    /// Measures load, prefill, decode, the turns of a growing chat, memory and rest: medians of three runs
    /// after a warm-up, on random tokens.
    Bench(BenchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// Sends this message, prints the reply, and ends.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) prompt: Option<String>,
    /// What a line of stdin is.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = InputFormat::Text,
        conflicts_with = "prompt")]
    pub(crate) input: InputFormat,
    /// Goes on in this conversation.
    #[arg(long, value_name = "ID", conflicts_with = "private")]
    pub(crate) conversation: Option<Uuid>,
    /// Keeps nothing of what is said.
    #[arg(long)]
    pub(crate) private: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConversationsCommand {
    /// Lists conversations: the pinned ones first, then the newest.
    List {
        /// The most to list.
        #[arg(long, value_name = "N", default_value_t = 50)]
        most: usize,
    },
    /// Shows the current branch of a conversation.
    Show {
        #[arg(value_name = "ID")]
        id: Uuid,
    },
    /// Writes a conversation, or all of them, as Markdown, or with --json with every branch as JSON.
    Export {
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        id: Option<Uuid>,
        /// Every conversation.
        #[arg(long, requires = "output")]
        all: bool,
        /// The file to write [default: the standard output].
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Takes over the conversations of a file: of Hearth's JSON, or `conversations.json` of a ChatGPT export.
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Searches titles and messages.
    Search {
        /// The words; the last one may be the beginning of a word.
        #[arg(value_name = "WORDS", required = true)]
        words: Vec<String>,
        /// The most places to list.
        #[arg(long, value_name = "N", default_value_t = 20)]
        most: usize,
    },
}

impl ConversationsCommand {
    /// Whether it changes nothing.
    pub(crate) fn only_reads(&self) -> bool {
        !matches!(self, Self::Import { .. })
    }
}

/// What a line of stdin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// A message.
    Text,
    /// {"message": "TEXT"}, of several lines too, or {"command": "reset"} to clear the model's memory.
    Json,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CompleteArguments {
    /// The text to continue.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) prompt: Option<String>,
    /// The token ids to continue, separated by commas.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(crate) prompt_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    /// The texts. Without any, each line of stdin is one.
    #[arg(value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) texts: Vec<String>,
    /// Reads each text behind those before it, until a reset, and not each for itself.
    #[arg(long)]
    pub(crate) carry: bool,
    /// What a line of stdin is.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = InputFormat::Text,
        conflicts_with = "texts")]
    pub(crate) input: InputFormat,
}

/// None of their arguments is called `model`: by that name `--model` would be set by them too.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Lists the models that can be chosen, and the downloads that were begun.
    List {
        /// Lists the models that Hearth recommends and can fetch instead.
        #[arg(long)]
        available: bool,
    },
    /// Searches the hub for chat models by name.
    Search {
        #[arg(required = true, value_name = "WORDS")]
        words: Vec<String>,
        /// The most repositories to list.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Fetches a model and installs it; goes on where that was interrupted.
    Add(AddArguments),
    /// Says what is known of a model: an installed one, one that Hearth recommends, or a repository.
    Show {
        #[arg(value_name = "ID_OR_REPOSITORY", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Compares every byte of an installed model with its manifest.
    Verify {
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Fetches the files of an installed model that are not right.
    Repair {
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Deletes an installed model, or what came of a download.
    Remove {
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Sets what a model takes where neither the command line nor a conversation says otherwise; `show` tells
    /// what it is.
    Set {
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// `temperature=0.7`, `system="Answer in French."`, and so on; without a value (`top-k=`) the model's own
        /// holds again.
        #[arg(value_name = "KEY=VALUE", required_unless_present = "reset", value_parser = key_and_value)]
        values: Vec<(String, String)>,
        /// Forgets what was set before.
        #[arg(long)]
        reset: bool,
    },
    /// Moves the models, and what came of downloads, to another folder and keeps them there from then on.
    Move {
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// Copies and compares every byte, also where the file system could give files their new names.
        #[arg(long)]
        copy: bool,
    },
    /// Rewrites a model's graph for this machine: what is right and faster is used from then on.
    Prepare(PrepareArguments),
    /// Fetches a list of models, used beside Hearth's own from then on. Hearth never does so by itself.
    Refresh {
        /// The address of the list [default: network.catalog in the settings].
        #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
        address: Option<String>,
        /// Leaves the list that was fetched: Hearth's own is all there is.
        #[arg(long, conflicts_with = "address")]
        own: bool,
    },
    /// The hub's access token, for repositories that ask for a login. The system's keychain keeps it.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Takes a model folder of this machine in.
    Import {
        folder: PathBuf,
        /// The name that it is chosen by [default: the name of the folder].
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        name: Option<String>,
        /// Leaves the folder where it is and copies nothing.
        #[arg(long)]
        link: bool,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum TokenCommand {
    /// Reads a token from the standard input, unseen in a terminal, and keeps it in the keychain.
    Set,
    /// Forgets the token, in the keychain too.
    Remove,
    /// Says whether one is set, and its last four characters.
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArguments {
    /// The model: its id, or the path of its folder.
    #[arg(value_name = "DIR_OR_ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: String,
    /// Prepares it again, also where nothing changed.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// A model that Hearth recommends (`hearth models list --available`), or any repository: `owner/name` or a
    /// link to it.
    #[arg(value_name = "ID_OR_REPOSITORY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// Which of the repository's graphs [default: the one that suits a CPU best].
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) variant: Option<String>,
    /// A commit, branch or tag of the repository [default: main].
    #[arg(long, value_name = "REVISION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) revision: Option<String>,
    /// Leaves the graph as it came; it is prepared for this machine otherwise.
    #[arg(long)]
    pub(crate) no_prepare: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// The tokens to read in each run.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(256).expect("256 is not zero"))]
    pub(crate) prompt: NonZeroUsize,
    /// The tokens to generate in each run, two or more; --max-tokens means the same here [default: 64].
    #[arg(long, value_name = "N", value_parser = at_least_two)]
    pub(crate) new: Option<usize>,
    /// The tokens that are in the KV cache before each run; several are measured in turn [default: 0,2048 as
    /// far as they fit].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(crate) depth: Option<Vec<usize>>,
    /// Measures instead how soon a conversation of so many tokens [4000] goes on after a restart.
    #[arg(long, value_name = "TOKENS", num_args = 0..=1, default_missing_value = "4000",
        conflicts_with_all = ["prompt", "new", "depth"])]
    pub(crate) resume: Option<NonZeroUsize>,
}

/// What every subcommand takes. Nothing of it changes the saved settings.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Prints one JSON object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The model that answers: its id, or the path of its folder.
    #[arg(long, global = true, value_name = "DIR_OR_ID", help_heading = "Model",
        value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// The threads inside one operator [default: one for each performance core, at most eight, or half of
    /// them where that was measured to be as fast].
    #[arg(long, global = true, value_name = "N", help_heading = "Model", value_parser = threads)]
    threads: Option<usize>,
    /// Where the model runs.
    #[arg(long, global = true, value_enum, help_heading = "Model")]
    provider: Option<Provider>,
    /// The most tokens of a conversation that the model keeps [default: the model's context].
    #[arg(long, global = true, value_name = "TOKENS", help_heading = "Model")]
    cache_window: Option<NonZeroUsize>,
    /// What the model is told before the conversation.
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Reply")]
    pub(crate) system: Option<String>,
    /// Whether the model thinks before it answers, where it has a switch for that.
    #[arg(long, global = true, value_name = "BOOL", help_heading = "Reply")]
    thinking: Option<bool>,
    /// The most tokens of a reply.
    #[arg(long, global = true, value_name = "N", help_heading = "Reply")]
    pub(crate) max_tokens: Option<usize>,
    /// The reply ends before this text; may be given several times.
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Reply",
        value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// The same seed, prompt and settings give the same reply.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling")]
    pub(crate) seed: Option<u64>,
    /// Divides the logits; 0 always takes the most probable token.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = temperature)]
    pub(crate) temperature: Option<f32>,
    /// Only this many of the most probable tokens; 0 leaves all.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling")]
    top_k: Option<usize>,
    /// Only the most probable tokens that reach this probability together; 1 leaves all.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = top_p)]
    top_p: Option<f32>,
    /// Only tokens at least this many times as probable as the most probable; 0 leaves all.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = min_p)]
    min_p: Option<f32>,
    /// Makes tokens of prompt and reply less probable; 1 is none.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = repetition_penalty)]
    repetition_penalty: Option<f32>,
    /// Subtracted once from the logit of each token of the reply.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = presence_penalty)]
    presence_penalty: Option<f32>,
    /// Subtracted for each time that a token is in the reply.
    #[arg(long, global = true, value_name = "N", help_heading = "Sampling", allow_negative_numbers = true,
        value_parser = frequency_penalty)]
    frequency_penalty: Option<f32>,
}

/// Where a model runs, in the words of the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Provider {
    Auto,
    Cpu,
    #[value(name = "coreml")]
    CoreMl,
}

impl Options {
    /// Whether the command line says which model answers.
    pub(crate) fn names_model(&self) -> bool {
        self.model.is_some()
    }

    /// What this run asks for in the place of the settings.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            model: self.model.clone(),
            execution_provider: self.provider.map(|provider| match provider {
                Provider::Auto => ExecutionProviderChoice::Auto,
                Provider::Cpu => ExecutionProviderChoice::Cpu,
                Provider::CoreMl => ExecutionProviderChoice::CoreMl,
            }),
            threads: self.threads,
            cache_window: self.cache_window.map(NonZeroUsize::get),
        }
    }

    /// What this run asks of a reply.
    pub(crate) fn reply(&self) -> ReplyOptions {
        ReplyOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            thinking: self.thinking,
            system: self.system.clone(),
        }
    }
}

/// More threads than any machine has cores are a mistake, and starting them may take the machine down.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=MOST_THREADS) => Ok(threads),
        _ => Err(format!("it must be a number between 1 and {MOST_THREADS}")),
    }
}

fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens @ 2..) => Ok(tokens),
        _ => Err("it must be a number of 2 or more: the first token belongs to the prefill".into()),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    in_range(text, |temperature| Sampling { temperature, ..Sampling::default() })
}

fn top_p(text: &str) -> Result<f32, String> {
    in_range(text, |top_p| Sampling { top_p, ..Sampling::default() })
}

fn min_p(text: &str) -> Result<f32, String> {
    in_range(text, |min_p| Sampling { min_p, ..Sampling::default() })
}

fn repetition_penalty(text: &str) -> Result<f32, String> {
    in_range(text, |repetition_penalty| Sampling { repetition_penalty, ..Sampling::default() })
}

fn presence_penalty(text: &str) -> Result<f32, String> {
    in_range(text, |presence_penalty| Sampling { presence_penalty, ..Sampling::default() })
}

fn frequency_penalty(text: &str) -> Result<f32, String> {
    in_range(text, |frequency_penalty| Sampling { frequency_penalty, ..Sampling::default() })
}

/// Reads a number and has the sampling itself say whether it can be.
fn in_range(text: &str, sampling_with: impl Fn(f32) -> Sampling) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    sampling_with(value).check()?;
    Ok(value)
}

/// Splits `key=value` at the first mark; the value may have more of them.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE, such as temperature=0.7")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
