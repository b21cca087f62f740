"""Import: the text of the spec that a config.json means."""

from __future__ import annotations

from pathlib import Path

from dsvgraph.errors import DsvError
from dsvgraph.names import listed
from dsvgraph_hf.config import config_file, spec_text
from dsvgraph_hf.config.config_file import ConfigFile, shown
from dsvgraph_hf.families import architecture, failures, families

OTHERWISE = (
    "write the model in YAML with the checkpoint's names and load its weights with `dsvgraph compile SPEC "
    '--weights DIR`: docs/huggingface.md, "Other families"'
)


def spec_of(path: Path | str) -> str:
    """Return the text of the spec that a config.json (a file, or that of a model folder) means.

    Raise DsvError at the line of the file for what is missing, wrong, contradictory or not known.
    """
    return to_text(config_file.read(Path(path)))


def to_text(config: ConfigFile, canonical: bool = True) -> str:
    """Return the text of the spec that ``config`` means, formatted for people if ``canonical``.

    Raise DsvError as `spec_of` does.
    """
    kind = family_of(config)
    family = families()[kind]
    fields = family.Config.from_file(config)
    name = config.data.get("model_type", kind)
    also = "" if name == kind else f", another name of {kind}"
    origin = f"model_type: {name}{also}. These blocks compute what transformers' {architecture(kind)} does."
    header = (origin, *spec_text.quantization_comments(fields))
    return spec_text.write(family.to_spec(fields), config.name, header, canonical)


def family_of(config: ConfigFile) -> str:
    """Return the family of a config. Raise DsvError if its model_type is missing or is none of them."""
    kind, names = config.data.get("model_type"), config.data.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise config.error("architectures", f"`architectures` is a list of names, found `{shown(names)}`")
    if kind is None:
        kind = _by_architecture(config, names)
    if isinstance(kind, str) and kind not in families():
        kind = _by_other_name(config, kind, names)
    if not isinstance(kind, str):
        raise _unknown(config, kind)
    for name in names or ():
        if name != architecture(kind):
            words = f"`architectures` names {shown(name)}, and `model_type: {kind}` is {architecture(kind)}"
            raise config.error("architectures", words, OTHERWISE)
    return kind


def _unknown(config: ConfigFile, kind: object) -> DsvError:
    words = f"`model_type: {shown(kind)}` is none of the families that are read: {listed(families())}"
    return DsvError(words, config.span("model_type"), hint=OTHERWISE, notes=[(failure, None) for failure in failures()])


def _by_other_name(config: ConfigFile, name: str, names: list[str] | None) -> str:
    """Return the family that has ``name`` as another one. Raise DsvError if the architecture is not that family's."""
    for kind, family in families().items():
        if name in family.Config.other_names:
            if names != [architecture(kind)]:
                words = f"`model_type: {name}` is read where `architectures` is [{architecture(kind)}]"
                raise config.error("architectures" if names else "model_type", words, OTHERWISE)
            return kind
    raise _unknown(config, name)


def _by_architecture(config: ConfigFile, names: list[str] | None) -> str:
    if not names:
        raise config.error("", "`model_type` is missing", f"known are {', '.join(families())}")
    known = {architecture(kind): kind for kind in families()}
    if names[0] not in known:
        words = f"`architectures: [{shown(names[0])}]` is none of the classes that are read: {listed(known)}"
        raise config.error("architectures", words, OTHERWISE)
    return known[names[0]]
