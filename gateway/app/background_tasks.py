"""What goes on beside the data path for as long as the gateway runs: following files, saving, telling.

Each piece runs for ever as one task of `gateway.app.composition`. What fails here leaves what is in force in
force, and says so.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Mapping

from gateway.auth.login import Login
from gateway.config import Settings
from gateway.connection.audit_reports import Origin, Source, report_of_admin
from gateway.connection.context import Context
from gateway.connection.counters import Counters
from gateway.net.connection_registry import ConnectionRegistry
from gateway.observe.audit import Audit, AuditEvent, AuditLog
from gateway.observe.audit_budget import Budget
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError
from gateway.policy.files.watcher import follow, read
from gateway.services.token_issuer import TokenIssuer
from gateway.store import Refusal, Store, StoreError

_COLLECTION_LOOK = 1.0
_NEVER = 1_000_000_000
_USES_SAVE = 1.0
_RECORDS_SAVE = 1.0
_EVENTS_LOOK = 1.0
_OBSERVATIONS_SAVE = 2.0
_OBSERVATIONS_MOST = 500
"""In one save: it takes the loop some 10 ms."""
_SAVES_TO_PRUNE = 1_800
_REFUSALS_MOST = 5_000
"""That wait for the store."""
_REFUSALS_FIRST = 2
"""Of a device that may wait whatever others have waiting."""
_REFUSALS_AT_ONCE = 500
"""In one save, as above."""
_LEFT_OUT_TELL = 1.0
ALL_LEFT_OUT = 100_000
"""Lines that tell at the end what got none: the gateway stops, whoever is still to be told of."""

_log = get_logger()


class FullCollections:
    """Runs the full garbage collections, for which all messages wait, only when there is a reason.

    CPython has one for each quarter more of what it tracks, so reading a policy made it look through all
    connections several times over. What the gateway lets go of is freed without: cycles are rare (an error
    and its traceback). What they hold is never more than the rest.
    """

    def __init__(self) -> None:
        """Collect now; what is there stays for ever, and is not looked through again."""
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)
        gc.collect()
        gc.freeze()
        self._in_use = sys.getallocatedblocks()

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(_COLLECTION_LOOK)
            self.look()

    def look(self) -> None:
        """Collect if twice as much is allocated as was in use after the last time."""
        if sys.getallocatedblocks() >= 2 * self._in_use:
            gc.collect()
            self._in_use = sys.getallocatedblocks()


class PolicyFollower:
    """Keeps the policy in force the same as the files, as long as they are sound."""

    def __init__(self, settings: Settings, registry: ConnectionRegistry, login: Login) -> None:
        self._settings = settings
        self._registry = registry
        self._login = login
        self._problems: tuple[str, ...] = ()

    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force."""
        if self._problems:
            count = len(self._problems)
            return False, f"the changed files have {count} problem(s); what was before is in force"
        return True, self._registry.context.policy.digest[:12]

    async def run(self) -> None:
        """Follow the files for ever."""
        context = self._registry.context
        prefix = self._settings.service_topic_prefix
        async for outcome in follow(self._settings.acl_path, reserved=prefix, current=context.policy):
            if isinstance(outcome, PolicyError):
                self._refuse(outcome)
                continue
            await self._put_in_force(outcome)

    async def reload(self) -> str:
        """Read the files now; the answer is what is in force then."""
        outcome = await asyncio.to_thread(read, self._settings.acl_path, self._settings.service_topic_prefix)
        if isinstance(outcome, PolicyError):
            self._refuse(outcome)
        elif self._problems or outcome.digest != self._registry.context.policy.digest:
            await self._put_in_force(outcome)
        return self.check()[1]

    async def _put_in_force(self, policy: Policy) -> None:
        context = self._registry.context
        self._problems = ()
        context.policy = policy
        context.counters.policy_reloads += 1
        self._login.apply(policy.limits)
        await self._registry.policy_changed()
        _log.info("policy in force", policy=policy.digest[:12])

    def _refuse(self, outcome: PolicyError) -> None:
        self._problems = tuple(outcome.problems)
        self._registry.context.counters.policy_errors += 1
        _log.error(
            "policy refused",
            reason="the changed files have problems; the policy before them is in force",
            problems=list(self._problems),
        )


class KeyUses:
    """Saves how often each sealing key was used, so that the bound holds over restarts."""

    def __init__(self, store: Store, context: Context, saves: Saves | None = None) -> None:
        self._store = store
        self._context = context
        self._saves = saves or Saves()
        self._unsaved: Counter[str] = Counter()

    async def run(self) -> None:
        """Save every second, for ever."""
        while True:
            await asyncio.sleep(_USES_SAVE)
            await self.save()

    async def save(self) -> None:
        """Save what was not saved yet; what can't be saved now is kept for the next time."""
        self._unsaved.update(self._context.ring.take_unsaved_uses())
        for key_id, count in list(self._unsaved.items()):
            try:
                await self._store.add_key_uses(key_id, count)
            except StoreError as error:
                self._saves.failed("key uses", error)
                return
            self._saves.done("key uses")
            self._unsaved[key_id] -= count
        self._unsaved = +self._unsaved


