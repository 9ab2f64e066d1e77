"""The table of states and moves."""

from itertools import product

import pytest

from cohabit.core.lifecycle import TRANSITIONS, InvalidTransition, Lifecycle, Move, State


def test_illegal_move_raises_with_the_history() -> None:
    life = Lifecycle()
    with pytest.raises(InvalidTransition, match="before: nothing"):
        life.move(Move.LOADED, 1.0)
    life.move(Move.START, 1.0)
    life.move(Move.STOP, 2.5)
    assert (life.state, life.since) == (State.STOPPING, 2.5)
    with pytest.raises(InvalidTransition, match=r"loaded while stopping; before: 1\.000 start -> starting, 2\.500"):
        life.move(Move.LOADED, 3.0)
    assert (life.state, life.since) == (State.STOPPING, 2.5), "a refused move moves nothing"


@pytest.mark.parametrize(("state", "move"), list(product(State, Move)))
def test_a_worker_leaves_stopping_only_by_its_exit(state: State, move: Move) -> None:
    life = Lifecycle()
    life.state = state
    if (state, move) in TRANSITIONS:
        life.move(move, 1.0)
        assert life.state is TRANSITIONS[state, move]
        assert (state is State.STOPPING) <= (move is Move.EXITED)
    else:
        with pytest.raises(InvalidTransition):
            life.move(move, 1.0)
