"""Small fleets of models with sizes in MiB, driven in virtual time with the invariants checked at every event."""

from collections.abc import Callable, Sequence
from typing import Any

from cohabit.core import invariants
from cohabit.core.commands import Command
from cohabit.core.controller import Controller
from cohabit.core.events import Event
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import ModelPolicy
from cohabit.core.state import SchedulerState
from cohabit.simulate.behaviour import Behaviour, known_model
from cohabit.simulate.shell import VirtualShell
from cohabit.simulate.stats import Tally
from cohabit.simulate.timeline import Timeline

MIB = 1 << 20


def takes(idle: int = 100, activation: int = 10, **seconds: Any) -> Behaviour:
    """A second to load, unless told otherwise."""
    size = idle * MIB
    return Behaviour(idle=size, load=size, activation=activation * MIB, **{"load_seconds": 1.0, **seconds})


class Run:
    """Models under one budget, and everything that can be asked afterwards."""

    def __init__(
        self,
        behaviours: dict[str, Behaviour],
        budget: int,
        *,
        slots: int = 4,
        policy: Policy = Policy.GDSF,
        **each: Any,
    ) -> None:
        """``each`` goes into the policy of every model."""
        models = [known_model(ModelPolicy(name=name, **each), takes) for name, takes in behaviours.items()]
        ledger = Ledger(budget=budget * MIB, keep_free=0, slots=slots)
        self.controller = Controller(models, ledger, policy)
        self.tally = Tally()
        self.timeline = Timeline()
        self.shell = VirtualShell(
            self.controller.handle,
            behaviours,
            total=budget * MIB,
            observers=[self._checked, self.tally.handled, self.timeline.handled],
        )

    @property
    def state(self) -> SchedulerState:
        """The controller's state."""
        return self.controller.state

    @property
    def loads(self) -> dict[str, int]:
        """How often each model came in."""
        return {name: tally.loads for name, tally in self.tally.models.items()}

    def story(self) -> str:
        """What each model did and when: for the message of a test that fails."""
        self.timeline.close()
        spans = [
            (span.begin, f"{span.begin:9.3f} to {span.end:9.3f}  {name} {doing.value}")
            for name, row in self.timeline.rows.items()
            for doing, these in row.spans.items()
            for span in these
        ]
        return "\n" + "\n".join(line for _, line in sorted(spans)[:200])

    def _checked(self, _event: Event, _commands: Sequence[Command], _now: float) -> None:
        invariants.check(self.state)


def two(budget: int = 150, **each: Any) -> Run:
    """A and B, of which one fits at a time; a load takes 1 s."""
    return Run({"a": takes(), "b": takes()}, budget, **each)


def closed_loop(run: Run, model: str, *, think: float, run_seconds: float, until: float) -> Callable[[float], None]:
    """A client that asks, waits for the answer, thinks, and asks again; call what this returns to begin."""

    def again(now: float) -> None:
        if now < until:
            run.shell.ask(model, at=now + think, run_seconds=run_seconds, client=model, then=again)

    return again
