"""Legal configs, drawn: import, build, names, shapes, export and import again, against transformers."""

from __future__ import annotations

import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("hypothesis")

import torch  # noqa: E402
from configs import SMALL, drawn, hub, model_of, saved, shapes, text_of  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dsvgraph.passes.lint.unused import lint  # noqa: E402
from dsvgraph.passes.text.layout import layout  # noqa: E402
from dsvgraph_hf import config_of  # noqa: E402
from dsvgraph_hf.exporting.value_numbering import ValueNumbers  # noqa: E402

DRAWN = settings(
    max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
W1 = dict(gate_proj="w1", up_proj="w3", down_proj="w2")  # Mistral's names


@pytest.mark.parametrize("kind", SMALL)
@DRAWN
@given(data=st.data())
def test_a_config_gives_the_model_of_transformers(kind, data):
    config = hub(kind, **data.draw(drawn(kind)))
    model = model_of(saved(config))
    found = shapes(model)
    main = {path: shape for path, shape in found.items() if not is_mtp(path, config)}
    assert main == in_checkpoints(kind, config)
    heads = {path for path in found if path.endswith("eh_proj.weight")}
    assert len(heads) == getattr(config, "num_mtp_layers", 0)
    assert sum(torch.Size(s).numel() for s in main.values()) == total(config)


@pytest.mark.parametrize("kind", SMALL)
@DRAWN
@given(data=st.data())
def test_an_exported_config_is_read_as_the_same_spec(kind, data):
    written = saved(hub(kind, **data.draw(drawn(kind))))
    text, model = text_of(written), model_of(written)
    again = config_of(model)
    assert text_of(again) == text or is_another_family_too(kind, again, model)
    assert layout(text) == text
    assert not lint(model)
    assert transformers.AutoConfig.for_model(**again).to_json_string()  # transformers takes it


def is_another_family_too(kind, again, model):
    """Whether a model without experts is one of a family that has none, layer for layer."""
    number = ValueNumbers()
    return again["model_type"] != kind and number.of(model).outputs == number.of(model_of(again)).outputs


def total(config):
    """Parameters that transformers counts, and the buffers that checkpoints hold."""
    model = on_meta(config)
    return sum(weight.numel() for weight in {id(w): w for w in model.state_dict(keep_vars=True).values()}.values())


def on_meta(config):
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config)


def is_mtp(path, config):
    parts = path.split(".")
    return parts[1] == "layers" and int(parts[2]) >= config.num_hidden_layers


def in_checkpoints(kind, config):
    """Names and shapes of transformers' model as the released checkpoints of the family have them."""
    model = on_meta(config)
    found = {}
    for path, weight in model.state_dict().items():
        if path != "lm_head.weight" or not config.tie_word_embeddings:
            found.update(one_by_one(kind, path, tuple(weight.shape)))
    return found


def one_by_one(kind, path, shape):
    """A tensor of stacked experts as those of each."""
    head, inside, last = path.partition(".experts.")
    if kind == "mixtral":
        head = head.replace(".mlp", ".block_sparse_moe")
        path = path.replace(".mlp.", ".block_sparse_moe.")
    if not inside:
        return {path: shape}
    names = ("gate_proj", "up_proj") if last.startswith("gate_up_proj") else ("down_proj",)
    part = "bias" if last.endswith("_bias") else "weight"
    rows, *width = shape[1:] if part == "bias" or kind != "gpt_oss" else reversed(shape[1:])  # gpt-oss's are transposed
    one = (rows // len(names), *width)
    names = [W1[name] for name in names] if kind == "mixtral" else names
    return {f"{head}.experts.{i}.{name}.{part}": one for i in range(shape[0]) for name in names}
