"""Every task's answers, judged by networkx, by arithmetic and by reading the row; what is held out; what is refused."""

from __future__ import annotations

from itertools import pairwise, product

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.tasks.registry import TASKS, task_of
from dsvgraph_torch.data.tasks.task import DUMMY, END, Example, runs

SMALL = {
    "star_graph": "star_graph:degree=3,path=3,nodes=12",
    "induction": "induction:row=12,answer=3",
    "copying": "copying:copied=4,distance=5",
    "addition": "addition:digits=3",
    "countdown": "countdown:numbers=3,limit=30",
    "sudoku": "sudoku:box=2,empty=8",
    "depo": "depo:nodes=7,hops=3,queries=4",
    "brevo": "brevo:nodes=8",
}
few = settings(max_examples=20, deadline=None)
numbers = st.integers(0, 10**6)


def answer(example: Example) -> tuple[list[str], list[str]]:
    """What is asked before the one answer of an example, and the answer."""
    ((start, stop),) = runs(example.answers)
    return example.words[:start], example.words[start:stop]


@few
@given(st.integers(2, 4), st.integers(2, 5), st.integers(0, 9), numbers, st.booleans())
def test_star_graph_is_the_shortest_path(degree: int, path: int, more: int, number: int, heldout: bool) -> None:
    nodes = degree * (path - 1) + 1 + more
    asked, found = answer(task_of(f"star_graph:degree={degree},path={path},nodes={nodes}").example(number, heldout))
    text = " ".join(asked)
    edges, _, ends = text.removesuffix(" =").partition(" / ")
    graph = nx.DiGraph(edge.split() for edge in edges.split(" | "))
    start, goal = ends.split()
    assert nx.shortest_path(graph, start, goal) == found and len(found) == path
    assert dict(graph.out_degree)[start] == degree and graph.number_of_edges() == degree * (path - 1)
    assert graph.out_degree[goal] == 0 and [d for _, d in graph.out_degree].count(0) == degree
    assert set(graph) <= set(map(str, range(nodes)))


@few
@given(numbers, st.booleans())
def test_induction_is_what_followed_the_marker(number: int, heldout: bool) -> None:
    asked, found = answer(task_of(SMALL["induction"]).example(number, heldout))
    at = asked.index("!")
    assert asked[-1] == "!" and asked.count("!") == 2 and asked[:-1][at + 1 : at + 4] == found


@few
@given(numbers, st.integers(1, 9), st.integers(0, 9))
def test_copying_is_the_beginning(number: int, copied: int, distance: int) -> None:
    asked, found = answer(task_of(f"copying:symbols=50,copied={copied},distance={distance}").example(number, False))
    assert asked == [*found, *["_"] * distance, ":"] and len(found) == copied


@few
@given(numbers, st.integers(2, 12), st.integers(2, 4), st.booleans())
def test_addition_is_the_sum(number: int, digits: int, terms: int, reverse: bool) -> None:
    task = task_of(f"addition:digits={digits},numbers={terms},reverse={int(reverse)}")
    asked, found = answer(task.example(number, False))
    parts = "".join(asked).removesuffix("=").split("+")
    assert len(parts) == terms and {len(part) for part in parts} == {digits}
    assert int("".join(found[::-1] if reverse else found)) == sum(map(int, parts)) and len(found) == digits + 1


def play(numbers_: list[str], steps: list[str]) -> list[int]:
    """The numbers that are left after the steps of the game."""
    left = [int(n) for n in numbers_]
    for step in " ".join(steps).split(" , "):
        a, sign, b, _, result = step.split()
        left.remove(int(a))
        left.remove(int(b))
        left.append(int(result))
        assert eval(f"{a} {sign} {b}") == int(result) > 0
    return left


@few
@given(numbers, st.integers(2, 5))
def test_countdown_reaches_the_target(number: int, count: int) -> None:
    task = task_of(f"countdown:numbers={count},limit=40")
    asked, found = answer(task.example(number, False))
    assert asked[count] == ">" and play(asked[:count], found) == [int(asked[count + 1])]
    assert task.accepts(asked, found, found)
    for place in range(len(found)):
        assert not task.accepts(asked, found, [*found[:place], ",", *found[place + 1 :]]) or found[place] == ","


