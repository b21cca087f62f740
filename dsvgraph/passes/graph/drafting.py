"""Which outputs of a model can draft tokens for its first one: found in the graph and in its losses, never by names.

A prediction says at position i token i + ``ahead`` and is made of tokens up to i + ``seen``. Let n be the last position
that the first output was computed at: token n + 1 is known, drafts are tokens n + 2, n + 3, ... A prediction drafts
token n + m at position n + m - ahead, which is not after n, if all tokens that it is made of are known by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dsvgraph.build.decoding.state import Decoder
from dsvgraph.build.losses.formulas import number
from dsvgraph.build.losses.predictions import seen
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Graph, Loss, LossKind, Mode, Model, Node, PortRole, Ref
from dsvgraph.names import listed
from dsvgraph.ops.decoding import Past, State
from dsvgraph.passes.graph.decoding import decoding, looks_ahead
from dsvgraph.passes.graph.own_tokens import check_drafts

HINT = "without drafts it is decoded token by token"


@dataclass(frozen=True)
class Drafter:
    """A prediction that can draft: at position i token i + ``ahead``, made of tokens up to i + ``seen``."""

    output: str
    depth: int  # 0: of an output that is not stacked
    ahead: int
    seen: int
    vocabulary: int | tuple[int, ...] | None = None  # ids of its logits: the first so many, or these; None: all


@dataclass(frozen=True)
class Stage:
    """Predictions that exist at the same time: an output, or one depth of a line that runs depth by depth."""

    ref: Ref
    drafters: tuple[Drafter, ...]
    in_loop: bool


@dataclass(frozen=True)
class Draft:
    """One drafted token: the drafter of a stage, ``back`` positions before the last one."""

    drafter: Drafter
    index: int  # of the drafter in its stage
    back: int


@dataclass(frozen=True)
class Drafting:
    """How a model drafts: the drafts of each stage, in order, and how many copies of the loop run (None: as trained).

    ``again`` is how many positions at the end of a row the heads are to compute again in the next step: what they keep
    of these was made of drafts, or a draft is made there.
    """

    model: Model
    stages: tuple[Stage, ...]
    drafts: tuple[tuple[Draft, ...], ...]
    depths: int | None

    @property
    def count(self) -> int:
        """Return the number of tokens drafted in a step."""
        return sum(map(len, self.drafts))

    @property
    def again(self) -> int:
        seen = max(d.seen for stage in self.stages[: len(self.drafts)] for d in stage.drafters)
        return max(seen - 1, *(draft.back for drafts in self.drafts for draft in drafts), 0)

    @property
    def runs(self) -> int:
        """Return how many stages a step runs, each of them one head."""
        return len(self.drafts)


def drafting(model: Model, count: int | None = None, reuse_last: bool = False) -> Drafting:
    """Return how ``model`` drafts ``count`` tokens a step (None: as many as it can).

    With ``reuse_last``, the last copy of a chain is used again for tokens further ahead than it was trained for.
    Raise DsvError if the model cannot draft, or not so many tokens.
    """
    stages = _stages(model)
    _check_state(model)
    _check_shifts(model)
    depths = None
    most = sum(map(len, _planned(stages, None)))
    if not most:
        first = stages[0].drafters[0]
        words = f"`{first.output}` needs tokens up to {first.seen} ahead to draft the token {first.ahead} ahead"
        raise DsvError(f"{words}, which are not known before it", hint=HINT)
    if count is not None and count > most:
        if not reuse_last:
            words = f"`{model.name}` drafts {most} token{'s' * (most > 1)} a step, as it was trained; asked for {count}"
            raise DsvError(words, hint="--reuse-last uses the last module again for tokens further ahead")
        stages = (*stages, *_further(model, stages, count - most))
        depths = sum(stage.in_loop for stage in stages)
    planned = _planned(stages, count)
    return Drafting(model, stages, planned, depths)


def _planned(stages: tuple[Stage, ...], count: int | None) -> tuple[tuple[Draft, ...], ...]:
    """Return the drafts of each stage up to the last that makes some."""
    found, known = list[tuple[Draft, ...]](), 1
    for stage in stages:
        made = list[Draft]()
        while count is None or known + len(made) <= count:
            draft = _draft(stage, known + len(made) + 1, known)
            if draft is None:
                break
            made.append(draft)
        known += len(made)
        found.append(tuple(made))
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _draft(stage: Stage, token: int, known: int) -> Draft | None:
    """Return what drafts the token n + ``token`` when those up to n + ``known`` were known to the stage."""
    backs = [(d.ahead - token, i, d) for i, d in enumerate(stage.drafters)]
    fit = [Draft(d, i, back) for back, i, d in backs if back >= 0 and d.seen - back <= known]
    return min(fit, key=lambda draft: draft.back, default=None)


# -- the outputs -----------------------------------------------------------------------------------


def _stages(model: Model) -> tuple[Stage, ...]:
    """Return the stages in the order in which they are computed. Raise DsvError if there is none."""
    first, *others = model.outputs
    check_drafts(model)
    if ahead := looks_ahead(model):
        words = f"`{ahead.name}` looks ahead, so `{model.name}` cannot be decoded step by step"
        raise DsvError(words, ahead.span)
    if len(model.inputs) != 1:
        raise DsvError(f"`{model.name}` has {len(model.inputs)} inputs; tokens are drafted for one row", hint=HINT)
    if not any(loss.output == first and _predicts(loss) and _shift(loss, 0) == 1 for loss in model.losses):
        raise DsvError(f"no loss trains `{first}` to predict the next token, so no draft can be checked", hint=HINT)
    drafters = [d for loss in model.losses if loss.output in others for d in _drafters(model, loss)]
    if not drafters:
        raise _nothing_drafts(model, others)
    position = {name: i for i, name in enumerate(model.nodes)}
    stages = [stage for output in others for stage in _of_output(model, output, drafters)]
    return tuple(sorted(stages, key=lambda s: (position[s.ref.node], s.drafters[0].depth)))


def _predicts(loss: Loss) -> bool:
    """Return whether a loss trains a distribution over the tokens of one position: on tokens, or on the model's own."""
    return loss.kind in (LossKind.CROSS_ENTROPY, LossKind.KL, LossKind.SOFT_CROSS_ENTROPY, LossKind.TOTAL_VARIATION)


