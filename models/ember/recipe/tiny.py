"""A much smaller sibling of Ember for tests that need a real graph and no quality: it counts, more or less.

    python tiny.py --to ../../../crates/engine/tests/data/tiny

Same form as Ember (Qwen2, byte-level BPE, ChatML, GroupQueryAttention), f32, under 200 KB, trained in seconds. The
same seed gives the same model on one machine; the tests rest on the file that is kept, not on making it again.
"""

import argparse
import random
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from ember.batches import pack
from ember.calendar_dates import count_turn
from ember.dialogue import add
from ember.network import Network
from ember.tokenizer import SPECIAL, encode, train_tokenizer
from export import KEEP, build

SHAPE = {
    "hidden": 32,
    "layers": 2,
    "inner": 64,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 16,
    "theta": 10000.0,
    "context": 512,
}
VOCABULARY = 256 + len(SPECIAL) + 29


def counting(rng):
    """One or two requests to count."""
    turns = []
    for _ in range(rng.randint(1, 2)):
        add(turns, count_turn(rng, "train"))
    return turns


def train(model, tokenizer, steps):
    rng = random.Random("tiny")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    for step in range(steps):
        ids, owner = pack([encode(tokenizer, counting(rng), None) for _ in range(16)])
        at = owner[:, 1:] >= 0
        loss = F.cross_entropy(model.logits(model(ids)[:, :-1][at]), ids[:, 1:][at])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 50) * (1 - step / steps)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {float(loss.detach()):.3f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--to", required=True)
    p.add_argument("--steps", type=int, default=800)
    args = p.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        tokenizer = train_tokenizer(out / "tokenizer.json", VOCABULARY, count=4_000)
        model = Network(SHAPE | {"vocab": tokenizer.get_vocab_size()})
        train(model, tokenizer, args.steps)
        model.save(out / "tokenizer.json", out / "hf")
        build(out / "hf", out / "onnx", "fp32")
        target = Path(args.to)
        target.mkdir(parents=True, exist_ok=True)
        for file in ["model.onnx", *KEEP]:
            (target / file).write_bytes((out / "onnx" / file).read_bytes())


if __name__ == "__main__":
    main()
