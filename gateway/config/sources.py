"""Where the settings come from, and the one place that tells what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from gateway.config.settings import Settings


class ConfigError(Exception):
    """The settings cannot be used. `problems` lists everything that is wrong, one sentence or two each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(config_file: Path | None = None, **overrides: object) -> Settings:
    """The settings from all sources. `overrides` are fields by name, from the command line; None: not given.

    Without `config_file`, `gateway.toml` in the working folder is read if it is there; `.env` likewise.
    Raises ConfigError with everything that is wrong.
    """
    raise NotImplementedError


def file_problems(settings: Settings) -> list[str]:
    """What is wrong with the files that the settings name, as far as it shows before anything is started."""
    raise NotImplementedError
