"""Where the gateway does not do as the Mosquitto it is compared with: exactly how, and why."""

from __future__ import annotations

_CLOSED = ("(closed)",)
_MALFORMED = ("e0 01 81", "(closed)")
_PROTOCOL_ERROR = ("e0 01 82", "(closed)")
_NO_SUCH_LEVEL = ("20 03 00 84 00", "(closed)")
_CONNECT_MALFORMED = ("20 03 00 81 00", "(closed)")
_CONNECT_PROTOCOL_ERROR = ("20 03 00 82 00", "(closed)")
_NOT_AUTHORIZED = ("20 02 00 05", "(closed)")
_NOT_AUTHORIZED_5 = ("20 03 00 87 00", "(closed)")
_DENIED = (b"\x40\x3a\0\1\x87\x36\x1f\0\x33No rule allows the device to publish to this topic.").hex(" ")
_CONNECT_BAD_ID = ("20 03 00 85 00", "(closed)")

OWN: dict[str, tuple[str, ...]] = {
    # A group name may not be empty [MQTT-4.8.2-1]; Mosquitto takes one that is.
    "subscribe filter share, empty group [3.1.1]": _CLOSED,
    "subscribe filter share, empty group [5]": _PROTOCOL_ERROR,
    "unsubscribe filter share, empty group [3.1.1]": _CLOSED,
    "unsubscribe filter share, empty group [5]": _PROTOCOL_ERROR,
    # A device shows who it is. Mosquitto here lets everybody in.
    "connect password without a user name, v5 [5]": _NOT_AUTHORIZED_5,
    "connect wrong password [3.1.1]": _NOT_AUTHORIZED,
    "connect wrong password [5]": _NOT_AUTHORIZED_5,
    "connect MQIsdp, wrong password [3.1.1]": _NOT_AUTHORIZED,
    "connect user name of nobody [3.1.1]": _NOT_AUTHORIZED,
    "connect user name of nobody [5]": _NOT_AUTHORIZED_5,
    "connect user name without a password [3.1.1]": _NOT_AUTHORIZED,
    "connect user name without a password [5]": _NOT_AUTHORIZED_5,
    "connect MQIsdp, credentials 000100 [3.1.1]": _NOT_AUTHORIZED,
    # No rule reaches below $share, which is no topic of anybody's.
    "connect will topic $share [3.1.1]": _NOT_AUTHORIZED,
    "connect will topic $share [5]": _NOT_AUTHORIZED_5,
    # A refusal says why. No rule reaches below $share; Mosquitto refuses it bare.
    "publish topic share [5]": (_DENIED, "d0 00"),
    # Sealed a message is longer: what is announced leaves room for it.
    "connect of one that may seal [5]": ("20 0e 00 00 0b 22 00 0a 27 00 16 df 9b 21 00 14", "d0 00"),
    # As few of what is read before anybody has logged in (promise 7, README: Devices).
    "connect property user, 257 times [5]": ("20 03 00 97 00", "(closed)"),
    # 64 KiB before authentication, and no more (promise 7).
    "connect of 65,537 bytes [3.1.1]": _CLOSED,
    "connect of 65,537 bytes [5]": _CLOSED,
}
"""What the gateway answers last, in every comparison."""

