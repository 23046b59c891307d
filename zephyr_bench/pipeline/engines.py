"""The engines of a pipeline: one open model at a time, kept while the next step wants the same one."""

from __future__ import annotations

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource


class OpenEngines:
    """Gives an engine for a model; the weights of the one before are freed first."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._open: tuple[ModelSource, Engine] | None = None

    def get(self, model: ModelSource) -> Engine:
        if self._open is not None and self._open[0] == model:
            return self._open[1]
        self.close()
        engine = open_engine(model, self._options)
        self._open = (model, engine)
        return engine

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
