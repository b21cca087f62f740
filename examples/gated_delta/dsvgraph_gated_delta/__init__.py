"""The gated delta rule as an op of dsvgraph."""

from dsvgraph_gated_delta.op import GatedDelta

OPS = [GatedDelta]
