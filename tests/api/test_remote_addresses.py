"""Which addresses are public: only those may be fetched from."""

import pytest

from cohabit.api.media.media_fetch import is_public, looked_up

PUBLIC, ALSO_PUBLIC = "93.184.216.34", "2606:2800:220:1::1"


@pytest.mark.parametrize(
    "address",
    [PUBLIC, ALSO_PUBLIC, "8.8.8.8", f"::ffff:{PUBLIC}", f"64:ff9b::{PUBLIC}", "2002:808:808::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1"),
        *(
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
        ),
        *("2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"),
        *("2002:7f00:1::1", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1", "::1"])
async def test_own_names_are_not_public(host: str) -> None:
    assert not any(map(is_public, await looked_up(host)))


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 300, "a..b"])
async def test_name_without_address(host: str) -> None:
    assert await looked_up(host) == []
