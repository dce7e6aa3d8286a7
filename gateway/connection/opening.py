"""A connection before it is established: the CONNECT, who sent it, and the bus's CONNACK.

Owns what comes in pieces or too early, and the CONNECT for as long as it is needed. Must not know which state
it is in: `gateway.connection.transition_table` calls the handler that fits.
"""

from __future__ import annotations

from gateway.connection.access_changes import will_refused
from gateway.connection.audit_vocabulary import Report
from gateway.connection.authorizer import Authorizer
from gateway.connection.commands import (
    Authenticate,
    Command,
    Established,
    OpenBus,
    SendToBus,
    SendToDevice,
)
from gateway.connection.connect import (
    TLS_HELLO,
    ConnectRefused,
    Terms,
    bus_connect,
    check_connect,
    check_sealed_will,
    connack_for,
    count_holdings,
    identity_of,
    not_mqtt,
    refusal_of_bus,
    refused_connect,
    terms_of,
    token_of,
)
from gateway.connection.device_budgets import Meter
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Authenticated,
    AuthenticationFailed,
    BusBytes,
    BusUnavailable,
    DeviceBytes,
    Kicked,
    PolicyChanged,
    ShuttingDown,
)
from gateway.connection.handler_outcomes import Accepted, Ended, Result
from gateway.connection.process_context import Context
from gateway.connection.refusal_report_limit import Reports
from gateway.mqtt.decode import ConnectFault, decode_connack, decode_connect
from gateway.mqtt.encode import DISCONNECT, encode_connack, encode_connect
from gateway.mqtt.errors import MqttError, PacketTooLarge, ProtocolError
from gateway.mqtt.framing import first_packet
from gateway.mqtt.packets import Connack, Connect, PacketType, Version
from gateway.mqtt.reason_codes import Reason, return_code
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.limits import CONNACK_BYTES_MAX, CONNECT_BYTES_MAX


