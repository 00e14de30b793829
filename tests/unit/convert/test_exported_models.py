from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import runtime
from frameworks.convert.formats import Format
from frameworks.convert.orders import Event
from frameworks.convert.samples import Samples
from runtime import convert as nav
from tests.support.two_heads import TwoHeads, texts

ROOT = Path(runtime.__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_exported_model_answers_alike_here_and_in_a_fresh_process(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TwoHeads()
    events: list[Event] = []
    exported = nav.torch.export(
        model,
        texts(),
        "two_heads",
        workdir=tmp_path / "workdir",
        target_formats=("onnx", "torchscript-trace"),
        output_names=("pooled", "tokens"),
        profiler_config=nav.ProfilerConfig(
            batch_sizes=(1, 4), measurement_mode="count_windows", measurement_request_count=3, max_trials=3
        ),
        progress=events.append,
    )
    assert exported.get_formats_status() == {Format.TORCHSCRIPT: True, Format.ONNX: True}
    assert set(exported.get_formats_performance()) == {Format.TORCHSCRIPT, Format.ONNX}
    assert events[-1].done == events[-1].total
    assert Samples.load(exported.workspace.inputs).batch_size == 2
    feed = {name: tensor.numpy() for name, tensor in texts()[1].items()}
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in model.eval()(*texts()[1].values())]
    for form in ("onnx", "torchscript"):
        with exported.get_runner(form) as runner:
            for found, wanted in zip(runner.infer(feed).values(), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert isinstance(exported.get_model("torchscript", "trace"), torch.jit.ScriptModule)

    exported.save(tmp_path / "two_heads.nav")
    np.savez(tmp_path / "case.npz", pooled=expected[0], tokens=expected[1], **feed)
    code = """
import numpy as np
from runtime import convert as nav
case = dict(np.load("case.npz"))
loaded = nav.load("two_heads.nav", workdir="fresh", retest_conversions=False)
for form in (nav.Format.ONNX, nav.Format.TORCHSCRIPT):
    with loaded.get_runner(form) as runner:
        found = runner.infer({"ids": case["ids"], "mask": case["mask"]})
    for name in ("pooled", "tokens"):
        np.testing.assert_allclose(found[name], case[name], rtol=1e-4, atol=1e-5)
print("equal")
"""
    assert run(code, tmp_path) == "equal"


PYTORCH_SNIPPET = """
import torch
from runtime import convert as nav

device = "cuda" if torch.cuda.is_available() else "cpu"

dataloader = [torch.full((3, 5), 1.0, device=device) for _ in range(10)]

model = torch.nn.Linear(5, 7).to(device).eval()

package_desc = nav.torch.export(
    model=model,
    model_name="example_model",
    dataloader=dataloader,
    opset=13,
    input_names=("input",),
    dynamic_axes={"input": {0: "batch"}},
    QUICK
)

onnx_status = package_desc.get_status(format=nav.Format.ONNX)
if onnx_status:
    onnx_runner = package_desc.get_runner(format=nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU)

# Additional model verification ...
model_is_valid = True # code for model verification
if model_is_valid:
    package_desc.set_verified(format=nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU)

package_desc.save("example_pyt.nav")

loaded_package_desc = nav.load("example_pyt.nav")
"""

TENSORFLOW_SNIPPET = """
import tensorflow as tf
from runtime import convert as nav

dataloader = [
    tf.random.uniform(shape=[1, 224, 224, 3], minval=0, maxval=1, dtype=tf.dtypes.float32) for _ in range(10)
]

inp = tf.keras.layers.Input((1, 224, 224, 3))
layer_output = tf.keras.layers.Lambda(lambda x: x)(inp)
layer_output = tf.keras.layers.Lambda(lambda x: x)(layer_output)
model_output = tf.keras.layers.Lambda(lambda x: x)(layer_output)
model = tf.keras.Model(inp, model_output)

package_desc = nav.tensorflow.export(
    model=model,
    model_name="example_tf2_model",
    dataloader=dataloader,
    override_workdir=True,
    input_names=("input",),
    QUICK
)

onnx_status = package_desc.get_status(format=nav.Format.ONNX)
if onnx_status:
    onnx_runner = package_desc.get_runner(format=nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU)

# Additional model verification ...
model_is_valid = True # code for model verification
if model_is_valid:
    package_desc.set_verified(format=nav.Format.ONNX, runtime=nav.RuntimeProvider.CPU)

package_desc.save("example_tf2.nav")

loaded_package_desc = nav.load("example_tf2.nav")
"""

CLOSING = """
assert onnx_status
assert onnx_runner.get_input_metadata()["input"].shape == SHAPE
assert loaded_package_desc.get_status("onnx", "cpu")
assert loaded_package_desc.get_verified_status("onnx", "cpu")
print("done")
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("snippet", "formats", "shape"),
    [
        (PYTORCH_SNIPPET, "('onnx', 'torchscript')", "(-1, 5)"),
        (TENSORFLOW_SNIPPET, "('onnx', 'tf-savedmodel')", "(-1, 1, 224, 224, 3)"),
    ],
    ids=["torch", "tensorflow"],
)
def test_the_documented_snippets_run(snippet: str, formats: str, shape: str, tmp_path: Path) -> None:
    code = snippet.replace("QUICK", f"target_formats={formats}, run_profiling=False, sample_count=3")
    assert run(code + CLOSING.replace("SHAPE", shape), tmp_path) == "done"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["navigator_workdir"]
