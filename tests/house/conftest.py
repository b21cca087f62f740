from __future__ import annotations

from collections.abc import Iterator

import pytest
import sources


@pytest.fixture(scope="package", autouse=True)
def _trees() -> Iterator[None]:
    """The trees are freed when the last of these tests is done."""
    yield
    sources.forget()
