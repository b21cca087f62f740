"""The documentation of ops and blocks in a few lines of Markdown, as editors show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsvgraph.build.ports import written as written_type
from dsvgraph.passes.text.reference import OpPage
from dsvgraph.passes.text.reference.rows import written


def op_markdown(page: OpPage) -> str:
    """What an op computes, its formula, its ports and weights."""
    code = f"```\n{page.formula}\n```" if page.formula else ""
    rows = "\n".join(f"- {row.kind} `{row.name}` {_code(row.type)}" for row in page.rows() if row.kind != "attribute")
    return "\n\n".join(filter(None, [*page.doc, code, rows]))


def block_markdown(doc: str, args: Mapping[str, Any], inputs: Mapping[str, Any], out: Any) -> str:
    """What a block is, its inputs, outputs and arguments; the parts are as they are written."""
    told = [f"`{n}`" if v is None else f"`{n}: {written(v)}`" for n, v in args.items()]
    rows = [f"- in `{port}` `{written_type(type_)}`" for port, type_ in inputs.items()]
    rows += [f"- out {_code(written(out))}"] + [f"- args {', '.join(told)}"] * bool(told)
    return "\n\n".join(filter(None, [doc, "\n".join(rows)]))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
