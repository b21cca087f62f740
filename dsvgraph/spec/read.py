"""A spec as written: a file, what it extends and includes, and `--set`, merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from dsvgraph import loader
from dsvgraph.codes import Code
from dsvgraph.errors import MAX_ERRORS, DsvError, Source, Span
from dsvgraph.loader import Doc
from dsvgraph.names import listed, nearest
from dsvgraph.spec import vocabulary
from dsvgraph.spec.lines import WrittenLine
from dsvgraph.spec.models import SpecModel
from dsvgraph.spec.validate import validate

SETTING = "--set"  # as the source of a value that no file holds
MAX_FILES = 200
MAX_CHARACTERS = 250_000  # of all files of a spec
MAX_VALUES = 6_000


@dataclass(frozen=True)
class SpecPart:
    """A piece of a spec and the document that it stands in; ``bundled`` if that came with the package."""

    model: Any
    doc: Doc
    path: tuple[Any, ...]
    bundled: bool = False

    def key(self, *path: Any) -> Span | None:
        return self.doc.key(*self.path, *path)

    def value(self, *path: Any) -> Span | None:
        return self.doc.value(*self.path, *path)


@dataclass(frozen=True)
class ConfigEntry:
    """A config value, where it was set, and the places that it overrides (latest first)."""

    value: Any
    span: Span | None
    overrides: tuple[Span | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A whole spec: everything merged, nothing evaluated."""

    name: str
    doc: str
    config: Mapping[str, ConfigEntry]
    blocks: Mapping[str, SpecPart]
    graph: SpecPart
    loss: Mapping[str, SpecPart]
    init: Mapping[str, SpecPart]
    trained: Mapping[str, SpecPart]
    symbolic: frozenset[str] = frozenset()
    published: SpecPart | None = None
    span: Span | None = None  # the beginning of the file itself, apart from those that it extends and includes

    def inherits(self, span: Span | None) -> bool:
        """Return whether what stands there comes from a file that this one extends or includes."""
        return bool(span and self.span and span.source.name not in (self.span.source.name, SETTING))


@dataclass
class _Merge:
    """The parts collected so far, bases first."""

    name: str = ""
    doc: str = ""
    config: dict[str, ConfigEntry] = field(default_factory=dict)
    blocks: dict[str, SpecPart] = field(default_factory=dict)
    graph: SpecPart | None = None
    loss: dict[str, SpecPart] = field(default_factory=dict)
    init: dict[str, SpecPart] = field(default_factory=dict)
    trained: dict[str, SpecPart] = field(default_factory=dict)
    published: SpecPart | None = None  # of the last file alone
    span: Span | None = None  # its beginning


def read(name: str, settings: Mapping[str, Any] | None = None, symbolic: frozenset[str] = frozenset()) -> Spec:
    """Return the spec ``name`` (a path or a bundled name) with all it extends and includes.

    ``settings`` override config values by name; names in ``symbolic`` stay names.
    Raise DsvError for everything that is wrong with the files.
    """
    path = loader.find(name)
    return _finish(_Reader().collect(path), path.stem, settings or {}, symbolic)


def read_text(text: str, settings: Mapping[str, Any] | None = None, name: str = "<spec>") -> Spec:
    """Return the spec that ``text`` holds; it may include bundled files."""
    doc = loader.parse(text, name)
    return _finish(_Reader().merge(doc, loader.bundled(), ()), "spec", settings or {}, frozenset())


def read_open(path: Path, texts: Mapping[Path, str]) -> Spec:
    """Return the spec in the file ``path``, where ``texts`` stand for files that an editor holds, by resolved path.

    Raise DsvError as ``read`` does.
    """
    return _finish(_Reader(texts).collect(path), path.stem, {}, frozenset())


def _finish(merge: _Merge, stem: str, settings: Mapping[str, Any], symbolic: frozenset[str]) -> Spec:
    if merge.graph is None:
        raise DsvError(
            f"`{merge.name or stem}` has no `graph`, so it is no model",
            merge.span,
            code=Code.NO_GRAPH,
            hint="add `graph:` or `extends:`",
        )
    spec = Spec(
        name=merge.name or stem, doc=merge.doc, config=merge.config, blocks=merge.blocks, graph=merge.graph,
        loss=merge.loss, init=merge.init, trained=merge.trained, published=merge.published, span=merge.span,
    )  # fmt: skip
    return with_settings(spec, settings, symbolic)


