"""The audit that runs beside the workers of a chain: every stage as far as its topic is folded."""

from __future__ import annotations

import msgspec
import pytest
from parcels import replicated

from driftline.streams.archive.epochs import CodeEpoch, epoch_output
from driftline.streams.between.stage_record import decode_record, encode_record
from driftline.streams.proof import partition_follow
from driftline.streams.proof.partition_follow import EpochAdded
from driftline.streams.proof.stage_follow import StageFollowers
from driftline.streams.records.outputs import Target
from driftline.streams.records.positions import headers_of
from tests.streams.owner.owned_chain import SEAL, OwnedChain
from tests.streams.proof.test_stage_audit import Held, audited, change, forge_newest_pool, serve, served

__all__ = ["served"]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_follow, "OFFSETS_AT_ONCE", 37)


def followers(chain: OwnedChain) -> StageFollowers:
    first = chain.stages[0]
    return StageFollowers(first.case, first.places, first.code, Held(chain.broker), SEAL)


def follow(chain: OwnedChain, found: StageFollowers) -> None:
    """Have every follower look until it has followed its topic to the end."""
    ends = {follower.name: len(chain.broker.at(follower.place)) for follower in found}
    done = dict.fromkeys(ends, False)
    while not all(done.values()):
        done = {follower.name: follower.look(ends[follower.name]) for follower in found}
    found.rest()


def differences(found: StageFollowers) -> dict[str, str]:
    """The field of the first difference, by partition."""
    return {one.name: one.difference.field for one in found if one.difference is not None}


def test_all_that_is_published_and_sent_is_compared_as_the_audit_does(served: OwnedChain) -> None:
    found = followers(served)
    follow(served, found)
    assert differences(found) == {}
    assert sum(one.counts[0] for one in found) == sum(one.audit.checked for one in audited(served).values())
    assert all(one.counts[2] == 0 for one in found)
    assert all(one.verified == len(served.broker.at(one.place)) for one in found)


@pytest.mark.parametrize("stage", [1, 3])
def test_another_record_between_stages_is_a_difference_of_its_writer(served: OwnedChain, stage: int) -> None:
    target = Target(stage, 0)
    record = served.records(target)[20]
    sent = decode_record(record.value)
    other = encode_record(msgspec.structs.replace(sent, ordinal=sent.ordinal + 1))
    change(served, target, record.offset, lambda _: other)
    found = followers(served)
    follow(served, found)
    said = differences(found)
    assert list(said) == [served.stages[0].places.name(Target(*sent.writer))]
    assert "one of the records" in next(iter(said.values()))


def test_what_came_to_a_stage_and_nobody_sent_is_a_difference(served: OwnedChain) -> None:
    *_, record = served.records(Target(1, 0))
    sent = decode_record(record.value)
    more = encode_record(msgspec.structs.replace(sent, number=sent.number + 1))
    served.broker.add(served.place(Target(1, 0)), None, more)
    found = followers(served)
    follow(served, found)
    assert f"records {sent.number + 1} to {sent.number + 1} from 0" in differences(found).values() or (
        f"records {sent.number + 1} to {sent.number + 1} from 1" in differences(found).values()
    )


def test_an_output_that_is_another_is_a_difference_of_the_last_stage(served: OwnedChain) -> None:
    place = served.stages[-1].outputs(0)["predictions"]
    (number, *_) = [n for n, record in enumerate(served.broker.at(place)) if record is not None]
    record = served.broker.at(place)[number]
    assert record is not None
    served.broker.at(place)[number] = record._replace(value=(record.value or b"").replace(b"0.", b"1.", 1))
    found = followers(served)
    follow(served, found)
    assert list(differences(found)) == ["questions/0"]


def test_pools_are_compared_with_those_that_came_to_the_replicas() -> None:
    chain = serve(replicated)
    found = followers(chain)
    follow(chain, found)
    assert differences(found) == {}
    done = audited(chain)
    by_name = {one.name: one.counts[0] for one in found}
    assert by_name == {chain.stages[0].places.name(target): one.audit.checked for target, one in done.items()}
    learner = done[Target(chain.itinerary.last, 0)]
    assert all(len(pools) > 3 for pools in learner.pools_sent.values())


def test_a_pool_that_the_learner_does_not_give_is_a_difference_of_the_learner() -> None:
    chain = serve(replicated)
    place, number = forge_newest_pool(chain)
    found = followers(chain)
    follow(chain, found)
    assert differences(found) == {"examples/0": f"pool {number} from examples/0"}
    (learner,) = [one for one in found if one.difference is not None]
    assert learner.difference is not None
    assert (learner.difference.topic, learner.difference.partition) == place
    assert learner.verified == learner.difference.log_offset < len(chain.broker.at(learner.place))


def test_a_pool_that_nobody_sent_is_a_difference_of_the_learner() -> None:
    chain = serve(replicated)
    _, number = forge_newest_pool(chain, more=1)
    found = followers(chain)
    follow(chain, found)
    assert differences(found) == {"examples/0": f"pools up to {number} from examples/0"}


def test_a_code_epoch_that_comes_later_is_noticed(served: OwnedChain) -> None:
    found = followers(served)
    last = served.stages[-1]
    epoch = epoch_output(CodeEpoch(0, 9, last.code, {}))
    served.broker.add(last.outputs(0)["models"], None, epoch.value, headers_of(epoch))
    with pytest.raises(EpochAdded):
        follow(served, found)
