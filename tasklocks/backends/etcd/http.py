"""As much of HTTP/1.1 as etcd's JSON gateway speaks, on a kept-alive connection.

The standard library's client costs more time than etcd needs for a transaction, most of it in parsing headers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import weakref
from collections.abc import Iterator

__all__ = ["Connection", "HttpError"]

_MOST = 64 * 1024 * 1024  # bytes of one answer


class HttpError(ConnectionError):
    """The other side does not speak HTTP as expected, or has closed the connection."""


class Connection:
    """One connection to one server; not for several threads at once.

    Args:
        host: name or address.
        port: its port.
        timeout: seconds for connecting and for each wait for bytes.
        tls: how to encrypt; None: not at all.
    """

    def __init__(self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise
        # An exception from a signal may drop it anywhere.
        self._closed = weakref.finalize(self, self._socket.close)
        shown = f"[{host}]" if ":" in host else host
        self._head = f"HTTP/1.1\r\nHost: {shown}:{port}\r\nContent-Type: application/json\r\n".encode()
        self._timeout = timeout
        self._buffer = b""
        self.reusable = True

    def post(self, path: str, body: bytes, token: str) -> tuple[int, bytes]:
        """Send `body` and return status and body of the answer."""
        self.reusable = False
        self._send(path, body, token)
        status, head = self._read_head()
        if _field(head, b"transfer-encoding") == b"chunked":
            content = b"".join(self._chunks())
            self._skip_trailers()
        else:
            content = self._read(int(_field(head, b"content-length") or 0))
        self.reusable = _field(head, b"connection") != b"close" and not self._buffer
        return status, content

    def stream(self, path: str, body: bytes, token: str) -> tuple[int, Iterator[bytes]]:
        """Send `body` and return the status of the answer and its parts as they come; the connection ends with them."""
        self.reusable = False
        self._send(path, body, token)
        status, head = self._read_head()
        if _field(head, b"transfer-encoding") != b"chunked":
            return status, iter([self._read(int(_field(head, b"content-length") or 0))])
        return status, self._chunks()

    def patience(self, timeout: float) -> None:
        """Let each wait for bytes last up to `timeout` seconds from now on."""
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout

    def interrupt(self) -> None:
        """End the wait of another thread; it gets an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._closed()

    def _send(self, path: str, body: bytes, token: str) -> None:
        user = b"Authorization: %s\r\n" % token.encode() if token else b""
        self._socket.sendall(
            b"POST %s %s%sContent-Length: %d\r\n\r\n%s" % (path.encode(), self._head, user, len(body), body)
        )

    def _read_head(self) -> tuple[int, bytes]:
        """Return the status of an answer, and its header in lower case."""
        head = self._until(b"\r\n\r\n").lower()
        parts = head.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"http/1.") or not parts[1][:3].isdigit():
            raise HttpError("the answer is not HTTP")
        return int(parts[1][:3]), head

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield self._read(size)
            self._read(2)

    def _chunk_size(self) -> int:
        size = self._until(b"\r\n").partition(b";")[0]
        try:
            return int(size, 16)
        except ValueError:
            raise HttpError("the answer is not HTTP") from None

    def _skip_trailers(self) -> None:
        while self._until(b"\r\n"):
            pass

    def _until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._fill()
        found, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        return found

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _fill(self) -> None:
        received = self._socket.recv(65536)
        if not received or len(self._buffer) > _MOST:
            raise HttpError("the server closed the connection")
        self._buffer += received


def _field(head: bytes, name: bytes) -> bytes:
    """Return one field of a header; taking all of them apart takes longer than etcd's own work on a small step."""
    return head.partition(b"\r\n%s:" % name)[2].partition(b"\r\n")[0].strip()