class TokenRecords:
    """Saves which tokens were issued, so that they can be listed and revoked one by one."""

    def __init__(self, store: Store, token_issuer: TokenIssuer, saves: Saves | None = None) -> None:
        self._store = store
        self._token_issuer = token_issuer
        self._saves = saves or Saves()

    async def run(self) -> None:
        """Save every second, for ever."""
        while True:
            await asyncio.sleep(_RECORDS_SAVE)
            await self.save()

    async def save(self) -> None:
        """Save what was not saved yet; what can't be saved now is kept for the next time."""
        unsaved = self._token_issuer.unsaved()
        if not unsaved:
            return
        try:
            await self._store.add_tokens(unsaved)
        except StoreError as error:
            self._saves.failed("token records", error)
        else:
            self._saves.done("token records")
            self._token_issuer.saved(len(unsaved))


class Observations:
    """Saves what the devices did and were refused, so that roles can be learned from it."""

    def __init__(self, store: Store, context: Context, saves: Saves | None = None) -> None:
        self._store = store
        self._context = context
        self._saves = saves or Saves()

    async def run(self) -> None:
        """Save every two seconds and drop what is too old once an hour, for ever."""
        saves = 0
        while True:
            if saves % _SAVES_TO_PRUNE == 0:
                await self._prune()
            saves += 1
            await asyncio.sleep(_OBSERVATIONS_SAVE)
            await self._save_some()

    async def save(self) -> None:
        """Save all that was not saved yet; what can't be saved now is kept for the next time."""
        while await self._save_some():
            pass

    async def _save_some(self) -> bool:
        """Whether there was something, and the store took it."""
        recorder = self._context.recorder
        seen = recorder.take(_OBSERVATIONS_MOST, self._context.now() // 1_000)
        try:
            await self._store.add_observations(seen)
        except BaseException as error:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            recorder.put_back(seen)
            if not isinstance(error, StoreError):
                raise
            self._saves.failed("observations", error)
            return False
        if seen:
            self._saves.done("observations")
        return bool(seen)

    async def _prune(self) -> None:
        try:
            await self._store.prune_records()
        except StoreError as error:
            self._saves.failed("old observations", error)
        else:
            self._saves.done("old observations")


class Refusals:
    """Saves what the policy refused, by the id in the audit line. A consumer of the audit.

    It has the budget of the log: what stands there can be explained, and no device takes another's place.
    """

    def __init__(self, store: Store, counters: Counters, saves: Saves | None = None) -> None:
        self._store = store
        self._counters = counters
        self._saves = saves or Saves()
        self._budget = Budget()
        self._unsaved: list[Refusal] = []
        self._waiting: Counter[str] = Counter()

    def __call__(self, event: AuditEvent) -> None:
        """Keep a refusal until it is saved, within bounds: an attack must not fill the memory."""
        if event.id is None:
            return
        device_id = event.device or ""
        full = len(self._unsaved) >= _REFUSALS_MOST and self._waiting[device_id] >= _REFUSALS_FIRST
        if full or not self._budget.takes(event, event.time):
            self._counters.refusals_not_kept += 1
            return
        self._waiting[device_id] += 1
        self._unsaved.append(
            Refusal(
                event.id,
                event.time // 1_000,
                device_id,
                event.action or "",
                event.topic or "",
                event.reason,
                event.rule or "",
            )
        )

    async def run(self) -> None:
        """Save every second, for ever."""
        while True:
            await asyncio.sleep(_RECORDS_SAVE)
            await self._save_some()

    async def save(self) -> None:
        """Save what was not saved yet; what can't be saved now is kept for the next time."""
        while await self._save_some():
            pass

    async def _save_some(self) -> bool:
        """Whether more waits, and the store takes it."""
        told = tuple(self._unsaved[:_REFUSALS_AT_ONCE])
        try:
            await self._store.add_refusals(told)
        except StoreError as error:
            self._saves.failed("refusals", error)
            return False
        if told:
            self._saves.done("refusals")
        del self._unsaved[: len(told)]
        self._waiting -= Counter(one.device_id for one in told)
        return bool(self._unsaved)


async def keep_telling(log: AuditLog) -> None:
    """Tell every second what got no line of its own, for ever."""
    while True:
        await asyncio.sleep(_LEFT_OUT_TELL)
        log.tell_left_out()


class AdminEvents:
    """Tells what `gateway-admin` did, for it has no audit of its own."""

    def __init__(self, store: Store, audit: Audit, saves: Saves | None = None) -> None:
        self._store = store
        self._audit = audit
        self._saves = saves or Saves()

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(_EVENTS_LOOK)
            await self.tell()

    async def tell(self) -> None:
        """Tell what was not told yet; while the store can't be read it waits there."""
        try:
            events = await self._store.take_events()
        except StoreError as error:
            self._saves.failed("events of gateway-admin", error)
            return
        self._saves.done("events of gateway-admin")
        for noted in events:
            event = _event(noted)
            if event is None:
                _log.error("event not told", reason="the store holds one that says nothing")
            else:
                self._audit.emit(event)


def _event(noted: Mapping[str, object]) -> AuditEvent | None:
    time, reason, device, actor = (noted.get(name) for name in ("time", "reason", "device", "actor"))
    if type(time) is not int or not isinstance(reason, str) or not isinstance(actor, str):
        return None
    if device is not None and not isinstance(device, str):
        return None
    try:
        report = report_of_admin(str(noted.get("kind")), str(noted.get("outcome")), reason)
    except ValueError:
        return None
    return AuditEvent.of(report, Origin(source=Source.HOUSE, device=device, address=actor), time)
