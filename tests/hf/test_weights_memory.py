"""Weights are streamed: what exporting and loading take in memory, as the system measures it."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")

SIZES = dict(
    vocab_size=4096, hidden_size=512, num_hidden_layers=5, num_nextn_predict_layers=1, intermediate_size=2048,
    moe_intermediate_size=512, n_routed_experts=16, num_attention_heads=8, kv_lora_rank=128, q_lora_rank=128,
)  # fmt: skip
CODE = """
import json, sys
import dsvgraph, dsvgraph_hf, dsvgraph_torch, torch

what, folder, sizes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def peak():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) * 1024

model = dsvgraph.load("deepseek_v3_tiny", sizes)
module = dsvgraph_torch.compile(dsvgraph.load("deepseek_v3_tiny"))
module.predict(torch.zeros(1, 4).long())
size = sum(w.numel() for w in dsvgraph_torch.compile(model, device="meta").state_dict().values()) * 4
base = peak()
layers = {"num_hidden_layers": sizes["num_hidden_layers"]}
if what == "export":
    dsvgraph_hf.save(model, folder, layers)
elif what == "run":
    dsvgraph_hf.save(model, folder + "/again", layers, run=folder, drop_mtp=True, dtype="bfloat16")
else:
    dsvgraph_hf.load(model, folder)
print(json.dumps([size, peak() - base]))
"""


def measured(what, folder):
    """Bytes of the model, and what the peak grew by, in a process of its own."""
    command = [sys.executable, "-c", CODE, what, str(folder), json.dumps(SIZES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_is_never_twice_in_memory(tmp_path):
    size, exporting = measured("export", tmp_path / "run")
    assert 280e6 < size < 320e6
    assert exporting < 0.5 * size  # a tensor at a time: no model at all
    size, loading = measured("load", tmp_path / "run")
    assert 0.9 * size < loading < 1.6 * size  # the model, and the stretch of a file that is read
    size, copying = measured("run", tmp_path / "run")
    assert copying < 0.6 * size  # the stretch that is read, a tensor that is written
