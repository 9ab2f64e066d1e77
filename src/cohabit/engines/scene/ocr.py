"""The text in a picture, line by line, by rapidocr's PP-OCR models on ONNX Runtime."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 960  # pixels of the longer side that the detector sees; memory grows with its square
_LARGEST_SIGN = 0.25  # share of the picture: a single sign that large is a shape, which the detector took for one
_THINNEST = 64  # times as long as high: what is thinner cannot be read, and would be blown up to the model's height


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line: its text, how sure that is (0 to 1), its corners (x, y) clockwise from the upper left."""

    text: str
    score: float
    box: list[tuple[float, float]]


class OcrReader:
    """Loads its models at the first reading."""

    def __init__(self, *, threads: int) -> None:
        """On cpu, with so many threads. The models come inside the rapidocr package."""
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_preprocess_img": False,  # it would blow small pictures up, and memory with them
                "Det.limit_type": "max",
                "Det.limit_side_len": LONGEST,
                "Rec.rec_batch_num": 1,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def lines(self, picture: "Image", wanted: Callable[[], bool]) -> Iterator[TextLine]:
        """Lines of an RGB picture, at most LONGEST pixels a side, in reading order; asks ``wanted`` before each."""
        import numpy as np
        from rapidocr.main import RapidOCRError
        from rapidocr.utils.process_img import map_boxes_to_original

        pixels = np.asarray(picture)[..., ::-1]  # as OpenCV has them: blue first
        pixels, record = self._ocr.preprocess_img(pixels)
        try:
            crops, found = self._ocr.detect_and_crop(pixels, record)
        except RapidOCRError:
            return  # there is none
        assert found.boxes is not None
        boxes = map_boxes_to_original(found.boxes, record, picture.height, picture.width)
        for crop, box in zip(crops, boxes, strict=True):
            if not wanted():
                return
            line = self._line(crop, box)
            share = crop.shape[0] * crop.shape[1] / (picture.height * picture.width)
            if line is not None and (len(line.text) > 1 or share < _LARGEST_SIGN):
                yield line

    def _line(self, crop: Any, box: Any) -> TextLine | None:
        from rapidocr.main import RapidOCRError

        height, width = crop.shape[:2]
        if width > _THINNEST * height:
            return None
        try:
            read = self._ocr.recognize_txt([crop])
        except RapidOCRError:
            return None
        assert read.txts is not None
        text = read.txts[0].strip()
        return TextLine(text, float(read.scores[0]), [(float(x), float(y)) for x, y in box]) if text else None
