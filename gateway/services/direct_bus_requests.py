"""The gateway's service topics on the bus itself (GATEWAY_BUS_SERVICES), for programs that use Mosquitto.

Owns who counts as authenticated there, and where answers to a stranger may go. Every request gets an answer,
and anybody on the bus may read it: so a request is authenticated by its token, and an answer goes only to a
topic that its caller may subscribe to. Whether a request is granted is up to
`gateway.services.request_handler`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login_gate import LoginGate, Peer
from gateway.bus_client.connection import Account, BusConnection
from gateway.bus_client.packet_reader import Delivery
from gateway.bus_client.reconnecting_client import BusClient
from gateway.connection.audit_vocabulary import Origin, Report, Source
from gateway.connection.commands import Call
from gateway.connection.events import Answer
from gateway.connection.process_context import Context
from gateway.connection.service_calls import answer_packet
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription
from gateway.net.bus_endpoint import Bus
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.service_names import Service
from gateway.services import authentication_refusal_words
from gateway.services.bearer_cache import BearerCache
from gateway.services.refusal import Code, Refusal
from gateway.services.repeated_requests import SeenRequests
from gateway.services.request import GeneralRequest
from gateway.services.request_fast_path import Request, read_request
from gateway.services.request_handler import RequestHandler, reply_fault

ADDRESS = "bus"
"""Stands for the address of all callers on the bus, in audit events and where wrong logins are counted."""
_PEER = Peer(host=ADDRESS, origin=None)
"""All callers on the bus, as the peer of a login. It has no origin, so the login gate reports nothing;
`_send_or_refuse` does."""
_LOGINS_MAX = 64
"""Logins in progress at the same time; further callers are told to try again."""
_ALL_CALLERS = ""
"""All callers on the bus, as the peer of the bearer cache: they share the bound of one peer."""
_SECRET_MAX = 65_535
"""Longest secret that is hashed, in bytes: as long as MQTT allows a password to be."""
_REQUEST_ID_SHOWN = 64
"""Bytes of a `request_id` in an audit event."""
_OPTIONS = 1 | 0x04 | 0x20
"""Subscription options (MQTT 5, 3.8.3.1): QoS 1; No Local; and no retained messages, or a retained request
would be answered again after each reconnect."""

_Who = tuple[str | None, Source]
"""A device id, and whether the caller is authenticated as that device or only claims to be it."""

_log = get_logger()


class BusServices:
    """Answers the requests on the bus. One per process."""

    def __init__(
        self,
        context: Context,
        bus: Bus,
        *,
        request_handler: RequestHandler,
        bearer_cache: BearerCache,
        login: LoginGate,
        audit: Audit,
        tasks: Tasks,
        prefix: str,
    ) -> None:
        """`prefix` is that of the service topics, without a slash at its end."""
        self.on_request: Callable[[], None] = lambda: None
        """Called for each request."""
        self._context = context
        self._request_handler = request_handler
        self._bearer_cache = bearer_cache
        self._login = login
        self._audit = audit
        self._tasks = tasks
        self._prefix = prefix
        self._services = {f"{prefix}/{service}": service for service in Service}
        self._responses = frozenset(request_handler.response_topic(service) for service in Service)
        self._seen_requests = SeenRequests(context.now)
        self._logins = 0
        self._client = BusClient(
            bus,
            lambda: Account(
                f"/services/{context.new_client_id()}", context.bus_username, context.bus_password
            ),
            [Subscription(topic.encode(), _OPTIONS) for topic in self._services],
            self._take,
            max_size=lambda: context.policy.limits.packet_size,
            v5=context.bus_speaks_v5,
        )

    def check(self) -> tuple[bool, str]:
        """Whether requests on the bus are received, and over what."""
        return self._client.check()

    async def run(self) -> None:
        """Answer requests until cancelled."""
        _log.warning(
            "services on the bus",
            reason="GATEWAY_BUS_SERVICES: whoever listens on the bus reads tokens, secrets and plaintext",
        )
        await self._client.run()

    def _take(self, connection: BusConnection, delivery: Delivery) -> None:
        service = self._services.get(delivery.topic)
        if service is None or delivery.retain:
            return  # with MQTT 3.1.1 retained messages can't be excluded
        self.on_request()
        call = Call(service, delivery.payload, delivery.response_topic, delivery.correlation)
        request = read_request(service, call.payload)
        try:
            identity = self._caller_identity(connection, delivery, call, request)
        except Refusal as refusal:
            self._refuse(connection, call, request, refusal, None)
        except LoginRefused as refused:
            self._turn_away(connection, call, request, refused)
        else:
            if identity is not None:
                self._answer(connection, call, request, identity)

    def _caller_identity(
        self, connection: BusConnection, delivery: Delivery, call: Call, request: Request
    ) -> Identity | None:
        """The identity of the caller. None: a secret has to be hashed first, and the answer comes later.

        Raises Refusal, and LoginRefused if device id and secret are refused.
        """
        if not delivery.whole:
            most = self._context.policy.limits.packet_size
            words = f"A request may have {most:,} bytes, and no more properties than it needs."
            raise Refusal(Code.TOO_LARGE, words)
        if (fault := request.fault) is not None:
            # A new exception: raising that of the request would make a reference cycle with its traceback.
            raise Refusal(fault.code, str(fault), why=fault.why)
        if isinstance(request, GeneralRequest) and call.service is Service.AUTH:
            return self._log_in(connection, call, request)
        token = request.token
        if token is None:
            raise Refusal(Code.INVALID_TOKEN, 'Over the bus a request carries a "token": ask auth for one.')
        return self._bearer_cache.identity(token, peer=_ALL_CALLERS)[0]

    def _log_in(self, connection: BusConnection, call: Call, request: GeneralRequest) -> Identity | None:
        device_id, secret = request.device_id, request.secret
        if device_id is None or secret is None or len(secret.encode()) > _SECRET_MAX:
            words = 'Give "device_id", and its secret as "credentials": {"secret": "…"}.'
            raise Refusal(Code.INVALID_REQUEST, words)
        if self._logins >= _LOGINS_MAX:
            raise Refusal(Code.RATE_LIMITED, "Too many ask for a token at once: try again.")
        credentials = Credentials(username=device_id.encode(), password=secret.encode())
        admission = self._login.recognise(credentials, _PEER)
        if admission is not None:
            return _identity_of(admission)
        self._logins += 1
        self._tasks.start(self._verify(connection, call, request, credentials))
        return None

    async def _verify(
        self, connection: BusConnection, call: Call, request: Request, credentials: Credentials
    ) -> None:
        try:
            admission = await self._login.verify(credentials, _PEER)
        except LoginRefused as refused:
            self._turn_away(connection, call, request, refused)
        else:
            self._answer(connection, call, request, _identity_of(admission))
        finally:
            self._logins -= 1

    def _answer(self, connection: BusConnection, call: Call, request: Request, identity: Identity) -> None:
        answer = self._request_handler.answer_request(
            call, request, identity, seen_requests=self._seen_requests
        )
        self._send_or_refuse(connection, call, request, answer, (identity.device_id, Source.DEVICE))

    def _turn_away(
        self, connection: BusConnection, call: Call, request: Request, refused: LoginRefused
    ) -> None:
        self._refuse(
            connection, call, request, authentication_refusal_words.of_login(refused), refused.device_id
        )

    def _refuse(
        self,
        connection: BusConnection,
        call: Call,
        request: Request,
        refusal: Refusal,
        claimed: str | None,
    ) -> None:
        """Answer a caller that is not authenticated; `claimed` is the device id that it gives."""
        self._context.counters.service_requests[call.service] += 1
        answer = self._request_handler.refuse(call, request, refusal, self._topic_for_stranger(call, request))
        self._send_or_refuse(connection, call, request, answer, (claimed, Source.STRANGER))

    def _send_or_refuse(
        self,
        connection: BusConnection,
        call: Call,
        request: Request,
        answer: Answer,
        who: _Who,
    ) -> None:
        """Send the answer, or a shorter one if it is too long for the bus."""
        self._report(answer.report, who, request)
        try:
            self._send(connection, answer)
        except PacketTooLarge as error:
            refusal = Refusal(Code.TOO_LARGE, "The answer is longer than the bus takes.", why=str(error))
            answer = self._request_handler.refuse(call, request, refusal, answer.topic)
            self._report(answer.report, who, request)
            # Topic and Correlation Data come from the caller: with them perhaps no answer at all fits.
            bare = Answer(self._request_handler.response_topic(call.service), answer.payload)
            for shorter in (answer, bare):
                with contextlib.suppress(PacketTooLarge):
                    self._send(connection, shorter)
                    break

    def _topic_for_stranger(self, call: Call, request: Request) -> str:
        """The topic for an answer to a stranger: always below the service prefix, whatever is asked for."""
        reply_to = call.response_topic
        if reply_to is None:
            with contextlib.suppress(Refusal):
                reply_to = request.reply_to
        if reply_to is None or reply_fault(reply_to):
            return self._request_handler.response_topic(call.service)
        if reply_to in self._responses or reply_to.startswith(f"{self._prefix}/reply/"):
            return reply_to
        return self._request_handler.response_topic(call.service)

    def _send(self, connection: BusConnection, answer: Answer) -> None:
        connection.send(answer_packet(answer, answer.payload, connection.version, b""))

    def _report(self, report: Report | None, who: _Who, request: Request) -> None:
        """Emit the report, if there is one, as an audit event."""
        if report is None:
            return
        device_id, source = who
        request_id = request.request_id[:_REQUEST_ID_SHOWN].decode("utf-8", "replace").strip('"')
        origin = Origin(source=source, device=device_id, address=ADDRESS, request_id=request_id or None)
        self._audit.emit(AuditEvent.of(report, origin, self._context.now()))


def _identity_of(admission: Admission) -> Identity:
    device = admission.device
    # Without a client id: a rule that names one matches nothing.
    return Identity(device.device_id, device.roles, device.labels, client_id="", grant=admission.grant)
