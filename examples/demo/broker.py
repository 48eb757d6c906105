"""An embedded broker: messages are files of one directory; no server. For demos and tests on one host.

It is kombu's `filesystem` transport with one change. kombu makes a message visible before it is written, so that a
worker may read half of it; here a message gets its name when it is complete.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps

__all__ = ["Transport", "settings"]


class Channel(filesystem.Channel):
    """Puts messages into the directory in one step each."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        # Workers take the files in the order of their names.
        name = f"{time.monotonic_ns():020}_{uuid.uuid4()}.{queue}.msg"
        part = Path(self.data_folder_out, f"{name}.part")
        part.write_text(dumps(payload))
        part.rename(part.with_suffix(""))


class Transport(filesystem.Transport):
    """What `broker_transport` names."""

    Channel = Channel


def settings(folder: Path) -> dict[str, Any]:
    """Return the Celery settings for a broker in `folder`, which is made."""
    messages, taken, control = (folder / name for name in ("messages", "taken", "control"))
    for each in (messages, taken, control):
        each.mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://localhost",
        "broker_transport": "broker:Transport",
        "broker_transport_options": {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "processed_folder": str(taken),
            "store_processed": True,
            "control_folder": str(control),
            "polling_interval": 0.02,
        },
    }