LATER: dict[str, tuple[str, ...]] = {
    # Mosquitto 2.0.20 answers a fault in any packet alike, and stricter than before. The gateway does so
    # itself, for it judges these packets before they reach a bus.
    **dict.fromkeys(
        (
            "puback flags [3.1.1]",
            "pubrec flags [3.1.1]",
            "pubcomp flags [3.1.1]",
            "pingreq flags [3.1.1]",
            "suback [3.1.1]",
            "suback flags [3.1.1]",
            "unsuback [3.1.1]",
            "unsuback flags [3.1.1]",
            "pingresp [3.1.1]",
            "pingresp flags [3.1.1]",
            "subscribe filter share without filter [3.1.1]",
            "subscribe filter share, empty filter [3.1.1]",
            "subscribe filter share, nothing [3.1.1]",
            "subscribe filter share, lone + [3.1.1]",
            "subscribe filter share, lone # [3.1.1]",
            "unsubscribe filter share without filter [3.1.1]",
            "unsubscribe filter share, empty filter [3.1.1]",
            "unsubscribe filter share, nothing [3.1.1]",
            "unsubscribe filter share, lone + [3.1.1]",
            "unsubscribe filter share, lone # [3.1.1]",
            # Whose length is all that is wrong, or the first thing: without a word in MQTT 5 too.
            "puback longer [3.1.1]",
            "pubrel longer [3.1.1]",
            "pingreq with a body [3.1.1]",
            "pingreq with a body [5]",
            "pingreq with flags and a body [3.1.1]",
            "pingreq with flags and a body [5]",
            "pingresp with a body [3.1.1]",
            "pingresp with a body [5]",
            "pingresp with flags and a body [3.1.1]",
            "pingresp with flags and a body [5]",
        ),
        _CLOSED,
    ),
    **dict.fromkeys(
        (
            "publish no topic, no alias [5]",
            "puback flags [5]",
            "pubrec flags [5]",
            "pubrel flags 0 [5]",
            "pubrel flags [5]",
            "pubcomp flags [5]",
            "suback flags [5]",
            "unsuback flags [5]",
            "pingreq flags [5]",
            "disconnect flags [5]",
            "publish topic wildcard # [5]",
            "publish topic wildcard + [5]",
            "publish topic empty [5]",
            "publish topic lone # [5]",
            "publish topic 202 levels [5]",
        ),
        _MALFORMED,
    ),
    **dict.fromkeys(
        (
            "subscribe shared, no local [5]",
            "connack [5]",
            "connack flags [5]",
            "suback [5]",
            "unsuback [5]",
            "pingresp [5]",
            "auth [5]",
            "auth continue [5]",
            "auth with a method [5]",
            "auth flags [5]",
            "subscribe filter share without filter [5]",
            "subscribe filter share, empty filter [5]",
            "subscribe filter share, nothing [5]",
            "subscribe filter share, lone + [5]",
            "subscribe filter share, lone # [5]",
            "unsubscribe filter share without filter [5]",
            "unsubscribe filter share, empty filter [5]",
            "unsubscribe filter share, nothing [5]",
            "unsubscribe filter share, lone + [5]",
            "unsubscribe filter share, lone # [5]",
            "publish property of CONNECT [5]",
            "publish property of CONNACK [5]",
            "publish property twice [5]",
            "publish property expiry twice [5]",
            "publish property alias 0 [5]",
            "publish property alias twice [5]",
            "publish property reason string [5]",
            "publish property two content types [5]",
            "publish property correlation twice [5]",
            "publish property two response topics [5]",
        ),
        _PROTOCOL_ERROR,
    ),
}
"""What the gateway and Mosquitto 2.0.20 answer last, and an older one does not."""

