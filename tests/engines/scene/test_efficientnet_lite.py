"""EfficientNet-Lite0 as ONNX: the real weights give the network they are of, others are refused by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_cache_path

from cohabit.config.load import load_config
from cohabit.engines.scene.efficientnet_lite import STAGES, build
from cohabit.engines.scene.torch_file import RefusedFile, read_tensors
from cohabit.sources import resolve


@pytest.fixture(scope="module")
def weights() -> Path:
    """The .pth of the preset."""
    config = load_config("embedded")
    found = resolve(
        config.models["vision"].files["labels"],
        weights_dir=user_cache_path("cohabit") / "weights",
        base_dir=config.base_dir,
    )
    assert found is not None
    return found


@pytest.mark.model
def test_the_real_weights_become_the_real_network(weights: Path) -> None:
    import onnxruntime as ort

    model = build(read_tensors(weights))
    kinds = [node.op_type for node in model.graph.node]
    blocks = sum(stage.repeats for stage in STAGES)
    assert kinds.count("Conv") == 2 + 3 * blocks - 1, "stem and head, three a block, but the first expands nothing"
    assert kinds.count("Add") == blocks - len(STAGES), "every block that changes neither size nor channels"
    session = ort.InferenceSession(model.SerializeToString())
    (probabilities,) = session.run(None, {"x": np.zeros((1, 3, 224, 224), np.float32)})
    assert probabilities.shape == (1, 1000)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.model
def test_weights_of_something_else_are_refused_by_name(weights: Path) -> None:
    tensors = read_tensors(weights)
    name = "_blocks.3._expand_conv.weight"
    with pytest.raises(RefusedFile, match=f"not EfficientNet-Lite0: {name} should be there with the shape"):
        build({other: tensor for other, tensor in tensors.items() if other != name})
    with pytest.raises(RefusedFile, match=r"_fc.weight should be there with the shape \(1000, 1280\)"):
        build({**tensors, "_fc.weight": tensors["_fc.weight"][:10]})


@pytest.mark.process
def test_as_a_command_it_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"cos\nsystem\n.")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cohabit.engines.scene.efficientnet_lite",
            tmp_path / "bad.pth",
            tmp_path / "out.onnx",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "os.system" in done.stdout
    assert not done.stderr
    assert not (tmp_path / "out.onnx").exists()
