"""What is open until it is closed, as a context manager."""

from types import TracebackType
from typing import Self


class Closing:
    """Closed at the end of a `with`, whatever happens inside."""

    def close(self) -> None:
        """Give back what is held; once is enough, twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
