"""`gateway-admin alerts`: what fires, whether the channels reach anybody, and silence for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.durations import seconds_of
from gateway.cli.output import Failure, Json, answering, json_time, remark, wrong_usage
from gateway.cli.settings_policy_store import Config, actor, settings_of, store_if_any, store_of
from gateway.cli.tables import table
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.alerts.channels.settings import ChannelSettings
    from gateway.alerts.rules import Rule
    from gateway.config import Settings
    from gateway.config.monitoring import Monitoring
    from gateway.store.alerts import AlertRow, Silence

_HEADINGS = ("state", "severity", "alert", "of", "since", "value", "summary")
_COLOURS = {"firing": "bold red", "pending": "yellow", "silenced": "dim", "ok": "green"}
_LONGEST = "7d"


def list_alerts(as_json: Json = False, config: Config = None) -> None:
    """List what fires or is about to, all rules that are in force, the channels, and the silences.

    What fires is as the running gateway knows it, or as one that is stopped has saved it; `ok` is a rule of
    which nothing fires. A rule fires once for each thing that it finds, as for each service that is down.

    While monitoring.toml has problems they are said, and what fires is listed all the same; the rules and
    channels are not, for the running gateway goes on with those that it read before.

    For example:

        gateway-admin alerts list

        gateway-admin alerts list --json
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        monitoring, problems = _monitoring_or_problems(settings)
        states, silences = _states_and_silences(settings)
        active = [one for one in silences if one.until > _now()]
        alerts = [_shown(one, active) for one in states if one.phase != "over"]
        rules, channels = (monitoring.rules, monitoring.channels) if monitoring else ((), ())
        empty = (
            "No rule is in force: monitoring.toml switches all of them off."
            if monitoring
            else "Nothing fires."
        )
        answer.give(
            {
                "alerts": alerts,
                "rules": [_rule(one) for one in rules],
                "channels": [_channel(one) for one in channels],
                "silences": [_silence(one) for one in active],
                "problems": problems,
            },
            *table(
                _HEADINGS,
                _rows(alerts, rules),
                state=0,
                colour=lambda state: _COLOURS.get(state, ""),
                empty=empty,
            ),
            *(f"silence {one.silence_id} until {utc_text(one.until)}: {_of(one)}" for one in active),
            *([_reach(channels)] if monitoring else []),
        )


def send_test(
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="This channel alone.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Send a test message through each channel of monitoring.toml, now and from here.

    Exit code 1: one of them did not take it; it says why.

    For example:

        gateway-admin alerts test

        gateway-admin alerts test --channel ops
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        monitoring = _monitoring(settings)
        channels = [one for one in monitoring.channels if channel in {None, one.name}]
        if not channels:
            what = f"there is no channel {channel}" if channel else "there is no channel"
            raise Failure(
                f"{what} in {settings.monitoring_path}: README.md says how to write one, under Alerts"
            )
        private, node = monitoring.allow_private_addresses, settings.gateway_node
        faults = asyncio.run(_send(channels, private=private, node=node))
        if faults:
            raise Failure(
                f"{len(faults)} of {len(channels)} channels did not take it",
                [f"{name}: {why}" for name, why in faults.items()],
            )
        names = [one.name for one in channels]
        answer.give({"delivered": names}, *(f"{name} took it." for name in names))


def silence(
    rule: Annotated[
        str | None, typer.Argument(metavar="ALERT", show_default=False, help="The name of a rule.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Alerts of every rule.")] = False,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Only with this label; may be repeated."),
    ] = None,
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help=f"Such as 2h; {_LONGEST} at most.")
    ] = "2h",
    comment: Annotated[str, typer.Option("--comment", help="Why, for the audit and for others.")] = "",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Notify nobody of an alert for a while. If it still fires then, people are notified.

    Of the end of an alert people are notified if they were of its beginning, silenced or not. A running
    gateway follows within a second.
    Exit code 2: no rule has this name. While monitoring.toml has problems shipped rules may be silenced, and
    those of which there are alerts.

    For example:

        gateway-admin alerts silence disk_low --for 12h --comment "new disk comes tomorrow"

        gateway-admin alerts silence service_down --label service=ai_service

        gateway-admin alerts silence --all --for 30m --comment "we move the bus"
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        if (rule is not None) == everything:
            raise wrong_usage("give the name of an alert, or --all")
        monitoring, problems = _monitoring_or_problems(settings)
        rules = _names_of_rules(settings, monitoring)
        if rule is not None and rule not in rules:
            which = "in force" if monitoring else "known"
            raise wrong_usage(f"no rule is called {rule!r}; {which} are: {', '.join(sorted(rules))}")
        seconds = seconds_of("--for", time, such_as="2h")
        if seconds > seconds_of("--for", _LONGEST):
            raise wrong_usage(
                f"--for {time} is longer than {_LONGEST}: switch the rule off in monitoring.toml"
            )
        made = asyncio.run(_begin(settings, rule or "", _labels(label or []), seconds, comment))
        value = {**_silence(made), "problems": problems}
        answer.give(value, f"Silence {made.silence_id} until {utc_text(made.until)}: {_of(made)}.")


