//! Models are prepared once, in sight, and never in the way: whatever comes of it, they answer.

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backend::{
    AppDirs, Backend, Error, ExecutionProviderChoice, FailureKind, GraphToRun, LoadOptions, LoadedModel,
    ModelState, Open, Overrides, PrepareOptions, PrepareProgress, PrepareStep, Prepared, ReplyOptions,
};
use engine::onnx::SelfTestErrors;
use engine::prepare::{FileStamp, Key};
use engine::scripted::{Scripted, ScriptedDecoder};
use engine::{Cancel, Engine, GraphChoice, Preparation};
use support::{Transport, directories, ember_text, inference, loaded_model, make_model, over_each_transport};
use tempfile::TempDir;

/// What was asked of the far side, in order.
type Asked = Arc<Mutex<Vec<String>>>;

/// A far side whose preparations are written in the test.
struct Far {
    asked: Asked,
}

impl Far {
    fn note(&self, what: &str, folder: &Path) -> String {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        self.asked.lock().expect("no script panics while it writes").push(format!("{what} {name}"));
        name
    }
}

impl Open<ScriptedDecoder> for Far {
    fn open(
        &self,
        folder: &Path,
        options: &LoadOptions,
    ) -> engine::Result<(Engine<ScriptedDecoder>, LoadedModel)> {
        self.note("open", folder);
        let text = ember_text();
        let decoder = ScriptedDecoder::new(text.tokenizer.vocabulary_size(), 512, |_| Scripted::Token(0));
        let engine = Engine::new(decoder, text, None);
        let loaded = LoadedModel {
            graph: "model.hearth.onnx".into(),
            graph_choice: GraphChoice::Prepared,
            ..loaded_model(&engine, options)
        };
        Ok((engine, loaded))
    }

    fn prepare(
        &self,
        folder: &Path,
        options: &PrepareOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(PrepareProgress),
    ) -> engine::Result<Preparation> {
        let name = self.note(if options.force { "force" } else { "prepare" }, folder);
        for done in 0..2 {
            on_progress(PrepareProgress { step: PrepareStep::Measuring, done, total: 2 });
        }
        if name == "slow" {
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            return Ok(Preparation::Cancelled);
        }
        if name == "broken" {
            let path = folder.join("model.onnx");
            return Err(engine::Error::FileMissing { path, needed: "the script says so".into() });
        }
        if name == "locked" {
            let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(engine::Error::FolderUnwritable { path: folder.to_path_buf(), source });
        }
        Ok(Preparation::Prepared(Box::new(prepared(&name))))
    }
}

fn prepared(name: &str) -> Prepared {
    let graph = FileStamp { name: name.to_owned(), bytes: 1, modified: 2 };
    let key = Key {
        graph,
        graph_sha256: String::new(),
        weights: Vec::new(),
        config_sha256: String::new(),
        passes: Vec::new(),
        runtime: String::new(),
        cpu_features: Vec::new(),
        threads: 1,
    };
    let self_test = SelfTestErrors { symmetric: 0.0, zero_points: 0.0 };
    let run = GraphToRun::Original { reason: "the script says so".to_owned() };
    let (passes, measurement) = (Vec::new(), None);
    Prepared { format: 1, key, passes, whole: None, run, measurement, self_test, seconds: 0.5 }
}

struct World {
    backend: Backend,
    asked: Asked,
    _folder: TempDir,
}

impl World {
    fn new(transport: Transport) -> Self {
        Self::with(transport, Backend::open_with)
    }

    fn with(transport: Transport, open: impl FnOnce(AppDirs, backend::Inference) -> Backend) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let directories = directories(folder.path());
        make_model(&directories.resources[0], "ember", "{}");
        let installed: PathBuf = directories.models();
        for id in ["mine", "slow", "locked", "broken"] {
            make_model(&installed, id, "{}");
        }
        let asked = Asked::default();
        let far = Far { asked: Arc::clone(&asked) };
        Self { backend: open(directories, inference(transport, far)), asked, _folder: folder }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no script panics while it writes"))
    }

    fn state(&self, id: &str) -> ModelState {
        let models = self.backend.models().all();
        models.into_iter().find(|(model, _)| model.id == id).map(|(_, state)| state).expect("it is listed")
    }

    /// Waits until the preparation of `slow` is in its middle.
    async fn preparing(&self) {
        let mut changes = self.backend.changes();
        let is_last = |progress: &PrepareProgress| progress.done == 1;
        while !matches!(self.state("slow"), ModelState::Preparing(progress) if is_last(&progress)) {
            changes.recv().await.expect("the backend lives");
        }
    }
}

#[test]
fn an_installed_model_is_prepared_before_its_first_load_and_the_built_in_one_never() {
    over_each_transport(async |transport| {
        let world = World::new(transport);
        world.backend.models().ready().await.expect("the built-in model loads");
        assert_eq!(world.asked(), ["open ember"]);
        world.backend.select_model("mine").await.expect("it loads");
        assert_eq!(world.asked(), ["prepare mine", "open mine"]);
        assert!(matches!(world.state("mine"), ModelState::Ready));
        world.backend.models().ready().await.expect("it is loaded");
        assert_eq!(world.asked(), [""; 0], "what is loaded stays");
    });
}