def test_countdown_accepts_every_right_way() -> None:
    task, asked = task_of("countdown:numbers=3"), ["2", "3", "4", ">", "14", ":"]
    drawn = ["4", "*", "3", "=", "12", ",", "12", "+", "2", "=", "14"]
    assert task.accepts(asked, drawn, ["3", "*", "4", "=", "12", ",", "2", "+", "12", "=", "14"])
    for wrong in (
        "3 * 4 = 12 , 2 + 11 = 14",
        "3 + 4 = 7 , 7 + 7 = 14",
        "3 + 4 = 7 , 7 + 2 = 9",
        "3 * 4 = 12 = 2 + 12 = 14",
        "2 - 3 = 1 , 1 + 4 = 14",
        "2 + 3 = 5 , 4 + 5 = 14",
        "= = = = = = = = = = =",
    ):
        assert not task.accepts(asked, drawn, wrong.split())


def fills(box: int, cells: list[int]) -> list[list[int]]:
    """Every way to fill the empty cells, by trying all digits in all of them."""
    size, empty = box * box, [cell for cell, digit in enumerate(cells) if not digit]
    found = []
    for digits in product(range(1, size + 1), repeat=len(empty)):
        grid = list(cells)
        for cell, digit in zip(empty, digits, strict=True):
            grid[cell] = digit
        rows = [grid[i * size : (i + 1) * size] for i in range(size)]
        boxes = [
            [rows[r + i][c + j] for i in range(box) for j in range(box)]
            for r, c in product(range(0, size, box), repeat=2)
        ]
        if all(len({*group}) == size for group in [*rows, *zip(*rows, strict=True), *boxes]):
            found.append([*digits])
    return found


@few
@given(numbers, st.booleans(), st.integers(1, 5))
def test_sudoku_has_the_answers_of_brute_force(number: int, unique: bool, empty: int) -> None:
    task = task_of(f"sudoku:box=2,empty={empty},unique={int(unique)}")
    asked, found = answer(task.example(number, False))
    assert asked[-1] == "=" and asked.count("/") == 3
    ways = fills(2, [0 if word == "." else int(word) for word in asked[:-1] if word != "/"])
    assert [*map(int, found)] in ways and (len(ways) == 1 or not unique)
    accepted = [d for d in product(range(1, 5), repeat=empty) if task.accepts(asked, found, [*map(str, d)])]
    assert [*map(list, accepted)] == ways
    assert not task.accepts(asked, found, found[1:]) and not task.accepts(asked, found, [*found, "1"])


def test_a_large_sudoku_has_one_answer() -> None:
    """All cells but three are filled again, so that trying all digits is quick."""
    for number in range(3):
        asked, found = answer(task_of("sudoku").example(number, False))
        digits = iter(found)
        cells = [int(next(digits)) if word == "." else int(word) for word in asked[:-1] if word != "/"]
        places = [i for i, word in enumerate(w for w in asked[:-1] if w != "/") if word == "."]
        assert len(places) == 30 == len(found)
        for three in (places[:3], places[10:13]):
            assert fills(3, [0 if i in three else d for i, d in enumerate(cells)]) == [[cells[i] for i in three]]


@few
@given(numbers, st.booleans(), st.sampled_from(["", ",symbols=3,shortest=2,longest=3"]))
def test_depo_is_the_kth_successor(number: int, heldout: bool, names: str) -> None:
    task = task_of(SMALL["depo"] + names)
    example = task.example(number, heldout)
    text = " ".join(example.words)
    edges, *queries = text.removeprefix("<bos> ").split(" <query_")
    nodes = words(edges)
    graph = nx.DiGraph(list(zip(nodes[::2], nodes[1::2], strict=True)))
    assert len(list(nx.simple_cycles(graph))) == 1 and all(d == 1 for _, d in graph.out_degree)
    assert len(graph) == 7 if heldout else 3 <= len(graph) <= 7
    for query in queries:
        hops, _, rest = query.partition("> ")
        start, end = (words(part)[0] for part in rest.split(" <answer> "))
        assert int(hops) in ((1, 2, 3) if not heldout else task.heldout_hops())
        for _ in range(int(hops)):
            (start,) = graph.successors(start)
        assert start == end
    spans = runs(example.answers)
    assert len(spans) == len(queries) and all(example.words[start] == "<answer>" for start, _ in spans)


def words(text: str) -> list[str]:
    """Names of nodes: a name ends with a token z..."""
    return [name.strip() for name in "".join(w + ("|" if w[0] == "z" else " ") for w in text.split()).split("|")[:-1]]


