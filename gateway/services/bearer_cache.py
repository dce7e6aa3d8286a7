"""Verifies the tokens that requests carry, with a bound on new ones, and caches the identity of each.

Must not know what is requested, nor where the request came from.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from gateway.auth.tokens import TokenRefused, Tokens
from gateway.connection.gcra_rate_limit import Rates
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.services import authentication_refusal_words
from gateway.services.refusal import Code, Refusal

_NEW_PER_SECOND = 200
"""Tokens not seen before that one peer may show per second: verifying one takes about 100 µs."""
_TOKENS_MAX = 4_096
"""Tokens whose identities are cached; the least recently used one is dropped first."""
_SECOND = 1_000
"""A second in milliseconds."""


class BearerCache:
    """Verified tokens and their identities. One per process."""

    def __init__(self, tokens: Tokens, now: Callable[[], int]) -> None:
        """`now` returns milliseconds."""
        self._tokens = tokens
        self._rates = Rates(now)
        # Keyed by digest, so that no token that could still be used stays in memory.
        self._seen: OrderedDict[bytes, tuple[Device, Identity]] = OrderedDict()

    def identity(self, token: str, *, peer: str) -> tuple[Identity, Grant]:
        """The identity of a valid token, and what the token grants. Raises Refusal.

        For the same token of an unchanged device it is the same object. `peer` is who shows the token: new
        tokens are counted per peer, so that nobody uses up another's bound.
        """
        raw = token.encode()
        digest = hashlib.sha256(raw).digest()
        seen = self._seen.get(digest)
        if seen is None and not self._rates.take(peer, _NEW_PER_SECOND, _SECOND):
            raise Refusal(Code.RATE_LIMITED, "Too many tokens that were not seen before: try again.")
        try:
            device, grant = self._tokens.verify(raw, digest)
        except TokenRefused as refused:
            self._seen.pop(digest, None)
            raise authentication_refusal_words.of_token(refused) from None
        if seen is None or seen[0] is not device:
            # Without a client id: a rule that names one matches nothing.
            seen = device, Identity(device.device_id, device.roles, device.labels, client_id="", grant=grant)
            self._seen[digest] = seen
            if len(self._seen) > _TOKENS_MAX:
                self._seen.popitem(last=False)
        self._seen.move_to_end(digest)
        return seen[1], grant
