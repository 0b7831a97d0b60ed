//! The program as its users see it: arguments in, lines and exit codes out.

mod damage;
mod support;

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::{Hearth, Ran, copy_of, ember, fixtures, text_of};

/// The replies of a run, one for each turn.
#[track_caller]
fn finishes(ran: &Ran) -> Vec<Value> {
    ran.lines().into_iter().filter(|line| line["type"] == "finish").collect()
}

#[test]
fn one_turn_prints_the_reply_and_nothing_else() {
    let hearth = Hearth::new();
    let ran = hearth.run(["chat", "--prompt", "What is Hearth?", "--temperature", "0"]).succeeded();
    assert!(ran.stdout.contains("Hearth"), "Ember knows where it lives: {}", ran.stdout);
    assert!(ran.stdout.ends_with('\n') && !ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
    assert_eq!(ran.stderr, "", "nothing but the reply was asked for");
}

#[test]
fn json_lines_have_the_promised_shape_and_their_texts_add_up() {
    let hearth = Hearth::new();
    let ran =
        hearth.run(["chat", "--json", "--prompt", "What is Hearth?", "--temperature", "0", "--seed", "7"]);
    let ran = ran.succeeded();
    let (lines, finish) = (ran.lines(), ran.finish());
    let prefill: Vec<_> = lines.iter().filter(|line| line["type"] == "prefill").collect();
    let read = prefill.last().expect("reading the prompt is told");
    assert_eq!(read["done"], read["total"], "the last line of reading says that all is read");
    assert_eq!(read["reused"], 0, "nothing was read before");
    assert_eq!(text_of(&lines, "text"), finish["text"], "the stream and its end say the same");
    assert_eq!(finish["reason"], "end_of_turn");
    assert_eq!(finish["seed"], 7);
    let usage = &finish["usage"];
    let tokens = finish["token_ids"].as_array().expect("ids").len();
    assert_eq!(usage["new_tokens"], tokens + 1, "the end of turn counts and is no id of the reply");
    assert_eq!(usage["prompt_tokens"], read["total"]);
    assert_eq!(usage["reused_tokens"], 0);
    for seconds in ["prefill_seconds", "decode_seconds"] {
        assert!(usage[seconds].as_f64().is_some_and(|seconds| seconds > 0.0), "{seconds}: {usage}");
    }
}

#[test]
fn lines_of_stdin_are_turns_of_one_conversation_that_reuses_what_was_read() {
    let hearth = Hearth::new();
    let input = b"My name is Ada.\n\r\n\nWhat is my name?\r\n";
    let ran = hearth.run_with_input(&["chat", "--json", "--temperature", "0"], input).succeeded();
    let finishes = finishes(&ran);
    assert_eq!(finishes.len(), 2, "empty lines are no messages: {}", ran.stdout);
    let [first, second] = [&finishes[0]["usage"], &finishes[1]["usage"]];
    let seen = first["prompt_tokens"].as_u64().unwrap() + first["new_tokens"].as_u64().unwrap() - 1;
    assert_eq!(second["reused_tokens"], seen, "the whole first turn is reused");
    assert!(finishes[1]["text"].as_str().unwrap().contains("Ada"), "the model remembers: {}", ran.stdout);
}

#[test]
fn a_slash_in_stdin_is_text_and_no_command() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--json", "--max-tokens", "1"];
    let ran = hearth.run_with_input(&arguments, b"/quit\nHello\n").succeeded();
    assert_eq!(finishes(&ran).len(), 2, "scripts send any text: {}", ran.stdout);
}

#[test]
fn a_message_in_json_arrives_whole_with_all_its_lines() {
    let hearth = Hearth::new();
    let text = "Repeat this:\n\n  /reset\\\n{\"command\": \"reset\"}\r\n\t🔥 ";
    let line = serde_json::json!({ "message": text }).to_string() + "\n";
    let arguments = ["chat", "--json", "--temperature", "0", "--max-tokens", "8"];
    let as_line =
        hearth.run_with_input(&[arguments.as_slice(), &["--input", "json"]].concat(), line.as_bytes());
    let as_argument = hearth.run(arguments.into_iter().chain(["--prompt", text])).succeeded().finish();
    let as_line = as_line.succeeded().finish();
    assert_eq!(as_line["usage"]["prompt_tokens"], as_argument["usage"]["prompt_tokens"]);
    assert_eq!(as_line["token_ids"], as_argument["token_ids"]);
}