NEWEST: dict[str, tuple[str, ...]] = {
    # In a form that a client of any version can tell from that of 3.1.1.
    **dict.fromkeys(
        (f"connect level {level:#04x} [3.1.1]" for level in (0, 1, 2, 6, 7, 0x86, 0xFF)), _NO_SUCH_LEVEL
    ),
    **dict.fromkeys(
        (
            f"connect level {level} of {name} [3.1.1]"
            for level in (2, 6)
            for name in ("MQTX", "MQIsdP", "MQTT and NULs")
        ),
        _NO_SUCH_LEVEL,
    ),
    # Mosquitto 2.1 looks at the flags before it looks at who may send such a packet.
    "pingresp flags [5]": _MALFORMED,
    # A group name may hold no wildcard [MQTT-4.8.2-2].
    "subscribe filter share, + as group [3.1.1]": _CLOSED,
    "subscribe filter share, + as group [5]": _PROTOCOL_ERROR,
    "unsubscribe filter share, + as group [3.1.1]": _CLOSED,
    "unsubscribe filter share, + as group [5]": _PROTOCOL_ERROR,
    # Mosquitto 2.1 has a bound for the filters of MQTT 5.
    "subscribe of 100,001 bytes [5]": _CLOSED,
    "unsubscribe of 100,001 bytes [5]": _CLOSED,
    # An empty Authentication Method is none.
    "connect property method empty [5]": ("d0 00",),
    "connect property method empty, and data [5]": _CONNECT_PROTOCOL_ERROR,
    # Mosquitto 2.1 answers a broken CONNECT of MQTT 5 where an older one closes, and looks at more of it.
    **dict.fromkeys(
        (
            "connect will flag without will [5]",
            "connect user name without flag [5]",
            "connect bytes behind [5]",
            "connect cut after 10 [5]",
            "connect property unknown [5]",
            "connect property user cut [5]",
            "connect property cut [5]",
            "connect property id of two bytes [5]",
            "connect property id in more bytes than it needs [5]",
            "connect property of PUBLISH, then unknown [5]",
            "connect properties of two bytes [5]",
            "connect will property unknown [5]",
            "connect will property cut [5]",
            "connect properties of five bytes [5]",
            "connect properties overrun [5]",
        ),
        _CONNECT_MALFORMED,
    ),
    **dict.fromkeys(
        (
            "connect will topic empty [5]",
            "connect property of PUBLISH [5]",
            "connect property of CONNACK [5]",
            "connect property receive maximum 0 [5]",
            "connect property receive maximum twice [5]",
            "connect property maximum packet size 0 [5]",
            "connect property maximum packet size twice [5]",
            "connect property session expiry twice [5]",
            "connect property alias maximum twice [5]",
            "connect property problem information 2 [5]",
            "connect property problem information twice [5]",
            "connect property response information 2 [5]",
            "connect property response information twice [5]",
            "connect property method twice [5]",
            "connect property data without method [5]",
            "connect will property delay twice [5]",
            "connect will property of CONNECT [5]",
            "connect will property alias [5]",
            "connect will property format 2 [5]",
            "connect will property response topic + [5]",
        ),
        _CONNECT_PROTOCOL_ERROR,
    ),
    **dict.fromkeys(
        (
            "connect id not UTF-8 [5]",
            "connect id with NUL [5]",
            "connect id with a surrogate [5]",
            "connect id with a surrogate, and no more [5]",
            "connect id with a control character [5]",
            "connect id with a control character, and no more [5]",
            "connect id with C1 [5]",
            "connect id with a non-character [5]",
        ),
        _CONNECT_BAD_ID,
    ),
}
"""What the gateway and Mosquitto 2.1 answer last, and an older one does not."""

WITHOUT: dict[str, tuple[str, ...]] = {
    # The gateway asks the bus for no topic aliases towards the device.
    "aliases offered by the client [5]": ("d0 00",),
}
"""What the gateway answers last, and Mosquitto 2.1 has something that an older one has not."""

SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    # Clients without an id: the gateway gives them one (README: Devices) and lets them in.
    "allow_zero_length_clientid false [3.1.1]": ("", ("d0 00",)),
    "allow_zero_length_clientid false [5]": ("", ("d0 00",)),
    "auto_id_prefix x- [5]": ("", ("d0 00",)),
    # The device id that stands before the client id on the bus is too much for this one.
    "max_packet_size 118 [5]": ("i" * 100, _CLOSED),
}
"""Of the bus, and what the gateway answers last to a CONNECT with this client id."""

ACCESS_LIST = ("40 03 00 01 87", "d0 00")
"""What a device is answered that only the access list of the bus names: that sees one user, the gateway."""

