"""What a piece may take of this process. The kernel keeps the limits, whatever a library is doing."""

import resource

MEMORY = 1 << 30  # bytes of address space, of which 130 MiB are Python and the libraries
CPU_SECONDS = 10  # for a piece
SOUND_SECONDS = 120.0  # of sound that was decoded, for which another second of the processor is allowed
# Four hours of stereo Opus take 28 s to decode, 500 times as fast as they play; MP3 and AAC take a third of that. So
# a limit of ten seconds alone would refuse honest recordings; and what gets nowhere still ends after ten.


def confine() -> None:
    """For good: this much memory, and no core dumps, which would put what a client sent on the disk."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Allowance:
    """Processor time for one piece: SIGXCPU ends the process when it is used up."""

    def __init__(self) -> None:
        """Begins now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._began = used.ru_utime + used.ru_stime
        self._stretches = 0
        self._limit()

    def heard(self, seconds: float) -> bool:
        """So many seconds of sound have been decoded so far. True if that has earned more time."""
        stretches = int(seconds / SOUND_SECONDS)
        if stretches <= self._stretches:
            return False
        self._stretches = stretches
        self._limit()
        return True

    def _limit(self) -> None:
        # The kernel counts in whole seconds.
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(self._began) + 1 + CPU_SECONDS + self._stretches, hard))
