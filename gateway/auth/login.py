"""Whether the credentials that a peer shows are good: device secret, token, client certificate.

The peer learns yes or no; only our log learns why. A device that does not exist, a wrong secret and a
disabled device get the same answer after the same time. This must not know sockets, packets or the database,
nor who counts and reports: `gateway.auth.login_gate` does that, and calls it.

How long a login waits for its hash depends on where it comes from, and on nothing that is in the store. The
claimed name matters only while other logins wait. Then a device that has logged in from the same place before
comes first; so whoever shares an address with a device can tell from the time that it logs in there. From a
network without wrong logins, a device that logged in lately comes before one that did not. Somebody who
guesses can use this to learn about one name every half minute: the wrong guess makes it a network with wrong
logins for that long.
"""

from __future__ import annotations

from collections.abc import Callable

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.device_lookup_protocol import Lookup
from gateway.auth.dual_secrets import MatchedSecret, SecretPairs
from gateway.auth.login_queue import HashRequest, Standing
from gateway.auth.passwords import Busy, PasswordPool, VerifiedSecrets, needs_rehash
from gateway.auth.recent_logins import KnownDevices
from gateway.auth.tokens import TokenRefused, Tokens
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.system.ip_address_blocks import network_of, place_of


class Login:
    """Checks credentials, and slows down those who guess."""

    def __init__(
        self,
        lookup: Lookup,
        passwords: PasswordPool,
        remembered: VerifiedSecrets,
        tokens: Tokens,
        *,
        limits: Limits,
        rehash: Callable[[Device, bytes], None],
        known: KnownDevices | None = None,
        pairs: SecretPairs | None = None,
    ) -> None:
        """`rehash(device, secret)` is called if the verified hash has old parameters; it must not block.

        It is called at each login until the hash has been replaced. Without `known` no device is known at
        first. `pairs` knows which secret of a device with two is good now.
        """
        self._lookup = lookup
        self.passwords = passwords
        self._remembered = remembered
        self._tokens = tokens
        self._rehash = rehash
        self.known = KnownDevices(now=lambda: 0) if known is None else known
        self._pairs = SecretPairs() if pairs is None else pairs
        self._throttle = _Throttle(limits)

    def apply(self, limits: Limits) -> None:
        """Put new limits in force. Counts whose limit has changed begin at zero."""
        self._throttle.apply(limits)

    def recognise(self, shown: Credentials, address: str) -> Admission | None:
        """Let the peer in without hashing: by a token, a remembered secret, or a certificate alone.

        None means that `verify` has to decide; it never means no. A token, which may be sent as the password,
        is always decided here. Raises LoginRefused.
        """
        _demand_no_fault(shown)
        if (raw := shown.any_token) is not None:
            return self._by_token(raw, shown, address)
        if not self._lookup.available:
            return None
        claimed, secret = shown.claimed, shown.secret
        if secret is None:
            device = self._enabled(claimed)
            if device is None or shown.certificate_id is None:
                return None
            self._demand_method(device, "certificate")
            self.known.add(device.device_id, place_of(address))
            return Admission(device, method="certificate", certificate_ends=shown.certificate_ends)
        return self._by_remembered(claimed, secret, place_of(address))

    async def verify(
        self, shown: Credentials, address: str, *, has_left: Callable[[], bool] = lambda: False
    ) -> Admission:
        """Let the peer in, hashing its secret if need be. Raises LoginRefused.

        `address` is the peer's IP address, by which wrong logins are counted. `has_left` is asked when its
        turn has come: nothing is hashed for a peer that is gone.
        """
        _demand_no_fault(shown)
        if (raw := shown.any_token) is not None:
            return self._by_token(raw, shown, address)
        claimed, secret = shown.claimed, shown.secret
        self._demand_store(claimed)
        if secret is None:
            return self._by_certificate(claimed, shown, place_of(address))
        if not shown.username and shown.certificate_id is None:
            raise LoginRefused(Reason.NOT_AUTHORIZED, "a password without a user name", None)
        hash_request = self._hash_request(claimed, address, len(secret) + len(shown.username or b""))
        self._refuse_if_throttled(claimed, hash_request)
        try:
            async with self.passwords.slot(hash_request) as slot:
                if has_left():
                    raise LoginRefused(Reason.SERVER_BUSY, "it left before its turn", claimed)
                # While it waited, others from its place may have been wrong, or have shown the same secret.
                self._demand_store(claimed)
                admission = self._by_remembered(claimed, secret, hash_request.place)
                if admission is not None:
                    return admission
                # Again: those that were being hashed at the first check are counted by now.
                self._refuse_if_throttled(claimed, hash_request)
                before = None if claimed is None else self._lookup.get(claimed)
                matched = await (
                    slot.match(None, "", secret)
                    if before is None
                    else slot.match(before.credential, before.next_credential, secret)
                )
        except Busy as error:
            raise LoginRefused(Reason.SERVER_BUSY, f"busy: {error}", claimed) from error
        admission = await self._by_hash(matched, before, shown, hash_request)
        self.known.add(admission.device.device_id, hash_request.place)
        self.passwords.count_right(hash_request)
        return admission

    async def _by_hash(
        self, matched: MatchedSecret, before: Device | None, shown: Credentials, hash_request: HashRequest
    ) -> Admission:
        """Let the peer in if its secret `matched` and the device is still as it was. Raises LoginRefused.

        `before` is the device as it was when the hashing began; None if there was none.
        """
        claimed, secret = shown.claimed, shown.secret or b""
        self._demand_store(claimed)
        device = None if claimed is None else self._lookup.get(claimed)  # it may have changed while we hashed
        if device is None or before is None or not self._is_good(matched, device) or not device.enabled:
            self._throttle.count(claimed, hash_request.place)
            self.passwords.count_wrong(hash_request)
            raise LoginRefused(Reason.NOT_AUTHORIZED, _why(device, shown), claimed)
        # The next secret may have taken the place of the one in use while we hashed: it is as good as before.
        is_promoted = matched is MatchedSecret.NEXT and device.credential == before.next_credential
        if device.version != before.version and not is_promoted:
            raise LoginRefused(Reason.NOT_AUTHORIZED, "the device was changed during its login", claimed)
        self._demand_method(device, "secret")
        if is_promoted:
            self._remembered.add(device, secret)
        elif matched is MatchedSecret.NEXT:
            if device.next_credential != before.next_credential:
                raise LoginRefused(Reason.NOT_AUTHORIZED, "the device was changed during its login", claimed)
            device = await self._pairs.note_next_used(device)
            now = self._lookup.get(device.device_id)  # it may have changed while we waited for the store
            if now is None or not now.enabled or not now.is_of_version(device.version):
                raise LoginRefused(Reason.NOT_AUTHORIZED, "the device was changed during its login", claimed)
            self._remembered.add(device, secret)
        elif device.credential == before.credential:  # else another login had it hashed anew meanwhile
            self._remembered.add(device, secret)
            self._replace_if_old(device, secret)
        return Admission(device)

    def _is_good(self, matched: MatchedSecret, device: Device) -> bool:
        """Whether the secret matched, and is still valid."""
        return matched is MatchedSecret.NEXT or (
            matched is MatchedSecret.CURRENT and not self._pairs.current_secret_ended(device)
        )

    def _demand_method(self, device: Device, method: str) -> None:
        """Raise LoginRefused unless the device may log in by this method.

        Asked last, so that a peer that is not authenticated learns nothing about a device.
        """
        if method not in device.methods:
            why = f"the device may not log in by {method} (it may by {', '.join(device.methods)})"
            raise LoginRefused(Reason.NOT_AUTHORIZED, why, device.device_id)

    def _hash_request(self, claimed: str | None, address: str, size: int) -> HashRequest:
        """The login as an entry for the queue. The store is not asked, lest the wait show what is in it."""
        place, network = place_of(address), network_of(address)
        was_seen, was_here = self.known.look_up(claimed or "", place)
        standing = Standing.UNKNOWN
        if was_here:
            standing = Standing.KNOWN
        elif was_seen and self.passwords.is_clean(place, network):
            standing = Standing.SEEN
        return HashRequest(standing, place, network, size)

    def _refuse_if_throttled(self, claimed: str | None, hash_request: HashRequest) -> None:
        known = hash_request.standing is Standing.KNOWN
        if self._throttle.is_throttled(claimed, hash_request.place, known=known):
            raise LoginRefused(
                Reason.CONNECTION_RATE_EXCEEDED, "throttled after too many wrong logins", claimed
            )

    def _by_remembered(self, claimed: str | None, password: bytes, place: str) -> Admission | None:
        device = self._enabled(claimed)
        # `matches` is called without a device, too: the time must not show whether there is one.
        if (
            not self._remembered.matches(device, password)
            or device is None
            or self._pairs.current_secret_ended(device)
        ):
            return None
        self._demand_method(device, "secret")
        self.known.add(device.device_id, place)
        self._replace_if_old(device, password)
        return Admission(device)

    def _replace_if_old(self, device: Device, password: bytes) -> None:
        # If a device has two secrets, their hashes have to keep the same salt and parameters
        # (`dual_secrets`).
        if not device.next_credential and needs_rehash(device.credential):
            self._rehash(device, password)

    def _enabled(self, claimed: str | None) -> Device | None:
        device = None if claimed is None else self._lookup.get(claimed)
        return device if device is not None and device.enabled else None

    def _by_token(self, raw: bytes, shown: Credentials, address: str) -> Admission:
        claimed = shown.claimed
        self._demand_store(claimed)
        if shown.secret is not None and raw is not shown.secret:
            raise LoginRefused(Reason.NOT_AUTHORIZED, "both a password and a token", claimed)
        try:
            device, grant = self._tokens.verify(raw)
        except TokenRefused as error:
            signed = error.device_id is not None
            if not signed:
                self._count_foreign_token(claimed, place_of(address))
            name = error.device_id if signed else claimed
            raise LoginRefused(Reason.NOT_AUTHORIZED, error.why, name, vouched=signed) from None
        if shown.username and shown.username != device.device_id.encode():
            raise LoginRefused(
                Reason.NOT_AUTHORIZED, "the user name is not the token's device", device.device_id
            )
        if shown.certificate_id not in {None, device.device_id}:
            raise LoginRefused(
                Reason.NOT_AUTHORIZED, "the certificate is not the token's device's", device.device_id
            )
        self._demand_method(device, "token")
        if not grant.narrowed_digest:  # whoever got a part of its rights is not where the device is known
            self.known.add(device.device_id, place_of(address))
        return Admission(device, grant, "token")

    def _count_foreign_token(self, claimed: str | None, place: str) -> None:
        # Separate from wrong secrets: it costs no hash, and whoever sends it must not lock out anybody who
        # has a secret. A good token still passes.
        if not self._throttle.count_foreign_token(place):
            raise LoginRefused(
                Reason.CONNECTION_RATE_EXCEEDED,
                "throttled after too many tokens that we never signed",
                claimed,
            )

    def _by_certificate(self, claimed: str | None, shown: Credentials, place: str) -> Admission:
        # No secret is guessed here and nothing is hashed: there is nothing to throttle or to hide by time.
        if shown.certificate_id is None:
            raise LoginRefused(Reason.NOT_AUTHORIZED, "neither password nor certificate", claimed)
        device = None if claimed is None else self._lookup.get(claimed)
        if device is None or not device.enabled:
            raise LoginRefused(Reason.NOT_AUTHORIZED, _why(device, shown), claimed, vouched=True)
        self._demand_method(device, "certificate")
        self.known.add(device.device_id, place)
        return Admission(device, method="certificate", certificate_ends=shown.certificate_ends)

    def _demand_store(self, claimed: str | None) -> None:
        if not self._lookup.available:
            raise LoginRefused(Reason.SERVER_UNAVAILABLE, "store unavailable", claimed)


