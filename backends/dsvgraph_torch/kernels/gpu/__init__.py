"""Functions for training on a GPU: same names as in `runtime`, same results up to rounding.

They are written for torch.compile: shapes do not depend on values, nothing waits for the device, and what a layer adds
to the context looks the same for every copy of the layer.
"""

from dsvgraph_torch.kernels.gpu.attention import attention
from dsvgraph_torch.kernels.gpu.experts import Linears, Ragged, combine, dispatch, grouped
from dsvgraph_torch.kernels.gpu.losses import head_cross_entropy
from dsvgraph_torch.kernels.gpu.mixtures import first_products, last_product, ordered
from dsvgraph_torch.kernels.gpu.positions import rope
from dsvgraph_torch.kernels.gpu.routing import Router

_FAST = (attention, Linears, Ragged, combine, dispatch, grouped, head_cross_entropy, rope, Router)
_OF_MIXTURES = (ordered, first_products, last_product)
FUNCTIONS = {one.__name__: one for one in (*_FAST, *_OF_MIXTURES)}
