from __future__ import annotations

import pytest

from gateway.system.ip_address_blocks import place_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("bus", "bus"),
    ],
)
def test_who_is_counted_together(address, network):
    assert place_of(address) == network
