"""What an inspector lets through of damaged pictures and sounds is answered by the real engines."""

import pytest

from cohabit.engines.scene.engine import Scene
from cohabit.engines.whisper import Whisper
from cohabit.protocol.engine import Chunk, EngineRequest, ItemError
from cohabit.protocol.spec import ModelSpec
from cohabit.protocol.tasks import Task
from engines.engine_calls import loaded, run
from inspector.damage import COUNT, passed, pictures, sounds
from samples import asking

pytestmark = [pytest.mark.process, pytest.mark.model]


@pytest.mark.timeout(120 + COUNT * 10)
async def test_inspected_media_never_fail_in_an_engine(preset_specs: dict[str, ModelSpec]) -> None:
    seen = await passed(pictures(max(1, COUNT // 10)))
    spoken = await passed(sounds(max(1, COUNT // 10)))
    with loaded(Scene(), preset_specs["vision"]) as scene:
        for data in seen:
            (output,) = run(scene, Task.CHAT, {"messages": asking(data)})[0]
            assert isinstance(output, Chunk), output
    with loaded(Whisper(), preset_specs["stt"]) as whisper:
        for data in spoken:
            outputs = list(whisper.run([EngineRequest(1, Task.TRANSCRIBE, b"{}", {"file": data})], lambda _: False))
            assert not [output for output in outputs if isinstance(output, ItemError)]
