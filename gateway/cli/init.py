"""`gateway-admin init`: make what a gateway needs and has not yet."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from gateway.cli.output import Json, answering
from gateway.cli.sources import Config, settings_of
from gateway.observe.printable import printable


def init(
    san: Annotated[
        list[str] | None,
        typer.Option(
            "--san",
            metavar="NAME",
            help="Another host name or address for the server certificate; may be repeated.",
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make what is missing: the store, the sealing keys, a small CA and a server certificate.

    What is there is not touched, so it may be called again at any time; a certificate that is there
    gets no new names either. The first start of `gateway run` does the same.

    For example:

        gateway-admin init --san gateway.example.org --san 192.0.2.7
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        certificate = settings.tls_cert_path
        wanted = [settings.database_path, settings.encryption_key_path]
        if settings.tls_enabled:
            wanted += [certificate.with_name("ca.crt"), certificate.with_name("ca.key")]
            wanted += [certificate, settings.tls_key_path]
        present = [str(path) for path in wanted if path.exists()]
        from gateway.app import prepare

        made = asyncio.run(prepare(settings, sans=san or []))
        answer.give(
            {"made": made, "present": present},
            *(f"made     {thing}" for thing in made),
            *(f"present  {thing}" for thing in present),
        )
        if san and str(certificate) not in made:
            note = (
                f"{certificate} was there and keeps its names; remove it and its key to have a new one made"
            )
            print(f"note: {printable(note)}", file=sys.stderr)
