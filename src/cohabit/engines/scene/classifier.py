"""What a picture shows, as one of ImageNet's thousand classes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohabit.engines.onnx_session import open_session, shrinking
from cohabit.protocol.engine import EngineError
from cohabit.protocol.spec import Device

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 224  # pixels of a side
_CROPPED = 0.875  # share of the shorter side that the centre crop keeps


class Classifier:
    """EfficientNet-Lite0 as ONNX: input ``x`` (1, 3, 224, 224), output probabilities (1, 1000)."""

    def __init__(self, model: str, names: str, *, threads: int, device: Device) -> None:
        """``names`` is a JSON list, one for every class. Raises EngineError."""
        self._names: list[str] = json.loads(Path(names).read_text(encoding="utf-8"))
        self._session = open_session(model, threads=threads, device=device)
        self._run_options = shrinking(device)
        classes = self._session.get_outputs()[0].shape[-1]
        if not isinstance(self._names, list) or len(self._names) != classes:
            raise EngineError(f"files.names must be a JSON list of the {classes} classes of files.labels")

    def of(self, picture: "Image", count: int) -> list[tuple[str, float]]:
        """The likeliest classes of an RGB picture with their probabilities, best first."""
        probabilities = self._session.run(None, {"x": _prepared(picture)}, self._run_options)[0][0]
        best = probabilities.argsort()[::-1][:count]
        return [(self._names[index], float(probabilities[index])) for index in best]


def _prepared(picture: "Image") -> Any:
    """The centre as the network was trained on it: (x - 127) / 128."""
    import numpy as np
    from PIL import Image

    width, height = picture.size
    side = _CROPPED * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    centre = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    pixels = (np.asarray(centre, np.float32) - 127) / 128
    return pixels.transpose(2, 0, 1)[None]
