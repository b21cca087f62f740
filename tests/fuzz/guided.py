"""Coverage-guided fuzzing with atheris: `python tests/fuzz/guided.py loader -max_total_time=300`; or `expr`, `layout`.

What follows the target's name is libFuzzer's. New inputs go to a folder of one's own (the first one
named), the corpus here is only read; `-merge=1 tests/fuzz/corpus/loader NEW` takes over what is worth it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests"), str(HERE)]

with atheris.instrument_imports(include=["dsvgraph", "ruamel", "pace"]):
    import judge
    from targets import TARGETS

FLAGS = ["-timeout=5", "-rss_limit_mb=700", "-max_len=2000"]


def main() -> None:
    """Runs one target until libFuzzer ends."""
    name, *rest = sys.argv[1:]
    corpus = HERE / "corpus" / ("expr" if name == "expr" else "loader")
    folders = [] if any("-merge" in flag for flag in rest) else [str(corpus)]
    words = f"-dict={corpus}.dict"

    def run(raw: bytes) -> None:
        with judge.bounded(name):
            TARGETS[name](raw)

    atheris.Setup([sys.argv[0], *FLAGS, words, *rest, *folders], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
