"""A case as a worker of these settings has it: its code, topics, checkpoints and seal."""

from __future__ import annotations

from dataclasses import replace

from driftline.features.online.writer import OnlineWriter
from driftline.infra.errors import InfraError
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive
from driftline.streams.archive.storage import Storage
from driftline.streams.archive.topic_history import Past
from driftline.streams.checkpoints.folder import CheckpointFolder
from driftline.streams.checkpoints.sealing import Seal, load_key
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.declare.case_models import check_models_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import Deployment, code_of
from driftline.streams.proof.stage_refold import epoch_number
from driftline.streams.records.outputs import Target
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces
from driftline.streams.transport.kafka_broker import KafkaBroker


def deploy(
    case: UseCase, settings: Settings, broker: KafkaBroker, rows: OnlineWriter | None = None
) -> Deployment:
    """The case with its code, checkpoints and seal; raises ModelsError for models that cannot be run, and
    InfraError for settings that do not go together."""
    check_models_of(case)
    checkpoints = Storage(settings.checkpoints_uri(case.name))
    return Deployment(
        case,
        code_of(case),
        case.topics(settings.namespace),
        broker,
        CheckpointFolder(checkpoints),
        seal_of(settings),
        rows,
        itinerary_of(case),
        segments=_segments(checkpoints, settings),
    )


def stage_places(case: UseCase, settings: Settings, past: Past | None = None) -> StagePlaces:
    """Where the stages of a case read and write, under the code of this process: in the newest epoch in which
    it served, as the past tells, else in the first."""
    code = code_of(case)
    places = StagePlaces(case.topics(settings.namespace), code.short, itinerary_of(case))
    if past is None or not case.plan.is_chain:
        return places
    return replace(places, number=epoch_number(past, places, code))


def archived_places(case: UseCase, settings: Settings, archive: Archive) -> StagePlaces:
    """The same as of what is archived."""
    places = stage_places(case, settings)
    behind = [Target(stage, 0) for stage in range(1, places.count)]
    if not behind:
        return places
    for number in reversed(places.epochs_in(archive.topics())):
        of_epoch = replace(places, number=number)
        if any(archive.end(*of_epoch.input(target)) for target in behind):
            return of_epoch
    return places


def seal_of(settings: Settings) -> Seal:
    """The seal of checkpoints, and of pools that are sent to replicas."""
    return Seal(load_key(settings.key_file, settings.key.get_secret_value() if settings.key else None))


def _segments(checkpoints: Storage, settings: Settings) -> SegmentFolders | None:
    """Where packed predictions and windows are: files, where a worker with less memory may have left some.
    One half of the memory is for predictions, one for windows."""
    if checkpoints.folder is not None:
        half = None if settings.memory is None else settings.memory // 2
        return SegmentFolders(checkpoints.folder, half, half)
    if settings.memory is not None:
        raise InfraError(
            f"DRIFTLINE_MEMORY keeps state in files beside the checkpoints, and {checkpoints.uri} is "
            "no folder: name a folder in DRIFTLINE_CHECKPOINTS, or set no limit"
        )
    return None