def _known(name: str, config: Mapping[str, ConfigEntry], option: str) -> None:
    if name not in config:
        raise DsvError(
            f"{option}: the spec has no config value `{name}`",
            code=Code.NO_SETTING,
            hint=nearest(str(name), config) or f"it has {listed(sorted(config))}",
        )


def with_settings(spec: Spec, settings: Mapping[str, Any], symbolic: frozenset[str] = frozenset()) -> Spec:
    """``spec`` with other config values, or with some left symbolic; published figures hold for its own alone."""
    config = dict(spec.config)
    for name, value in settings.items():
        _known(name, config, "--set")
        config[name] = _overridden(config[name], value, _setting(name, value))
    for name in symbolic:
        _known(name, config, "symbolic")
    return replace(spec, config=config, symbolic=symbolic, published=None if settings else spec.published)


def _setting(name: str, value: Any) -> Span:
    """Return the place of a value that no file holds: the option that gave it."""
    if not isinstance(value, (str, int, float, list, dict, type(None))):
        raise DsvError(
            f"--set: a config value is what YAML can hold, `{name}` is {type(value).__name__}", code=Code.BAD_VALUE
        )
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = f"{name}={shown.splitlines()[0] if shown else ''}"
    return Span(Source(SETTING, (text,)), 1, len(name) + 2, max(1, len(text) - len(name) - 1))


def _overridden(old: ConfigEntry | None, value: Any, span: Span | None) -> ConfigEntry:
    return ConfigEntry(value, span, (old.span, *old.overrides) if old else ())


class _Reader:
    """Reads a file with all that it extends and includes."""

    def __init__(self, texts: Mapping[Path, str] | None = None) -> None:
        self.texts = texts or {}
        self.files = self.characters = self.values = 0
        self.circles: set[frozenset[Path]] = set()

    def collect(self, path: Path, stack: tuple[Path, ...] = (), span: Span | None = None) -> _Merge:
        real = path.resolve()
        if real in stack:
            return self.circle((*stack[stack.index(real) :], real), span)
        self.files += 1
        if self.files > MAX_FILES:
            raise DsvError(f"a spec reads at most {MAX_FILES} files", span, code=Code.TOO_MUCH)
        doc = loader.read(path, span, self.texts.get(real))
        self.counted(doc, span)
        return self.merge(doc, path.parent, (*stack, real), real.is_relative_to(loader.bundled().resolve()))

    def circle(self, chain: tuple[Path, ...], span: Span | None) -> _Merge:
        """Raise DsvError; a circle that another of its files has reported already gives nothing."""
        if frozenset(chain) in self.circles:
            return _Merge()
        self.circles.add(frozenset(chain))
        names = " -> ".join(path.name for path in chain)
        raise DsvError(f"files include each other in a circle: {names}", span, code=Code.INCLUDE_CIRCLE)

    def counted(self, doc: Doc, span: Span | None) -> None:
        """Raise DsvError if the files are together too much to read."""
        self.characters += sum(map(len, doc.source.lines))
        self.values += len(doc.values)
        if self.characters > MAX_CHARACTERS or self.values > MAX_VALUES:
            words = f"the files of a spec have at most {MAX_CHARACTERS:,} characters and {MAX_VALUES:,} values together"
            raise DsvError(words, span, code=Code.TOO_MUCH)

    def merge(self, doc: Doc, folder: Path, stack: tuple[Path, ...], bundled: bool = False) -> _Merge:
        model = validate(SpecModel, doc)
        merge, errors = _Merge(), list[DsvError]()
        if model.extends is not None:
            span = doc.value("extends")
            with _gathered(errors):
                merge = self.collect(_inside(model.extends, folder, span), stack, span)
        for i, name in enumerate(model.include):
            if len(errors) > MAX_ERRORS:
                break
            span = doc.value("include", i)
            with _gathered(errors):
                _take_blocks(merge, self.collect(_inside(name, folder, span), stack, span), name, span)
        with _gathered(errors):
            _read_token_ids(model, doc, folder)
        if errors:
            raise DsvError.collect(errors)
        _add(merge, model, doc, bundled)
        return merge


@contextmanager
def _gathered(errors: list[DsvError]) -> Iterator[None]:
    """Put what is raised to ``errors``, and the next file is looked at too; where all are too many, that is all."""
    try:
        yield
    except DsvError as error:
        if error.diagnostics[0].code is Code.TOO_MUCH:
            raise
        errors.append(error)


