"""`tasklocks web`: limits, rate limits and beats on one page, live. It reads; steering needs a switch and a token.

One poller reads the backend for all viewers, and nobody reads while nobody watches. See `docs/web.md`.
"""

from __future__ import annotations

from tasklocks.web.serving import Options, serve

__all__ = ["Options", "serve"]
