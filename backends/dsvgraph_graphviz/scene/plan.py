"""Make the scene of a model: the main column, one column per depth of a chain, blocks drawn beside them."""

from __future__ import annotations

from dataclasses import replace

from dsvgraph.backends import FULL, View
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join
from dsvgraph.types import ElementType, Type
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.comparison import ComparedGraph, diffs_of
from dsvgraph_graphviz.model.copies import chains, copies_of, has_body
from dsvgraph_graphviz.model.find import Found, find
from dsvgraph_graphviz.model.layers import attentions
from dsvgraph_graphviz.model.merge import single
from dsvgraph_graphviz.scene.builder import SceneBuilder
from dsvgraph_graphviz.scene.columns import KINDS, draw_columns
from dsvgraph_graphviz.scene.insets import destination, distinct, most_repeated, origin
from dsvgraph_graphviz.scene.parts import EACH, CardShape, Cluster, Container, End, Plan, Scene
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.markup import as_id
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import cut, number, spot, tokens
from dsvgraph_graphviz.text.titles import lowered

MOST = 2_000  # boxes of a picture
MAIN = Container(cluster="main", id="main/")


def plan(model: Model, view: View) -> Plan:
    """Return the scene of ``model`` as ``view`` asks for it, but for the losses."""
    comparison, first = (ComparedGraph() if view.diff else None), model
    model = comparison.model(model, view.diff) if comparison and view.diff else model
    made = Plan(model, Analysis(model, comparison), view, first, comparison)
    made.focus = find(model, view.focus, "--focus") if view.focus else None
    opened = [_with_body(find(model, path, "--expand"), path) for path in view.expand]
    expanded = [node for found in opened for node in (*found.around, found.node)]
    builder = SceneBuilder(made, expanded)
    shown = _focus(made, builder) if made.focus else _whole(made, builder)
    skip = [*chains(model), *expanded]
    shown |= {found.body: found.path for found in opened if found.node.copies}
    beside = made.focus is None and view.depth == 1
    found = most_repeated({model: ""}, skip) if beside else distinct(shown, skip, view.depth - 1)
    if comparison and view.depth == 1:

        def differs(body: Graph) -> bool:
            return bool(diffs_of(comparison, body.nodes.values()))

        found = [block for block in distinct(shown, skip, FULL, differs) if differs(block.body)]
    for i, panel in enumerate(found):
        _panel(made, builder, panel, -1 - i)
    _tell_apart(made.scene, found, beside)
    return made


def check_size(made: Plan) -> None:
    """Raise DsvError if the picture has more boxes than anybody reads, and than graphviz lays out soon."""
    if (count := len(made.scene.cards)) > MOST:
        span = made.focus.node.span if made.focus else made.model.span
        hint = "draw less: --depth 1, or --focus PATH; or Model Explorer's format, -o FILE.json"
        raise DsvError(f"the picture would have {count:,} boxes; at most {MOST:,} are drawn", span, hint=hint)


def _with_body(found: Found, path: str) -> Found:
    """``found``, if there is something in it to open."""
    if not has_body(found.node):
        raise DsvError(f"--expand: `{path}` is a single {found.node.callee}, there is nothing to open")
    return found


def _tell_apart(scene: Scene, found: list[Found], alone: bool) -> None:
    """Blocks of one name say how many copies there are of each, or where they stand.

    One that stands ``alone`` for layers of several kinds says how many of them are as it is.
    """
    frames = [scene.clusters[_inside(-1 - i)] for i in range(len(found))]
    titles = [frame.title for frame in frames]
    for frame, panel in zip(frames, found, strict=True):
        if titles.count(frame.title) > 1 and panel.node.mode is Mode.CALL:
            frame.note = panel.path
        elif titles.count(frame.title) > 1:
            frame.badge = f"× {number(copies_of(panel.node, panel.body))}"
        elif alone and copies_of(panel.node, panel.body) != panel.node.count:
            frame.badge = f"× {number(copies_of(panel.node, panel.body))} of {number(panel.node.count)}"


def _inside(column: int) -> str:
    return "inside" if column == -1 else f"inside{-column}"


def _whole(made: Plan, builder: SceneBuilder) -> dict[Graph, str]:
    """Draw the model in columns; return the bodies that are then shown, with their paths."""
    model, deep = made.model, _deep(made)
    made.scene.clusters["main"] = Cluster(id="main", title="Main model" if deep else "Model", role=Role.PLAIN)
    inside = MAIN
    ins = {name: _input(model, made.scene, name) for name in model.inputs}
    made.ends = builder.body(model, ins, inside, skip={node.name for node in deep})
    for node in deep:
        draw_columns(made, builder, node, inside)
    return {model: "", **{copies.graph: join(node.at, "*") for node in deep for copies in node.copies}}


def _deep(made: Plan) -> list[Node]:
    """Return the chains that are drawn in columns."""
    found = chains(made.model) if made.view.depth > 0 else []
    return [node for node in found if len({copies.graph for copies in node.copies}) <= KINDS]


