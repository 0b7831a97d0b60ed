"""The part of llama-cpp-python that the peers' script uses, over ready-built llama.cpp libraries.

The package of that name is built from source at install time. The npm package
`@node-llama-cpp/linux-x64` holds the same library built for each generation of processors, and ggml
takes the one that fits. Put this folder on PYTHONPATH and name that package's folder of libraries in
LLAMA_CPP_LIBRARIES.
"""
import ctypes
import os
import pathlib

FOLDER = pathlib.Path(os.environ["LLAMA_CPP_LIBRARIES"])


def library(pattern):
    """Opens the one library of FOLDER that matches."""
    (path,) = FOLDER.glob(pattern)
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


base = library("libggml-base*.so*")
ggml = library("libggml.v*.so*") if list(FOLDER.glob("libggml.v*.so*")) else library("libggml.so*")
llama = library("libllama.v*.so*") if list(FOLDER.glob("libllama.v*.so*")) else library("libllama.so*")


class Parameters(ctypes.Structure):
    """Room for a parameter structure of any release: the callee reads and writes only its own part."""

    _fields_ = [("words", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32)] + [
        (name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")
    ]


def declare(name, result, *arguments):
    function = getattr(llama, name)
    function.restype, function.argtypes = result, arguments
    return function


model_defaults = declare("llama_model_default_params", Parameters)
context_defaults = declare("llama_context_default_params", Parameters)
load_model = declare("llama_model_load_from_file", ctypes.c_void_p, ctypes.c_char_p, Parameters)
new_context = declare("llama_init_from_model", ctypes.c_void_p, ctypes.c_void_p, Parameters)
set_threads = declare("llama_set_n_threads", None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
context_size = declare("llama_n_ctx", ctypes.c_uint32, ctypes.c_void_p)
batch_of = declare("llama_batch_get_one", Batch, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32)
decode = declare("llama_decode", ctypes.c_int32, ctypes.c_void_p, Batch)
memory_of = declare("llama_get_memory", ctypes.c_void_p, ctypes.c_void_p)
remove = declare(
    "llama_memory_seq_rm", ctypes.c_bool, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)
logits = declare("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_int32)

LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
quiet = LOG(lambda level, text, data: None)


class Llama:
    """A model with one context, fed by `eval`."""

    def __init__(self, model_path, n_ctx, n_threads, n_threads_batch, n_batch, verbose):
        if not verbose:
            declare("llama_log_set", None, LOG, ctypes.c_void_p)(quiet, None)
        ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        ggml.ggml_backend_load_all_from_path(str(FOLDER).encode())
        llama.llama_backend_init()
        self.model = load_model(str(model_path).encode(), model_defaults())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {model_path}")
        parameters = context_defaults()
        # The first three fields have been these in every release that has this function.
        if list(parameters.words[:3]) != [512, 2048, 512]:
            raise RuntimeError("this release of llama.cpp orders its parameters otherwise")
        parameters.words[0], parameters.words[1] = n_ctx, n_batch
        self.context = new_context(self.model, parameters)
        if not self.context or context_size(self.context) < n_ctx:
            raise RuntimeError("llama.cpp makes no context of this size")
        set_threads(self.context, n_threads, n_threads_batch)
        self.n_batch = n_batch
        self._n_tokens = 0

    @property
    def n_tokens(self):
        return self._n_tokens

    @n_tokens.setter
    def n_tokens(self, kept):
        remove(memory_of(self.context), 0, kept, -1)
        self._n_tokens = kept

    def eval(self, tokens):
        for start in range(0, len(tokens), self.n_batch):
            part = tokens[start : start + self.n_batch]
            array = (ctypes.c_int32 * len(part))(*part)
            if decode(self.context, batch_of(array, len(part))) != 0:
                raise RuntimeError("llama.cpp could not decode")
            self._n_tokens += len(part)
        if not logits(self.context, -1):
            raise RuntimeError("llama.cpp gave no logits")
