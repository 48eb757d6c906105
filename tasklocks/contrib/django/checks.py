"""System checks."""


def register() -> None: ...
