"""Child processes that are not: the test speaks and dies for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.runner.control import Message


class FakeChild:
    """Stands for :class:`runtime.lifecycle.child.Child`; those made are kept in :attr:`made`.

    Attributes:
        heard: what it was sent.
        closed: its control connection was closed.
    """

    made: list[FakeChild]
    started_ns = 0

    def __init__(
        self, name: str, module: str, environment: Mapping[str, str], *,
        on_message: Callable[[Message], None], on_end: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.module = module
        self.environment = dict(environment)
        self.says = on_message
        self.ends = on_end
        self.heard: list[Message] = []
        self.closed = False
        self.killed = False
        type(self).made.append(self)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self.heard.append({**message, **({"descriptors": len(descriptors)} if descriptors else {})})

    def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True

    def of_type(self, kind: str) -> list[Message]:
        return [message for message in self.heard if message.get("type") == kind]
