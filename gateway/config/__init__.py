"""The settings (README, Settings): what they are called, where they may come from, what is wrong with them.

Precedence: command line > environment > `.env` > `gateway.toml` > default. All problems are listed at
once, each with its name, its source and the remedy, and never with the value of a secret. Nothing here
starts anything; `gateway.config.file_checks` looks at the files that the settings name.
"""

import os

# A plugin of pydantic would be some package's code in the check of secrets. And to look for plugins is to
# read what each installed package says of itself, in every command.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from gateway.config.settings import LogLevel, Settings
from gateway.config.settings_loader import ConfigError, load_settings, read_settings
from gateway.system.ip_address_blocks import Address

__all__ = [
    "Address",
    "ConfigError",
    "LogLevel",
    "Settings",
    "load_settings",
    "read_settings",
]