#[test]
fn a_reset_from_stdin_begins_the_conversation_and_the_kv_cache_anew() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--json", "--input", "json", "--temperature", "0", "--system", "Be short."];
    let question = r#"{"message": "What is my name?"}"#;
    let input = format!(
        "{{\"message\": \"My name is Ada.\"}}\n{question}\n\n {{ \"command\": \"reset\" }} \r\n{question}"
    );
    let ran = hearth.run_with_input(&arguments, input.as_bytes()).succeeded();
    let ends: Vec<Value> =
        ran.lines().into_iter().filter(|line| line["type"] == "finish" || line["type"] == "reset").collect();
    let [told, asked, reset, asked_anew] = ends.as_slice() else { panic!("four ends: {}", ran.stdout) };
    assert_eq!(reset.to_string(), r#"{"type":"reset"}"#);
    assert_eq!(told["usage"]["reused_tokens"], 0);
    assert_ne!(asked["usage"]["reused_tokens"], 0, "until the reset it is one conversation");
    assert!(asked["text"].as_str().unwrap().contains("Ada"), "{asked}");
    let first = hearth.run_with_input(&arguments, question.as_bytes()).succeeded().finish();
    assert_eq!(asked_anew["token_ids"], first["token_ids"], "as if nothing had been said");
    for count in ["prompt_tokens", "reused_tokens", "new_tokens"] {
        assert_eq!(asked_anew["usage"][count], first["usage"][count], "{count}");
    }
}

#[test]
fn json_in_and_text_out_go_together() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--input", "json", "--temperature", "0", "--max-tokens", "4"];
    let input = b"{\"message\": \"Hello\"}\n{\"command\": \"reset\"}\n{\"message\": \"Hello\"}\n";
    let ran = hearth.run_with_input(&arguments, input).succeeded();
    let [first, second] = ran.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{}", ran.stdout) };
    assert_eq!(first, second, "a greedy reply to the same conversation");
    assert_eq!(ran.stderr, "The model has forgotten what was said before.\n");
}

