"""What an inspector lets through of damaged pictures and sounds can be opened."""

import io

import numpy as np
import pytest
from PIL import Image

from cohabit.engines.audio_decode import windows
from cohabit.engines.scene.engine import Scene
from cohabit.media.images import load
from inspector.damage import COUNT, passed, pictures, sounds

pytestmark = pytest.mark.process


@pytest.mark.timeout(60 + COUNT * 5)
async def test_a_picture_that_passed_can_be_opened() -> None:
    clean = await passed(pictures(COUNT))
    assert len(clean) > COUNT
    for data in clean:
        picture, size = load(data)
        assert picture.mode == "RGB"
        assert 0 < max(picture.size) <= Scene.longest_picture
        assert min(size) > 0
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            opened.verify()


@pytest.mark.timeout(60 + COUNT * 5)
async def test_sound_that_passed_is_heard() -> None:
    clean = await passed(sounds(COUNT))
    assert len(clean) > COUNT
    for data in clean:
        heard = list(windows(data))
        assert heard
        for _, samples in heard:
            assert samples.dtype == np.float32
            assert np.isfinite(samples).all()
            assert len(samples) <= 30 * 16_000