def _shift(loss: Loss, depth: int) -> int | None:
    found = None if loss.shift is None else number(loss.shift, depth=depth)
    return found if isinstance(found, int) else None


def _drafters(model: Model, loss: Loss) -> Iterator[Drafter]:
    """Yield what drafts of an output that a loss trains, one for each depth; nothing where it trains no distribution.

    An output that is compared with the first one at i + shift predicts what that one does there: token i + shift + 1.
    """
    first, output = next(iter(model.outputs)), loss.output or ""
    if not _predicts(loss) or loss.against not in (None, first):
        return
    ours, theirs = (model.type(model.outputs[o]).shape[-1] for o in (output, first))
    if ours != theirs and loss.vocabulary is None:
        raise DsvError(f"`{output}` predicts over {ours} tokens, the model over {theirs}", loss.span, hint=HINT)
    for depth in loss.depths:
        shift, seen_up_to = _shift(loss, depth), seen(model, model.outputs[output], depth)
        horizon = max(max((seen_up_to.ahead(name) for name in model.inputs), default=0), 0)
        if not math.isfinite(horizon):
            raise DsvError(f"`{output}` reads the whole row, so it cannot draft", loss.span, hint=HINT)
        if shift is not None:
            yield Drafter(
                output=output,
                depth=depth,
                ahead=shift + (loss.against is not None),
                seen=int(horizon),
                vocabulary=loss.vocabulary,
            )


def _nothing_drafts(model: Model, others: list[str]) -> DsvError:
    """Return why no output of a model can draft."""
    other = next((loss for loss in model.losses if loss.output in others), None)
    if other is None:
        words = f"no output of `{model.name}` predicts a token further ahead than `{next(iter(model.outputs))}` does"
        return DsvError(f"{words}, so there is nothing to draft with", model.span, hint=HINT)
    words = f"`{other.output}` is trained by `{other.kind}`, which makes no distribution over one token"
    return DsvError(f"{words}, so there is nothing to draft with", other.span, hint=HINT)


def _of_output(model: Model, output: str, drafters: list[Drafter]) -> Iterator[Stage]:
    ref = model.outputs[output]
    by_depth = {d.depth: d for d in drafters if d.output == output}  # two losses of one depth train one prediction
    mine = [by_depth[depth] for depth in sorted(by_depth)]
    if mine and in_loop(model, ref):
        yield from (Stage(ref, (one,), True) for one in mine)
    elif mine:
        yield Stage(ref, tuple(mine), False)


def in_loop(model: Model, ref: Ref) -> bool:
    """Return whether an output is what a line's copies make one after another."""
    node = model.nodes.get(ref.node)
    return node is not None and node.mode is Mode.REPEAT and node.roles.get(ref.port) is PortRole.STACKED


