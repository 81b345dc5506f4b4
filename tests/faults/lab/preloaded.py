"""Whatever a worker imports, for the server that forks workers: one is up in a second instead of five."""

import importlib
import os

from driftline.features.feast.registry import _import_feast

os.environ.setdefault("FAUST_LOOP", "uvloop")  # as the worker does; read when faust is imported
_import_feast()
for name in (
    "driftline.features.online.stores.sqlite",
    "driftline.features.online.writer",
    "driftline.infra.serving.serve",
    "driftline.infra.topics.administration",
    "river.linear_model",
    "river.preprocessing",
    "driftline.streams.archive.parts",
    "driftline.streams.checkpoints.folder",
    "driftline.streams.owner.deployment",
    "driftline.streams.transport.worker_process",
):
    importlib.import_module(name)
