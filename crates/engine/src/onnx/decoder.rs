//! One forward pass of a decoder graph.

use std::path::Path;
use std::sync::Arc;

use graph::{Limits, preflight};
use half::f16;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionOutputs};
use ort::value::{DynValue, Tensor};

use super::cache::OnnxKvCache;
use super::contract::{Contract, ContractHints, Logits, Port};
use super::drafts::{self, Drafts, Measured};
use super::provider::{self, ExecutionProviderChoice};
use super::runtime::Runtime;
use super::shared_buffer::SharedBuffer;
use crate::{
    Cancel, Decoder, DraftCost, Error, Forward, Import, KvBackend, KvBlock, KvCache, KvLayout, KvRefusal,
    MOST_DRAFTED, ModelSpec, Result, TokenId,
};

/// How a graph is to be loaded.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Threads inside one operator.
    pub threads: usize,
    pub execution_provider: ExecutionProviderChoice,
    /// The most KV rows that the model can use, from its configuration.
    pub context_length: usize,
    /// Which KV back-end to use; `None` takes the shared buffer where the graph can use it.
    pub kv_backend: Option<KvBackend>,
    pub drafts: Drafts,
    pub hints: ContractHints,
}

/// A decoder graph in an ONNX Runtime session.
pub struct OnnxDecoder {
    session: Session,
    contract: Arc<Contract>,
    kv_layout: KvLayout,
    spec: ModelSpec,
    run_options: Arc<RunOptions>,
    /// The same for a pass after which ONNX Runtime gives unused memory back to the system.
    shrinking: Arc<RunOptions>,
    /// Whether a pass of many tokens took memory that the passes of single tokens do not need.
    is_memory_spread: bool,
    /// Where the logits of one position land when the graph gives exactly one.
    one_row: Option<Tensor<f32>>,
    /// The logits of other passes, row after row.
    logits: Vec<f32>,
    drafts: Drafts,
    /// What drafts cost, once it was measured.
    measured: Option<Measured>,
    /// The files beside the graph that hold its weights.
    weight_files: Vec<String>,
    /// What the user should know about how the model was loaded.
    notices: Vec<String>,
    /// The most rows that a cache is given room for.
    most_rows: usize,
}

impl OnnxDecoder {
    /// Loads the graph at `path` and finds out which KV back-end it can use.
    ///
    /// # Errors
    /// [`Error::Graph`] where the preflight refuses the file or its external data,
    /// [`Error::FileDamaged`] where ONNX Runtime does,
    /// [`Error::Unsupported`] where the graph asks for what a decoder is not fed here, or gives what it cannot be
    /// fed again; [`Error::Run`] where it does not run at all.
    pub fn load(runtime: &Runtime, path: &Path, options: &OnnxOptions) -> Result<Self> {
        Self::load_within(runtime, path, options, &Limits::default())
    }

    /// The same with other bounds of the preflight.
    ///
    /// # Errors
    /// As [`OnnxDecoder::load`].
    pub fn load_within(
        runtime: &Runtime,
        path: &Path,
        options: &OnnxOptions,
        limits: &Limits,
    ) -> Result<Self> {
        let (session, execution_provider, notice, weight_files) =
            open_session(runtime, path, options, limits)?;
        let inputs: Vec<Port<'_>> = session.inputs().iter().map(Port::from).collect();
        let outputs: Vec<Port<'_>> = session.outputs().iter().map(Port::from).collect();
        let contract = Arc::new(Contract::read(path, &inputs, &outputs, options.hints)?);
        let run_options = RunOptions::new().map_err(|error| running("preparing to run", error))?;
        let shrinking = shrinking_options().map_err(|error| running("preparing to run", error))?;
        let one_row = (!contract.logits.half)
            .then(|| {
                Tensor::<f32>::new(&Allocator::default(), [1, 1, contract.logits.vocabulary_size as i64])
            })
            .transpose()
            .map_err(|error| running("making room for the logits", error))?;
        let mut decoder = Self {
            spec: ModelSpec {
                vocabulary_size: contract.logits.vocabulary_size,
                context_length: options.context_length,
                layers: contract.layers(),
                kv_bytes_per_token: contract.kv_bytes_per_token(),
                kv_backend: KvBackend::SharedBuffer,
                kv_backend_reason: None,
                execution_provider,
                threads: options.threads,
            },
            logits: Vec::new(),
            drafts: options.drafts,
            measured: None,
            session,
            kv_layout: contract.kv_layout(),
            contract,
            run_options: Arc::new(run_options),
            shrinking: Arc::new(shrinking),
            is_memory_spread: false,
            one_row,
            weight_files,
            notices: notice.into_iter().collect(),
            most_rows: options.context_length,
        };
        decoder.choose_backend(options.kv_backend);
        if decoder.spec.kv_backend == KvBackend::HandOver {
            decoder.try_hand_over(path)?;
        }
        let (inputs, backend) = (decoder.contract.input_count(), decoder.spec.kv_backend);
        tracing::info!(graph = %path.display(), inputs, layers = decoder.spec.layers, %backend,
            reason = decoder.spec.kv_backend_reason, provider = %decoder.spec.execution_provider,
            threads = decoder.spec.threads, "loaded the model");
        Ok(decoder)
    }

