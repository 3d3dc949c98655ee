"""Paths of routes: what they match, and whether two of them could match the same."""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(:path)?\}")


class Path:
    """A path with parameters, e.g. "/items/{id}" or "/files/{name:path}".

    Attributes:
        names: of the parameters, in order.

    Raises:
        ValueError: a brace that begins no parameter, a parameter twice, a `:path` that is not the end.
    """

    def __init__(self, text: str) -> None:
        self.text = text if text == "/" else text.rstrip("/")
        self.names = [match[1] for match in _PARAMETER.finditer(text)]
        self._segments = [_segment(each, text) for each in self.text.split("/")[1:]]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"path '{text}': a parameter stands twice")
        if None in self._segments[:-1]:
            raise ValueError(f"path '{text}': '{{name:path}}' is the rest, so it stands at the end")
        patterns = (
            "(.+)" if each is None else "([^/]+)" if each == "{}" else re.escape(each)
            for each in self._segments
        )
        self._pattern = re.compile("".join(f"/{each}" for each in patterns), re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters when it matches; None when it does not."""
        found = self._pattern.fullmatch(path)
        return None if found is None else dict(zip(self.names, found.groups(), strict=True))

    @property
    def shape(self) -> tuple[str | None, ...]:
        """Equal for paths that match the same, whatever their parameters are called."""
        return tuple(self._segments)

    def overlaps(self, other: Path) -> bool:
        """Whether some path matches both."""
        for mine, others in zip(self._segments, other._segments, strict=False):
            if mine is None or others is None:
                return True
            if mine != others and "{}" not in (mine, others):
                return False
        return len(self._segments) == len(other._segments)

    def is_below(self, prefix: str) -> bool:
        """Whether it could match `prefix`, or a path below it."""
        for mine, others in zip(self._segments, prefix.split("/")[1:], strict=False):
            if mine is None:
                return True
            if mine not in (others, "{}"):
                return False
        return len(self._segments) >= prefix.count("/")


def _segment(text: str, path: str) -> str | None:
    """A literal, "{}" for a parameter, None for one that takes the whole rest."""
    found = _PARAMETER.fullmatch(text)
    if found is not None:
        return None if found[2] else "{}"
    if "{" in text or "}" in text:
        raise ValueError(f"path '{path}': a parameter is a whole segment, as in '/items/{{id}}'")
    return text
