"""The tokenizer: byte-level BPE with the pattern of Qwen2, trained on the generator's own dialogues."""

import random
from pathlib import Path

from ember.dialogue import conversation, one_question, run_of_one_skill

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = 0, 1, 2
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Every digit stands alone; a space belongs to the word after it.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(seed, count):
    """What the tokenizer learns from: questions for the most part, whose words should be whole."""
    rng = random.Random(f"tokenizer:{seed}")
    for i in range(count):
        make = (
            lambda: one_question(rng, "train"),
            lambda: conversation(rng, "train", 800),
            lambda: one_question(rng, "train"),
            lambda: run_of_one_skill(rng, "train", 400),
        )[i % 4]
        for turn in make():
            yield turn["content"]


def train_tokenizer(path, vocabulary, seed=0, count=45_000):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts(seed, count), trainer)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


def encode(tokenizer, turns, head):
    """Ids, and for every id the number of the assistant turn that it belongs to, or -1. Of a turn marked "head"
    only the first `head` tokens are kept."""
    pieces, owners, cut = [], [], None
    for i, turn in enumerate(turns):
        mine = turn["role"] == "assistant"
        pieces += [f"<|im_start|>{turn['role']}\n", turn["content"] + "<|im_end|>", "\n"]
        owners += [-1, i if mine else -1, -1]
        cut = len(pieces) - 2 if mine and turn.get("head") else cut
    ids, owner = [], []
    # Pieces are encoded apart: their borders are token borders in the whole text as well.
    for number, (piece, who) in enumerate(zip(tokenizer.encode_batch(pieces, add_special_tokens=False), owners)):
        found = piece.ids[:head] if number == cut else piece.ids
        ids += found
        owner += [who] * len(found)
        if number == cut:
            break
    return ids, owner
