"""Moving averages."""

from cohabit.core.footprints import Ewma


def test_first_measurement_replaces_the_guess() -> None:
    average = Ewma(10.0, weight=0.5)
    assert (average.value, average.measured) == (10.0, False)
    average.add(2.0)
    assert (average.value, average.measured) == (2.0, True)
    average.add(4.0)
    assert average.value == 3.0