    /// What the graph asks for and gives.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Gives caches room for at most so many rows from now on: a pass for which they have none finds a full
    /// context.
    pub fn limit_rows(&mut self, rows: usize) {
        self.most_rows = rows.min(self.spec.context_length);
    }

    /// The files beside the graph that hold its weights.
    pub fn weight_files(&self) -> &[String] {
        &self.weight_files
    }

    /// Sentences for the user about how the model was loaded, such as a refused execution provider.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Takes the shared buffer if a pass of one token over it succeeds. No flag of a graph tells: one
    /// that concatenates past and present gives a present larger than the buffer, which ONNX Runtime
    /// refuses loudly.
    fn choose_backend(&mut self, wanted: Option<KvBackend>) {
        let failure = match wanted {
            Some(KvBackend::HandOver) => Some("asked for".to_owned()),
            Some(KvBackend::SharedBuffer) | None => self.probe_shared_buffer().err(),
        };
        if let Some(reason) = failure {
            tracing::debug!(reason, "the shared KV buffer is not in use");
            self.spec.kv_backend = KvBackend::HandOver;
            self.spec.kv_backend_reason = Some(reason);
        }
    }

    fn probe_shared_buffer(&mut self) -> Result<(), String> {
        const PROBE_ROWS: usize = 8;
        let describe = |error: Error| crate::Failure::from(error).message;
        let binding = self.session.create_binding().map_err(|error| error.to_string())?;
        let backend = KvBackend::SharedBuffer;
        let mut cache = OnnxKvCache::new(&self.contract, binding, backend, PROBE_ROWS).map_err(describe)?;
        match self.forward(&[0], &mut cache, &Cancel::new()).map_err(describe)? {
            Forward::Logits(_) => Ok(()),
            _ => Err("the first token found no room".to_owned()),
        }
    }

