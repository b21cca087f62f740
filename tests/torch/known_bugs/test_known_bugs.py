"""Public bugs of MTP and MoE training, put into the emitted source one by one: each is found."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from batches import CHECKS, failure, module_of, text  # noqa: E402
from bugs import BUGS, Bug  # noqa: E402


@pytest.mark.parametrize("name", CHECKS)
def test_the_emitted_source_is_as_the_reference(name: str) -> None:
    CHECKS[name](module_of(text()), name)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_known_bug_is_found(bug: Bug) -> None:
    source = text()
    for old, new in bug.edits:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the emitted source"
        source = source.replace(old, new)
    found = failure(source)
    assert found and not found.partition(": ")[2].startswith(("NameError", "SyntaxError", "TypeError")), found
