"""Follows the files of `acl/`: a changed policy is in force for all connections, if it is sound."""

from __future__ import annotations

import asyncio

from gateway.auth.login import Login
from gateway.config import Settings
from gateway.net.connection_registry import ConnectionRegistry
from gateway.observe.logs import get_logger
from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError
from gateway.policy.files.watcher import follow, read

_log = get_logger()


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