    /// Runs one token and two behind it: what cannot be handed over is said now, and not by a failed reply.
    fn try_hand_over(&mut self, path: &Path) -> Result<()> {
        let mut cache = self.new_cache()?;
        for tokens in [&[0][..], &[0, 0]] {
            match self.forward(tokens, &mut cache, &Cancel::new()) {
                Ok(_) => {}
                // Without a cause it is no failure of the runtime: it gave something else than is needed.
                Err(Error::Run { doing, source: None }) => {
                    return Err(Error::Unsupported { path: path.to_path_buf(), reason: doing });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Binds what a pass over `tokens` reads, and its logits: to the tensor that is kept for one row where
    /// one row will come, else to whatever ONNX Runtime makes. Returns whether one row will come.
    fn bind(&mut self, tokens: &[TokenId], rows: usize, cache: &mut OnnxKvCache) -> ort::Result<bool> {
        let Logits { name, last_only, .. } = &self.contract.logits;
        let past = cache.len();
        let OnnxKvCache { binding, inputs, .. } = cache;
        let is_bound = inputs.bind(&self.contract, binding, past, tokens, rows)?;
        let one = rows == 1 && (tokens.len() == 1 || *last_only || self.contract.logits_to_keep.is_some());
        match &mut self.one_row {
            Some(_) if is_bound => Ok(true),
            Some(row) if one => {
                binding.bind_output(name.as_str(), row)?;
                if tokens.len() == 1 {
                    inputs.stay_bound();
                }
                Ok(true)
            }
            _ => binding.bind_output_to_device(name.as_str(), &MemoryInfo::default()).map(|()| false),
        }
    }

    /// One pass over `tokens` that gives the logits of the last `rows` of them.
    fn pass<'d>(
        &'d mut self,
        tokens: &[TokenId],
        rows: usize,
        cache: &mut OnnxKvCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.check(tokens)?;
        let total = cache.len() + tokens.len();
        if total > self.most_rows {
            return Ok(Forward::ContextFull);
        }
        cache.prepare(total, self.most_rows)?;
        let in_place = self.bind(tokens, rows, cache).map_err(|error| running("binding a pass", error))?;
        let run_options = self.options_of(tokens.len());
        let interrupt = Arc::clone(&run_options);
        run_options.unterminate().map_err(|error| running("preparing to run", error))?;
        let (binding, mut parts) = cache.split();
        let session = &mut self.session;
        let interrupting = move || {
            // It fails only on a null pointer, which a live `RunOptions` does not hold.
            interrupt.terminate().ok();
        };
        let mut outputs = match cancel
            .interrupting(interrupting, || session.run_binding_with_options(binding, &run_options))
        {
            Ok(outputs) => outputs,
            Err(_) if cancel.is_cancelled() => return Ok(Forward::Cancelled),
            // The rotary table of the graph may end before the configured context does.
            Err(error) if error.message().contains("cos_cache dimension 0") => {
                return Ok(Forward::ContextFull);
            }
            Err(error) => return Err(running("running the graph", error)),
        };
        if !in_place {
            read_rows(&self.contract.logits, &outputs, rows, &mut self.logits)?;
        }
        OnnxKvCache::commit(&mut parts, &mut outputs, total)?;
        drop(outputs);
        cache.let_go((!in_place).then_some(self.contract.logits.name.as_str()))?;
        match &mut self.one_row {
            Some(row) if in_place => Ok(Forward::Logits(row.extract_tensor_mut().1)),
            _ => Ok(Forward::Logits(&mut self.logits)),
        }
    }

    fn check(&self, tokens: &[TokenId]) -> Result<()> {
        let invalid = |reason: String| Err(Error::Invalid { reason });
        if tokens.is_empty() {
            return invalid("a forward pass needs at least one token".into());
        }
        let vocabulary_size = self.spec.vocabulary_size;
        match tokens.iter().find(|&&token| token as usize >= vocabulary_size) {
            Some(token) => invalid(format!("token {token} is outside the vocabulary of {vocabulary_size}")),
            None => Ok(()),
        }
    }

    /// The options of the next pass, which has as many tokens.
    fn options_of(&mut self, tokens: usize) -> Arc<RunOptions> {
        // A draft is small, and after it comes the next one.
        let single = tokens <= 1 + MOST_DRAFTED;
        let options = if single && self.is_memory_spread { &self.shrinking } else { &self.run_options };
        self.is_memory_spread = !single;
        Arc::clone(options)
    }
}

impl Decoder for OnnxDecoder {
    type Cache = OnnxKvCache;

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn new_cache(&self) -> Result<OnnxKvCache> {
        let binding =
            self.session.create_binding().map_err(|error| running("binding the KV cache", error))?;
        let first = SharedBuffer::first_rows(self.most_rows);
        OnnxKvCache::new(&self.contract, binding, self.spec.kv_backend, first)
    }

    fn kv_layout(&self) -> &KvLayout {
        &self.kv_layout
    }

    fn import_cache(
        &self,
        rows: usize,
        blocks: &mut dyn Iterator<Item = KvBlock>,
    ) -> Result<Import<OnnxKvCache>> {
        let most = self.most_rows;
        if rows > most {
            return Ok(Import::Refused(KvRefusal::NoRoom { rows: most }));
        }
        let binding =
            self.session.create_binding().map_err(|error| running("binding the KV cache", error))?;
        let backend = self.spec.kv_backend;
        OnnxKvCache::import(&self.contract, binding, backend, &self.kv_layout, (rows, most), blocks)
    }

    fn hidden_size(&self) -> Option<usize> {
        self.contract.hidden_state.as_ref().map(|state| state.width)
    }

    fn forward_hidden<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut OnnxKvCache,
        cancel: &Cancel,
        rows: &mut Vec<f32>,
    ) -> Result<Forward<'d>> {
        let bound = match &self.contract.hidden_state {
            Some(state) => Some(state.bind(&mut cache.binding, tokens.len())),
            None => None,
        };
        let bound = bound.transpose().map_err(|error| running("binding the hidden state", error))?;
        let outcome = self.forward(tokens, cache, cancel)?;
        if let (Some(state), Forward::Logits(_)) = (&bound, &outcome) {
            rows.extend_from_slice(state.extract_tensor().1);
        }
        Ok(outcome)
    }

    fn forward<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut OnnxKvCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.pass(tokens, 1, cache, cancel)
    }

