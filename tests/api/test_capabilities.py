"""What a model cannot do is refused, with the names of those that can."""

import pytest

from api.driving import FakeService
from cohabit.api.capabilities import require
from cohabit.api.errors import BadRequest
from cohabit.protocol.capabilities import Ability
from cohabit.protocol.tasks import Task


def test_the_first_field_that_asks_too_much_is_named_with_those_that_could(service: FakeService) -> None:
    labels = service.models["labels"]
    needed = {"temperature": Ability.SAMPLING, "tools": Ability.TOOLS}
    with pytest.raises(BadRequest) as refused:
        require(service, labels, Task.CHAT, needed, prefix="data.")
    error = refused.value.body["error"]
    assert error["param"] == "data.temperature"
    assert error["code"] == "unsupported_parameter"
    assert error["message"] == "labels cannot be told how to choose its words; models that can: llm, seer"


def test_nobody_may_be_able_to(service: FakeService) -> None:
    with pytest.raises(BadRequest, match="llm cannot translate speech; no configured model can"):
        require(service, service.models["llm"], Task.CHAT, {"x": Ability.TRANSLATE})


def test_what_a_model_can_is_let_through(service: FakeService) -> None:
    require(service, service.models["llm"], Task.CHAT, {"temperature": Ability.SAMPLING})