def _input(model: Model, scene: Scene, name: str) -> End:
    """Add the card of an input of the model, a row of tokens or a name; return where its wires begin."""
    type_ = model.inputs[name]
    is_row = type_.dtype is ElementType.INT and type_.rank == 2
    label = cards.tokens(tokens(0)) if is_row else cards.text(cut(name))
    scene.add(
        MAIN.card(name, label, Role.TOKENS, "tokens", tip=name, shape=CardShape.CARD if is_row else CardShape.TEXT)
    )
    return End(f"main/{name}", "", 0 if is_row else None)


# -- blocks alone and beside the model -----------------------------------------------------------


def _focus(made: Plan, builder: SceneBuilder) -> dict[Graph, str]:
    """Draw one block or op with what enters and leaves it; return the bodies that are then shown, with their paths."""
    found = made.focus
    assert found is not None
    node, inner = found.node, found.body if has_body(found.node) else None
    role = made.analysis.roles.of_graph(inner) if inner else made.analysis.roles.of(node)
    role = Role.MTP if node in chains(made.model) else role
    made.scene.clusters["main"] = Cluster(id="main", title="", role=role)
    inside = replace(MAIN, path=found.path, role=role, named=True)
    if inner:
        types = inner.inputs
        ins = {port: _enters(made, found, port, types[port], inside) for port in types}
        ends = builder.body(inner, ins, inside)
        outs = {name: (ends[r], made.shapes.of(inner, r)) for name, r in inner.outputs.items() if r in ends}
    else:
        ends = {ref: _enters(made, found, p, found.graph.type(ref), inside) for p, ref in node.sources.items()}
        builder.card(found.graph, single(found.graph, node), ends, inside)
        refs = [Ref(node.name, name) for name in node.outputs]
        outs = {r.port: (ends[r], made.shapes.of(found.graph, r)) for r in refs}
    for name, (end, shape) in outs.items():
        named = cut(name) if len(outs) > 1 else ""
        label = cards.end(named, cut(destination(made.analysis, found.graph, node, name)))
        id_ = f"out-{as_id(name)}"
        made.scene.add(inside.card(id_, label, Role.PLAIN, "exit"))
        made.scene.wire(end, End(inside.id + id_), shape)
    return {inner: found.path} if inner else {}


def _enters(made: Plan, found: Found, port: str, type_: Type, inside: Container) -> End:
    """Add the card of an input of the block that is drawn alone; return where its wires begin."""
    node, id_ = found.node, f"main/in-{port}"
    ref = node.sources.get(port)
    source = found.graph.nodes.get(ref.node) if ref else None
    is_weight = source is not None and ref is not None and ref.port in source.weights
    is_row = type_.dtype is ElementType.INT and type_.rank == 2
    inner = found.body if has_body(node) else None
    readers = inner.net.out_degree(port) if inner and port in inner.net and not is_weight else 0
    words = cut(origin(made.analysis, found.graph, node, port))
    label = cards.tokens(tokens(0)) if is_row else cards.end(cut(port), words, readers, made.view.direction)
    made.scene.add(inside.card(f"in-{port}", label, Role.TOKENS if is_row else Role.PLAIN, "entry"))
    return End(id_, EACH if readers > 1 and not is_row else "", 0 if is_row else None, is_weight)


def _panel(made: Plan, builder: SceneBuilder, found: Found, column: int) -> None:
    """Draw one block beside the model."""
    scene, node, graph = made.scene, found.node, found.body
    role, layer = made.analysis.roles.of_graph(graph), made.analysis.roles.is_layer(node)
    id_ = _inside(column)
    title = builder.labels.title(found.graph, node, role)
    title = f"Inside one {lowered(title)}" if layer else title
    note = found.path if made.view.weights else ""
    tip = "\n".join([found.path, node.callee, spot(node.span)])
    scene.clusters[id_] = Cluster(id=id_, title=title, role=role, tip=tip, aside=True, note=note)
    inside = Container(
        column=column, cluster=id_, id=f"{id_}/", path=found.path, role=role,
        named=not layer or bool(attentions(graph)),
    )  # fmt: skip
    ins = {
        port: _word(scene, inside, f"in-{port}", port, origin(made.analysis, found.graph, node, port))
        for port in graph.inputs
    }
    ends = builder.body(graph, ins, inside)
    for name, ref in graph.outputs.items():
        if ref in ends:
            end = _word(scene, inside, f"out-{name}", name, destination(made.analysis, found.graph, node, name))
            scene.wire(ends[ref], end, made.shapes.of(graph, ref))


def _word(scene: Scene, inside: Container, id_: str, name: str, caption: str) -> End:
    label = cards.text(cut(name), cut(caption))
    key = id_.partition("-")[0]
    scene.add(inside.card(id_, label, Role.PLAIN, key, shape=CardShape.TEXT))
    return End(inside.id + id_)
