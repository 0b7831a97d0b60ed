"""Export the trained checkpoint to ONNX with GroupQueryAttention, and put it where Hearth finds it.

    python export.py --out out                          # out/onnx-int8
    python export.py --out out --formats fp32 int4      # others, to compare by `evaluate.py`
    python export.py --out out --install ..             # out/onnx-int8 becomes models/ember

Uses the model builder of onnxruntime-genai. Tied embeddings are stored once (shared_embeddings).
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

FORMATS = {
    "fp32": ("fp32", ["shared_embeddings=true"]),
    "int8": ("int8", ["accuracy_level=4", "block_size=32", "shared_embeddings=true"]),
    "int8-fp32-activations": ("int8", ["accuracy_level=1", "block_size=32", "shared_embeddings=true"]),
    "int4": ("int4", ["accuracy_level=4", "block_size=32", "shared_embeddings=true"]),
}
KEEP = ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"]


def embed_weights(folder):
    """One file is easier to ship than two: put external data back into model.onnx."""
    import onnx

    path = folder / "model.onnx"
    model = onnx.load(path)
    # What the exporter notes for people (its own version, the folder it worked in) is no part of the model.
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)
    for extra in folder.glob("*.data"):
        extra.unlink()


def build(source, target, name):
    """One format. Raises where the builder fails; what it printed is in the file beside the folder."""
    precision, options = FORMATS[name]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "onnxruntime_genai.models.builder",
        "-i",
        str(source),
        "-o",
        str(target),
        "-p",
        precision,
        "-e",
        "cpu",
        "-c",
        str(target / "cache"),
        "--extra_options",
        *options,
    ]
    log_path = target.parent / f"{target.name}.log"
    with open(log_path, "w") as log:
        if subprocess.run(command, stdout=log, stderr=log).returncode:
            raise SystemExit(f"{name}: the builder failed; {log_path} says why")
    shutil.rmtree(target / "cache", ignore_errors=True)
    embed_weights(target)
    for file in KEEP:
        shutil.copy(source / file, target / file)
    for extra in target.iterdir():
        if extra.name not in [*KEEP, "model.onnx"]:
            extra.unlink()
    sizes = {p.name: p.stat().st_size for p in target.iterdir()}
    print(json.dumps({"format": name, "bytes": sum(sizes.values()), "model.onnx": sizes["model.onnx"]}))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", default="out")
    p.add_argument("--formats", nargs="*", default=["int8"], choices=list(FORMATS))
    p.add_argument("--install", help="copy the first format's files into this folder, after building")
    args = p.parse_args()
    out = Path(args.out)
    for name in args.formats:
        build(out / "hf", out / f"onnx-{name}", name)
    if args.install:
        for file in ["model.onnx", *KEEP]:
            shutil.copy(out / f"onnx-{args.formats[0]}" / file, Path(args.install) / file)


if __name__ == "__main__":
    main()
