"""Micro-batches of dialogues alike in length, from the endless stream."""

import random

import torch

from ember.dialogue import dialogue
from ember.tokenizer import PAD, encode

HEAD = 6  # tokens of a fixed reply that are learned when it stands alone


def batches(tokenizer, seed, size, progress, first=350, pool=1024, head=HEAD):
    """Pairs of ids and owners, each about `size` tokens. Short dialogues come first in training: copying is learned
    sooner where less stands between a value and its use. `progress()` goes from 0 to 1."""
    rng = random.Random(f"train:{seed}")
    while True:
        done, group = progress(), []
        limit = int(first + (1300 - first) * min(1.0, done / 0.3))
        for _ in range(pool):
            roll, cap = rng.random(), limit
            if done > 0.4 and roll < 0.004:
                cap = 5000
            elif roll < 0.04:
                cap = 2 * limit
            group.append(encode(tokenizer, dialogue(rng, "train", cap), head))
        group.sort(key=lambda item: len(item[0]))
        made, row = [], []
        for item in group:
            if row and (len(row) + 1) * len(item[0]) > size:
                made.append(row)
                row = []
            row.append(item)
        made.append(row)
        # A row alone would be compiled for itself; it is given a companion.
        made = [row if len(row) > 1 else row + [group[0]] for row in made]
        rng.shuffle(made)
        for row in made:
            yield pack(row)


def pack(row):
    """Rows of ids padded to one length, a multiple of 16, and the owner of every id."""
    length = -(-max(len(ids) for ids, _ in row) // 16) * 16
    ids = torch.full((len(row), length), PAD)
    owner = torch.full((len(row), length), -1)
    for i, (a, b) in enumerate(row):
        ids[i, : len(a)], owner[i, : len(b)] = torch.tensor(a), torch.tensor(b)
    return ids, owner
