"""Follows the files of `acl/`: a changed policy is in force for all connections, if it is sound."""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.followers.follower import Follower, location_and_command
from gateway.auth.login import Login
from gateway.config import Settings
from gateway.connection.audit_vocabulary import Report, put_policy_in_force, refused_policy
from gateway.connection.process_context import Context
from gateway.net.live_updates import LiveUpdates
from gateway.observe.logs import get_logger
from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError
from gateway.policy.files.watcher import PolicyFiles
from gateway.system.file_notices import FileNotices

_log = get_logger()


class PolicyFollower(Follower):
    """Keeps the policy in force the same as the files, as long as they are sound."""

    seconds = 0.4

    def __init__(
        self,
        settings: Settings,
        context: Context,
        updates: LiveUpdates,
        login: Login,
        report: Callable[[Report], None],
    ) -> None:
        self._files = PolicyFiles(
            settings.acl_path, reserved=settings.service_topic_prefix, current=context.policy
        )
        super().__init__(FileNotices(self._files.paths))
        self._report = report
        self._context = context
        self._updates = updates
        self._login = login
        self._problems: tuple[str, ...] = ()

    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force."""
        if self._problems:
            return False, location_and_command(self._problems, "gateway-admin acl check")
        return True, self._context.policy.digest[:12]

    async def follow(self, *, anyway: bool) -> None:
        """Put a changed policy in force if it is sound; else keep the one before."""
        outcome = await (self._files.read_now() if anyway else self._files.changed())
        if isinstance(outcome, PolicyError):
            self._refuse(outcome)
        elif outcome is not None:
            try:
                await self._put_in_force(outcome)
            except BaseException:
                self._files.forget()  # so that the next look reads them again: not all connections have it
                raise

    async def _put_in_force(self, policy: Policy) -> None:
        context = self._context
        self._problems = ()
        context.policy = policy
        context.counters.policy_reloads += 1
        self._login.apply(policy.limits)
        await self._updates.policy_changed()
        _log.info("policy in force", policy=policy.digest[:12])
        self._report(put_policy_in_force(policy.digest[:12]))

    def _refuse(self, outcome: PolicyError) -> None:
        self._problems = tuple(outcome.problems)
        self._context.counters.policy_errors += 1
        _log.error(
            "policy refused",
            reason="the changed files have problems; the policy before them is in force",
            problems=list(self._problems),
        )
        others = f", and {len(self._problems) - 1} more" if len(self._problems) > 1 else ""
        self._report(refused_policy(f"{self._problems[0]}{others}" if self._problems else "it can't be read"))