def _further(model: Model, stages: tuple[Stage, ...], count: int) -> Iterator[Stage]:
    """Yield stages of the last copy used again, each as far behind the one before it as the last one was."""
    last = stages[-1]
    node = model.nodes.get(last.ref.node)
    if node is None or not last.in_loop or not node.carried:
        words = (
            f"`{last.ref.node}` makes its predictions side by side: none of them can be used again for the next token"
        )
        raise DsvError(words, node.span if node else None, hint="ask for fewer --drafts")
    if sliced := [p for p, role in node.roles.items() if role is PortRole.SLICED]:
        words = f"each copy of `{node.name}` has its own piece of {listed(sliced)}: none is left for one copy more"
        raise DsvError(words, node.span, hint="ask for fewer --drafts")
    (drafter,) = last.drafters
    before = stages[-2].drafters[0] if len(stages) > 1 and stages[-2].ref == last.ref else Drafter("", 0, 1, 0)
    steps = drafter.ahead - before.ahead, drafter.seen - before.seen
    for _ in range(count):
        drafter = replace(
            drafter, depth=drafter.depth + 1, ahead=drafter.ahead + steps[0], seen=drafter.seen + steps[1]
        )
        yield Stage(last.ref, (drafter,), True)


# -- what cannot be taken back, or is not known yet ------------------------------------------------


def _check_state(model: Model) -> None:
    """Raise DsvError if a line carries a state, which cannot be taken back to before the drafts."""
    decoder = Decoder.of_model(model)
    for found in decoding(model, decoder, heads=True).all():
        for name, _ in found.states:
            node = found.graph.nodes[name]
            words = f"`{name}` carries a state from token to token, which cannot be taken back when a draft is rejected"
            raise DsvError(words, node.span, hint=HINT)
    for node in heads(model):
        state = node.op.decoding_state(node.input_types, node.outputs) if node.op else {}
        if any(isinstance(kept, Past) for kept in state.values()):
            words = f"`{node.name}` looks at earlier positions and stands in no block"
            raise DsvError(f"{words}: a head that drafts keeps them in one", node.span, hint=HINT)


def heads(model: Model) -> list[Node]:
    """Return the lines that the first output does not depend on, in order."""
    needed = model.needed([next(iter(model.outputs))])
    return [node for node in model.nodes.values() if node.name not in needed]


def _check_shifts(model: Model) -> None:
    """Raise DsvError if a head moves anything but tokens to the left: of other values the next are not known."""
    given = frozenset(Ref(name, name) for name in model.inputs)
    _tokens_of(model, given, frozenset(node.name for node in heads(model)))


def _tokens_of(graph: Graph, given: frozenset[Ref], only: frozenset[str] | None = None) -> frozenset[Ref]:
    """Return the values of ``graph`` that are the row's tokens, moved or not; ``given`` are those of its inputs."""
    found = set(given)
    for node in graph.nodes.values():
        if only is not None and node.name not in only:
            continue
        if node.op:
            found |= _of_op(node, found)
        else:
            found |= {Ref(node.name, port) for port in _of_copies(node, found)}
    return frozenset(found)


def _of_op(node: Node, found: set[Ref]) -> set[Ref]:
    assert node.op is not None
    tokens = [ref in found for ref in node.inputs.values()]
    if node.op.shift() and len(tokens) == 1 and all(tokens):
        return {Ref(node.name, port) for port in node.outputs}
    if any(node.op.looks(port) > 0 for port in node.inputs):
        raise _later(node.name, node.span)
    return set()


def _later(name: str, span: Span | None) -> DsvError:
    words = f"`{name}` reads a later position of what is computed, which a step that drafts does not have yet"
    return DsvError(words, span, hint=HINT)


def _of_copies(node: Node, found: set[Ref]) -> set[str]:
    """Return the outputs of a line with copies that are tokens; a carried one is, if every copy hands tokens on."""
    ports = {port for port, ref in node.sources.items() if ref in found}
    while True:
        outs = set(node.outputs)
        for copies in node.copies:
            inside = _tokens_of(copies.graph, frozenset(Ref(p, p) for p in ports))
            outs &= {name for name, ref in copies.graph.outputs.items() if ref in inside}
        lost = {p for p in node.carried if p in ports and p not in outs}
        if not lost:
            return outs
        ports -= lost


def carries_state(model: Model) -> bool:
    """Return whether a line of the first output carries a state from position to position."""
    found = decoding(model, Decoder.of_model(model))
    return any(isinstance(kept, State) for one in found.all() for kept in one.states.values())
