"""A case as a worker of these settings has it: its code, topics, checkpoints and seal."""

from __future__ import annotations

from features.online import OnlineWriter
from infra.settings import Settings
from streams.case_models import check_models_of
from streams.checkpoint_folder import CheckpointFolder
from streams.deployment import Deployment, code_of
from streams.kafka_broker import KafkaBroker
from streams.sealing import Seal, load_key
from streams.storage import Storage
from streams.usecase import UseCase


def deploy(
    case: UseCase, settings: Settings, broker: KafkaBroker, rows: OnlineWriter | None = None
) -> Deployment:
    """The case with its code, checkpoints and seal; raises ModelsError for models that cannot be run."""
    check_models_of(case)
    return Deployment(
        case,
        code_of(case),
        case.topics(settings.namespace),
        broker,
        CheckpointFolder(Storage(settings.checkpoints_uri(case.name))),
        Seal(load_key(settings.key_file, settings.key)),
        rows,
    )
