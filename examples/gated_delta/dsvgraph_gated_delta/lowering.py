"""How the op runs in torch: one expression of the emitted model, and the file of what that expression calls."""

from pathlib import Path

from dsvgraph_torch import Code, Site, code, lowers, runtime_file

runtime_file(Path(__file__).with_name("runtime.py"))


@lowers("gated_delta")
def gated_delta(s: Site) -> Code:
    return code("gated_delta(*inputs, A_log, dt_bias, ctx, key)", inputs=s.inputs, key=s.states["state"], **s.weights)
