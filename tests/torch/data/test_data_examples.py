"""Examples as rows: what is shown and counted, their order, packing, and how answers are judged."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from runs import plain, quiet, records, small  # noqa: E402

from dsvgraph.errors import DsvError  # noqa: E402
from dsvgraph_torch import compile  # noqa: E402
from dsvgraph_torch.data.batch import IGNORED  # noqa: E402
from dsvgraph_torch.data.examples import TaskCorpus  # noqa: E402
from dsvgraph_torch.data.tasks.registry import task_of  # noqa: E402
from dsvgraph_torch.data.tasks.task import DUMMY, runs  # noqa: E402
from dsvgraph_torch.runs.folder import Run  # noqa: E402
from dsvgraph_torch.training import loop  # noqa: E402
from dsvgraph_torch.training.answers import answer_accuracy, written  # noqa: E402
from dsvgraph_torch.training.options import TrainOptions  # noqa: E402

STAR = "star_graph:degree=2,path=3,nodes=8"


def corpus(text: str, packed: bool = False) -> TaskCorpus:
    return TaskCorpus(task_of(text), packed)


def spelled(data: TaskCorpus, ids: torch.Tensor) -> list[str]:
    return [data.tokens.vocabulary[i] if i != IGNORED else "-" for i in ids.tolist()]


def test_only_the_answer_is_counted() -> None:
    data = corpus(STAR)
    batch, example = data.batch(2, data.least_seq, 3, 0), data.task.example(0, False, 3)
    assert spelled(data, batch.inputs[0]) == example.words[:-1]
    assert spelled(data, batch.targets[0]) == ["-"] * 14 + example.words[15:]
    assert batch.answers[0].tolist() == example.answers[1:] and batch.documents is None
    assert batch.counted == 2 * 3


def test_everything_is_counted_as_asked() -> None:
    data = corpus(STAR + ",loss=all")
    batch = data.batch(2, data.least_seq, 3, 0)
    assert torch.equal(batch.targets[:, :-1], batch.inputs[:, 1:]) and batch.counted == 2 * data.least_seq


def test_teacherless_inputs_hide_the_answer() -> None:
    shown, hidden = (corpus(STAR + more).batch(2, 20, 3, 0) for more in ("", ",teacherless=1"))
    assert torch.equal(shown.targets, hidden.targets)
    dummy = corpus(STAR).tokens.ids[DUMMY]
    at = torch.nn.functional.pad(shown.answers, (1, 0))[:, :-1]  # inputs that are words of an answer
    assert torch.equal(hidden.inputs, shown.inputs.where(~at, dummy)) and at.sum() == 2 * 3


def test_reversed_answers() -> None:
    one, other = (task_of(STAR + more).example(4, False) for more in ("", ",reverse=1"))
    ((start, stop),) = runs(one.answers)
    assert other.words == one.words[:start] + one.words[start:stop][::-1] and other.answers == one.answers


def test_packed_rows_are_the_examples_alone() -> None:
    """In order, each a document of its own, and no target of one is counted in another."""
    packed, alone = corpus("copying:copied=3,distance=2", True), corpus("copying:copied=3,distance=2,loss=all")
    row = corpus("copying:copied=3,distance=2,loss=all", True).batch(2, 30, 0, 0)
    single = alone.batch(6, alone.least_seq, 0, 0)
    for index in range(6):
        at = row.documents[index // 3] == index % 3
        assert torch.equal(row.inputs[index // 3][at][:-1], single.inputs[index])
        assert torch.equal(row.targets[index // 3][at], torch.cat([single.targets[index], torch.tensor([IGNORED])]))
    assert row.counted == single.counted and packed.batch(2, 30, 0, 0).counted == 6 * 3


def test_the_order_needs_no_state() -> None:
    data = corpus(STAR)
    whole = [data.batch(3, 20, 1, i).inputs for i in range(4)]
    assert torch.equal(whole[2], corpus(STAR).batch(3, 20, 1, 2).inputs)
    assert not torch.equal(whole[2], data.batch(3, 20, 2, 2).inputs)
    assert len({tuple(row) for ids in whole for row in ids.tolist()}) == 12


def test_a_limited_number_of_examples_is_seen_once_an_epoch() -> None:
    data = corpus(STAR + ",train=10")
    rows = [tuple(row) for i in range(5) for row in data.batch(4, 20, 1, i).inputs.tolist()]
    assert len(set(rows[:10])) == 10 and set(rows[:10]) == set(rows[10:]) and rows[:10] != rows[10:]


def test_rows_that_are_too_short() -> None:
    with pytest.raises(DsvError, match=r"takes rows of 17 tokens, got 16"):
        corpus(STAR).check(16)


class Oracle(torch.nn.Module):
    """Knows the rows; at every position that ``wrong`` names it says another token, and is lost after a wrong token."""

    def __init__(self, data: TaskCorpus, wrong: dict[int, set[int]]) -> None:
        super().__init__()
        self.weight, self.size = torch.nn.Parameter(torch.zeros(1)), data.tokens.size
        self.rows, self.wrong = next(data.heldout_batches(8, data.least_seq, 8)), wrong

    def predict(self, ids, cache=None):
        before = cache.get("ids", ids[:, :0]) if cache is not None else ids[:, :0]
        ids = torch.cat([before, ids], 1)
        if cache is not None:
            cache["ids"] = ids
        said = (self.rows.inputs.roll(-1, 1)[:, : ids.shape[1]]).clone()
        last = self.rows.answers & (torch.arange(self.rows.inputs.shape[1]) == self.rows.inputs.shape[1] - 1)
        said = self.rows.targets[:, : ids.shape[1]].where(last[:, : ids.shape[1]], said)
        for row, places in self.wrong.items():
            for place in places & set(range(ids.shape[1])):
                said[row, place] = (said[row, place] + 1) % 8
        lost = (ids != self.rows.inputs[:, : ids.shape[1]]).cummax(1).values
        said = said.where(~lost, 0)
        return torch.nn.functional.one_hot(said, self.size).float()[:, before.shape[1] :]


def test_answers_are_counted_whole() -> None:
    data = corpus(STAR)
    found = answer_accuracy(Oracle(data, {1: {14}, 5: {16}}), [next(data.heldout_batches(8, 17, 8))], data)
    assert found == {"teacher_forced": 6 / 8, "free_running": 6 / 8, "answer_tokens": 22 / 24}
    perfect = answer_accuracy(Oracle(data, {}), [next(data.heldout_batches(8, 17, 8))], data)
    assert set(perfect.values()) == {1.0}


def test_a_model_goes_on_from_what_it_wrote() -> None:
    """After a wrong first node the oracle is lost: free running has the rest wrong, teacher forcing has it right."""
    data = corpus(STAR)
    rows = next(data.heldout_batches(8, 17, 8))
    found = written(Oracle(data, {1: {14}}), rows, data.tokens.size)
    assert (found[1, 15:] == 0).all() and torch.equal(found[2, 14:], rows.targets[2, 14:])


@pytest.mark.parametrize("task", ["copying:copied=3,distance=1,symbols=4", "depo:nodes=5,queries=3,symbols=4"])
def test_the_cache_changes_nothing(task: str) -> None:
    """A compiled model, decoded step by step and row by row, in one document and packed."""
    data = corpus(task)
    model = compile(small(vocab_size=64), seed=1).double().eval()
    rows = next(data.heldout_batches(3, data.least_seq, 3))
    found, size = written(model, rows, data.tokens.size), data.tokens.size
    for row in range(3):
        ids = rows.inputs[row].clone()
        for at in rows.answers[row].nonzero()[:, 0].tolist():
            said = int(model.predict(ids[None, : at + 1])[0, -1, :size].argmax())
            assert found[row, at] == said
            if at + 1 < len(ids):
                ids[at + 1] = said
    packed = corpus(task, True)
    whole = next(packed.heldout_batches(1, 2 * data.task.length, 1))
    again = written(model, whole, size)
    end = len(data.task.example(0, True).words) - 1
    answers = rows.answers[0, :end]
    assert answers.any() and torch.equal(again[0, :end][answers], found[0, :end][answers])


def test_a_run_on_a_task(tmp_path, monkeypatch) -> None:
    """The accuracy is in the metrics, the result and the table; the folder knows the words; a task is resumed."""
    plain(monkeypatch)
    monkeypatch.setattr(loop, "FINAL_TOKENS", 256)
    options = dict(task="induction:row=6,symbols=4", batch=8, steps=4, eval_every=2, device="cpu", out=tmp_path / "run")
    console = quiet()
    loop.train(small(), TrainOptions.given(**options), console)
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["options"]["seq"] == 8 and about["data"]["tokens"]["size"] == 7
    names = {f"next_token.{way}" for way in ("teacher_forced", "free_running", "answer_tokens")}
    told = [r["accuracy"] for r in records(tmp_path) if "accuracy" in r]
    assert len(told) == 3 and all(found.keys() == names for found in told)
    assert all(found["next_token.teacher_forced"] == found["next_token.free_running"] for found in told)
    assert about["result"]["accuracy"].keys() == names | {"next_token", "mtp.1", "mtp.2"}
    text = console.file.getvalue()
    assert text.count("  answers  teacher forced") == 3 and "free running" in text and "token i + 1" in text
    tokens = Run(tmp_path / "run").tokens()
    assert tokens.encode("0 3 ! 1") == [0, 3, 4, 1]
    again = quiet()
    more = {k: v for k, v in options.items() if k == "out"} | {"steps": 6, "resume": True}
    assert loop.train(small(), TrainOptions.given(**more), again).step == 6


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        (dict(task="star_graph"), dict(vocab_size=50), "`logits` has 50 logits, but the task star_graph has 55 tokens"),
        (dict(task="star_graph", seq=30), {}, "--seq: an example of star_graph takes rows of 31 tokens, got 30"),
        (dict(task="nothing"), {}, "--task: there is no task `nothing`"),
        (dict(task="star_graph", data="x"), {}, "--task: it makes its own data, and --data was given too"),
    ],
)
def test_runs_on_tasks_that_are_refused(tmp_path, options, config, message) -> None:
    with pytest.raises(DsvError) as caught:
        loop.train(small(**config), TrainOptions.given(out=tmp_path / "run", device="cpu", **options), quiet())
    assert message in str(caught.value) and not (tmp_path / "run").exists()
    assert "vocab_size" not in config or "--set vocab_size=55" in str(caught.value)