#[test]
fn a_preparation_that_is_skipped_is_not_begun_again() {
    over_each_transport(async |transport| {
        let world = World::new(transport);
        let skip = async {
            world.preparing().await;
            world.backend.models().skip_preparation();
        };
        let (ready, ()) = tokio::join!(world.backend.select_model("slow"), skip);
        ready.expect("it loads as it is");
        assert_eq!(world.asked(), ["prepare slow", "open slow"]);
        assert!(world.backend.notices().is_empty(), "nothing went wrong");
        world.backend.select_model("ember").await.expect("it loads");
        world.backend.select_model("slow").await.expect("it loads");
        assert_eq!(world.asked(), ["open ember", "open slow"]);
    });
}

#[test]
fn whoever_chooses_another_model_does_not_wait_for_a_preparation() {
    over_each_transport(async |transport| {
        let world = World::new(transport);
        let choose = async {
            world.preparing().await;
            world.backend.select_model("ember").await
        };
        let (first, second) = tokio::join!(world.backend.select_model("slow"), choose);
        assert_eq!(second.expect("it loads").model.id, "ember");
        assert_eq!(first.expect("whatever answers now").model.id, "ember");
        assert_eq!(world.asked(), ["prepare slow", "open ember"], "the first is never loaded");
        assert!(matches!(world.state("slow"), ModelState::Available));
    });
}

#[test]
fn whoever_opens_a_conversation_of_another_model_does_not_wait_for_a_preparation() {
    over_each_transport(async |transport| {
        let world = World::new(transport);
        let chat = world.backend.chat();
        let conversation = chat.current();
        chat.send(conversation, "Hello".into(), ReplyOptions::default(), |_| {}).await.expect("it answers");
        world.backend.history().begin(false).expect("begun");
        let open = async {
            world.preparing().await;
            world.backend.open_conversation(conversation, 10).await.expect("it is shown");
        };
        let (first, ()) = tokio::join!(world.backend.select_model("slow"), open);
        assert_eq!(first.expect("whatever answers now").model.id, "ember");
        assert_eq!(world.asked(), ["open ember", "prepare slow", "open ember"], "the other is never loaded");
    });
}

#[test]
fn a_model_that_cannot_be_prepared_runs_as_it_came_and_the_reason_is_told() {
    over_each_transport(async |transport| {
        let world = World::new(transport);
        world.backend.select_model("locked").await.expect("it loads");
        assert_eq!(world.asked(), ["prepare locked", "open locked"]);
        let notices = world.backend.notices();
        let [notice] = notices.as_slice() else { panic!("one notice: {notices:?}") };
        assert!(notice.message.contains("cannot write to the model folder"), "{}", notice.message);
        world.backend.dismiss_notice(&notice.id);
        world.backend.select_model("broken").await.expect("the script loads it");
        assert_eq!(world.asked(), ["prepare broken", "open broken"]);
        assert!(world.backend.notices().is_empty(), "what is wrong with the model, its load tells");
    });
}

#[test]
fn one_run_of_a_program_prepares_only_what_it_is_told_to() {
    over_each_transport(async |transport| {
        let overrides = Overrides { model: Some("mine".into()), ..Overrides::default() };
        let world = World::with(transport, |directories, inference| {
            Backend::open_for_run(directories, inference, &overrides).expect("the model is there")
        });
        let models = world.backend.models();
        models.ready().await.expect("it loads");
        assert_eq!(world.asked(), ["open mine"]);
        let mut told = Vec::new();
        let result = models.prepare("mine", true, |progress| told.push(progress.done)).await;
        assert_eq!(result.expect("it is prepared"), Some(prepared("mine")));
        assert_eq!((world.asked(), told), (vec!["force mine".to_owned()], vec![0, 1]));
        models.ready().await.expect("it loads again");
        assert_eq!(world.asked(), ["open mine"], "the preparation freed it");
        let error = models.prepare("ember", false, |_| {}).await.expect_err("it is built in");
        assert_eq!(error, Error::ModelBuiltIn { id: "ember".into() });
        let error = models.prepare("locked", false, |_| {}).await.expect_err("it cannot be written");
        assert_eq!(error.engine_kind(), Some(FailureKind::ModelUnwritable));
    });
}

#[test]
fn models_for_other_providers_are_left_as_they_are() {
    over_each_transport(async |transport| {
        let world = World::with(transport, |directories, inference| {
            let settings = backend::Settings {
                execution_provider: ExecutionProviderChoice::CoreMl,
                ..backend::Settings::default()
            };
            settings.save(&directories.settings()).expect("saved");
            Backend::open_with(directories, inference)
        });
        world.backend.select_model("mine").await.expect("it loads");
        assert_eq!(world.asked(), ["open mine"]);
    });
}
