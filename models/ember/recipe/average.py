"""Average the weights of two models that came from each other by training.

    python average.py A B --out averaged
    python export.py --out averaged

The mean of two points of one path of training is often better than either ("Model soups", Wortsman et al., 2022).
"""

import argparse
import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from ember.network import Network


def loaded(folder, tokens):
    """The network of a model folder."""
    config = json.loads((Path(folder) / "config.json").read_text())
    model = Network(
        {
            "vocab": tokens,
            "hidden": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "inner": config["intermediate_size"],
            "head_dim": config["hidden_size"] // config["num_attention_heads"],
            "heads": config["num_attention_heads"],
            "kv_heads": config["num_key_value_heads"],
            "theta": config["rope_theta"],
            "context": config["max_position_embeddings"],
        }
    )
    model.load(folder)
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("models", nargs=2)
    p.add_argument("--out", default="averaged")
    p.add_argument("--weight", type=float, default=0.5, help="the share of the second model")
    args = p.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = out / "tokenizer.json"
    shutil.copyfile(Path(args.models[0]) / "tokenizer.json", tokenizer)
    if tokenizer.read_bytes() != (Path(args.models[1]) / "tokenizer.json").read_bytes():
        raise SystemExit("the two models have different tokenizers, so their weights mean different things")
    tokens = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    first, second = (loaded(folder, tokens) for folder in args.models)
    other = second.state_dict()
    first.load_state_dict({k: v + (other[k] - v) * args.weight for k, v in first.state_dict().items()})
    first.save(tokenizer, out / "hf")


if __name__ == "__main__":
    main()
