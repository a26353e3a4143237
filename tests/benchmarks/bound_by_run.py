"""A bound call for sessions that compute on the host."""

from typing import Any

from numpy.typing import NDArray

from slipway_runtime.sessions import Bound, Feeds, Session


class BoundByRun(Bound):
    """Computes what its session's `_run` does."""

    def __init__(self, session: Session, feeds: Feeds) -> None:
        super().__init__(session)
        self.feeds = feeds

    def _compute(self) -> Any:
        return self._session._run(self.feeds)

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        return dict(outputs)
