"""What a reason code of the bus means for the gateway's own connections, and what to look at."""

from __future__ import annotations

from gateway.mqtt.reason_codes import Reason, ReturnCode

_NOT_AUTHORIZED = {Reason.NOT_AUTHORIZED, ReturnCode.NOT_AUTHORIZED}


def of_connack(code: int, client_id: str) -> str:
    """What a CONNACK other than 0 means, and where to look."""
    if code in _NOT_AUTHORIZED:
        # Mosquitto says the same to an unknown user and to a client id outside its clientid_prefixes.
        return (
            f"it refuses the client id {client_id} with code {code}, not authorized: check MQTT_USERNAME and "
            "MQTT_PASSWORD, and that no clientid_prefixes of the bus keeps this client id out"
        )
    if code in {Reason.CLIENT_IDENTIFIER_NOT_VALID, ReturnCode.IDENTIFIER_REJECTED}:
        return f"it takes no client id like {client_id} (code {code}): check its clientid_prefixes"
    if code in {Reason.BAD_USER_NAME_OR_PASSWORD, ReturnCode.BAD_USER_NAME_OR_PASSWORD}:
        return f"it refuses the gateway with code {code}: check MQTT_USERNAME and MQTT_PASSWORD"
    return f"it refuses the gateway with code {code}{_named(code)}: its own log says more"


def of_answer(code: int) -> str:
    """What a SUBACK or PUBACK with this code means. MQTT 3.1.1 has only one code for all refusals."""
    if code in {Reason.NOT_AUTHORIZED, Reason.UNSPECIFIED_ERROR}:
        return f" (code {code}): check its access list"
    return f" (code {code}{_named(code)})"


def _named(code: int) -> str:
    known = {int(one): one.name for one in (*ReturnCode, *Reason) if one}
    return f", {known[code].lower().replace('_', ' ')}" if code in known else ""
