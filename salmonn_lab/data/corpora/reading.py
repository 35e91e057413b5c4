"""What a corpus reader returns: the examples, with an account of what it left out or mended."""

from __future__ import annotations

from salmonn_lab.batch import Example


class Reading(list[Example]):
    """The examples of a corpus, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, list[str]] = {}
        """Names of the items that are not among the examples, by reason."""
        self.mended: dict[str, list[str]] = {}
        """Ids of examples that are not as published, by what was changed."""

    def leave_out(self, name: str, reason: str) -> None:
        """Note that an item is not among the examples."""
        self.left_out.setdefault(reason, []).append(name)

    def mend(self, name: str, change: str) -> None:
        """Note that an example is not as published."""
        self.mended.setdefault(change, []).append(name)
