"""Whatever a worker imports, a gateway, and an audit, for the server of `tests.commands.forked_command`.

In a worker's order: Feast comes after prometheus_client, which it would have write files for many processes.
"""

import importlib
import inspect
import os

from driftline.features.feast.registry import _import_feast

BEFORE_FEAST = (
    "driftline.infra.cli.entry",
    "driftline.infra.gateway.serve",
    "driftline.infra.proof.audit",
    "driftline.infra.serving.deploy",
    "driftline.infra.serving.serve",
    "driftline.infra.topics.administration",
    "driftline.streams.archive.archiver",
    "driftline.streams.archive.parts",
    "driftline.streams.checkpoints.folder",
    "driftline.streams.owner.deployment",
    "driftline.streams.simulation.simulate",
    "driftline.streams.transport.worker_process",
    "faust.agents.manager",
    "faust.app.base",
    "faust.assignor.partition_assignor",
    "faust.fixups.django",
    "faust.tables.objects",
    "faust.web.cache",
    "prometheus_client",
    "river.linear_model",
    "river.preprocessing",
)
"""What a command imports itself, and what Faust does for its first app."""
WITH_FEAST = (
    "driftline.features.feast.history",
    "driftline.features.feast.offline_store",
    "driftline.features.online.stores.sqlite",
    "driftline.features.online.writer",
    "feast.infra.compute_engines.local.compute",
    "feast.infra.passthrough_provider",
    "feast.repo_operations",
    "sqlalchemy.dialects.sqlite",
)
"""What Feast imports when a repository is made."""

os.environ.setdefault("FAUST_LOOP", "uvloop")  # as the worker does; read when faust is imported
for name in BEFORE_FEAST:
    importlib.import_module(name)
_import_feast()
for name in WITH_FEAST:
    importlib.import_module(name)
inspect.getmodule(inspect.currentframe())  # which looks at all modules once; Faust does so for its agents
