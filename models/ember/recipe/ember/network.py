"""Ember's network: Qwen2 written out plainly, because fused projections and bf16 products are about twice as fast on
a CPU as the general implementation. It is saved under the parameter names of Qwen2ForCausalLM."""

import json
import math
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from ember.tokenizer import CHAT_TEMPLATE, END, PAD, SPECIAL

SHORT = 256  # tokens


def product(x, weight, bias=None):
    """Matrix product in bf16 with f32 master weights."""
    return F.linear(x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16())


def attention(q, k, v):
    """Causal attention of [batch, heads, length, size]. Short rows, which are most, are faster as plain products on a
    CPU; the fused form wins where the scores no longer fit into its cache."""
    length = q.shape[-2]
    if length > SHORT or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1).to(v.dtype) @ v


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-6)


class Block(nn.Module):
    """One layer. The projections are parameters of their own, so that the optimizer can treat each as the matrix
    that it is, and are joined for the product."""

    def __init__(self, c):
        super().__init__()
        self.heads, self.kv, self.size = c["heads"], c["kv_heads"], c["head_dim"]
        width, inner = c["hidden"], c["inner"]
        matrix = lambda rows, columns, scale=1.0: nn.Parameter(
            torch.randn(rows, columns) * scale / math.sqrt(columns) * 0.6
        )
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.q, self.k, self.v = (
            matrix(self.heads * self.size, width),
            matrix(self.kv * self.size, width),
            matrix(self.kv * self.size, width),
        )
        self.qkv_bias = nn.Parameter(torch.zeros((self.heads + 2 * self.kv) * self.size))
        self.o = matrix(width, self.heads * self.size, 1 / math.sqrt(2 * c["layers"]))
        self.gate, self.up = matrix(inner, width), matrix(inner, width)
        self.down = matrix(width, inner, 1 / math.sqrt(2 * c["layers"]))

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        heads, kv, size = self.heads, self.kv, self.size
        qkv = product(self.norm1(x), torch.cat([self.q, self.k, self.v]), self.qkv_bias).view(
            batch, length, heads + 2 * kv, size
        )
        turned = qkv[:, :, : heads + kv]
        a, b = turned[..., : size // 2], turned[..., size // 2 :]
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        q, k, v = (
            turned[:, :, :heads].transpose(1, 2),
            turned[:, :, heads:].transpose(1, 2),
            qkv[:, :, heads + kv :].transpose(1, 2),
        )
        k, v = k.repeat_interleave(heads // kv, 1), v.repeat_interleave(heads // kv, 1)
        y = attention(q, k, v).transpose(1, 2).reshape(batch, length, heads * size)
        x = x + product(y, self.o)
        gate, up = product(self.norm2(x), torch.cat([self.gate, self.up])).chunk(2, -1)
        return x + product(F.silu(gate) * up, self.down)


class Network(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Parameter(torch.randn(c["vocab"], c["hidden"]) * 0.02)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = Norm(c["hidden"])

    def forward(self, ids):
        """Final hidden states [batch, length, hidden]; the caller takes logits only where it needs them."""
        size = self.c["head_dim"]
        power = -torch.arange(0, size, 2, device=ids.device) / size
        angle = torch.arange(ids.shape[1], device=ids.device)[:, None] * (self.c["theta"] ** power)
        cos, sin = angle.cos()[None, :, None].bfloat16(), angle.sin()[None, :, None].bfloat16()
        x = F.embedding(ids, self.embed)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden):
        return product(hidden, self.embed).float()

    def named(self):
        """Every parameter under its name in Qwen2ForCausalLM. The joined bias comes as views of its three parts."""
        c = self.c
        yield "model.embed_tokens.weight", self.embed
        yield "model.norm.weight", self.norm.weight
        cuts = [c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]]
        for i, b in enumerate(self.blocks):
            at = f"model.layers.{i}."
            for name, weight, bias in zip("qkv", (b.q, b.k, b.v), b.qkv_bias.split(cuts)):
                yield at + f"self_attn.{name}_proj.weight", weight
                yield at + f"self_attn.{name}_proj.bias", bias
            yield at + "self_attn.o_proj.weight", b.o
            for name in ("gate", "up", "down"):
                yield at + f"mlp.{name}_proj.weight", getattr(b, name)
            yield at + "input_layernorm.weight", b.norm1.weight
            yield at + "post_attention_layernorm.weight", b.norm2.weight

    @torch.no_grad()
    def load(self, folder):
        """Take the weights of a folder, to train on from there."""
        from ember.checkpoint import read

        state = read(folder)
        for name, parameter in self.named():
            parameter.copy_(state[name])

    def save(self, tokenizer_path, out):
        """A folder as hub models have them: weights, configuration, tokenizer, template."""
        from safetensors.torch import save_file

        out.mkdir(parents=True, exist_ok=True)
        state = {name: p.detach().float().cpu().clone().contiguous() for name, p in self.named()}
        save_file(state, out / "model.safetensors", metadata={"format": "pt"})
        for name, value in configuration(self.c).items():
            (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / "tokenizer.json").write_text(Path(tokenizer_path).read_text(encoding="utf-8"), encoding="utf-8")


def configuration(c):
    """The configuration files of a Qwen2 model, by name."""
    token = lambda text: {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }
    return {
        "config.json": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": c["vocab"],
            "hidden_size": c["hidden"],
            "intermediate_size": c["inner"],
            "num_hidden_layers": c["layers"],
            "num_attention_heads": c["heads"],
            "num_key_value_heads": c["kv_heads"],
            "head_dim": c["head_dim"],
            "hidden_act": "silu",
            "max_position_embeddings": c["context"],
            "rope_theta": float(c["theta"]),
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": True,
            "torch_dtype": "float32",
            "bos_token_id": PAD,
            "eos_token_id": END,
            "pad_token_id": PAD,
        },
        "generation_config.json": {
            "bos_token_id": PAD,
            "eos_token_id": [END, PAD],
            "pad_token_id": PAD,
            "do_sample": False,
            "max_new_tokens": 256,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "model_max_length": c["context"],
            "add_prefix_space": False,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "added_tokens_decoder": {str(i): token(t) for i, t in enumerate(SPECIAL)},
            "additional_special_tokens": SPECIAL[1:],
            "chat_template": CHAT_TEMPLATE,
        },
    }