#[test]
fn a_malformed_line_of_json_is_told_with_its_number_and_what_was_expected() {
    let hearth = Hearth::new();
    let cases = [
        ("What is Hearth?", "no JSON object"),
        (r#"["Hello", null]"#, "no JSON object"),
        (r#"{"message": "Hello"#, "EOF while parsing a string at column 18"),
        (r#"{"message": "Hello"} {}"#, "trailing characters at column 22"),
        (r#"{"message": "Hello", "role": "user"}"#, "unknown field `role`"),
        (r#"{"message": ["Hello"]}"#, "expected a string"),
        (r#"{"message": " \n"}"#, "the message is empty"),
        (r#"{"command": "dance"}"#, "there is no command `dance`"),
        (r#"{"message": "Hello", "command": "reset"}"#, "a message and a command"),
        ("{}", "neither a message nor a command"),
    ];
    for (line, wrong) in cases {
        let input = format!("{{\"command\": \"reset\"}}\n\n{line}\n{{\"command\": \"reset\"}}\n");
        let ran = hearth.run_with_input(&["chat", "--json", "--input", "json"], input.as_bytes());
        assert_eq!(ran.code, Some(1), "{line}: {}", ran.stdout);
        let [reset, error] = &ran.lines()[..] else { panic!("it ends there: {}", ran.stdout) };
        assert_eq!(reset["type"], "reset", "what stands before it was done");
        assert_eq!(error["type"], "error");
        let message = error["message"].as_str().unwrap();
        for part in ["line 3: ", wrong, r#"; expected {"message": "TEXT"} or {"command": "reset"}"#] {
            assert!(message.contains(part), "{line} gives no `{part}`: {message}");
        }
    }
}

#[test]
fn continuations_give_the_golden_ids() {
    let Some(fixtures) = fixtures() else { return };
    let hearth = Hearth::new();
    for model in ["concat-f32", "concat-f16", "gqa-f32"] {
        let folder = fixtures.join("models").join(model);
        let golden = std::fs::read(folder.join("golden.json")).expect("the golden ids are there");
        let golden: Value = serde_json::from_slice(&golden).expect("the golden ids are JSON");
        for case in golden["cases"].as_array().expect("cases") {
            let ids = |name: &str| case[name].as_array().expect("ids").iter().map(Value::to_string).collect();
            let (prompt, expected): (Vec<String>, Vec<String>) = (ids("prompt_ids"), ids("greedy_ids"));
            let ran = hearth.run([
                "complete",
                "--json",
                "--temperature=0",
                "--threads=1",
                &format!("--model={}", folder.display()),
                &format!("--prompt-ids={}", prompt.join(",")),
                &format!("--max-tokens={}", expected.len()),
            ]);
            let finish = ran.succeeded().finish();
            let got: Vec<String> =
                finish["token_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
            assert_eq!(got, expected, "{model} goes on as a plain loop over its graph does");
        }
    }
}

#[test]
fn a_continuation_of_text_has_no_template_around_it() {
    let hearth = Hearth::new();
    let ran = hearth.run(["complete", "--json", "--prompt", "Hearth is", "--max-tokens", "4"]).succeeded();
    let tokens = ran.finish()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!((1..=6).contains(&tokens), "the prompt is these words only, not {tokens} tokens");
}

#[test]
fn the_same_seed_gives_the_same_reply_and_another_seed_another() {
    let hearth = Hearth::new();
    let reply = |seed: &str| {
        let options = ["--temperature", "1.5", "--top-p", "1", "--max-tokens", "40", "--seed", seed];
        let arguments = ["chat", "--json", "--prompt", "Tell me a story."].into_iter().chain(options);
        hearth.run(arguments).succeeded().finish()["token_ids"].clone()
    };
    assert_eq!(reply("11"), reply("11"));
    assert_ne!(reply("11"), reply("12"), "at this temperature two seeds part within 40 tokens");
}

#[test]
fn a_seed_that_was_drawn_can_be_given_back() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--json", "--prompt", "Tell me a story.", "--temperature", "1.5"];
    let drawn = hearth.run(arguments).succeeded().finish();
    // As a reader sees it who has no integers of 64 bits.
    let seed = drawn["seed"].as_f64().expect("a seed").to_string();
    let again = hearth.run(arguments.into_iter().chain(["--seed", &seed])).succeeded().finish();
    assert_eq!(again["token_ids"], drawn["token_ids"]);
}

#[test]
fn a_reply_ends_before_a_stop_text_and_at_the_most_tokens() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--json", "--prompt", "What is Hearth?", "--temperature", "0"];
    let whole = hearth.run(arguments).succeeded().finish()["text"].as_str().unwrap().to_owned();
    let stop = whole.split_whitespace().nth(3).expect("the reply has four words");
    let stopped =
        hearth.run(arguments.into_iter().chain(["--stop", "@@", "--stop", stop])).succeeded().finish();
    assert_eq!(stopped["reason"], "stop_string");
    assert_eq!(stopped["text"], whole[..whole.find(stop).unwrap()]);
    let short = hearth.run(arguments.into_iter().chain(["--max-tokens", "3"])).succeeded().finish();
    assert_eq!(short["reason"], "max_tokens");
    assert_eq!(short["token_ids"].as_array().unwrap().len(), 3);
}

#[test]
fn a_small_window_ends_the_reply_and_is_no_failure() {
    let hearth = Hearth::new();
    let arguments = ["chat", "--json", "--prompt", "What is Hearth?", "--temperature", "0"];
    let whole = hearth.run(arguments).succeeded().finish();
    let window = whole["usage"]["prompt_tokens"].as_u64().unwrap() + 2;
    let cut = hearth.run(arguments.into_iter().chain(["--cache-window", &window.to_string()])).succeeded();
    let cut = cut.finish();
    assert_eq!(cut["reason"], "context_full", "{cut}");
    assert_eq!(cut["token_ids"].as_array().unwrap()[..], whole["token_ids"].as_array().unwrap()[..3]);
}

#[test]
fn models_are_listed_with_the_one_that_answers() {
    let hearth = Hearth::new();
    let (_parent, installed) = copy_of(&ember());
    let models = hearth.data.path().join("models");
    std::fs::create_dir(&models).unwrap();
    std::fs::rename(&installed, models.join("mine")).unwrap();
    std::fs::write(models.join("mine/hearth.json"), r#"{"name": "Mine\u001b[2J\u009b"}"#).unwrap();
    let plain = hearth.run(["models", "list"]).succeeded().stdout;
    assert!(plain.contains("* ember") && plain.contains("Mine␛[2J"), "{plain}");
    let lines = hearth.run(["models", "list", "--json", "--model", "mine"]).succeeded().lines();
    let ids: Vec<_> = lines.iter().map(|line| (&line["id"], &line["source"], &line["selected"])).collect();
    let text = serde_json::to_string(&ids).unwrap();
    assert_eq!(text, r#"[["ember","built_in",false],["mine","installed",true]]"#);
}

#[test]
fn a_model_for_one_run_is_not_remembered() {
    let hearth = Hearth::new();
    let (_parent, other) = copy_of(&ember());
    let other = other.to_string_lossy();
    hearth
        .run(["chat", "--prompt", "Hi", "--max-tokens", "1", "--threads", "1", "--model", &other])
        .succeeded();
    assert!(!hearth.data.path().join("settings.json").exists(), "options are no settings");
}

#[test]
fn the_doctor_tells_what_runs_how_and_where() {
    let hearth = Hearth::new();
    let plain = hearth.run(["doctor", "--threads", "1"]).succeeded().stdout;
    for name in ["version", "library", "provider", "threads", "kv backend", "memory total", "settings"] {
        assert!(plain.contains(name), "{name} is missing in {plain}");
    }
    let lines =
        hearth.run(["doctor", "--json", "--threads", "1", "--cache-window", "100"]).succeeded().lines();
    let [report] = lines.as_slice() else { panic!("one line: {lines:?}") };
    assert_eq!(report["threads"], 1);
    assert_eq!(report["window"], 100);
    assert_eq!(report["model"], "ember");
    assert_eq!(report["problems"], serde_json::json!([]));
    for number in ["kv_bytes_per_token", "inputs", "context", "memory_total"] {
        assert!(report[number].as_u64().is_some_and(|number| number > 0), "{number}: {report}");
    }
}

#[test]
fn a_bench_measures_what_it_was_asked_to() {
    let hearth = Hearth::new();
    let model = ember();
    let model = model.to_string_lossy();
    let lengths = ["--prompt", "40", "--new", "12", "--depth", "0,30", "--threads", "1", "--json"];
    let ran = hearth.run(["bench", "--model", &model].into_iter().chain(lengths)).succeeded();
    let last = ran.lines().pop().expect("a last line");
    for field in ["load_seconds", "peak_memory_bytes"] {
        assert!(last[field].as_f64().is_some_and(|number| number > 0.0), "{field}: {last}");
    }
    for (field, value) in [("prompt", 40), ("new", 12), ("threads", 1)] {
        assert_eq!(last[field], value, "{field}");
    }
    for (at, depth) in last["depths"].as_array().expect("the depths").iter().zip([0, 30]) {
        assert_eq!(at["depth"], depth);
        assert!(at["prefill_tokens_per_second"].as_f64().is_some_and(|speed| speed > 0.0), "{at}");
        let mut decode: Vec<f64> = at["runs"]
            .as_array()
            .expect("the runs")
            .iter()
            .map(|run| 11.0 / run["decode_seconds"].as_f64().unwrap())
            .collect();
        decode.sort_by(f64::total_cmp);
        assert_eq!(decode.len(), 3);
        let median = at["decode_tokens_per_second"].as_f64().unwrap();
        assert!((median / decode[1] - 1.0).abs() < 1e-9, "the median of {decode:?} is not {median}");
    }
    let turns = last["chat"]["turns"].as_array().expect("a chat of some turns");
    let histories: Vec<_> = turns.iter().map(|turn| turn["history"].as_u64().unwrap()).collect();
    assert_eq!(histories.first(), Some(&0));
    assert!(histories.is_sorted_by(|before, after| before < after), "{histories:?}");
    assert!(turns.iter().all(|turn| turn["first_token_seconds"].as_f64().is_some_and(|time| time > 0.0)));
}

/// A pass of this model takes less than a millisecond, so threads that wait for work by spinning would show.
#[test]
fn a_model_that_is_asked_nothing_takes_no_cpu_time() {
    let hearth = Hearth::new();
    let model = ember();
    let model = model.to_string_lossy();
    let lengths = ["--prompt", "40", "--new", "12", "--depth", "0", "--threads", "2", "--json"];
    let ran = hearth.run(["bench", "--model", &model].into_iter().chain(lengths)).succeeded();
    let last = ran.lines().pop().expect("a last line");
    let share = last["idle_cpu_share"].as_f64().expect("a share");
    assert!(share <= 0.03, "{share} of a core was taken in a second of rest");
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let hearth = Hearth::new();
    let cases: [&[&str]; 18] = [
        &[],
        &["dance"],
        &["chat", "--temperature", "-1"],
        &["chat", "--top-p", "1.5"],
        &["chat", "--min-p", "NaN"],
        &["chat", "--repetition-penalty", "0"],
        &["chat", "--threads", "0"],
        &["chat", "--provider", "gpu"],
        &["chat", "--prompt", ""],
        &["chat", "--input", "yaml"],
        &["chat", "--input", "json", "--prompt", "Hello"],
        &["complete"],
        &["complete", "--prompt", "a", "--prompt-ids", "1"],
        &["complete", "--prompt-ids", "1,x"],
        &["complete", "--prompt-ids", "4000000000"],
        &["bench", "--prompt", "100000"],
        &["bench", "--max-tokens", "0"],
        &["bench", "--stop", "x"],
    ];
    for case in cases {
        let ran = hearth.run(case);
        assert_eq!(ran.code, Some(2), "{case:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.is_empty(), "{case:?} is explained");
        assert_eq!(ran.stdout, "", "{case:?}");
    }
}

#[test]
fn a_message_that_is_no_text_ends_the_run_after_the_replies_before_it() {
    let hearth = Hearth::new();
    let ran = hearth.run_with_input(&["chat", "--json", "--max-tokens", "2"], b"Hello\n\xff\xfe\nMore\n");
    assert_eq!(ran.code, Some(1));
    assert_eq!(finishes(&ran).len(), 1, "{}", ran.stdout);
    let last = ran.lines().pop().unwrap();
    assert_eq!(last["type"], "error");
    assert!(last["message"].as_str().unwrap().contains("line 2"), "{last}");
}

#[test]
fn a_reader_who_leaves_ends_the_program_quietly() {
    let hearth = Hearth::new();
    for arguments in
        [["chat", "--prompt", "Hello"].as_slice(), &["chat", "--json", "--prompt", "Hello"], &["doctor"]]
    {
        let mut program = hearth.command().args(arguments).spawn().expect("the program starts");
        // Nobody reads from here on, and the model is not even loaded yet.
        drop(program.stdout.take());
        let ran = program.wait_with_output().expect("the program ends");
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert_eq!(stderr, "", "nobody is left to be told");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_reply_and_keeps_what_was_said() {
    let hearth = Hearth::new();
    let mut program = hearth
        .command()
        // Noise, so that no end comes before anybody could press a key: 1,170 tokens.
        .args(["complete", "--json", "--prompt", "Once", "--temperature", "100", "--top-p", "1"])
        .args(["--seed", "1"])
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(program.stdout.take().expect("stdout is a pipe")).lines();
    let mut said = String::new();
    let mut last = Value::Null;
    let mut stopped = false;
    for line in &mut lines {
        last = serde_json::from_str(&line.expect("a line")).expect("JSON");
        if last["type"] == "text" {
            said.push_str(last["text"].as_str().unwrap());
            if !std::mem::replace(&mut stopped, true) {
                let id = program.id().to_string();
                let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
                assert!(sent.expect("kill runs").success());
            }
        }
    }
    assert_eq!(last["type"], "finish");
    assert_eq!(last["text"], said);
    assert_eq!(last["reason"], "cancelled", "{last}");
    assert_eq!(program.wait().expect("it ends").code(), Some(0));
}

/// The vectors that a run printed.
#[track_caller]
fn embeddings(ran: &Ran) -> Vec<Value> {
    ran.lines().into_iter().filter(|line| line["type"] == "embedding").collect()
}

#[test]
fn texts_become_vectors_in_json_lines_of_the_promised_shape() {
    let hearth = Hearth::new();
    let texts = ["What is your name?", "Who are you?", "What is your name?"];
    let ran = hearth.run(["embed", "--json"].into_iter().chain(texts)).succeeded();
    let lines = embeddings(&ran);
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    let vector = |line: &Value| -> Vec<f64> {
        line["embedding"].as_array().expect("numbers").iter().map(|value| value.as_f64().unwrap()).collect()
    };
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
        assert!(line["source"] == "logits" || line["source"] == "hiddenState", "{}", line["source"]);
        assert_eq!(line["dimensions"], vector(line).len());
        assert_eq!(line["context_length"], line["tokens"], "each is read for itself");
        let length: f64 = vector(line).iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    assert_eq!(lines[0]["embedding"], lines[2]["embedding"], "the same text has the same vector");
    assert_ne!(lines[0]["embedding"], lines[1]["embedding"]);
}

#[test]
fn people_see_a_line_for_each_text_and_a_table_of_cosines() {
    let hearth = Hearth::new();
    let ran = hearth.run(["embed", "Hello", "Goodbye"]).succeeded();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "1  Hello");
    assert!(lines[1].contains("512 dimensions of the logits"), "{}", lines[1]);
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["cosine", "1", "2"]);
    assert!(lines[5].split_whitespace().nth(1) == Some("1.000"), "{}", lines[5]);
    assert_eq!(lines.len(), 7, "{}", ran.stdout);
    let ran = hearth.run(["embed", "Hello"]).succeeded();
    assert!(!ran.stdout.contains("cosine"), "one text has nothing to be compared with: {}", ran.stdout);
}

#[test]
fn what_is_carried_grows_from_line_to_line_until_a_reset() {
    let hearth = Hearth::new();
    let line = "{\"message\": \"My name is Ada.\"}\n";
    let input = format!("{line}{line}{{\"command\": \"reset\"}}\n{line}");
    let arguments = ["embed", "--json", "--carry", "--input", "json"];
    let ran = hearth.run_with_input(&arguments, input.as_bytes()).succeeded();
    let kinds: Vec<Value> = ran.lines().into_iter().map(|line| line["type"].clone()).collect();
    assert_eq!(kinds, ["embedding", "embedding", "reset", "embedding"]);
    let lines = embeddings(&ran);
    let context = |index: usize| lines[index]["context_length"].as_u64().expect("a number");
    assert_eq!(context(1), 2 * context(0));
    assert_eq!(context(2), context(0), "it falls back");
    assert_eq!(lines[0]["embedding"], lines[2]["embedding"]);
    let alone = hearth.run_with_input(&["embed", "--json"], b"One\n\nOne\n").succeeded();
    let lines = embeddings(&alone);
    assert_eq!(lines.len(), 2, "empty lines are no texts: {}", alone.stdout);
    assert_eq!(lines[0]["embedding"], lines[1]["embedding"]);
}

#[test]
fn a_text_longer_than_the_window_is_refused_and_nothing_is_embedded_by_an_empty_one() {
    let hearth = Hearth::new();
    let ran = hearth.run(["embed", "--json", "--cache-window", "8", &"long ".repeat(40)]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let error = ran.lines().pop().expect("a line");
    assert_eq!(error["type"], "error", "{}", ran.stdout);
    assert_eq!(error["code"], "prompt_too_long", "{}", ran.stdout);
    assert_eq!(hearth.run(["embed", ""]).code, Some(2), "an empty text is wrong usage");
}
