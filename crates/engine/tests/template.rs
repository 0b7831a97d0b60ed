//! Published templates, their quirks, and hostile ones.

mod support;

use std::fs;

use engine::{ChatTemplate, Clock, Error, Message, ModelConfig, RenderOptions, prompt_tokens};
use serde_json::{Value, json};
use support::{ember, fixtures, open, open_with};

fn clock() -> Clock {
    Clock::at(jiff::civil::date(2025, 7, 10).at(12, 0, 0, 0))
}

fn render(source: &str, context: &Value) -> Result<String, Error> {
    ChatTemplate::from_source(source, &ModelConfig::default())?.render_context(context, &clock())
}

#[test]
fn published_templates_render_as_published() {
    let Some(fixtures) = fixtures() else { return };
    let text = fs::read_to_string(fixtures.join("chat-templates/rendered.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 29);
    let (mut plain, mut others, mut different) = (0, 0, Vec::new());
    for case in &cases {
        let source = case["chat_template"].as_str().unwrap();
        let data = case["data"]
            .as_str()
            .map_or_else(|| case["data"].clone(), |data| serde_json::from_str(data).unwrap());
        let needs_tools = data["tools"].as_array().is_some_and(|tools| !tools.is_empty())
            || data["messages"].as_array().unwrap().iter().any(|message| !message["tool_calls"].is_null());
        let needs_marks = source.contains("generation %}") || source.contains("generation -%}");
        let same = render(source, &data).is_ok_and(|text| Some(text.as_str()) == case["target"].as_str());
        match (same, needs_tools || needs_marks) {
            (true, false) => plain += 1,
            (true, true) => others += 1,
            (false, _) => different.push(case["name"].as_str().unwrap()),
        }
    }
    assert_eq!((plain, others), (21, 8), "these differ: {different:?}");
}

/// The conversation that template files are rendered with.
fn turns() -> Vec<Message> {
    vec![
        Message::system("Be brief."),
        Message::user("Hi"),
        Message::assistant("Hello!"),
        Message::user("Name a colour"),
    ]
}

#[test]
fn template_files_of_current_models_render_plain_chats() {
    let Some(fixtures) = fixtures() else { return };
    let files = [
        (
            "Qwen-Qwen2.5-7B-Instruct",
            "qwen2.5",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nName a colour<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "Qwen-Qwen3-0.6B",
            "qwen3",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nName a colour<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "microsoft-Phi-3.5-mini-instruct",
            "phi-3-mini",
            "<|system|> Be brief.<|end|><|user|> Hi<|end|><|assistant|> Hello!<|end|><|user|> Name a colour<|end|><|assistant|>",
        ),
    ];
    for (template, tokenizer, expected) in files {
        let folder = open_with(&fixtures, tokenizer, &format!("{template}.jinja"));
        let ids =
            prompt_tokens(&folder.template, &folder.tokenizer, &turns(), &RenderOptions::reply_at(clock()))
                .unwrap();
        assert_eq!(folder.tokenizer.decode(&ids).unwrap(), expected, "{template}");
    }
    for entry in fs::read_dir(fixtures.join("chat-templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let folder = open_with(&fixtures, "qwen3", path.file_name().unwrap().to_str().unwrap());
            for messages in [&turns()[1..2], &turns()[..2], &turns()[1..]] {
                let options = RenderOptions::reply_at(clock());
                let ids = prompt_tokens(&folder.template, &folder.tokenizer, messages, &options).unwrap();
                let text = folder.tokenizer.decode(&ids).unwrap();
                for message in messages {
                    assert!(text.contains(&message.content), "{}: {text}", path.display());
                }
            }
        }
    }
}

#[test]
fn traits_are_found_by_rendering() {
    let Some(fixtures) = fixtures() else { return };
    let traits = |file: &str| open_with(&fixtures, "qwen3", file).template.traits().clone();
    let qwen = traits("Qwen-Qwen2.5-7B-Instruct.jinja");
    assert!(qwen.system && qwen.prefix_stable && !qwen.alternation && !qwen.thinking_switch && !qwen.date);
    assert_eq!(
        qwen.default_system_prompt.as_deref(),
        Some("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    );
    let qwen3 = traits("Qwen-Qwen3-0.6B.jinja");
    assert!(qwen3.thinking_switch && qwen3.prefix_stable && !qwen3.prefix_stable_without_thinking);
    let mistral = traits("mistralai-Mistral-Nemo-Instruct-2407.jinja");
    assert!(mistral.alternation);
    assert!(!qwen3.date);
    assert!(traits("ibm-granite-granite-3.3-2B-Instruct.jinja").date);
    assert!(open(&fixtures.join("models/concat-f32")).template.traits().bos);
}

#[test]
fn a_refused_system_prompt_goes_into_the_first_question() {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.role }}:{{ m.content | trim }}]{% endfor %}";
    let folder = open(&ember());
    let template = ChatTemplate::from_source(source, &folder.config).unwrap();
    assert!(!template.traits().system && template.traits().trims_replies);
    let ids =
        prompt_tokens(&template, &folder.tokenizer, &turns(), &RenderOptions::reply_at(clock())).unwrap();
    let text = folder.tokenizer.decode(&ids).unwrap();
    assert_eq!(text, "[user:Be brief.\n\nHi][assistant:Hello!][user:Name a colour]");
}

#[test]
fn two_questions_in_a_row_become_one_where_the_template_refuses_them() {
    let source = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}[{{ m.content }}]{% endfor %}";
    let folder = open(&ember());
    let template = ChatTemplate::from_source(source, &folder.config).unwrap();
    let messages = [Message::user("first"), Message::user("second")];
    let ids =
        prompt_tokens(&template, &folder.tokenizer, &messages, &RenderOptions::reply_at(clock())).unwrap();
    assert_eq!(folder.tokenizer.decode(&ids).unwrap(), "[first\n\nsecond]");
}

