"""A broker that is a folder, as kombu's `filesystem://`, whose readers may find a file that is still empty."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

__all__ = ["Transport"]


class Channel(filesystem.Channel):
    """A message is there as a whole, or not yet."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        file = Path(self.data_folder_out) / f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        part = file.with_name(f"{file.name}.part")
        part.write_text(dumps(payload))
        part.rename(file)


class Transport(filesystem.Transport):
    """For `folder://`."""

    Channel = Channel


TRANSPORT_ALIASES["folder"] = "tests.folder:Transport"
