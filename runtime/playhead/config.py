"""Settings: one frozen value, read once from the environment (`PLAYHEAD_*`) and passed to whoever needs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from playhead.errors import InvalidSetting

ENV_PREFIX = "PLAYHEAD_"


class Settings(BaseModel):
    """What a process needs to know to reach its brokers and name its topics. Every field is `PLAYHEAD_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port list of Kafka brokers."""
    topic_prefix: str = Field(default="", pattern=r"^[a-z0-9.-]*$")
    """Put before every topic and group name, so that installations can share a cluster (for example `staging.`)."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    """CA certificates that sign the brokers' certificates; the system's where unset."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    send_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """How long a send waits for the broker before it raises BrokerUnavailable."""
    history_database: str | None = None
    """Where history is kept: `sqlite:////path/history.db` or `postgresql://user@host/database`; else in the project's
    data folder."""
    history_retention_days: float | None = Field(default=None, gt=0)
    """After how long history deletes what it has; never where unset. The log's own retention is the topics'."""
    metadata_max_age_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How soon a partition that was added to a topic is noticed."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, **overrides: object) -> Settings:
        """Read `PLAYHEAD_<FIELD>` for each field; `overrides` that are not None win.

        Raises:
            InvalidSetting: a value can't be used; the message names the variable.
        """
        values: dict[str, object] = {
            name: env[ENV_PREFIX + name.upper()] for name in cls.model_fields if env.get(ENV_PREFIX + name.upper())
        }
        values.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            variable = ENV_PREFIX + str(first["loc"][0]).upper()
            raise InvalidSetting(f"{variable}: {first['msg']}.", remedy=f"Correct or unset {variable}.") from error
