"""Train Ember from scratch on the endless stream of dialogues.

    python train.py --out out --minutes 100

Every step sees fresh dialogues. Loss is taken on assistant tokens only. A GPU is used when there is one. With
`--minutes` the learning rate follows the clock, so two runs differ a little; with `--steps` alone a run is
repeatable on one machine.
"""

import argparse
import json
import math
import random
import shutil
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from ember.batches import HEAD, batches, pack
from ember.dialogue import dialogue
from ember.network import Network
from ember.tokenizer import PAD, encode, train_tokenizer


@torch.no_grad()
def exact_replies(model, tokenizer, device, count=400, seed=5):
    """Share of unseen replies that greedy decoding would give word for word, by kind; of fixed replies the head."""
    rng = random.Random(f"exact:{seed}")
    hits, items = defaultdict(list), []
    for _ in range(count):
        turns = dialogue(rng, "dev")
        items.append((turns, *encode(tokenizer, turns, 6)))
    items.sort(key=lambda x: len(x[1]))
    for at in range(0, count, 16):
        part = items[at : at + 16]
        ids, owner = (t.to(device) for t in pack([x[1:] for x in part]))
        good = model.logits(model(ids)[:, :-1]).argmax(-1) == ids[:, 1:]
        for i, (turns, *_) in enumerate(part):
            for k, turn in enumerate(turns):
                if turn["role"] == "assistant" and turn["kind"] != "recall_all":
                    hits[turn["kind"].split(":")[0]].append(bool(good[i][owner[i, 1:] == k].all()))
    return {k: round(sum(v) / len(v), 3) for k, v in sorted(hits.items())}


class Optimizer:
    """Muon for the matrices of the layers, AdamW for the embedding and the vectors. Muon (Jordan et al., 2024) makes
    each update an orthogonal matrix. The two were not compared here."""

    def __init__(self, model, rate):
        inside = [p for b in model.blocks for p in b.parameters() if p.ndim == 2]
        vectors = [p for p in model.parameters() if p.ndim == 1]
        self.muon = torch.optim.Muon(inside, lr=rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(
            [{"params": [model.embed], "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.95),
            fused=True,
        )

    def step(self, rate):
        for part in (self.muon, self.adam):
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)


def schedule(done, step, rate, fall):
    """Warm up for 100 steps, hold, then fall in a line to nothing over the last share `fall` of the run."""
    return rate * min(1.0, (step + 1) / 100) * min(1.0, max(0.01, (1.0 - done) / fall))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", default="out")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=10_000)
    p.add_argument("--minutes", type=float, default=1e9, help="finish the schedule within this time")
    p.add_argument("--tokens", type=int, default=4096, help="tokens in a micro-batch")
    p.add_argument("--accumulate", type=int, default=2, help="micro-batches in a step")
    p.add_argument("--rate", type=float, default=4e-3)
    p.add_argument("--fall", type=float, default=0.35, help="share of the run over which the rate falls to nothing")
    p.add_argument("--vocabulary", type=int, default=3072)
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--inner", type=int, default=640)
    p.add_argument("--head", type=int, default=32, help="head size")
    p.add_argument("--kv-heads", type=int, default=4)
    p.add_argument("--threads", type=int, default=2, help="on a CPU: the number of physical cores")
    p.add_argument("--resume", help="start from this saved folder (give another --seed, so that the data is new)")
    p.add_argument("--reply", type=int, default=HEAD, help="tokens learned of a fixed reply alone; 200 for new answers")
    p.add_argument("--no-compile", action="store_true")
    return p.parse_args()


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_path = out / "tokenizer.json"
    if args.resume:
        # Weights mean something only with the tokens that they were trained on.
        shutil.copyfile(Path(args.resume) / "tokenizer.json", tokenizer_path)
    elif not tokenizer_path.exists():
        train_tokenizer(tokenizer_path, args.vocabulary)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    model = Network(
        {
            "vocab": tokenizer.get_vocab_size(),
            "hidden": args.hidden,
            "layers": args.layers,
            "inner": args.inner,
            "head_dim": args.head,
            "heads": args.hidden // args.head,
            "kv_heads": args.kv_heads,
            "theta": 10000.0,
            "context": 4096,
        }
    ).to(device)
    print(f"{sum(x.numel() for x in model.parameters()):,} parameters on {device}", flush=True)
    if args.resume:
        model.load(args.resume)
    report = run(args, model, tokenizer, device, lambda: model.save(tokenizer_path, out / "hf"))
    (out / "train.json").write_text(json.dumps(report | {"arguments": vars(args)}, indent=2) + "\n")


def run(args, model, tokenizer, device, save):
    forward = model if args.no_compile else torch.compile(model, dynamic=True)
    optimizer = Optimizer(model, args.rate)
    started, step, seen, losses = time.time(), 0, 0, []
    progress = lambda: min(1.0, max(step / args.steps, (time.time() - started) / 60 / args.minutes))
    stream = batches(tokenizer, args.seed, args.tokens, progress, 900 if args.resume else 350, head=args.reply)
    while (done := progress()) < 1.0:
        parts = [next(stream) for _ in range(args.accumulate)]
        total = sum(int((owner[:, 1:] >= 0).sum()) for _, owner in parts)
        for ids, owner in parts:
            ids, owner = ids.to(device), owner.to(device)
            at = owner[:, 1:] >= 0
            loss = F.cross_entropy(model.logits(forward(ids)[:, :-1][at]), ids[:, 1:][at], reduction="sum") / total
            loss.backward()
            seen += int((ids != PAD).sum())
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(schedule(done, step, args.rate, args.fall))
        step += 1
        if step % 50 == 0:
            recent, losses = sum(losses) / 50, []
            minutes = (time.time() - started) / 60
            print(
                f"step {step} minute {minutes:.1f} loss {recent:.4f} tokens {seen / 1e6:.2f}M {seen / minutes / 60:.0f} tok/s",
                flush=True,
            )
        if step % 500 == 0:
            print("   ", exact_replies(model, tokenizer, device, 200), flush=True)
            save()
    save()
    final = exact_replies(model, tokenizer, device)
    print("final", final, flush=True)
    return {
        "steps": step,
        "tokens_seen": seen,
        "minutes": round((time.time() - started) / 60, 1),
        "device": device,
        "parameters": sum(x.numel() for x in model.parameters()),
        "exact": final,
    }


if __name__ == "__main__":
    main()
