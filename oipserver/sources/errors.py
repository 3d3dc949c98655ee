"""Why a model did not arrive."""

from __future__ import annotations

from oipserver.config.uris import without_secrets


class SourceError(ValueError):
    """A model cannot be fetched; the text is one sentence.  URIs in it lose their credentials."""

    def __init__(self, text: str) -> None:
        super().__init__(without_secrets(text))


class TryAgain(SourceError):
    """The same attempt may succeed later: a connection, a busy server, a full disk.

    Attributes:
        after: seconds that the server asked for; 0 when it did not.
    """

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after
