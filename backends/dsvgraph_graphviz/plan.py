"""From a model to a scene: the main column, one column per depth of a chain, one block opened beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsvgraph.dims import Poly
from dsvgraph.graph import Model, Node, Ref, Run, join
from dsvgraph_graphviz import cards
from dsvgraph_graphviz.facts import Facts
from dsvgraph_graphviz.opening import Ends, Opener, Place, known, tip
from dsvgraph_graphviz.roles import Role
from dsvgraph_graphviz.scene import Card, Cluster, End, Scene
from dsvgraph_graphviz.words import cut, number, readable, shape, tokens

COLUMNS = 4  # copies that get a column each; more are drawn once, with their number
ASIDE = -1


@dataclass
class Plan:
    """A scene with what the losses need: where values end, and where each copy's do."""

    model: Model
    facts: Facts
    scene: Scene = field(default_factory=Scene)
    ends: Ends = field(default_factory=dict)
    stacked: dict[Ref, list[End]] = field(default_factory=dict)


def plan(model: Model, depth: int) -> Plan:
    """The scene of ``model`` with ``depth`` levels open, but for the losses."""
    made = Plan(model, Facts(model))
    opener = Opener(made.facts, made.scene)
    deep = chains(model) if depth > 0 else []
    made.scene.clusters["main"] = Cluster("main", "Main model" if deep else "Model", Role.PLAIN)
    place = Place(0, "main", "main/", "", max(0, depth - 1))
    ins = {name: _input(model, made.scene, name) for name in model.inputs}
    made.ends = opener.body(model, ins, place, skip={node.name for node in deep})
    for node in deep:
        _columns(made, opener, node, place)
    if depth == 1:
        _aside(made, opener)
    return made


def _input(model: Model, scene: Scene, name: str) -> End:
    """An input of the model: a row of tokens, or a name."""
    type_ = model.inputs[name]
    is_row = type_.dtype == "int" and type_.rank == 2
    label = cards.tokens(tokens(0)) if is_row else cards.text(cut(name))
    scene.add(Card(f"main/{name}", label, 0, "main", Role.TOKENS, "tokens", name, "card" if is_row else "text"))
    return End(f"main/{name}", "", 0 if is_row else None)


# -- columns ------------------------------------------------------------------------------------


def chains(model: Model) -> list[Node]:
    """Repeated lines whose copies' outputs a loss scores one by one."""
    scored = {model.outputs[loss.output] for loss in model.losses if loss.output and loss.depths != (0,)}
    found = [model.nodes[ref.node] for ref in scored if ref.node in model.nodes]
    repeated = [n for n in found if n.mode == "repeat" and n.runs and n not in _read_by_others(model)]
    return [n for n in model.nodes.values() if n in repeated]


def _read_by_others(model: Model) -> list[Node]:
    return [model.nodes[name] for name in model.net.nodes if name in model.nodes and model.net.out_degree(name)]


def _columns(made: Plan, opener: Opener, node: Node, place: Place) -> None:
    """One column per copy; what is carried goes from column to column."""
    state = {port: made.ends[ref] for port, ref in known(node.inputs, made.ends)}
    folded = isinstance(node.count, Poly) or node.count > COLUMNS
    copies = [(node.start, node.runs[0].graph)] if folded else list(node.copy_graphs())
    for i, (copy, graph) in enumerate(copies):
        column = max(made.scene.columns()) + 1
        id_ = f"{node.name}-{i + 1}"
        title = f"{readable(node.name)} depth {i + 1}"
        badge = f"× {number(node.count)}" if folded else ""
        title = f"{readable(node.name)} depths 1 … {number(node.count)}" if folded else title
        made.scene.clusters[id_] = Cluster(id_, title, Role.MTP, "", badge, tip(node, place))
        path = join(node.at, str(copy)) if not folded else join(node.at, "*")
        inner = Place(column, id_, f"{id_}/", path, place.levels, Role.MTP)
        ends = opener.body(graph, state, inner)
        outs = {name: ends[ref] for name, ref in graph.outputs.items()}
        state |= {port: end for port, end in outs.items() if node.roles.get(port) == "carried"}
        for port, end in outs.items():
            made.ends[Ref(node.name, port)] = end
            made.stacked.setdefault(Ref(node.name, port), []).append(end)


# -- one block beside the model -----------------------------------------------------------------


def _aside(made: Plan, opener: Opener) -> None:
    """Opens the most repeated block of the model once."""
    found = _most_repeated(made.model)
    if found is None:
        return
    node, run = found
    scene = made.scene
    role = made.facts.roles.of_graph(run.graph)
    title = opener.labels.title(made.model, node, role)
    scene.clusters["inside"] = Cluster(
        "inside",
        f"Inside one {title[:1].lower() + title[1:]}",
        role,
        "",
        "",
        tip(node, Place(0, "", "", "", 0)),
    )
    place = Place(ASIDE, "inside", "inside/", join(node.at, "*"), 0, role)
    ins = {port: _word(scene, f"inside/in-{port}", port, "from below", "entry") for port in run.graph.inputs}
    ends = opener.body(run.graph, ins, place)
    for name, ref in run.graph.outputs.items():
        end = _word(scene, f"inside/out-{name}", name, "to above", "exit")
        scene.wire(ends[ref], end, shape(run.graph.type(ref)))


def _word(scene: Scene, id_: str, name: str, quiet: str, key: str) -> End:
    scene.add(Card(id_, cards.text(cut(name), quiet), ASIDE, "inside", Role.PLAIN, key, shape="text"))
    return End(id_)


def _most_repeated(model: Model) -> tuple[Node, Run] | None:
    """The run of equal layers that is longest, if it is longer than one and has a body to show."""
    columns = chains(model)  # are open already
    runs = [
        (node, run)
        for node in model.nodes.values()
        for run in node.runs
        if node.mode == "repeat"
        and node not in columns
        and len(run.graph.nodes) > 2
        and (isinstance(run.count, Poly) or run.count > 1)
    ]
    return max(runs, key=lambda found: _rank(found[1]), default=None)


def _rank(run: Run) -> float:
    return float("inf") if isinstance(run.count, Poly) else run.count
