"""What a run takes: FLOPs, bytes moved, memory, and time on a device, for training, prefill or decoding."""

from dsvgraph.passes.estimate.devices import Device, device, devices
from dsvgraph.passes.estimate.plan import Plan, PlanOptions, plan
from dsvgraph.passes.estimate.roofline import expected_tokens

__all__ = ["Device", "Plan", "PlanOptions", "device", "devices", "expected_tokens", "plan"]
