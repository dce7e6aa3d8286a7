"""Reason codes and the return codes of 3.1.1, against paho's names for them."""

from __future__ import annotations

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from gateway.mqtt import errors
from gateway.mqtt.errors import MqttError
from gateway.mqtt.reason_codes import Reason, ReturnCode, return_code


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_one_of_the_standard(reason):
    assert reason in ReasonCode(PacketTypes.CONNACK).names


def test_every_reason_has_a_return_code():
    assert {return_code(reason) for reason in Reason} == set(ReturnCode) - {
        ReturnCode.BAD_USER_NAME_OR_PASSWORD
    }
    # Which of the two was wrong is nobody's business.
    assert return_code(Reason.BAD_USER_NAME_OR_PASSWORD) == return_code(Reason.NOT_AUTHORIZED) == 5
    assert return_code(Reason.SERVER_BUSY) == return_code(Reason.SERVER_UNAVAILABLE) == 3
    assert return_code(Reason.QUOTA_EXCEEDED) == 3


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, MqttError)]
)
def test_every_error_carries_a_failure(kind):
    assert kind("why").reason >= 0x80
    assert kind("why", Reason.SERVER_BUSY).reason is Reason.SERVER_BUSY
    assert str(kind("why")) == "why"
