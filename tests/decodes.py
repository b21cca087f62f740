"""Decoding step by step against the whole row, in float64, and what is kept against what is counted."""

from __future__ import annotations

import inspect

import torch

import dsvgraph
import dsvgraph_torch
from dsvgraph.build.decoding.state import Decoder
from dsvgraph.build.decoding.state import axis as position_axis
from dsvgraph.passes.graph.decoding import looks_ahead


@torch.no_grad()
def module_of(graph, kernels="fast"):
    """The module of a graph with random weights, in float64.

    The fast kernels are the same lines as the emitted file, without the time that it takes to cut the functions.
    """
    module = dsvgraph_torch.compile(graph, kernels=kernels).double().eval()
    generator = torch.Generator().manual_seed(0)
    for path, weight in module.state_dict().items():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        spread = 0.1 if weight.dim() < 2 else 0.7 * weight.shape[-1] ** -0.5
        weight.copy_(noise * spread + path.endswith("norm.weight"))
    return module


@torch.no_grad()
def decoded(module, inputs, sizes, axis=1, **context):
    """The outputs of rows that come in chunks, and the cache at the end; documents are those so far."""
    cache, found, start = {}, [], 0
    for size in sizes:
        end = start + size
        given = {k: v[..., :end] if k == "documents" else v[..., start:end] for k, v in context.items()}
        found.append(module.predict(*(x[:, start:end] for x in inputs), cache=cache, **given))
        start = end
    return torch.cat(found, axis), cache


def inputs_of(graph, rows, length, vocab=17):
    """Random inputs of a graph."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(rows, length, *map(int, type_.shape[2:])) for type_ in graph.inputs.values()]
    whole = [type_.dtype == "int" for type_ in graph.inputs.values()]
    return [
        torch.randint(vocab, shape, generator=generator) if ids else torch.randn(shape, generator=generator).double()
        for shape, ids in zip(shapes, whole, strict=True)
    ]


@torch.no_grad()
def check(graph, chunks=([1] * 7, [3, 1, 2, 1], [7]), rows=2, kernels="fast", **context):
    """Cached equals whole, and the cache has as many elements as are counted; or a cache is refused by name.

    Returns the number of elements kept, or None where the model looks ahead or has rows of several lengths.
    """
    module, length = module_of(graph, kernels), sum(chunks[0])
    inputs = inputs_of(graph, rows, length)
    if len(graph.lengths) > 1:  # rows that do not grow together
        assert "cache" not in inspect.signature(module.predict).parameters
        return None
    cost = dsvgraph.cost(graph, rows, length, formulas=False).kv_cache
    if ahead := looks_ahead(graph):
        try:
            module.predict(*inputs, cache={})
        except ValueError as error:
            assert f"`{ahead.name}`" in str(error) and "looks ahead" in str(error)
            assert cost.elements_per_token == cost.elements_per_row == 0
            return None
        raise AssertionError("a model that looks ahead took a cache")
    whole = module.predict(*inputs, **context)
    axis = position_axis(graph.type(next(iter(graph.outputs.values()))), Decoder.of_model(graph).length)
    counted = rows * length * cost.elements_per_token + rows * cost.elements_per_row
    for sizes in chunks:
        found, cache = decoded(module, inputs, sizes, axis, **context)
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-10)
        kept = sum(kept.numel() for key, kept in cache.items() if key != "positions")
        assert kept == counted, f"{kept} kept, {counted} counted"
    return counted
