"""Functions that train faster on a CPU than those of emitted files: same names, same results up to rounding.

Where nothing is gained (other devices, compilers, inference) they call the plain ones.
"""

from dsvgraph_torch.kernels.cpu.attention import attention, rope
from dsvgraph_torch.kernels.cpu.experts import Linears, Ragged, combine, dispatch, grouped
from dsvgraph_torch.kernels.cpu.gated import NAME, gated_network
from dsvgraph_torch.kernels.cpu.losses import head_cross_entropy
from dsvgraph_torch.kernels.cpu.norms import RMSNorm
from dsvgraph_torch.kernels.cpu.products import Linear, linear

_FAST = (attention, rope, Linears, Ragged, combine, dispatch, grouped, head_cross_entropy, RMSNorm, Linear, linear)
FUNCTIONS = {one.__name__: one for one in _FAST} | {NAME: gated_network}
