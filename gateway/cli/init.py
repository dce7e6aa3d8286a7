"""`gateway-admin init`: make what a gateway needs and does not have yet."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from gateway.cli.output import Json, answering, remark
from gateway.cli.settings_policy_store import Config, actor, settings_of
from gateway.pki.ecdsa_and_rsa_choice import KeyType, rsa_twin


def init(
    san: Annotated[
        list[str] | None,
        typer.Option(
            "--san",
            metavar="NAME",
            help="Another host name or address for the server certificate; may be repeated.",
        ),
    ] = None,
    key_type: Annotated[
        KeyType,
        typer.Option(
            "--key-type",
            help="Keys of the certificates: ecdsa; rsa for devices that know nothing else; both: each client "
            "gets the chain it can verify.",
        ),
    ] = KeyType.ECDSA,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make what is missing: the store, the keys, a small CA and a server certificate.

    What is there is not touched, so it may be called again at any time; a certificate that is there
    gets no new names either. The first start of `gateway run` does the same.

    For example:

        gateway-admin init --san gateway.example.org --san 192.0.2.7
    """
    with answering(as_json=as_json) as answer:
        from gateway.app.startup_preparation import prepare

        settings = settings_of(config)
        certificate = settings.tls_cert_path
        wanted = [settings.database_path, settings.encryption_key_path]
        if settings.jwt_secret is None:
            wanted.append(settings.signing_key_path)
        wanted.append(settings.audit_key_path)
        if settings.tls_enabled:
            wanted += [certificate.with_name("ca.crt"), certificate.with_name("ca.key")]
            wanted += [certificate, settings.tls_key_path]
            if key_type is KeyType.BOTH:
                wanted += [certificate.with_name("ca-rsa.crt"), certificate.with_name("ca-rsa.key")]
                wanted += [rsa_twin(certificate), rsa_twin(settings.tls_key_path)]
        present = [str(path) for path in wanted if path.exists()]
        made = asyncio.run(prepare(settings, san or [], key_type, actor=actor()))
        answer.give(
            {"made": made, "present": present, "next": ["gateway check", "gateway run"] if made else []},
            *(f"made     {thing}" for thing in made),
            *(f"present  {thing}" for thing in present),
            *(["next     `gateway check`, then `gateway run`, or start the service"] if made else []),
        )
        if san and str(certificate) not in made:
            remark(
                f"{certificate} was there and keeps its names; remove it and its key to have a new one made"
            )
