"""Where the requests of predictions came to each stage of their case, out of the archived topics.

The record of a request in the topic of a stage says which record of the stage before it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from driftline.streams.archive.parts import Archive
from driftline.streams.between.stage_record import decode_record
from driftline.streams.records.outputs import Target
from driftline.streams.stages.places import StagePlaces


class RequestPlace(NamedTuple):
    """A partition of a stage, and the offset of a request in its topic."""

    partition: int
    offset: int


def places_by_stage(
    archive: Archive, places: StagePlaces, answered: Sequence[RequestPlace]
) -> list[list[RequestPlace | None]]:
    """For each stage up to the one that answers the places of requests, in the order of `answered`, which are
    those of that one.

    None where the archive does not reach.
    """
    here: list[RequestPlace | None] = list(answered)
    found = [here]
    for stage in range(places.serving, 0, -1):
        before = _written_from(archive, places, stage, {place for place in here if place is not None})
        here = [None if place is None else before.get(place) for place in here]
        found.insert(0, here)
    return found


def _written_from(
    archive: Archive, places: StagePlaces, stage: int, wanted: set[RequestPlace]
) -> dict[RequestPlace, RequestPlace]:
    """Of records of a stage's topic, the places of those of the stage before that caused them."""
    found = {}
    for target in places.targets_of(stage):
        offsets = {place.offset for place in wanted if place.partition == target.partition}
        if offsets:
            found.update(_of_partition(archive, places, target, offsets))
    return found


def _of_partition(
    archive: Archive, places: StagePlaces, target: Target, offsets: set[int]
) -> dict[RequestPlace, RequestPlace]:
    topic, partition = places.input(target)
    begin, end = archive.begin(topic, partition), archive.end(topic, partition)
    found = {}
    for records in archive.read(topic, partition, max(begin, min(offsets)), min(end, max(offsets) + 1)):
        for record in records:
            if record.offset in offsets:
                sent = decode_record(record.value)
                found[RequestPlace(partition, record.offset)] = RequestPlace(sent.partition, sent.offset)
    return found
