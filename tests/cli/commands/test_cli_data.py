"""`dsvgraph data`: what it prepares, shows and lists."""

from __future__ import annotations

from collections import Counter

import pytest

from dsvgraph.spec.vocabulary import token_ids

torch = pytest.importorskip("torch")

from dsvgraph_torch.data.text import load_corpus  # noqa: E402


def test_prepare_and_show(dsv, tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "one two"}\n{"body": "three"}\n' * 50)
    answer = dsv("data", "prepare", tmp_path / "a.jsonl", "-o", tmp_path / "out", "--field", "body", "--json")
    assert answer.code == 0 and answer.json["documents"] == 100 and answer.json["tokens"] == 50 * 14
    rows = dsv("data", "show", tmp_path / "out", "--pack", "cut", "--seq", 9, "--rows", 3, "--json").json["rows"]
    assert len(rows) == 3
    for row in rows:
        assert {len(row[key]) for key in ("ids", "pieces", "counted", "answers", "documents")} == {len(row["ids"])}
        text = "".join(row["pieces"])
        assert text in "one two\nthree\n" * 3 and row["ids"] == list(text.encode())
        assert row["counted"] == [i > 0 and row["documents"][i] == row["documents"][i - 1] for i in range(len(text))]
    told = dsv("data", "show", tmp_path / "out", "--pack", "cut", "--seq", 9)
    assert "bytes: 256 tokens" in told.out and "‖" in told.out and "row 2" in told.out
    again = dsv("data", "prepare", tmp_path / "a.jsonl", "-o", tmp_path / "out")
    assert again.code == 1 and "exists" in again.err


def test_vocabulary(dsv, tmp_path) -> None:
    """What is written is what is met most in the part that is trained on, by a count in Python; a loss takes it."""
    words = [f"w{n * n % 89} " for n in range(4000)]
    (tmp_path / "a.txt").write_text("".join(words))
    answer = dsv("data", "vocabulary", tmp_path / "a.txt", "--size", 7, "-o", tmp_path / "kept.txt", "--json")
    assert answer.code == 0
    trained = load_corpus(tmp_path / "a.txt", 2, 16).train
    counts = Counter(token for start, stop in trained.spans for token in trained.ids_N[start:stop].tolist())
    assert answer.json["tokens"] == counts.total() == len(trained)
    assert answer.json["ids"] == sorted(sorted(counts, key=lambda token: (-counts[token], token))[:7])
    assert answer.json["share"] == sum(counts[t] for t in answer.json["ids"]) / len(trained)
    assert list(token_ids((tmp_path / "kept.txt").read_text(), "kept.txt")) == answer.json["ids"]
    assert "7 token ids of bytes" in (tmp_path / "kept.txt").read_text()
    few = dsv("data", "vocabulary", tmp_path / "a.txt", "--size", 250, "-o", tmp_path / "kept.txt")
    assert few.code == 1 and "different tokens, fewer than 250" in few.err


def test_vocabulary_of_prepared_documents(dsv, tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{"ab"[n % 3 > 0]}{n % 7}"}}\n' for n in range(4000)))
    assert dsv("data", "prepare", tmp_path / "a.jsonl", "-o", tmp_path / "out").code == 0
    found = dsv("data", "vocabulary", tmp_path / "out", "--size", 2, "-o", tmp_path / "kept.txt", "--json").json
    assert found["ids"] == [ord("\n"), ord("b")]  # each document ends with a line break


def test_show_a_task(dsv) -> None:
    told = dsv("data", "show", "--task", "copying:copied=3,distance=2", "--rows", 1)
    asked, _, answer = told.out.partition("row 1\n[")[2].partition("]<< ")
    assert asked.endswith(" _ _ :") and answer.startswith(asked.removesuffix(" _ _ :") + ">>")
    heldout = dsv("data", "show", "--task", "copying", "--heldout", "--json").json
    assert heldout["heldout"] is True and sum(heldout["rows"][0]["answers"]) == 10


def test_tasks(dsv) -> None:
    found = dsv("data", "tasks", "--json").json
    assert {task["name"] for task in found} >= {"star_graph", "depo", "brevo"}
    (star,) = dsv("data", "tasks", "star_graph", "--json").json
    assert {"name": "degree", "default": 2, "about": "2 or more"} in star["options"] and star["length"] == 32
    assert "degree=2" in dsv("data", "tasks", "star_graph").out and "countdown" in dsv("data", "tasks").out
    wrong = dsv("data", "tasks", "star")
    assert wrong.code == 1 and "there is no task `star`" in wrong.err


def test_a_wrong_option_is_a_usage_error(dsv) -> None:
    assert dsv("data", "show", "--pack", "some").code == 2
    assert dsv("data", "prepare").code == 2
    missing = dsv("data", "prepare", "nothing.txt", "-o", "out")
    assert missing.code == 1 and "does not exist" in missing.err
