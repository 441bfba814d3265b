"""Config: validated, frozen values, and how they are read."""

from dbcore.config.credentials import connect_with
from dbcore.config.urls import BadUrl, Url, decode, split_url
from dbcore.config.values import Config, Credentials, PoolSettings, Reset, Settings, Startup

__all__ = [
    "BadUrl",
    "Config",
    "Credentials",
    "PoolSettings",
    "Reset",
    "Settings",
    "Startup",
    "Url",
    "connect_with",
    "decode",
    "split_url",
]
