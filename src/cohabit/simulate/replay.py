"""One trace through one fleet."""

from collections.abc import Iterable, Sequence

from cohabit.core.eviction import Policy
from cohabit.runtime.loop import Observe
from cohabit.simulate.fleet import Fleet
from cohabit.simulate.shell import VirtualShell
from cohabit.simulate.stats import Tally
from cohabit.simulate.traces import Arrival


def replay(
    fleet: Fleet, trace: Iterable[Arrival], policy: Policy | None = None, observers: Sequence[Observe] = ()
) -> Tally:
    """Until every request has ended; ``policy`` instead of the config's. Raises Stuck."""
    tally = Tally()
    shell = VirtualShell(
        fleet.controller(policy).handle, fleet.behaviours, total=fleet.total, observers=[tally.handled, *observers]
    )
    for arrival in trace:
        shell.ask(
            arrival.model,
            at=arrival.at,
            run_seconds=arrival.run_seconds,
            client=arrival.client,
            background=arrival.background,
        )
    shell.run()
    return tally