PUBLIC_SUITES: dict[str, tuple[str, ...]] = {
    # test/broker of 2.0.11, 2.0.21 and 2.1.2.
    "01-connect-uname-or-anon": ("connect user name of nobody [3.1.1]", "connect user name of nobody [5]"),
    "01-connect-zero-length-id": (
        "allow_zero_length_clientid false [3.1.1]",
        "allow_zero_length_clientid false [5]",
    ),
    "03-publish-dollar-v5": ("publish topic share [5]",),
    # With the user name "test", of which the gateway knows nothing. What its acl_file says of anybody passes.
    "04-retain-check-source-persist": ("connect user name of nobody [3.1.1]", "ACCESS_LIST"),
    "04-retain-check-source-persist-diff-port": ("connect user name of nobody [3.1.1]", "ACCESS_LIST"),
    # 2.0.21 and 2.1.2.
    "01-connect-575314": ("connect property user, 257 times [5]", "connect of 65,537 bytes [5]"),
    # 2.1.2.
    "01-connect-auto-id": ("auto_id_prefix x- [5]",),
    "02-subpub-b2c-topic-alias": ("aliases offered by the client [5]",),
    "12-prop-maximum-packet-size-broker": ("max_packet_size 118 [5]",),
    # 2.0.11 and 2.0.21, and Mosquitto 2.1.2 itself answers them as the gateway does.
    "07-will-delay-invalid-573191": ("connect will topic empty [5]",),
    "07-will-no-flag": ("connect bytes behind [5]",),
    "07-will-null-topic": ("connect will topic empty [5]",),
    "01-connect-connack-2163": ("connack flags [5]",),
    "01-connect-invalid-id-utf8": ("connect id not UTF-8 [5]",),
    "01-connect-invalid-protonum": ("connect level 0x00 [3.1.1]",),
    "01-connect-uname-no-flag": ("connect user name without flag [5]",),
    "01-connect-uname-pwd-no-flag": ("connect user name without flag [5]",),
    "03-publish-long-topic": ("publish topic 202 levels [5]",),
    "13-malformed-publish-v5": ("publish property of CONNECT [5]",),
    # test/broker/data of 2.0.21 and 2.1.2.
    "CONNECT.json: Username flag 1 Password flag 1 ok": ("connect user name of nobody [3.1.1]",),
    "CONNECT.json: Password with 0x0000": ("connect wrong password [3.1.1]",),
    # 2.0.21, and Mosquitto 2.1.2 itself answers them as the gateway does.
    "CONNECT.json: v3.1 proto ver 2": ("connect level 2 of MQIsdP [3.1.1]", "connect level 0x02 [3.1.1]"),
    "CONNECT.json: v3.1 proto ver 6": ("connect level 6 of MQIsdP [3.1.1]", "connect level 0x06 [3.1.1]"),
    "CONNECT.json: v3.1.1 proto ver 2 [MQTT-3.1.2-2]": ("connect level 0x02 [3.1.1]",),
    "CONNECT.json: v3.1.1 proto ver 6 [MQTT-3.1.2-2]": ("connect level 0x06 [3.1.1]",),
    "CONNECT.json: v5.0 Client ID with 0x0000": ("connect id with NUL [5]",),
    "CONNECT.json: v5.0 Client ID with U+D800": ("connect id with a surrogate [5]",),
    "CONNECT.json: v5.0 Client ID with U+0001": ("connect id with a control character [5]",),
    "CONNECT.json: v5.0 Client ID with U+001F": ("connect id with a control character [5]",),
    "CONNECT.json: v5.0 Client ID with U+007F": ("connect id with a control character [5]",),
    "CONNECT.json: v5.0 Client ID with U+009F": ("connect id with C1 [5]",),
    "CONNECT.json: v5.0 Client ID with U+FFFF": ("connect id with a non-character [5]",),
    "CONNECT.json: v5.0 [MQTT-3.1.2-16]": ("connect user name without flag [5]",),
    "CONNECT.json: v5.0 [MQTT-3.1.2-18]": ("connect bytes behind [5]",),
    "PINGRESP.json: v5.0 D1, D2, D4, D8": ("pingresp flags [5]",),
}
"""Tests of Mosquitto that come out otherwise through the gateway, and the comparisons here that show why."""
