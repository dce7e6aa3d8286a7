"""The request handler: one request in, one answer out, without waiting for anything.

Owns what each service grants to whom, and to which topic an answer may go. It must not know connections or
packets: `gateway.connection.service_calls` passes on the requests of devices, and
`gateway.services.direct_bus_requests` those on the bus. Whatever a request contains, there is an answer to
it; no answer, report or error quotes a payload, a token or a secret.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from gateway.auth.device_lookup_protocol import Lookup
from gateway.connection.audit_vocabulary import Report, issued_token
from gateway.connection.commands import Call
from gateway.connection.events import Answer
from gateway.connection.gcra_rate_limit import Rates
from gateway.connection.process_context import Context
from gateway.keys.key_ring import KeysUnavailable
from gateway.keys.payload_envelope import Envelope, OpenFailed, Sealer, open_envelope, read_envelope
from gateway.mqtt.topics import depth_fault, name_fault
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action, Decision
from gateway.policy.engine.service_names import Service
from gateway.services.answers import in_shape, issued, opened, refused, valid
from gateway.services.bearer_cache import BearerCache
from gateway.services.refusal import Code, Refusal
from gateway.services.repeated_requests import SeenRequests
from gateway.services.request import GeneralRequest
from gateway.services.request_fast_path import DecryptRequest, EncryptRequest, Request, read_request
from gateway.services.token_issuer import TokenIssuer
from gateway.services.token_request_parser import read_token_request

_BY_TOKEN = frozenset({Service.ENCRYPT, Service.DECRYPT})
"""Services that need a token over the bus, and accept one on a connection."""
_CALLERS_MAX = 1_024
"""Callers that are cached."""
_TOPICS_MAX = 32
"""Topics in each cache of a caller."""
_TOPIC_LENGTH_MAX = 256
"""Characters of a topic that is cached: with the two above it bounds the caches to about 25 MB."""
_SECOND_MS = 1_000
_RECORDED_FOR_MS = RECORD_AGAIN_SECONDS * _SECOND_MS
"""Milliseconds after which a caller's decisions are made, and thereby recorded, anew."""
_Cached = TypeVar("_Cached")
_DOES_NOT_OPEN = (
    "The message does not open: it is no sealed message, it was changed or moved to another topic or "
    "sender, or its key is gone."
)


class _Caller:
    """Caches for one identity under one policy, since a decision takes twice as long as sealing."""

    __slots__ = (
        "_decrypting",
        "_encrypting",
        "_recorder",
        "identity",
        "made_at",
        "policy",
        "rate",
        "reply_faults",
        "rights",
        "sealers",
    )

    def __init__(self, identity: Identity, context: Context) -> None:
        self.identity = identity
        self.policy = context.policy
        self.made_at = context.now()
        """When this object was made, in Unix milliseconds."""
        self.rights = context.policy.rights(identity)
        self.rate = context.policy.limits_of(identity.roles).service_requests_per_second
        """Requests that it may make in a second."""
        self._recorder = context.recorder
        self._encrypting: dict[str, Decision] = {}
        self._decrypting: dict[str, Decision] = {}
        self.sealers: dict[str, Sealer] = {}
        """By topic."""
        self.reply_faults: dict[str, str] = {}
        """By topic, why no answer may go there; empty if answers may."""

    def demand(self, action: Action, topic: str) -> None:
        """Raise Refusal unless it may do this on that topic."""
        decisions = self._decrypting if action is Action.DECRYPT else self._encrypting
        decision = decisions.get(topic)
        if decision is None:
            decision = _keep(decisions, topic, self.rights.decide(action, topic))
            if _if_valid(topic):
                self._recorder.record(self.identity, action, topic, decision)
        if not decision.allowed:
            raise Refusal(
                Code.NOT_AUTHORIZED, decision.reason, topic=_if_valid(topic), rule=decision.rule_location
            )


def _if_valid(topic: str) -> str:
    """The topic, for reports; empty if it is not a valid topic name, which may be as long as a packet."""
    return "" if name_fault(topic) else topic


def _keep(cache: dict[str, _Cached], topic: str, value: _Cached) -> _Cached:
    if len(topic) <= _TOPIC_LENGTH_MAX:
        if len(cache) >= _TOPICS_MAX:
            cache.clear()
        cache[topic] = value
    return value


def reply_fault(topic: str) -> str | None:
    """Why no caller may have answers sent to this topic, as the end of a sentence; None if callers may."""
    if topic.startswith("$"):
        return "is the bus's own"  # $CONTROL/… is how Mosquitto takes commands
    return name_fault(topic) or depth_fault(topic)


def _too_fast(rate: int) -> Refusal:
    words = f"More than {rate:,} requests in a second: ask more slowly, or again."
    return Refusal(Code.RATE_LIMITED, words)


