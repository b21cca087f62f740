"""Faster versions of what emitted models are made of: same names as in `runtime`, same results up to rounding.

Emitted files hold the plain functions; ``compile(model, kernels="fast")`` runs the same classes on these.
"""