class _Throttle:
    """Counts wrong logins of the last minute: by device and place (`place_of`) together, and by place.

    Never by device alone, for then anybody could lock a device out. Too many wrong logins at a place lock it
    for all but the devices that are known there: these are refused only after wrong logins in their own name.

    Each entry has cost a hash, which bounds how many there can be; they are forgotten after two minutes. (The
    library's moving window in memory never forgets a name that was counted once: inventing device ids would
    fill the memory.) Foreign tokens cost no hash, and are counted by place alone.
    """

    def __init__(self, limits: Limits) -> None:
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())
        self.apply(limits)

    def apply(self, limits: Limits) -> None:
        self._of_device = RateLimitItemPerMinute(limits.login_failures_per_minute, namespace="device")
        per_place = limits.login_failures_per_minute_address
        self._of_place = RateLimitItemPerMinute(per_place, namespace="address")
        self._of_foreign_tokens = RateLimitItemPerMinute(per_place, namespace="foreign token")

    def is_throttled(self, claimed: str | None, place: str, *, known: bool) -> bool:
        return not (
            self._window.test(self._of_device, claimed or "", place)
            and (known or self._window.test(self._of_place, place))
        )

    def count(self, claimed: str | None, place: str) -> None:
        self._window.hit(self._of_device, claimed or "", place)
        self._window.hit(self._of_place, place)

    def count_foreign_token(self, place: str) -> bool:
        """Count a foreign token. Returns whether the count is still within the limit."""
        return self._window.hit(self._of_foreign_tokens, place)


def _demand_no_fault(shown: Credentials) -> None:
    # Before anything is hashed: what the certificate names can't be the user name.
    if shown.certificate_fault:
        raise LoginRefused(Reason.NOT_AUTHORIZED, shown.certificate_fault, None)


def _why(device: Device | None, shown: Credentials) -> str:
    certificate = shown.certificate_id
    if (
        shown.username
        and certificate is not None
        and shown.username != certificate.encode("utf-8", "replace")
    ):
        return "the user name is not the certificate's device"
    if device is None:
        return "unknown device"
    if not device.enabled:
        return "disabled device"
    return "wrong secret"
