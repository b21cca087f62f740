"""One short run for all tests of probing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import dsvgraph

SPEC = """
extends: deepseek_v3_tiny.yaml
init:
  "**": {normal: 0.05}
  "**norm.weight": ones
  "model.norm.weight": {normal: 1}           # gains that differ, as those of long training do
  "**.shared_head.norm.weight": {normal: 1}
  "**.e_score_correction_bias": zeros
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a chain with two depths, trained until it knows its text."""
    from runs import SIZES, plain, quiet  # here, since this file is read where torch is not installed too

    from dsvgraph_torch.training import loop
    from dsvgraph_torch.training.options import TrainOptions

    folder = tmp_path_factory.mktemp("probing")
    numbers = random.Random(0)
    lines = (f"{n} bottles of beer on the wall, {n} bottles." for n in (numbers.randrange(100) for _ in range(2000)))
    (folder / "text").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        given = dict(data=folder / "text", out=folder / "run", steps=80, batch=8, seq=48, lr=2e-2, device="cpu",
                     save_every=80, eval_every=80)  # fmt: skip
        loop.train(dsvgraph.loads(SPEC, SIZES), TrainOptions.given(**given), quiet())
    return folder / "run"
