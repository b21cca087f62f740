"""What a module can be made of: a graph that keeps these rules compiles.

Addresses become attributes of classes, so which of them stand beside each other in one class is
decided here; and so is what can be read where copies of a block run side by side as experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Fault
from dsvgraph.graph import Graph, Mode, Node
from dsvgraph.ops import OPS, Op
from dsvgraph.ops.base import Kind
from dsvgraph.types import Weight

NAMES = """
_apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
_forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
_get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook _load_from_state_dict
_load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
_non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook _register_state_dict_hook
_replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks
_state_dict_pre_hooks _version _wrapped_call_impl T_destination add_module apply bfloat16 buffers call_super_init
children compile cpu cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters
parameters register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train
training type xpu zero_grad
"""
MODULE = frozenset(NAMES.split())
"""Attributes that every `torch.nn.Module` has."""

ROOT = frozenset(["_trunk", "after_step", "init", "initialise", "losses", "predict", "steps_taken", "tokens_seen"])
"""Attributes that the class of the whole model has besides."""


class Claim(NamedTuple):
    """A line that makes something at an address of a class: bare weights, a list of copies, or a module of its own."""

    at: str
    kind: str  # weights, list, module
    node: Node


def claims(graph: Graph) -> Iterator[Claim]:
    """Yield what the lines of a class claim, those of blocks at `.` too, which are written into it."""
    for node in graph.nodes.values():
        if node.mode is Mode.CALL and node.copies and not node.at:
            yield from claims(node.copies[0].graph)
        elif node.weights or node.copies:
            yield Claim(node.at, _kind(node), node)


def _kind(node: Node) -> str:
    if node.op:
        return "module" if _alone(node.op) else "weights"
    sent = node.mode is Mode.EACH and any(type_.order for type_ in node.input_types.values())
    return "module" if sent or node.mode is Mode.CALL else "list"


def _alone(op: Op) -> bool:
    """Return whether the weights stand in a module with more: a router counts what it sends."""
    return op.kind is Kind.ROUTING


def check_claims(graph: Graph, root: bool) -> None:
    """Raise DsvError if a line of ``graph`` stands at, or below, what another has for itself."""
    found = list(claims(graph))
    first: dict[str, Claim] = {}
    for claim in found:
        _check_names(claim, root)
        other = first.setdefault(claim.at, claim)
        if other is not claim and not other.kind == claim.kind != "module":
            raise _clash(claim, other)
    for claim in found:
        end = claim.at.find(".")
        while end >= 0:
            above = first.get(claim.at[:end])
            if above and above.kind != "weights":
                raise _clash(claim, above)
            end = claim.at.find(".", end + 1)


def _check_names(claim: Claim, root: bool) -> None:
    first, *rest = claim.at.split(".")
    known = MODULE | ROOT if root else MODULE
    taken = [*({first} & known), *(name for name in rest if name in MODULE)]
    if taken:
        name = taken[0]
        words = f"`{name}` is a name that torch's modules have themselves"
        hint = f"give it another address, such as `at: {name}_`"
        raise DsvError(words, claim.node.span, code=Code.TORCH_NAME, hint=hint)


def _clash(claim: Claim, other: Claim) -> DsvError:
    same = claim.at == other.at
    what = "copies" if other.kind == "list" or (same and claim.kind == "list") else "a module"
    where = f"`{claim.at}` is the address" if same else f"`{claim.at}` lies below the address"
    notes = [(f"`{other.at}` is this line's", other.node.span)]
    words = f"{where} of {what} of another line"
    return DsvError(words, claim.node.span, code=Code.SHARED_ADDRESS, notes=notes, hint="give one of them another `at`")


# -- what lines read ------------------------------------------------------------------------------


def check_reads(graph: Graph, node: Node, level: int, path: str) -> None:
    """Raise DsvError if a line reads what no module gives: values of no copies, rows or weights of experts.

    ``level`` is how many blocks the body of ``graph`` is inside of.
    """
    orders = {port: graph.type(ref).order for port, ref in node.sources.items()}
    for port, ref in node.sources.items():
        none = 0 in graph.type(ref).shape and not (node.op and port in node.op.may_be_empty)
        if none and node.count != 0:
            words = f"`{ref}` stacks what no copies made, so there is nothing to read"
            raise DsvError(words, node.span, code=Code.NO_PIECE, path=path)
        if orders[port].startswith(f"{level}:") and not (
            node.mode is Mode.EACH or (node.op and node.op.positions.unsorts)
        ):
            words = f"`{ref}` is sorted by expert: only `each` and `combine` read it"
            hint = "put the line into the block of the experts"
            raise DsvError(words, node.span, code=Code.NOT_LOWERED, path=path, hint=hint)
    if not node.op or not any(type_.order for type_ in graph.inputs.values()):
        return
    if not node.op.side_by_side:
        words = f"`{node.callee}` cannot run inside experts, which see tokens, not rows"
        hint = f"there {', '.join(sorted(name for name, cls in OPS.items() if cls.side_by_side))} can"
        raise DsvError(words, node.span, code=Code.NOT_LOWERED, path=path, hint=hint)
    if not all(orders[port] for port in node.inputs):
        words = f"experts have weights of their own each, so `{node.name}` cannot read them as one value"
        raise DsvError(words, node.span, code=Code.NOT_LOWERED, path=path)


def check_alone(op: Op, node: Node, weights: Mapping[str, Weight]) -> None:
    """Raise ValueError if an op whose weights stand in a module with more has no address for it."""
    if _alone(op) and weights and not node.at:
        raise Fault(Code.SHARED_ADDRESS, f"a {op.op} owns its weights and has an address of its own")