    fn forward_rows<'d>(
        &'d mut self,
        tokens: &[TokenId],
        cache: &mut OnnxKvCache,
        cancel: &Cancel,
    ) -> Result<Forward<'d>> {
        self.pass(tokens, tokens.len(), cache, cancel)
    }

    fn draft_cost(&mut self, cache: &mut OnnxKvCache, cancel: &Cancel) -> Result<Option<DraftCost>> {
        let rows = cache.len();
        if let Some(known) = self.measured.filter(|measured| measured.holds_at(rows)) {
            return Ok(known.cost);
        }
        let never = self.drafts == Drafts::Never || self.contract.logits.last_only;
        if never || !drafts::has_room(rows, self.most_rows) {
            return Ok(None);
        }
        let Some(mut measured) = drafts::measure(self, cache, cancel)? else { return Ok(None) };
        let per_token = measured.cost.map(|cost| cost.per_token);
        tracing::debug!(per_token, rows, "measured the cost of drafts");
        if self.drafts == Drafts::Always {
            measured.cost = measured.cost.map(|_| DraftCost { per_token: 0.0 });
        }
        self.measured = Some(measured);
        Ok(measured.cost)
    }
}

/// The arena never shrinks by itself, and a pass of 256 tokens takes several times what a pass of one does.
fn shrinking_options() -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    Ok(options)
}

/// Makes a session of the graph at `path`: the only place where a file reaches ONNX Runtime, and none does
/// that did not pass.
fn open_session(
    runtime: &Runtime,
    path: &Path,
    options: &OnnxOptions,
    limits: &Limits,
) -> Result<(Session, crate::ExecutionProvider, Option<String>, Vec<String>)> {
    let report = preflight::check(path, limits)?;
    tracing::debug!(nodes = report.counts.nodes, weights = report.weights, "the graph passed");
    let builder =
        session_builder(runtime, options.threads).map_err(|error| running("preparing a session", error))?;
    let (mut builder, provider, notice) = provider::register(builder, options.execution_provider);
    let session = builder.commit_from_file(path).map_err(|error| refused_file(path, error))?;
    Ok((session, provider, notice, report.files))
}

pub(super) fn session_builder(runtime: &Runtime, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        // Else a file's name would decide how it is read, and the check reads ONNX and nothing else.
        .with_config_entry("session.load_model_format", "ONNX")?
        // The default policy registers CoreML on macOS whatever the graph.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // A pattern is planned and kept for each shape of the inputs, and no two steps of a reply have the same.
        .with_memory_pattern(false)?
        .with_config_entry("session.intra_op.allow_spinning", "1")?
        // A thread that waits longer than an operator takes gives its core to whoever has work for it, so that
        // a busy machine does not wait for spinning threads.
        .with_config_entry("session.intra_op.spin_duration_us", "1000")?
        .with_config_entry("session.intra_op.spin_backoff_max", "8")?
        // Threads that wait for work burn a core each; between two replies nobody waits.
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry("session.set_denormal_as_zero", "1")?;
    Ok(builder)
}

/// Says which file of the model ONNX Runtime could not use. It names the external data file in its own
/// words, which differ from release to release, so they are passed on.
fn refused_file(path: &Path, error: ort::Error) -> Error {
    let reason = "ONNX Runtime refuses the graph or the external data that it names".to_owned();
    Error::FileDamaged { path: path.to_path_buf(), reason, source: Some(Box::new(error)) }
}

/// Copies the logits of the last `rows` positions into `target`, as f32.
fn read_rows(
    logits: &Logits,
    outputs: &SessionOutputs<'_>,
    rows: usize,
    target: &mut Vec<f32>,
) -> Result<()> {
    let failed =
        |what: &str| Error::Run { doing: format!("reading `{}`: {what}", logits.name), source: None };
    let value = outputs.get(&logits.name).ok_or_else(|| failed("the pass did not give it"))?;
    target.clear();
    append_last(value, logits.half, rows * logits.vocabulary_size, target)
        .map_err(|error| running("reading the logits", error))?;
    if target.len() == rows * logits.vocabulary_size {
        return Ok(());
    }
    Err(failed(&format!("it has no {rows} rows of {} numbers", logits.vocabulary_size)))
}

/// Appends the last `count` numbers of `value`, or nothing where it has fewer.
fn append_last(value: &DynValue, half: bool, count: usize, target: &mut Vec<f32>) -> ort::Result<()> {
    fn last<T>(values: &[T], count: usize) -> &[T] {
        values.len().checked_sub(count).map_or(&[], |from| &values[from..])
    }
    if half {
        let values = value.try_extract_tensor::<f16>()?.1;
        target.extend(last(values, count).iter().map(|value| value.to_f32()));
    } else {
        target.extend_from_slice(last(value.try_extract_tensor::<f32>()?.1, count));
    }
    Ok(())
}

pub(super) fn running(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Run { doing: doing.to_owned(), source: Some(Box::new(error)) }
}