def unsilence(
    silence_id: Annotated[
        str, typer.Argument(metavar="SILENCE", show_default=False, help="Its id, as `alerts list` shows it.")
    ],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """End a silence before its time; people are notified of what still fires.

    Exit code 1: there is no such silence, or it is over.
    """
    with answering(as_json=as_json) as answer:
        ended = asyncio.run(_end(settings_of(config), silence_id))
        answer.give(_silence(ended), f"The silence of {_of(ended)} is over.")


def _now() -> int:
    from gateway.store import wall_clock

    return wall_clock.now()


def _monitoring(settings: Settings) -> Monitoring:
    from gateway.config.monitoring import load_monitoring

    return load_monitoring(settings.monitoring_path)


def _monitoring_or_problems(settings: Settings) -> tuple[Monitoring | None, list[str]]:
    """What monitoring.toml says; None if it has problems, which are remarked on: a gateway may run."""
    from gateway.config.monitoring import MonitoringError

    try:
        return _monitoring(settings), []
    except MonitoringError as error:
        remark("monitoring.toml has problems; a running gateway goes on with the rules that it read before")
        for problem in error.problems:
            remark(problem)
        return None, list(error.problems)


def _names_of_rules(settings: Settings, monitoring: Monitoring | None) -> set[str]:
    """The rules that may be silenced."""
    if monitoring:
        return {one.name for one in monitoring.rules}
    from gateway.alerts.shipped_rules import SHIPPED

    states, _ = _states_and_silences(settings)
    return {one.name for one in SHIPPED} | {one.rule for one in states}


def _states_and_silences(settings: Settings) -> tuple[list[AlertRow], list[Silence]]:
    saved, silences = asyncio.run(_kept(settings))
    known = _known(settings)
    return saved if known is None else known, silences


def _known(settings: Settings) -> list[AlertRow] | None:
    """The alerts as the running gateway knows them; None if none answers."""
    from gateway.control.client import NotAnswered, NotRunning, ask
    from gateway.store.alerts import AlertRow

    try:
        return [AlertRow(**item) for item in ask(settings.gateway_data_dir, "alerts")]  # type: ignore[arg-type]
    except NotRunning:
        return None
    except (NotAnswered, TypeError) as error:
        remark(f"{error}; this is what was saved, a second ago at most")
        return None


async def _kept(settings: Settings) -> tuple[list[AlertRow], list[Silence]]:
    async with store_if_any(settings) as store:
        if store is None:
            return [], []
        return await store.alerts.states(), await store.alerts.silences()


async def _begin(
    settings: Settings, rule: str, labels: dict[str, str], seconds: int, comment: str
) -> Silence:
    from gateway.admin import alert_silences

    async with store_of(settings) as store:
        return await alert_silences.silence(
            store, rule=rule, labels=labels, seconds=seconds, comment=comment, actor=actor()
        )


async def _end(settings: Settings, silence_id: str) -> Silence:
    from gateway.admin import alert_silences

    async with store_of(settings) as store:
        return await alert_silences.unsilence(store, silence_id, actor=actor())


async def _send(channels: list[ChannelSettings], *, private: bool, node: str) -> dict[str, str]:
    """By name, the channels that did not take the test message, and why."""
    import time

    from gateway.alerts.channels.channel import NotDelivered
    from gateway.alerts.channels.channel_factory import channel_of
    from gateway.alerts.notification_grouping import Listed, State, message_of

    def now() -> int:
        return time.time_ns() // 1_000_000

    async def send(settings: ChannelSettings) -> str:
        test = Listed("test", settings.min_severity, "This is a test; nothing has happened.", 0.0, {}, now())
        message = message_of(State.FIRING, [test], node=node, at=now())
        try:
            await channel_of(settings, private=private, now=now).send(message)
        except NotDelivered as error:
            return str(error)
        return ""

    answers = await asyncio.gather(*(send(one) for one in channels))
    return {one.name: why for one, why in zip(channels, answers, strict=True) if why}


def _labels(texts: list[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise wrong_usage(f"--label {text!r} is not NAME=VALUE, such as service=bus")
        labels[name] = value
    return labels


def _shown(row: AlertRow, silences: list[Silence]) -> dict[str, Any]:
    from gateway.alerts.alert_persistence import labels_of

    labels = dict(labels_of(row.labels))
    return {
        "alert": row.rule,
        "state": row.phase,
        "silenced": any(one.fits(row.rule, labels) for one in silences),
        "told": row.told,
        "severity": row.severity,
        "summary": row.summary,
        "value": row.value,
        "labels": labels,
        "since": row.since,
    }


def _rows(alerts: list[dict[str, Any]], rules: tuple[Rule, ...]) -> list[list[str]]:
    rows = [
        [
            "silenced" if one["silenced"] else one["state"],
            one["severity"],
            one["alert"],
            ", ".join(f"{name} {value}" for name, value in one["labels"].items()),
            utc_text(one["since"] // 1_000),
            f"{one['value']:g}",
            one["summary"],
        ]
        for one in alerts
    ]
    found = {one["alert"] for one in alerts}
    quiet = [rule for rule in rules if rule.name not in found]
    return rows + [["ok", rule.severity.value, rule.name, "", "", "", rule.summary] for rule in quiet]


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "name": rule.name,
        "condition": rule.condition.text,
        "duration": rule.duration,
        "severity": rule.severity.value,
        "summary": rule.summary,
    }


def _channel(one: ChannelSettings) -> dict[str, object]:
    return {"name": one.name, "kind": one.kind, "min_severity": one.min_severity.value}


def _silence(one: Silence) -> dict[str, object]:
    return {
        "id": one.silence_id,
        "alert": one.rule or None,
        "labels": dict(one.labels),
        "since": json_time(one.since),
        "until": json_time(one.until),
        "comment": one.comment,
        "actor": one.actor,
    }


def _of(one: Silence) -> str:
    from gateway.admin.alert_silences import words_of

    return f"{words_of(one)}{f' ({one.comment})' if one.comment else ''}"


def _reach(channels: tuple[ChannelSettings, ...]) -> str:
    if not channels:
        return "no channel: nobody is told but the log and the audit (monitoring.toml)"
    return "channels: " + ", ".join(f"{one.name} ({one.kind}, {one.min_severity.value})" for one in channels)