@few
@given(numbers, st.booleans(), st.booleans())
def test_brevo_is_all_that_the_query_depends_on_in_order(number: int, heldout: bool, long: bool) -> None:
    task = task_of(SMALL["brevo"] + (",longest=2,shortest=2" if long else ""))
    asked, found = answer(task.example(number, heldout))
    split = words if long else str.split
    edges, _, query = " ".join(asked).removeprefix("<bos> ").partition(" <query> ")
    pairs = split(edges)
    graph = nx.DiGraph(list(zip(pairs[::2], pairs[1::2], strict=True)))
    (last,) = split(query)
    order = split(" ".join(found[1:-1]))
    assert found[0] == "<answer>" and found[-1] == END and order[-1] == last
    assert nx.is_directed_acyclic_graph(graph) and set(order) == nx.ancestors(graph, last) | {last}
    places = {node: place for place, node in enumerate(order)}
    assert all(places[a] < places[b] for a, b in graph.subgraph(order).edges)
    for other in list(nx.all_topological_sorts(graph.subgraph(order)))[:5]:
        assert task.accepts(asked, found, [found[0], *" ".join(other).split(), END])
    assert not task.accepts(asked, found, [found[0], *" ".join(order[::-1]).split(), END])
    assert not task.accepts(asked, found, [found[0], *" ".join(order[1:]).split(), END])


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_problem_is_in_both_splits(name: str) -> None:
    task = task_of(SMALL[name])
    trained = {repr(task.example(i, False).key) for i in range(150)}
    held = {repr(task.example(i, True).key) for i in range(30)}
    assert trained and held and not trained & held
    assert all(len(task.example(i, part).words) <= task.length for i in range(30) for part in (False, True))


def test_every_problem_belongs_to_one_split() -> None:
    """Of 5,050 sums of two numbers about a tenth is held out."""
    task = task_of("addition:digits=2")
    held = [task.is_heldout([a, b]) for a in range(100) for b in range(a + 1)]
    assert len(held) == 5050 and 0.08 < sum(held) / 5050 < 0.12


@pytest.mark.parametrize("name", sorted(TASKS))
def test_examples_depend_on_their_number_alone(name: str) -> None:
    first, again = task_of(SMALL[name]), task_of(SMALL[name])
    one = [first.example(i, False, 5) for i in range(6)]
    assert one == [again.example(i, False, 5) for i in reversed(range(6))][::-1]
    assert one != [again.example(i, False, 6) for i in range(6)]
    other = task_of(SMALL[name] + ",seed=1")
    assert one != [other.example(i, False, 5) for i in range(6)]
    assert all(set(e.words) <= set(first.vocabulary) for e in one)
    assert len(set(first.vocabulary)) == len(first.vocabulary) and first.vocabulary[-2:] == (DUMMY, END)


def test_a_task_is_spelled_as_it_was_given() -> None:
    for text in ("star_graph", "star_graph:path=7,reverse=1", "depo:loss=all,nodes=9"):
        assert task_of(task_of(text).spelled()) == task_of(text)
    assert all(a == b for a, b in pairwise([task_of("brevo").spelled(), "brevo"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("star_grap", "there is no task `star_grap`"),
        ("star_graph:deg=2", "star_graph has no option `deg`"),
        ("star_graph:degree", "`degree` is no option=value"),
        ("star_graph:degree=2,degree=3", "`degree=3` is given twice"),
        ("star_graph:degree=two", "star_graph:degree: a whole number is expected, got 'two'"),
        ("star_graph:degree=1", "star_graph:degree: a number of at least 2 is expected, got '1'"),
        ("star_graph:nodes=8", "2 arms of 4 nodes and a centre need nodes=9 or more"),
        ("induction:row=3,answer=4", "a row of 3 symbols cannot hold an answer of 4"),
        ("depo:symbols=2,longest=2", "30 nodes need twice as many"),
        ("brevo:shortest=3,longest=2", "longest is at least shortest"),
        ("addition:loss=some", "addition:loss: `answer` or `all` is expected, got 'some'"),
        ("addition:", "is no option=value"),
    ],
)
def test_tasks_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(DsvError) as caught:
        task_of(text)
    assert message in str(caught.value)


def test_too_few_problems_to_hold_one_out() -> None:
    with pytest.raises(DsvError, match="too few different problems"):
        for seed in range(20):
            task_of(f"induction:symbols=2,row=2,answer=2,seed={seed}").example(0, True)
