//! `hearth doctor`: what runs how and where, and what is wrong.

use std::path::Path;

use backend::{AppDirs, LoadedModel, Memory, ModelSource, ReadyModel, Sampling};
use serde_json::{Map, Value, json};

use crate::arguments::Options;
use crate::error::{Error, Result};
use crate::models::{bytes, source_name};
use crate::prepare;
use crate::print::Printer;
use crate::run::Run;

/// What was found, in the order of printing.
#[derive(Default)]
struct Findings {
    facts: Vec<Fact>,
    problems: Vec<Error>,
}

struct Fact {
    name: &'static str,
    value: Value,
    shown: String,
}

/// Looks at everything that a reply needs, and says what is wrong.
///
/// # Errors
/// The last problem found, the others being printed.
pub(crate) fn doctor(options: &Options, printer: &mut Printer) -> Result<()> {
    let directories = AppDirs::of_this_program(None)?;
    let mut findings = Findings::default();
    findings.text("version", env!("CARGO_PKG_VERSION"));
    findings.text("system", &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    findings.examine(&directories, options);
    findings.paths(&directories);
    findings.memory();
    findings.print(printer);
    let last = findings.problems.pop();
    for problem in &findings.problems {
        printer.error(problem);
    }
    last.map_or(Ok(()), Err)
}

impl Findings {
    fn text(&mut self, name: &'static str, text: &str) {
        // ONNX Runtime ends some of its reasons with a line break; a fact has one line.
        let line = text.trim_end().replace('\n', " ");
        self.facts.push(Fact { name, value: text.into(), shown: line });
    }

    fn number(&mut self, name: &'static str, number: usize) {
        self.facts.push(Fact { name, value: number.into(), shown: number.to_string() });
    }

    fn size(&mut self, name: &'static str, size: u64) {
        self.facts.push(Fact { name, value: size.into(), shown: bytes(size) });
    }

    fn path(&mut self, name: &'static str, path: &Path) {
        self.text(name, &path.display().to_string());
    }

    /// Loads the model, and says what came of it.
    fn examine(&mut self, directories: &AppDirs, options: &Options) {
        if let Err(error) = directories.check_data() {
            self.problems.push(error.into());
        }
        match Run::open_over(directories.clone(), options) {
            Ok(run) => self.examine_model(&run, directories, options),
            Err(error) => {
                self.path("models", &directories.models());
                self.library(directories);
                self.problems.push(error);
            }
        }
    }

    fn examine_model(&mut self, run: &Run, directories: &AppDirs, options: &Options) {
        self.path("models", &run.backend().library_folder());
        for notice in run.backend().notices() {
            // What is wrong with the data folder is a problem already.
            if notice.code != "dataFolder" {
                self.text("notice", &notice.message);
            }
        }
        match run.wait(run.backend().models().ready()) {
            Ok(ready) => {
                self.loaded_library(&ready.about);
                self.model(run, &ready, options);
                run.end().ok();
            }
            Err(error) => {
                self.examine_library(run, directories);
                if let Some(model) = run.backend().models().selected_model() {
                    self.text("model", &model.id);
                    self.path("model_folder", &model.folder);
                }
                self.problems.push(error.into());
            }
        }
    }

    /// Finds out whether the library is sound although the chosen model does not load: by another one.
    fn examine_library(&mut self, run: &Run, directories: &AppDirs) {
        let models = run.backend().models();
        let selected = models.selected();
        let built_in = models
            .all()
            .into_iter()
            .map(|(model, _)| model)
            .find(|model| model.source == ModelSource::BuiltIn && Some(&model.id) != selected.as_ref());
        if let Some(model) = built_in
            && let Ok(options) = models.load_options_of(&model)
            && let Ok(about) = run.wait(run.inference().load(model.model_folder(), options))
        {
            run.end().ok();
            return self.loaded_library(&about);
        }
        self.library(directories);
    }

    /// A library that no model proved to be sound.
    fn library(&mut self, directories: &AppDirs) {
        match directories.library() {
            Ok(library) => self.path("library", &library),
            Err(error) => self.text("library", &error.to_string()),
        }
    }

    fn loaded_library(&mut self, about: &LoadedModel) {
        self.path("library", &about.library);
        self.text("runtime_version", about.runtime_version.as_deref().unwrap_or("unknown"));
    }

    fn model(&mut self, run: &Run, ready: &ReadyModel, options: &Options) {
        let ReadyModel { model, about } = ready;
        self.text("provider", &about.spec.execution_provider.to_string());
        self.number("threads", about.spec.threads);
        self.text("kv_backend", &about.spec.kv_backend.to_string());
        if let Some(reason) = &about.spec.kv_backend_reason {
            self.text("kv_backend_reason", reason);
        }
        self.text("model", &model.id);
        self.text("model_name", &model.name);
        self.text("model_source", source_name(model.source));
        self.path("model_folder", &model.folder);
        self.size("model_bytes", model.size);
        self.text("graph", &about.graph);
        self.text("graph_choice", &about.graph_choice.to_string());
        self.preparation(model.source, about);
        self.number("inputs", about.inputs);
        self.number("vocabulary", about.spec.vocabulary_size);
        self.number("layers", about.spec.layers);
        self.number("context", about.spec.context_length);
        self.number("window", about.window);
        self.number("kv_bytes_per_token", about.spec.kv_bytes_per_token);
        self.text(
            "chat_template",
            if about.plain_template { "plain, the model brings none" } else { "the model's" },
        );
        let mut reply = options.reply();
        run.backend().models().defaults_of(&model.id).fill(&mut reply, true);
        let sampling = reply.sampling(&about.sampling);
        self.sampling(&sampling);
        let seconds = about.load_seconds;
        self.facts.push(Fact { name: "load_seconds", value: seconds.into(), shown: format!("{seconds:.2}") });
    }

    /// What every rewrite of the graph came to, a line each.
    fn preparation(&mut self, source: ModelSource, about: &LoadedModel) {
        let shown = match &about.prepared {
            Some(prepared) => prepare::lines(prepared).join(&format!("\n{:20}", "")),
            None if source == ModelSource::BuiltIn => "none; the built-in model runs as it comes".to_owned(),
            None if about.graph_choice.wants_preparation() => {
                "none; `hearth models prepare` makes one".to_owned()
            }
            None => "none".to_owned(),
        };
        self.facts.push(Fact { name: "preparation", value: json!(about.prepared), shown });
    }

    fn sampling(&mut self, sampling: &Sampling) {
        let settings = [
            ("temperature", sampling.temperature),
            ("top_p", sampling.top_p),
            ("min_p", sampling.min_p),
            ("repetition_penalty", sampling.repetition_penalty),
            ("presence_penalty", sampling.presence_penalty),
            ("frequency_penalty", sampling.frequency_penalty),
        ];
        let mut object = Map::new();
        let mut shown = Vec::new();
        for (name, value) in settings {
            // By way of its text: 0.95 in f32 has other digits in f64.
            let exact: f64 = value.to_string().parse().unwrap_or_else(|_| f64::from(value));
            object.insert(name.into(), exact.into());
            shown.push(format!("{} {value}", name.replace('_', " ")));
        }
        object.insert("top_k".into(), sampling.top_k.into());
        shown.push(format!("top k {}", sampling.top_k));
        self.facts.push(Fact { name: "sampling", value: object.into(), shown: shown.join(", ") });
    }

    fn paths(&mut self, directories: &AppDirs) {
        self.path("data", &directories.data);
        self.path("settings", &directories.settings());
        self.path("logs", &directories.logs());
        let resources: Vec<String> =
            directories.resources.iter().map(|folder| folder.display().to_string()).collect();
        self.facts.push(Fact { name: "resources", shown: resources.join(", "), value: resources.into() });
    }

    fn memory(&mut self) {
        let Memory { total, available, resident, peak_resident } = Memory::now();
        self.size("memory_total", total);
        self.size("memory_available", available);
        self.size("memory_resident", resident);
        self.size("memory_peak", peak_resident);
    }

    fn print(&self, printer: &mut Printer) {
        if !printer.is_json() {
            for fact in &self.facts {
                printer.line(&format!("{:20}{}", fact.name.replace('_', " "), fact.shown));
            }
            if self.problems.is_empty() {
                printer.line("Nothing is wrong.");
            }
            return;
        }
        let mut object = Map::new();
        object.insert("type".into(), "doctor".into());
        for fact in self.facts.iter().filter(|fact| fact.name != "notice") {
            object.insert(fact.name.into(), fact.value.clone());
        }
        let values_of =
            |name| self.facts.iter().filter(move |fact| fact.name == name).map(|fact| &fact.value);
        object.insert("notices".into(), values_of("notice").cloned().collect());
        let problem = |error: &Error| json!({ "code": error.code(), "message": error.message() });
        object.insert("problems".into(), self.problems.iter().map(problem).collect());
        printer.json_line(&object);
    }
}
