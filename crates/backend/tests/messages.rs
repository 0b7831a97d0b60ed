//! Every message of the inference boundary comes out of an encoding as it went in.

mod support;

use std::path::PathBuf;

use backend::messages::{
    AheadOutcome, Command, Event, Inspection, Job, JobId, KvKeeping, NextTurn, Outcome, Owner,
};
use backend::snapshots::SnapshotUsage;
use backend::{ExecutionProviderChoice, ModelFolder};
use engine::onnx::SelfTestErrors;
use engine::prepare::{
    Comparison, FileStamp, GraphToRun, Key, Measurement, PassResult, PassVersion, PreparedGraph, Speed,
    Verdict,
};
use engine::{
    Clock, EmbedContext, EmbedRequest, Embedding, EmbeddingSource, ExecutionProvider, Failure, FailureKind,
    Finish, FinishReason, GraphChoice, KvBackend, LoadOptions, LoadedModel, Message, ModelSpec,
    PrepareOptions, PrepareProgress, PrepareStep, Prepared, Progress, RenderOptions, Request, ReuseLimit,
    Role, Sampling, SuggestedSampling, TokenId, Usage, WhyOriginal,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use support::recode;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,40}", Just("\u{0}\"\\\u{2028}🔥<|im_end|>".to_owned())]
}

fn ids() -> impl Strategy<Value = Vec<TokenId>> {
    vec(any::<TokenId>(), 0..20)
}

fn size() -> impl Strategy<Value = usize> {
    any::<u32>().prop_map(|size| size as usize)
}

/// Times in whole microseconds: a reader of JSON may round the last bit of other numbers.
fn seconds() -> impl Strategy<Value = f64> {
    any::<u32>().prop_map(|microseconds| f64::from(microseconds) / 1e6)
}

fn number() -> impl Strategy<Value = f32> {
    -100f32..100.0
}