#[test]
fn a_folder_without_a_template_gets_the_plain_one() {
    let Some(fixtures) = fixtures() else { return };
    let folder = open(&fixtures.join("tokenizers/gpt2"));
    assert!(folder.template.is_plain());
    let ids = prompt_tokens(&folder.template, &folder.tokenizer, &turns(), &RenderOptions::reply_at(clock()))
        .unwrap();
    assert_eq!(
        folder.tokenizer.decode(&ids).unwrap(),
        "<|endoftext|>Be brief.\n\nUser: Hi\n\nAssistant: Hello!\n\nUser: Name a colour\n\nAssistant:"
    );
    assert!(!open(&ember()).template.is_plain());
}

#[test]
fn the_separate_file_overrides_the_configuration_and_names_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let source = || {
        let config = ModelConfig::read(folder.path()).unwrap();
        ChatTemplate::open(folder.path(), &config).unwrap().source().to_owned()
    };
    let list = json!({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "config"}]});
    fs::write(folder.path().join("tokenizer_config.json"), list.to_string()).unwrap();
    assert_eq!(source(), "config");
    let additional = folder.path().join("additional_chat_templates");
    fs::create_dir(&additional).unwrap();
    fs::write(additional.join("rag.jinja"), "rag").unwrap();
    assert_eq!(source(), "config");
    fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(source(), "file");
    fs::write(additional.join("default.jinja"), "additional").unwrap();
    assert_eq!(source(), "additional");
}

#[test]
fn a_template_that_does_not_compile_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chat_template.jinja"), "line one\n{% if %}").unwrap();
    let error = ChatTemplate::open(folder.path(), &ModelConfig::default()).unwrap_err();
    let Error::Template { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("chat_template.jinja") && reason.contains("line 2"), "{reason}");
}

#[test]
fn the_reason_of_a_template_reaches_the_reader() {
    let folder = open(&ember());
    let template =
        ChatTemplate::from_source("{{ raise_exception('only one question please') }}", &folder.config)
            .unwrap();
    let error =
        prompt_tokens(&template, &folder.tokenizer, &turns(), &RenderOptions::reply_at(clock())).unwrap_err();
    assert!(error.to_string().contains("only one question please"), "{error}");
}

#[test]
fn the_clock_prints_what_it_was_given_and_never_panics() {
    let format = |format: &str| render(&format!("{{{{ strftime_now({format:?}) }}}}"), &json!({}));
    assert_eq!(format("%d %B %Y, %H:%M").unwrap(), "10 July 2025, 12:00");
    assert_eq!(format("%d %b %Y").unwrap(), "10 Jul 2025");
    for strange in
        ["%Q", "%", "%%%", "%Z", "%z", "%k %l %P %E %O", "%-d", "%99999999999999999999d", "%:::z", "é%é"]
    {
        match format(strange) {
            Ok(text) => assert!(text.len() < 100, "{strange}: {text}"),
            Err(error) => assert!(matches!(error, Error::Template { .. }), "{error}"),
        }
    }
    let text = serde_json::to_string(&clock()).unwrap();
    assert_eq!(serde_json::from_str::<Clock>(&text).unwrap(), clock());
}

