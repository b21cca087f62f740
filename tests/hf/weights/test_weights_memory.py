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

folder, sizes = sys.argv[1], json.loads(sys.argv[2])

def status(name):
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

def grown(action):
    base = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is what there is now
    action()
    return status("VmHWM") - base

model = dsvgraph.load("deepseek_v3_tiny", sizes)
module = dsvgraph_torch.compile(dsvgraph.load("deepseek_v3_tiny"))
module.predict(torch.zeros(1, 4).long())
size = sum(w.numel() for w in dsvgraph_torch.compile(model, device="meta").state_dict().values()) * 4
layers = {"num_hidden_layers": sizes["num_hidden_layers"]}
again = dict(run=folder, drop_mtp=True, dtype="bfloat16")
exporting = grown(lambda: dsvgraph_hf.save(model, folder, layers))
copying = grown(lambda: dsvgraph_hf.save(model, folder + "/again", layers, **again))
loading = grown(lambda: dsvgraph_hf.load(model, folder))
print(json.dumps([size, exporting, copying, loading]))
"""


def test_a_model_is_never_twice_in_memory(tmp_path):
    """What the peak of a process of its own grows by."""
    command = [sys.executable, "-c", CODE, str(tmp_path / "run"), json.dumps(SIZES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    size, exporting, copying, loading = json.loads(done.stdout)
    assert 280e6 < size < 320e6
    assert exporting < 0.5 * size  # a tensor at a time: no model at all
    assert copying < 0.6 * size  # the stretch that is read, a tensor that is written
    assert 0.9 * size < loading < 1.6 * size  # the model, and the stretch of a file that is read
