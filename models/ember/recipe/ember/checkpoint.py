"""Weights to train on from: a saved folder, or the exported graph itself, so that no checkpoint need be kept."""

from pathlib import Path

import torch


def read(path):
    """The weights by their names in Qwen2ForCausalLM. `path` is a folder with `model.safetensors` or `model.onnx`."""
    folder = Path(path)
    if (folder / "model.safetensors").exists():
        from safetensors.torch import load_file

        return load_file(folder / "model.safetensors")
    return of_graph(folder / "model.onnx")


def of_graph(path):
    """The weights of a graph that `export.py` wrote. 8-bit weights come back within half a step of what they were."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    bits = {n.input[1]: {a.name: a.i for a in n.attribute}["bits"] for n in graph.node if n.op_type == "MatMulNBits"}
    if set(bits.values()) - {8}:
        raise SystemExit(
            f"{path}: only 8-bit and f32 graphs can be trained on from, this one has {sorted(set(bits.values()))} bits"
        )

    def matrix(at):
        """A projection [out, in]: f32 as the graph has it (stored as [in, out]), or dequantised."""
        if f"{at}.MatMul.weight" in tensors:
            return tensors[f"{at}.MatMul.weight"].T.contiguous()
        whole = tensors[f"{at}.MatMul.weight_Q8"].float() - 128.0
        return (whole * tensors[f"{at}.MatMul.weight_scales"].reshape(*whole.shape[:2], 1)).flatten(1)

    found = {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"]}
    layers = sum(name.endswith(".input_layernorm.weight") for name in tensors)
    found["model.norm.weight"] = tensors[f"model.layers.{layers}.final_norm_layernorm.weight"]
    for i in range(layers):
        source, target = f"model.layers.{i}.attn", f"model.layers.{i}.self_attn"
        joined, bias = matrix(f"{source}.qkv_proj"), tensors[f"{source}.qkv_proj.Add.bias"]
        out = matrix(f"{source}.o_proj")
        kv = (joined.shape[0] - out.shape[1]) // 2
        for name, weight, part in zip("qkv", joined.split([out.shape[1], kv, kv]), bias.split([out.shape[1], kv, kv])):
            found[f"{target}.{name}_proj.weight"], found[f"{target}.{name}_proj.bias"] = weight, part
        found[f"{target}.o_proj.weight"] = out
        for name in ("gate", "up", "down"):
            found[f"model.layers.{i}.mlp.{name}_proj.weight"] = matrix(f"model.layers.{i}.mlp.{name}_proj")
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.layers.{i}.{name}.weight"] = tensors[f"model.layers.{i}.{name}.weight"]
    return found
