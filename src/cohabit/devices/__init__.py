"""Devices as the control plane sees them: how much memory there is, who holds it. Never through torch."""

from cohabit.devices.reading import DeviceError, DeviceReader, DeviceReading

__all__ = ["DeviceError", "DeviceReader", "DeviceReading", "device_for", "host_available", "parse_kind"]


def parse_kind(kind: str) -> tuple[str, int]:
    """``cpu`` or ``cuda:N`` as name and index. Raises DeviceError for anything else."""
    name, _, index = kind.partition(":")
    if kind == "cpu" or (name == "cuda" and index.isdecimal()):
        return name, int(index or 0)
    raise DeviceError(f"no such device: {kind!r}; use cpu or cuda:0")


def device_for(kind: str) -> DeviceReader:
    """The device of a config. Raises DeviceError if it is not there."""
    name, index = parse_kind(kind)
    if name == "cpu":
        from cohabit.devices.cpu import Cpu

        return Cpu()
    from cohabit.devices.cuda import Cuda

    return Cuda(index)


def host_available() -> int:
    """Bytes of host memory that nobody uses now."""
    from cohabit.devices.cpu import memory

    return memory()[1]