class Opening:
    """What a connection is until the bus has accepted its CONNECT."""

    __slots__ = ("_connect", "_context", "_device", "_early", "_established", "terms")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._early = bytearray()
        """Bytes that can't be processed yet: a CONNECT in pieces, then what the device sent after it."""
        self._connect: Connect | None = None
        self.terms: Terms | None = None
        self._established: EstablishedConnection | None = None
        self._device: Device | None = None
        """The authenticated device, while `_established` is not there to hold it."""

    @property
    def established(self) -> EstablishedConnection:
        """The connection as it will be when established. RuntimeError before the device is authenticated."""
        if self._established is None:
            raise RuntimeError("nobody is authenticated yet")
        return self._established

    @property
    def device(self) -> Device | None:
        """The device, once authenticated."""
        return self._established.device if self._established else self._device

    @property
    def identity(self) -> Identity | None:
        """What the rules are asked with, once authenticated."""
        return self._established.identity if self._established else None

    @property
    def pending_connect(self) -> Connect | None:
        """The CONNECT, from when all of it has come until its sender is authenticated."""
        return self._connect

    @property
    def tls_meter(self) -> Meter | None:
        """What decrypting the device's TLS may cost in this second, once authenticated."""
        return self._established.tls_meter if self._established else None

    def end(self) -> list[Command]:
        """The connection ends: drop what is held. Returns the reports that are still to be made."""
        self._connect = None
        self._early = bytearray()
        return self._established.end() if self._established else []

    # The CONNECT

    def first_bytes(self, event: DeviceBytes) -> Result:
        """The beginning of a CONNECT, or all of it."""
        self._early.extend(event.data)
        try:
            connect = self._take_connect()
            if connect is None:
                return []
            self._connect = connect
            self.terms = terms_of(connect, self._context)
            check_connect(connect, self._context)
        except ConnectFault as error:
            self._context.counters.protocol_errors += 1
            return self._refuse(error.reason, str(error), refused_connect(error), version=error.version)
        except ConnectRefused as error:
            return self._refuse(error.reason, str(error), error.report or refused_connect(error))
        except MqttError as error:
            # Without a whole CONNECT there is nobody to answer (MQTT 5, 4.13.1: "MAY send a CONNACK").
            return self._broken(error, refused_connect(error))
        token = token_of(connect, self.terms)
        return Accepted([Authenticate(connect.username, connect.password, token)])

    def _take_connect(self) -> Connect | None:
        data = self._early
        if data[0] >> 4 != PacketType.CONNECT or data.startswith(TLS_HELLO):
            raise ProtocolError(not_mqtt(data))  # [MQTT-3.1.0-1]
        too_long = (
            f"the CONNECT is longer than the {CONNECT_BYTES_MAX:,} bytes that may come before authentication"
        )
        found = first_packet(data, CONNECT_BYTES_MAX, too_long)
        if found is None:
            return None
        body_at, end = found
        connect = decode_connect(bytes(data), body_at, end, self._context.policy.limits.connect_properties)
        self._early = data[end:]
        return connect

    def early_bytes(self, event: DeviceBytes) -> Result:
        """What a client sends before its CONNACK came (MQTT 5, 3.1.4); reading is paused, so it is little."""
        if len(self._early) > CONNECT_BYTES_MAX:
            error = PacketTooLarge(f"more than {CONNECT_BYTES_MAX:,} bytes were sent before authentication")
            return self._broken(error, refused_connect(error))
        self._early.extend(event.data)
        return []

    # Who sent it

    def authenticated(self, event: Authenticated) -> Result:
        """It is this device: its CONNECT goes to the bus, or is refused for what it asks."""
        connect, terms = self._connect_and_terms()
        self._device = event.device
        reports_kept = Reports()
        try:
            client_id = (terms.assigned or connect.client_id).decode()
            identity = identity_of(event.device, event.grant, client_id, event.certificate_ends)
            authorizer = Authorizer(self._context, identity, reports_kept)
            packet, reports = bus_connect(connect, terms, authorizer, self._context)
            encoded = encode_connect(packet)
            check_sealed_will(len(encoded), terms, self._context)
            holdings = count_holdings(packet, authorizer, self._context)
        except ConnectRefused as error:
            return self._refuse(error.reason, str(error), error.report or refused_connect(error))
        except MqttError as error:
            return self._broken(error, refused_connect(error))
        self._established = EstablishedConnection(
            self._context, terms, event.device, authorizer, reports=reports_kept, holdings=holdings
        )
        # Password and will are not kept for the life of the connection.
        self._connect = self._device = None
        return Accepted([*reports, OpenBus(encoded)])

    def _connect_and_terms(self) -> tuple[Connect, Terms]:
        if self._connect is None or self.terms is None:
            raise RuntimeError("no CONNECT came")
        return self._connect, self.terms

    def authentication_failed(self, event: AuthenticationFailed) -> Result:
        """The credentials are not valid, or could not be checked now."""
        return self._refuse(event.reason, "authentication failed")

    # The bus's answer

    def connack_bytes(self, event: BusBytes) -> Result:
        """The beginning of a CONNACK, or all of it."""
        established = self.established
        early, version = established.from_bus_early, established.terms.version
        early.extend(event.data)
        try:
            if early[0] != PacketType.CONNACK << 4:
                raise ProtocolError("the bus answered a CONNECT with something else")
            found = first_packet(early, CONNACK_BYTES_MAX, "the CONNACK is longer than any can be")
            if found is None:
                return []
            (body_at, end), data = found, bytes(early)
            connack = decode_connack(data, body_at, end, version)
        except MqttError as error:
            return self._broken(error)
        if connack.code:
            return self._refused_by_bus(connack, data[:end])
        sealing = established.sealing_device_id
        answer = connack_for(data[:end], connack, established.terms, sealing_device_id=sealing)
        if len(answer) > established.terms.delivered_max_size:
            return Ended([], "the CONNACK is longer than the device takes")
        established.begin(connack)
        self._context.counters.connections_opened += 1
        self._context.bus_accepted_credentials = True
        return Accepted([SendToDevice(answer), Established()], self._take_early(data[end:]))

    def _take_early(self, of_bus: bytes) -> tuple[BusBytes | DeviceBytes, ...]:
        self.established.from_bus_early = bytearray()
        of_device, self._early = bytes(self._early), bytearray()
        early: list[BusBytes | DeviceBytes] = [BusBytes(of_bus)] if of_bus else []
        return (*early, DeviceBytes(of_device)) if of_device else tuple(early)

    def _refused_by_bus(self, connack: Connack, raw: bytes) -> Ended:
        established = self.established
        established.holdings.refused()
        version = established.terms.version
        will = established.terms.will is not None and self._context.bus_accepted_credentials
        code, why = refusal_of_bus(connack.code, version, for_its_will=will)
        own = encode_connack(Connack(session_present=False, code=code, properties=[]), version)
        return Ended([SendToDevice(raw if code == connack.code else own)], why)

    def bus_unavailable(self, event: BusUnavailable) -> Result:
        """The bus could not be reached, or did not answer."""
        if not event.connect_sent:
            self.established.holdings.refused()
        return self._refuse(Reason.SERVER_UNAVAILABLE, "the bus can't be reached")

    # Other endings. The bus may have the CONNECT already, and the will with it: it gets a DISCONNECT.

    def policy_changed(self, event: PolicyChanged) -> Result:
        """Other rules are in force, and the bus may have the will."""
        established = self.established
        established.take_device(event.device)
        report = will_refused(established)
        if report is None:
            return []
        why = "the will is not allowed any more"
        return self._refuse(Reason.NOT_AUTHORIZED, why, SendToBus(DISCONNECT), report)

    def withdrawn(self, event: AccessWithdrawn) -> Result:
        """The device may not come in any more."""
        return self._refuse(Reason.NOT_AUTHORIZED, event.why, SendToBus(DISCONNECT))

    def kicked(self, event: Kicked) -> Result:
        """An administrator ends it before it is established. No code of a CONNACK says that."""
        return Ended([], event.why)

    def stop(self, _: ShuttingDown) -> Result:
        """The gateway stops, and the bus may have the CONNECT."""
        return Ended([SendToBus(DISCONNECT)], "the gateway stops")

    def _refuse(
        self, reason: Reason, why: str, *before: Report | SendToBus, version: Version | None = None
    ) -> Ended:
        self._context.counters.connections_refused[reason] += 1
        version = version or (self.terms.version if self.terms else Version.V311)
        code = reason if version is Version.V5 else return_code(reason)
        refusal = encode_connack(Connack(session_present=False, code=code, properties=[]), version)
        return Ended([*before, SendToDevice(refusal)], why)

    def _broken(self, error: MqttError, *before: Report) -> Ended:
        self._context.counters.protocol_errors += 1
        return Ended([*before], f"{type(error).__name__}: {error}")
