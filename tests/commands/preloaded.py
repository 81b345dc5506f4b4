"""Whatever a worker imports, and a gateway, for the server of `tests.commands.forked_command`.

In a worker's order: Feast comes after prometheus_client, which it would have write files for many processes.
"""

import importlib
import os

from driftline.features.feast.registry import _import_feast

os.environ.setdefault("FAUST_LOOP", "uvloop")  # as the worker does; read when faust is imported
for name in (
    "driftline.infra.cli.entry",
    "driftline.infra.gateway.serve",
    "driftline.infra.serving.serve",
    "driftline.infra.topics.administration",
    "driftline.streams.archive.parts",
    "driftline.streams.checkpoints.folder",
    "driftline.streams.owner.deployment",
    "driftline.streams.transport.worker_process",
    "prometheus_client",
    "river.linear_model",
    "river.preprocessing",
):
    importlib.import_module(name)
_import_feast()
for name in ("driftline.features.online.stores.sqlite", "driftline.features.online.writer"):
    importlib.import_module(name)
