"""Roles, labels and login methods of a device, as they are given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.admin.devices import check_roles
from gateway.cli.output import wrong_usage
from gateway.cli.settings_policy_store import policy_of
from gateway.policy.engine.identity import METHODS, Labels

if TYPE_CHECKING:
    from gateway.config import Settings

RolesOf = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="A role of acl/roles; may be repeated."),
]
LabelsOf = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=VALUE",
        help="A label for {label.NAME}; repeated with the same name: several values.",
    ),
]
MethodsOf = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="METHODS",
        show_default=False,
        help="How it may log in: secret,token,certificate.",
    ),
]


def known_roles(settings: Settings, wanted: Sequence[str]) -> list[str]:
    """These roles, each once. Raises Refused if the policy lacks one."""
    check_roles(policy_of(settings), wanted, settings.acl_path)
    return list(dict.fromkeys(wanted))


def labels_given(given: Sequence[str]) -> Labels:
    """The labels in `--label NAME=VALUE`, which may be given more than once. Raises Failure."""
    labels: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise wrong_usage(f"--label {text!r} has no value: write --label name=value")
        if value in labels.get(name, ()):
            raise wrong_usage(f"--label {text} is given twice")
        labels[name] = (*labels.get(name, ()), value)
    return labels


def methods_given(text: str | None) -> tuple[str, ...]:
    """The methods in `--methods`; all of them if it is not given. Raises Failure."""
    if text is None:
        return METHODS
    wanted = {one.strip() for one in text.split(",")}
    if unknown := sorted(wanted.difference(METHODS)):
        raise wrong_usage(f"--methods {', '.join(map(repr, unknown))}: the methods are {', '.join(METHODS)}")
    return tuple(one for one in METHODS if one in wanted)