def _does_not_open(failed: OpenFailed, topic: str = "") -> Refusal:
    return Refusal(Code.DECRYPT_FAILED, _DOES_NOT_OPEN, why=str(failed), topic=topic)


class RequestHandler:
    """Answers requests, wherever they come from. One per process."""

    def __init__(
        self,
        context: Context,
        bearer_cache: BearerCache,
        token_issuer: TokenIssuer,
        lookup: Lookup,
        *,
        prefix: str,
    ) -> None:
        """`prefix` is that of the service topics, without a slash at its end."""
        self._context = context
        self._bearer_cache = bearer_cache
        self._token_issuer = token_issuer
        self._lookup = lookup
        self._prefix = prefix
        self._responses = {service: f"{prefix}/{service}_response" for service in Service}
        self._requests = frozenset(f"{prefix}/{service}" for service in Service)
        self._rates = Rates(context.now)
        # Keyed by the identity's `id()`, which stays unique as long as its _Caller keeps the identity alive.
        self._callers: OrderedDict[int, _Caller] = OrderedDict()

    def answer(self, call: Call, identity: Identity) -> Answer:
        """The answer to a request that came on a device connection with this identity."""
        return self.answer_request(call, read_request(call.service, call.payload), identity)

    def answer_request(
        self, call: Call, request: Request, identity: Identity, *, seen_requests: SeenRequests | None = None
    ) -> Answer:
        """The answer to a request of this identity.

        With `seen_requests` it came over the bus, where anybody may send it again: each `request_id` is then
        answered only once.
        """
        caller = self._caller(identity)
        self._context.counters.service_requests[call.service] += 1
        over_bus = seen_requests is not None
        topic = self._responses[call.service]
        try:
            reply_to = call.response_topic if call.response_topic is not None else request.reply_to
            if reply_to is not None and reply_to != topic:
                self._demand_reply(caller, reply_to)
                topic = reply_to
            if request.fault is not None:
                return self.refuse(call, request, request.fault, topic)
            if not self._rates.take(identity.device_id, caller.rate, _SECOND_MS):
                return self.refuse(call, request, _too_fast(caller.rate), topic)
            if seen_requests is not None:
                self._demand_new(seen_requests, request)
            if isinstance(request, GeneralRequest):
                request.demand_no_unread(call.service, over_bus=over_bus)
            if not over_bus and call.service in _BY_TOKEN and request.token is not None:
                caller = self._caller_by_token(request.token, caller)
            body, report = self._serve(call.service, request, caller)
        except Refusal as refusal:
            return self.refuse(call, request, refusal, topic)
        return Answer(
            topic, in_shape(body, call.service, request, prefix=self._prefix), call.correlation, report
        )

    def refuse(self, call: Call, request: Request, refusal: Refusal, topic: str) -> Answer:
        """The answer to a request that is refused, to be sent to `topic`."""
        self._context.counters.service_refusals[call.service, refusal.code] += 1
        body = refused(call.service, refusal, self._context.now())
        payload = in_shape(body, call.service, request, prefix=self._prefix)
        return Answer(topic, payload, call.correlation, refusal.report(call.service))

    def response_topic(self, service: Service) -> str:
        """The topic of answers to requests that name no other."""
        return self._responses[service]

    def _caller(self, identity: Identity) -> _Caller:
        key, context = id(identity), self._context
        caller = self._callers.get(key)
        # Decisions are recorded when they are made, so what continues for long has to be decided anew.
        if (
            caller is None
            or caller.policy is not context.policy
            or context.now() - caller.made_at >= _RECORDED_FOR_MS
        ):
            caller = self._callers[key] = _Caller(identity, context)
            if len(self._callers) > _CALLERS_MAX:
                self._callers.popitem(last=False)
        self._callers.move_to_end(key)
        return caller

    def _demand_reply(self, caller: _Caller, topic: str) -> None:
        why = caller.reply_faults.get(topic)
        if why is None:
            why = _keep(caller.reply_faults, topic, self._reply_fault(caller, topic))
        if why:
            raise Refusal(
                Code.REPLY_NOT_ALLOWED,
                "An answer goes only to a topic that its caller may subscribe to, and that is not sensitive.",
                why=why,
                topic=_if_valid(topic),
            )

    def _reply_fault(self, caller: _Caller, topic: str) -> str:
        if topic in self._requests:
            return "an answer on a request topic would be the next request"
        decision = caller.rights.decide(Action.SUBSCRIBE, topic)
        if not decision.allowed:
            return decision.reason
        if caller.policy.sensitive(topic):
            return "no plaintext goes to a sensitive topic"
        return reply_fault(topic) or ""

    def _demand_new(self, seen_requests: SeenRequests, request: Request) -> None:
        token, request_id = request.token, request.decoded_request_id
        if token is not None and request_id is not None and seen_requests.is_repeated((token, request_id)):
            raise Refusal(
                Code.REPLAYED, 'This "request_id" was used within the last minute: give each request its own.'
            )

    def _caller_by_token(self, token: str, caller: _Caller) -> _Caller:
        """The caller with the rights of this token, which a request on a connection may carry, too."""
        bearer, _ = self._bearer_cache.identity(token, peer=caller.identity.device_id)
        if bearer.device_id != caller.identity.device_id:
            words = 'This "token" is another device\'s: leave it out, the connection says who asks.'
            raise Refusal(Code.NOT_AUTHORIZED, words)
        return self._caller(bearer)

    def _serve(self, service: Service, request: Request, caller: _Caller) -> tuple[bytes, Report | None]:
        if isinstance(request, DecryptRequest):
            return self._open(request.message, caller), None
        if isinstance(request, EncryptRequest) or service is Service.ENCRYPT:
            return self._encrypt(request, caller), None
        if service is Service.DECRYPT:
            return self._decrypt(request, caller), None
        if service is Service.VALIDATE:
            return self._validate(request, caller), None
        if request.device_id not in {None, caller.identity.device_id}:
            words = 'A token is issued to the device that asks: leave "device_id" out, or give your own.'
            raise Refusal(Code.NOT_AUTHORIZED, words)
        return self._auth(request, caller.identity)

    def _encrypt(self, request: GeneralRequest | EncryptRequest, caller: _Caller) -> bytes:
        message, data, topic = request.message, request.data, request.topic
        if topic is None or bool(message) == (data is not None):
            words = 'Give "topic", and either "message" (any JSON) or "data" (base64).'
            raise Refusal(Code.INVALID_REQUEST, words)
        sealer = caller.sealers.get(topic)
        if sealer is None:
            if fault := name_fault(topic):
                raise Refusal(Code.INVALID_REQUEST, f'"topic" {fault}.')
            context, sender = self._context, caller.identity.device_id
            caller.demand(Action.ENCRYPT, topic)
            sealer = _keep(
                caller.sealers, topic, Sealer(context.ring, context.now, topic=topic, sender=sender)
            )
        try:
            return sealer.seal(message if data is None else data)
        except KeysUnavailable as error:
            words = "Nothing can be sealed at the moment: ask the administrator."
            raise Refusal(Code.UNAVAILABLE, words, why=str(error)) from None

    def _decrypt(self, request: GeneralRequest, caller: _Caller) -> bytes:
        message = request.message
        if message[:1] != b"{":
            raise Refusal(Code.INVALID_REQUEST, 'Give the sealed object itself as "message", not as text.')
        try:
            envelope = read_envelope(message)
        except OpenFailed as failed:
            raise _does_not_open(failed) from None
        request.demand_no_member_twice()
        return self._open(envelope, caller)

    def _open(self, envelope: Envelope, caller: _Caller) -> bytes:
        topic = ""
        try:
            # Decided first: whoever may not decrypt it must not learn whether it authenticates.
            caller.demand(Action.DECRYPT, envelope.topic)
            topic = envelope.topic
            return opened(envelope, open_envelope(self._context.ring, envelope))
        except OpenFailed as failed:
            raise _does_not_open(failed, topic) from None

    def _validate(self, request: GeneralRequest, caller: _Caller) -> bytes:
        token = request.token
        if token is None:
            raise Refusal(Code.INVALID_REQUEST, 'Give the token as "token".')
        bearer, grant = self._bearer_cache.identity(token, peer=caller.identity.device_id)
        return valid(bearer.device_id, grant, self._context.now())

    def _auth(self, request: GeneralRequest, identity: Identity) -> tuple[bytes, Report]:
        requested = read_token_request(request.ttl, request.permissions)
        device = self._lookup.get(identity.device_id) if self._lookup.available else None
        grant = identity.grant
        if not self._lookup.available:
            words = "No token can be issued at the moment: try again."
            raise Refusal(Code.UNAVAILABLE, words, why="store unavailable")
        # Its connection is about to end, in each of these cases.
        if device is None or not device.enabled or (grant is not None and device.has_revoked(grant)):
            raise Refusal(Code.NOT_ACCEPTED, "The device is not accepted now: ask the administrator.")
        if grant is not None and self._context.now() >= grant.expires_at * 1_000:
            raise Refusal(Code.TOKEN_EXPIRED, "The token that was shown has expired.")
        token = self._token_issuer.issue(device, source="auth", parent=grant, requested=requested)
        report = issued_token(token.grant.token_id, through=Service.AUTH)
        return issued(token, self._context.now()), report