fn path() -> impl Strategy<Value = PathBuf> {
    text().prop_map(PathBuf::from)
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let penalties = (number(), number(), number(), option::of(any::<u64>()));
    (number(), size(), number(), number(), penalties).prop_map(
        |(temperature, top_k, top_p, min_p, (repetition, presence, frequency, seed))| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            seed,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    (ids(), size(), sampling(), size(), vec(text(), 0..3), any::<bool>()).prop_map(
        |(prompt, continued, sampling, max_new_tokens, stop, ignore_end_of_turn)| Request {
            prompt,
            continued,
            sampling,
            max_new_tokens,
            stop,
            ignore_end_of_turn,
        },
    )
}

fn embed_request() -> impl Strategy<Value = EmbedRequest> {
    let context =
        prop_oneof![Just(EmbedContext::Alone), Just(EmbedContext::Carried), Just(EmbedContext::Restarted)];
    (vec(text(), 0..4), context).prop_map(|(texts, context)| EmbedRequest { texts, context })
}

fn embedding() -> impl Strategy<Value = Embedding> {
    let source = prop_oneof![Just(EmbeddingSource::HiddenState), Just(EmbeddingSource::Logits)];
    (vec(number(), 0..20), source, size(), size()).prop_map(|(values, source, tokens, context_length)| {
        Embedding { values, source, tokens, context_length }
    })
}

fn load_options() -> impl Strategy<Value = LoadOptions> {
    use ExecutionProviderChoice::{Auto, CoreMl, Cpu};
    let backend = option::of(prop_oneof![Just(KvBackend::SharedBuffer), Just(KvBackend::HandOver)]);
    let provider = prop_oneof![Just(Auto), Just(Cpu), Just(CoreMl)];
    let rows = (option::of(size()), option::of(size()));
    (path(), option::of(size()), provider, rows, backend).prop_map(
        |(library, threads, execution_provider, (cache_window, kv_bytes), kv_backend)| LoadOptions {
            library,
            threads,
            other_names: true,
            execution_provider,
            cache_window,
            kv_bytes,
            kv_backend,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant)];
    (role, text(), option::of(text()), option::of(ids()))
        .prop_map(|(role, content, reasoning, tokens)| Message { role, content, reasoning, tokens })
}

fn render_options() -> impl Strategy<Value = RenderOptions> {
    let clock = (1970i16..2200, 1i8..=12, 1i8..=28, 0i8..24, 0i8..60, 0i8..60, 0i32..1_000_000_000).prop_map(
        |(year, month, day, hour, minute, second, nanosecond)| {
            Clock::at(jiff::civil::date(year, month, day).at(hour, minute, second, nanosecond))
        },
    );
    (clock, any::<bool>(), option::of(any::<bool>())).prop_map(|(clock, add_generation_prompt, thinking)| {
        RenderOptions { clock, add_generation_prompt, thinking }
    })
}

fn owner() -> impl Strategy<Value = Owner> {
    (text(), any::<bool>()).prop_map(|(conversation, saved)| Owner { conversation, saved })
}

fn job() -> impl Strategy<Value = Job> {
    let folder = || (text(), path()).prop_map(|(id, path)| ModelFolder { id, path });
    let memory = option::of(any::<u64>());
    let preparation = (path(), option::of(size()), any::<bool>(), seconds(), memory, any::<bool>()).prop_map(
        |(library, threads, force, least_speedup, memory, other_names)| PrepareOptions {
            library,
            threads,
            force,
            least_speedup,
            memory,
            other_names,
        },
    );
    prop_oneof![
        (folder(), load_options()).prop_map(|(folder, options)| Job::Load(folder, options)),
        (folder(), preparation).prop_map(|(folder, options)| Job::Prepare(folder, options)),
        Just(Job::Unload),
        (vec(message(), 0..4), render_options())
            .prop_map(|(messages, options)| Job::Prompt(messages, options)),
        text().prop_map(Job::Encode),
        (request(), option::of(owner())).prop_map(|(request, owner)| Job::Generate(request, owner)),
        (vec(message(), 0..4), render_options(), size()).prop_map(|(messages, options, most_tokens)| {
            Job::ReadAhead(NextTurn { messages, options, most_tokens })
        }),
        embed_request().prop_map(Job::Embed),
        option::of(text()).prop_map(Job::Forget),
        (any::<u64>(), option::of(path()), option::of(any::<u64>())).prop_map(
            |(memory_bytes, folder, disk_bytes)| Job::KeepKv(KvKeeping { memory_bytes, folder, disk_bytes })
        ),
        prop_oneof![Just(Job::InspectSnapshots), Just(Job::FreeSnapshots)],
        text().prop_map(Job::ForgetSnapshots),
        vec(text(), 0..3).prop_map(Job::ForgetSnapshotsExcept),
        any::<u64>().prop_map(|milliseconds| Job::SaveSnapshots { milliseconds }),
        Just(Job::Inspect),
    ]
}

fn spec() -> impl Strategy<Value = ModelSpec> {
    let backend = prop_oneof![Just(KvBackend::SharedBuffer), Just(KvBackend::HandOver)];
    let provider = prop_oneof![Just(ExecutionProvider::Cpu), Just(ExecutionProvider::CoreMl)];
    (size(), size(), size(), size(), backend, option::of(text()), provider, size()).prop_map(
        |(vocabulary_size, context_length, layers, row, kv_backend, kv_backend_reason, provider, threads)| {
            ModelSpec {
                vocabulary_size,
                context_length,
                layers,
                kv_bytes_per_token: row,
                kv_backend,
                kv_backend_reason,
                execution_provider: provider,
                threads,
            }
        },
    )
}

fn loaded() -> impl Strategy<Value = LoadedModel> {
    let suggested = (
        option::of(any::<bool>()),
        option::of(number()),
        option::of(any::<u32>()),
        option::of(number()),
        option::of(number()),
        option::of(number()),
    )
        .prop_map(|(do_sample, temperature, top_k, top_p, min_p, repetition_penalty)| {
            SuggestedSampling { do_sample, temperature, top_k, top_p, min_p, repetition_penalty }
        });
    let words = ((text(), vec(text(), 0..3)), option::of(text()), path(), vec(text(), 0..3));
    let graph = (words, choice(), option::of(prepared().prop_map(Box::new)));
    (spec(), size(), size(), graph, any::<bool>(), any::<bool>(), suggested, seconds()).prop_map(
        |(spec, window, inputs, words, plain_template, thinking_switch, sampling, load_seconds)| {
            let (((graph, weight_files), runtime_version, library, notices), graph_choice, prepared) = words;
            LoadedModel {
                spec,
                window,
                graph,
                graph_choice,
                prepared,
                weight_files,
                inputs,
                runtime_version,
                library,
                plain_template,
                thinking_switch,
                sampling,
                notices,
                load_seconds,
            }
        },
    )
}

fn choice() -> impl Strategy<Value = GraphChoice> {
    let why = prop_oneof![
        Just(WhyOriginal::NotPrepared),
        text().prop_map(|changed| WhyOriginal::Outdated { changed }),
        text().prop_map(|reason| WhyOriginal::Best { reason }),
        text().prop_map(|reason| WhyOriginal::Unusable { reason }),
        Just(WhyOriginal::OtherProvider),
    ];
    prop_oneof![Just(GraphChoice::Prepared), why.prop_map(|why| GraphChoice::Original { why })]
}

fn stamp() -> impl Strategy<Value = FileStamp> {
    (text(), any::<u64>(), any::<u64>()).prop_map(|(name, bytes, modified)| FileStamp {
        name,
        bytes,
        modified,
    })
}

fn key() -> impl Strategy<Value = Key> {
    let version = (text(), any::<u32>()).prop_map(|(name, version)| PassVersion { name, version });
    let hashes = (text(), text(), text());
    (stamp(), vec(stamp(), 0..3), hashes, vec(version, 0..3), vec(text(), 0..3), size()).prop_map(
        |(graph, weights, (graph_sha256, config_sha256, runtime), passes, cpu_features, threads)| Key {
            graph,
            graph_sha256,
            weights,
            config_sha256,
            passes,
            runtime,
            cpu_features,
            threads,
        },
    )
}

fn comparison() -> impl Strategy<Value = Comparison> {
    (size(), seconds(), seconds(), size(), size()).prop_map(
        |(steps, max_difference, limit, same_choices, near_ties)| Comparison {
            steps,
            max_difference,
            limit,
            same_choices,
            near_ties,
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    (comparison(), text(), 0..5).prop_map(|(comparison, text, which)| match which {
        0 => Verdict::Unchanged,
        1 => Verdict::Refused(text),
        2 => Verdict::Accepted(comparison),
        3 => Verdict::Rejected(comparison),
        _ => Verdict::Failed(text),
    })
}

fn prepared() -> impl Strategy<Value = Prepared> {
    let result = (text(), any::<u32>(), text(), verdict())
        .prop_map(|(name, version, did, verdict)| PassResult { name, version, did, verdict });
    let run = prop_oneof![
        text().prop_map(|reason| GraphToRun::Original { reason }),
        (text(), text(), vec(stamp(), 0..2))
            .prop_map(|(file, sha256, data)| GraphToRun::Prepared(PreparedGraph { file, sha256, data })),
    ];
    let speed = || (seconds(), seconds()).prop_map(|(prefill, decode)| Speed { prefill, decode });
    let counts = (size(), size(), size(), any::<bool>());
    let measurement = (speed(), speed(), counts).prop_map(|(original, rewritten, counts)| {
        let (prompt_tokens, new_tokens, rounds, both_in_memory) = counts;
        Measurement { original, rewritten, prompt_tokens, new_tokens, rounds, both_in_memory }
    });
    let self_test =
        (seconds(), seconds()).prop_map(|(symmetric, zero_points)| SelfTestErrors { symmetric, zero_points });
    let compared = (vec(result, 0..4), option::of(comparison()));
    (any::<u32>(), key(), compared, run, option::of(measurement), self_test, seconds()).prop_map(
        |(format, key, (passes, whole), run, measurement, self_test, seconds)| Prepared {
            format,
            key,
            passes,
            whole,
            run,
            measurement,
            self_test,
            seconds,
        },
    )
}

fn preparing() -> impl Strategy<Value = PrepareProgress> {
    let step = prop_oneof![
        Just(PrepareStep::Reading),
        text().prop_map(|pass| PrepareStep::Trying { pass }),
        Just(PrepareStep::Measuring),
    ];
    (step, size(), size()).prop_map(|(step, done, total)| PrepareProgress { step, done, total })
}

fn finish() -> impl Strategy<Value = Finish> {
    use FinishReason::{Cancelled, ContextFull, EndOfTurn, MaxTokens, StopString};
    let reason = prop::sample::select(vec![EndOfTurn, MaxTokens, StopString, ContextFull, Cancelled]);
    let limit = option::of(prop_oneof![
        Just(ReuseLimit::NothingKept),
        size().prop_map(|token| ReuseLimit::DiffersAt { token }),
        Just(ReuseLimit::Evicted),
        Just(ReuseLimit::BlockDamaged),
        Just(ReuseLimit::OtherModel),
    ]);
    let reuse = (size(), size(), limit);
    let usage = (size(), reuse, size(), seconds(), seconds()).prop_map(
        |(
            prompt_tokens,
            (reused_tokens, restored_tokens, reuse_limit),
            new_tokens,
            prefill_seconds,
            decode_seconds,
        )| Usage {
            prompt_tokens,
            reused_tokens,
            restored_tokens,
            reuse_limit,
            new_tokens,
            prefill_seconds,
            decode_seconds,
        },
    );
    (reason, text(), text(), ids(), usage, (size(), size()), any::<u64>()).prop_map(
        |(reason, text, thinking, tokens, usage, drafts, seed)| Finish {
            reason,
            text,
            thinking,
            tokens,
            usage,
            drafted_tokens: drafts.0,
            accepted_tokens: drafts.1,
            seed,
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    let kind = prop::sample::select(vec![
        FailureKind::Runtime,
        FailureKind::ModelMissing,
        FailureKind::ModelBroken,
        FailureKind::PromptTooLong,
        FailureKind::ModelUnwritable,
        FailureKind::DiskFull,
        FailureKind::OutOfMemory,
        FailureKind::Crashed,
        FailureKind::Internal,
    ]);
    (kind, text()).prop_map(|(kind, message)| Failure { kind, message })
}

fn event() -> impl Strategy<Value = Event> {
    let progress = prop_oneof![
        (size(), size(), size()).prop_map(|(done, total, reused)| Progress::Prefill { done, total, reused }),
        (text(), ids()).prop_map(|(text, tokens)| Progress::Text { text, tokens }),
        (text(), ids()).prop_map(|(text, tokens)| Progress::Thinking { text, tokens }),
    ];
    let outcome = prop_oneof![
        loaded().prop_map(|loaded| Outcome::Loaded(Box::new(loaded))),
        prepared().prop_map(|prepared| Outcome::Prepared(Box::new(prepared))),
        Just(Outcome::Unloaded),
        ids().prop_map(Outcome::Tokens),
        finish().prop_map(|finish| Outcome::Finished(Box::new(finish))),
        vec(embedding(), 0..3).prop_map(Outcome::Embedded),
        size().prop_map(|bytes| Outcome::Forgotten { bytes }),
        (size(), size()).prop_map(|(read, left)| Outcome::ReadAhead(AheadOutcome { read, left })),
        (size(), size())
            .prop_map(|(seen_tokens, kv_bytes)| { Outcome::Inspected(Inspection { seen_tokens, kv_bytes }) }),
        option::of(text()).prop_map(|trouble| Outcome::KvKept { trouble }),
        (any::<u64>(), any::<u64>(), size()).prop_map(|(bytes, budget_bytes, blocks)| {
            Outcome::SnapshotsInspected(SnapshotUsage { bytes, budget_bytes, blocks })
        }),
        any::<u64>().prop_map(|bytes| Outcome::SnapshotsDestroyed { bytes }),
        any::<bool>().prop_map(|all| Outcome::SnapshotsSaved { all }),
        Just(Outcome::Cancelled),
        failure().prop_map(Outcome::Failed),
    ];
    prop_oneof![
        (any::<u64>(), progress).prop_map(|(id, progress)| Event::Progress(JobId(id), progress)),
        (any::<u64>(), preparing()).prop_map(|(id, progress)| Event::Preparing(JobId(id), progress)),
        (any::<u64>(), outcome).prop_map(|(id, outcome)| Event::Done(JobId(id), outcome)),
        option::of(text()).prop_map(Event::SnapshotTrouble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_is_what_it_was(id in any::<u64>(), job in job(), cancels in any::<bool>()) {
        let command = if cancels { Command::Cancel(JobId(id)) } else { Command::Run(JobId(id), job) };
        prop_assert_eq!(recode(command.clone()), command);
    }

    #[test]
    fn every_event_is_what_it_was(event in event()) {
        prop_assert_eq!(recode(event.clone()), event);
    }
}