def _read_token_ids(model: SpecModel, doc: Doc, folder: Path) -> None:
    """Put the token ids of a file in place of its name, where a loss line says `vocabulary: NAME.txt`."""
    for name, line in model.loss.items():
        file, span = line.options.get("vocabulary"), doc.value("loss", name, "vocabulary")
        if not isinstance(file, str) or not file.endswith(vocabulary.ENDING):
            continue
        path = next((home / file for home in loader.homes(folder) if (home / file).is_file()), None)
        if path is None:
            words = f"there is no file `{file}` of token ids beside the spec"
            raise DsvError(words, span, code=Code.NO_FILE, hint="ids and ranges, `0..127 200`, in lines as one likes")
        _check_inside(file, path, folder, span)
        ids = vocabulary.token_ids(loader.text_of(path, span, vocabulary.MAX_FILE), loader.shown(path))
        text = vocabulary.written(ids)
        if len(text) > vocabulary.MAX_TEXT:
            words = f"the token ids of `{file}` are more than {vocabulary.MAX_TEXT:,} characters, written as ranges"
            raise DsvError(words, span, code=Code.TOO_MUCH, hint="in ascending order they are fewer")
        model.loss[name] = WrittenLine.of({**line, "vocabulary": text})


def _add(merge: _Merge, model: SpecModel, doc: Doc, bundled: bool) -> None:
    """Put a file's own parts over those it starts from."""
    merge.name, merge.doc = model.name or merge.name, model.doc or merge.doc
    merge.span = doc.value()
    merge.published = SpecPart(model.published, doc, ("published",)) if model.published else None
    for name, value in model.config.items():
        merge.config[name] = _overridden(merge.config.get(name), value, doc.value("config", name))
    for name, block in model.blocks.items():
        merge.blocks[name] = SpecPart(block, doc, ("blocks", name), bundled)
    if model.graph is not None:
        merge.graph = SpecPart(model.graph, doc, ("graph",))
    if "loss" in model.model_fields_set:
        merge.loss = {n: SpecPart(line, doc, ("loss", n)) for n, line in model.loss.items()}
    for section in ("init", "trained"):
        for pattern, value in getattr(model, section).items():
            getattr(merge, section).pop(pattern, None)
            getattr(merge, section)[pattern] = SpecPart(value, doc, (section, pattern))


def _inside(name: str, folder: Path, span: Span | None) -> Path:
    """The file that an include means; it stays in the folders that the including file reads, or the bundled one."""
    path = loader.find(name, folder, span)
    _check_inside(name, path, folder, span)
    return path


def _check_inside(name: str, path: Path, folder: Path, span: Span | None) -> None:
    """Raise DsvError if a file lies outside the folders that a file in ``folder`` reads."""
    homes = [home.resolve() for home in (*loader.homes(folder), loader.bundled())]
    if Path(name).is_absolute() or not any(path.resolve().is_relative_to(home) for home in homes):
        raise DsvError(
            f"`{name}` lies outside the spec's folder", span, code=Code.OUTSIDE, hint="copy it beside the spec"
        )


def _take_blocks(merge: _Merge, other: _Merge, name: str, span: Span | None) -> None:
    if other.graph is not None:
        raise DsvError(f"`{name}` is a whole model", span, code=Code.NOT_A_LIBRARY, hint="use `extends` for it")
    for section in ("config", "loss", "init", "trained", "published"):
        if getattr(other, section):
            raise DsvError(
                f"`{name}` has a section `{section}`, and `include` brings only blocks", span, code=Code.NOT_A_LIBRARY
            )
    for block, part in other.blocks.items():
        old = merge.blocks.get(block, part)
        if not _one(old, part):
            notes = [("first here", old.key()), ("again here", part.key())]
            raise DsvError(f"two files bring the block `{block}`", span, code=Code.TWO_BLOCKS, notes=notes)
        merge.blocks[block] = part if old.bundled else old  # one's own goes before a bundled one


def _one(old: SpecPart, new: SpecPart) -> bool:
    """Whether two parts are one block: of one file, or of a bundled file and what stands for it beside the spec."""
    files = [PurePath(part.doc.source.name) for part in (old, new)]
    if old.bundled == new.bundled:
        return files[0] == files[1]
    return files[0].parts[-2:] == files[1].parts[-2:] or repr(old.model) == repr(new.model)
