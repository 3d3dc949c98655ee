"""How a body was written that fits a template, byte by byte but for its id and its numbers.

Those that come one behind the other are mostly written in one way.  To recognize the first of them takes a
search for its id and its data; the others are compared with it, and cut where it was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from oipserver.core.memory import Memory
from oipserver.http.template import MAX_ID, PLAIN_ID, SPACE, Template, inside, recognize

_ID_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

# The id, or nothing, and the text inside the list of numbers.
Parts: TypeAlias = tuple[bytes, bytes]


@dataclass(slots=True, eq=False)
class Likeness:
    """The text around id and numbers.

    Attributes:
        template: which all that are written like this fit.
        opening: in front of the id; empty where there is none.
        front: from the end of the id to the bracket in front of the first number, both included.
        back: from the bracket behind the last number on.
    """

    template: Template
    opening: bytes
    front: bytes
    back: bytes

    def parts(self, body: bytes) -> Parts | None:
        """Id and numbers of a body that is written like this; None for others."""
        front, back, body_id, start = self.front, self.back, b"", 0
        if not body.endswith(back):
            return None
        if self.opening:
            if not body.startswith(self.opening):
                return None
            begin = len(self.opening)
            start = body.find(b'"', begin)
            body_id = body[begin:start]
            if not 0 < len(body_id) <= MAX_ID or body_id.translate(None, _ID_BYTES):
                return None
        if not body.startswith(front, start):
            return None
        start, end = start + len(front), len(body) - len(back)
        # A list in the list is written in another way: so is one behind a space, which is found later.
        return None if start > end or body.startswith(b"[", start) else (body_id, body[start:end])


def likeness(body: bytes, memory: Memory[Any]) -> Likeness | None:
    """How a body is written that may go together with others; None when it may not."""
    match = recognize(body, memory)
    if match is None or not match[0].may_ride:
        return None
    template, _, text = match
    numbers = inside(template, text)
    # A bracket among them is refused later, and must not become part of what others are compared with.
    if numbers is None or b"[" in numbers or b"]" in numbers:
        return None
    # As many brackets as `inside` took away, on either side.
    depth = (len(text.strip(SPACE)) - len(numbers)) // 2
    start = len(body) - len(template.suffix) - len(text) + text.find(b"[") + depth
    found = PLAIN_ID.match(body)
    opening, behind = (0, 0) if found is None else found.span(1)
    return Likeness(template, body[:opening], body[behind:start], body[start + len(numbers) :])
