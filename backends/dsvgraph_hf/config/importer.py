"""From a config.json to the text of a spec."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dsvgraph.errors import listed
from dsvgraph_hf.config import source, text
from dsvgraph_hf.config.fields import HubConfig
from dsvgraph_hf.config.source import Config, shown

FAMILIES = {  # model_type: what transformers calls the whole model
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}

SAME = {"kimi_k2": "deepseek_v3"}
"""A model_type of another name -> the family whose class `architectures` then names: nothing but the name differs.

Kimi K2's model card: DeepSeek-V3's class and weights, called otherwise so that servers tell the two apart.
"""
OTHERWISE = (
    "write the model in YAML with the checkpoint's names and load its weights with `dsvgraph compile SPEC "
    '--weights DIR`: docs/huggingface.md, "Other families"'
)


def spec_of(path: Path | str) -> str:
    """The text of the spec that a config.json (a file, or that of a model folder) means.

    Raises DsvError at the line of the file for what is missing, wrong, contradictory or not understood.
    """
    return spec_text(source.read(Path(path)))


def spec_text(config: Config, canonical: bool = True) -> str:
    """The text of the spec that ``config`` means, for people if ``canonical``; raises DsvError as `spec_of` does."""
    kind = family(config)
    fields: HubConfig = module(kind).Config.read(config)
    name = config.data.get("model_type", kind)
    also = "" if name == kind else f", another name of {kind}"
    origin = f"model_type: {name}{also}. These blocks compute what transformers' {FAMILIES[kind]} does."
    return text.write(module(kind).draft(fields), config.name, origin, canonical)


def module(kind: str) -> Any:
    """The module of one family: its Config and its template."""
    return import_module(f"dsvgraph_hf.families.{kind}")


def family(config: Config) -> str:
    """The family of a config; raises DsvError where its model_type is missing, or of a family that is not read."""
    kind, names = config.data.get("model_type"), config.data.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise config.fault("architectures", f"`architectures` is a list of names, found `{shown(names)}`")
    if kind is None:
        kind = _by_architecture(config, names)
    if isinstance(kind, str) and kind in SAME:
        kind = _same(config, kind, names)
    if not isinstance(kind, str) or kind not in FAMILIES:
        words = f"`model_type: {shown(kind)}` is none of the families that are read: {listed(FAMILIES)}"
        raise config.fault("model_type", words, OTHERWISE)
    for name in names or ():
        if name != FAMILIES[kind]:
            words = f"`architectures` names {shown(name)}, and `model_type: {kind}` is {FAMILIES[kind]}"
            raise config.fault("architectures", words, OTHERWISE)
    return kind


def _same(config: Config, kind: str, names: list[str] | None) -> str:
    """The family of which ``kind`` is another name, if the file's architecture is that family's."""
    if names != [FAMILIES[SAME[kind]]]:
        words = f"`model_type: {kind}` is read where `architectures` is [{FAMILIES[SAME[kind]]}]"
        raise config.fault("architectures" if names else "model_type", words, OTHERWISE)
    return SAME[kind]


def _by_architecture(config: Config, names: list[str] | None) -> str:
    if not names:
        raise config.fault("", "`model_type` is missing", f"known are {', '.join(FAMILIES)}")
    for kind, name in FAMILIES.items():
        if name == names[0]:
            return kind
    words = f"`architectures: [{shown(names[0])}]` is none of the classes that are read: {listed(FAMILIES.values())}"
    raise config.fault("architectures", words, OTHERWISE)