#[test]
fn json_is_written_as_python_writes_it() {
    let value = json!({"v": {"b": [1, 2.5, {}], "a": "<é&'>", "none": null}});
    let check = |arguments: &str, expected: &str| {
        assert_eq!(render(&format!("{{{{ v | tojson{arguments} }}}}"), &value).unwrap(), expected);
    };
    check("", r#"{"b": [1, 2.5, {}], "a": "<é&'>", "none": null}"#);
    check("(ensure_ascii=true)", r#"{"b": [1, 2.5, {}], "a": "<\u00e9&'>", "none": null}"#);
    check("(separators=(',', ':'), sort_keys=true)", r#"{"a":"<é&'>","b":[1,2.5,{}],"none":null}"#);
    check(
        "(indent=2)",
        "{\n  \"b\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"a\": \"<é&'>\",\n  \"none\": null\n}",
    );
}

#[test]
fn marks_of_training_text_print_nothing() {
    let source =
        "a {%- generation -%} b {%- endgeneration -%} c{{ '{% generation %}' }}{# {% generation %} #}";
    assert_eq!(render(source, &json!({})).unwrap(), "abc{% generation %}");
}

#[test]
fn checks_of_size_change_nothing_that_is_printed() {
    let source = "{% set x = 'a' -%}\n  {%- set ns = namespace(n=0) %}\n{% macro m(a, b='-') %}<{{ a }}{{ b }}>{% endmacro %}\n{% for k, v in {'p': 1}.items() %}\n{% set ns.n = v %}{{ k }}{{ ns.n }}\n{% endfor %}\n{% set block %}in {{ x }}{% endset %}{{ block }}{{ m('q') }}{% with y = 2 %}{{ y }}{% endwith %}{% raw %}{% set z = 1 %}{% endraw %}";
    assert_eq!(render(source, &json!({})).unwrap(), "p1\nin a<q->2{% set z = 1 %}");
}

#[test]
fn a_template_that_prints_too_much_is_told_so() {
    let error =
        render("{% for i in range(90000) %}{{ 'twenty-five characters...' }}{% endfor %}", &json!({}))
            .unwrap_err();
    assert!(error.to_string().contains("prints too much"), "{error}");
}

#[test]
fn a_conversation_of_two_thousand_messages_renders() {
    let Some(fixtures) = fixtures() else { return };
    let turn = [Message::user("Name a colour"), Message::assistant("Blue, if you ask me.")];
    let mut messages: Vec<Message> = turn.iter().cycle().take(2_000).cloned().collect();
    messages.push(Message::user("Why?"));
    for template in [
        "Qwen-Qwen3-0.6B.jinja",
        "Qwen3.5-4B.jinja",
        "mistralai-Mistral-Nemo-Instruct-2407.jinja",
        "ibm-granite-granite-3.3-2B-Instruct.jinja",
    ] {
        let folder = open_with(&fixtures, "qwen3", template);
        let ids =
            prompt_tokens(&folder.template, &folder.tokenizer, &messages, &RenderOptions::reply_at(clock()))
                .unwrap();
        assert!(ids.len() > 10_000, "{template}: the instructions of a rendering suffice");
    }
}

/// Templates that ask for endless time or memory.
fn bombs() -> Vec<String> {
    let doublings = "{% set x = x ~ x %}".repeat(60);
    let blocks = "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60);
    vec![
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}".to_owned(),
        "{{ 'a' * 10**9 }}".to_owned(),
        "{{ 'a' * 1000000000 * 1000000000 }}".to_owned(),
        "{{ 'a' * 90000000 }}".to_owned(),
        format!("{{% set x = 'aaaaaaaa' %}}{doublings}{{{{ x | length }}}}"),
        format!("{{% set x = 'aaaaaaaa' %}}{blocks}{{{{ x | length }}}}"),
        "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}".to_owned(),
        "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}".to_owned(),
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('aaaaaaaa') }}".to_owned(),
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{{ range(1000000000) | list | length }}".to_owned(),
        "{{ range(0, 9223372036854775807) | join(',') }}".to_owned(),
        "{% extends 'chat_template' %}".to_owned(),
        "{% include 'chat_template' %}".to_owned(),
        "{% include '/etc/passwd' %}".to_owned(),
        "{{ 'a' | indent(1000000000) }}{{ 'a\nb' | indent(width=1000000000) }}".to_owned(),
        "{{ '%999999999d' | format(1) }}".to_owned(),
        "{{ '{:>999999999}'.format('x') }}".to_owned(),
        "{{ ('a' * 5000) | replace('a', 'b' * 5000) | replace('b', 'c' * 5000) }}".to_owned(),
        "{{ ('a' * 5000).replace('a', 'b' * 5000).replace('b', 'c' * 5000) }}".to_owned(),
        "{{ range(90000) | join('a' * 90000) }}".to_owned(),
        "{{ ('a' * 90000).join(range(90000) | list) }}".to_owned(),
        "{{ [1, [2]] | tojson(indent=100000000) }}".to_owned(),
        "{{ [1] | slice(1000000000) | list }}".to_owned(),
        "{{ [1] | batch(1000000000, 0) | list }}".to_owned(),
        format!("{}1{}", "{{ ".to_owned() + &"(".repeat(50_000), ")".repeat(50_000) + " }}"),
        format!("{}{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000)),
        "{% for i in [[[1]]] recursive %}{{ loop([[i]]) }}{% endfor %}".to_owned(),
        "{{ ('a' * 90000000) | list | length }}".to_owned(),
        "{% set l = [0] %}{% set n = namespace(l=[0]) %}{% for i in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}{{ n.l | length }}".to_owned(),
    ]
}

#[test]
fn hostile_templates_end_in_an_error() {
    let bombs = bombs();
    assert!(bombs.len() >= 25);
    for bomb in bombs {
        let context = json!({"messages": [{"role": "user", "content": "hi"}]});
        let shown: String = bomb.chars().take(80).collect();
        match render(&bomb, &context) {
            Err(Error::Template { reason, .. }) => assert!(reason.len() < 1_000, "{shown}: {reason}"),
            other => panic!("{shown}: {:?}", other.map(|text| text.len())),
        }
    }
}
