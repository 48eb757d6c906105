"""`python -m tasklocks`: the command line."""

from __future__ import annotations

from tasklocks.cli import main

main(prog_name="tasklocks")
