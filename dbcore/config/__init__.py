"""Config: validated, frozen values, and how they are read."""

from dbcore.config.credentials import connect_with
from dbcore.config.values import Config, Credentials, PoolSettings, Reset, Settings, Startup

__all__ = ["Config", "Credentials", "PoolSettings", "Reset", "Settings", "Startup", "connect_with"]
