"""Conversions of dtypes inside of functions that torch.compile sees."""

import torch


# Conversions that change nothing are left out: torch.compile of torch 2.11 loses the gradients of a function with one.
def cast(x, dtype):
    """x in ``dtype``."""
    return x if x.dtype == dtype else x.to(dtype)


def wide(x):
    """x in float32, or in its dtype if that is wider."""
    return cast(x, torch.promote_types(x.dtype, torch.float32))
