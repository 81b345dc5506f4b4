"""The topics of a case: names, partition counts, retention."""

from __future__ import annotations

import re
from dataclasses import dataclass

from driftline.streams.declare.plan import LEARNER, QUESTIONS
from driftline.streams.declare.retention import FOREVER, USUAL, in_ms
from driftline.streams.errors import DeclarationError

INPUT_LIMIT = 1_048_588
"""The largest record batch of the log, in bytes (Kafka's default)."""
HEADERS_LIMIT = 65_536
"""Bytes by which a refused record may grow in the dead letters, whose headers have the reason."""
RECORD_OVERHEAD = 1_024
"""Overhead in bytes of a batch of one record, beside its key, its value and the headers of refused input."""
OUTPUT_LIMITS = {
    "predictions": INPUT_LIMIT - RECORD_OVERHEAD,
    "outcomes": INPUT_LIMIT - RECORD_OVERHEAD,
    "drift": INPUT_LIMIT - RECORD_OVERHEAD,
    "models": INPUT_LIMIT - RECORD_OVERHEAD,
    "dead_letters": INPUT_LIMIT,
}
"""The largest size in bytes of an output's key and value together, by kind: its topic's limit less
overheads."""
BETWEEN_LIMIT = 2 * INPUT_LIMIT
"""The largest record batch between stages, in bytes: an event of any size, and features of the same size."""
LONGEST_BETWEEN = BETWEEN_LIMIT - RECORD_OVERHEAD
"""The largest size in bytes of one record between stages."""


MOST_PARTITIONS = 10_000
"""The most partitions that a log may have: each has a state and a writer of its own."""
LONGEST_NAME = 200
"""The longest name of a case with its namespace, in characters. Kafka allows 249 for a topic, Feast's
registry and file systems 255 for names made from it, and each of these names has a suffix."""
LONGEST_BRIDGE = 32
"""The longest name of a bridge, in characters. Its topic's name has the case's name, this name and a
suffix."""
_CODE = re.compile(r"[0-9a-f]{12}(-[0-9]+)?")
_LEGAL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")


def is_worker_group(group: str, readers: str) -> bool:
    """Whether a consumer group is that of a case's workers (`Topics.readers`), of any code.

    Its name ends with the hash of the code. Groups of other cases may have the same beginning, since
    namespaces have dots.

    >>> [is_worker_group(f"a.events.worker.{end}", "a.events") for end in ("0a1b", "b.events.worker.0a1b")]
    [True, False]
    """
    return group.rpartition(".")[0] == f"{readers}.worker"


def wrong_name(name: str) -> str | None:
    """Why a name cannot be used for topics, Feast projects and files; None if it can.

    >>> wrong_name("my case/1")
    "expected letters, digits, '.', '_' and '-', a letter or digit first, not 'my case/1': write 'my-case-1'"
    """
    if len(name) > LONGEST_NAME:
        return (
            f"expected at most {LONGEST_NAME} characters, as Kafka takes 249 for a topic, which is named "
            f"after it; {name[:20]!r}... has {len(name)}"
        )
    if _LEGAL.fullmatch(name):
        return None
    legal = re.sub(r"[^a-zA-Z0-9._]+", "-", name).strip("-._")
    advice = f": write {legal!r}" if legal else ""
    return f"expected letters, digits, '.', '_' and '-', a letter or digit first, not {name[:60]!r}{advice}"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic to create: its name, partition count and Kafka configuration. Where no keys live in its
    partitions, more may be added, and more than these do no harm: it `may_grow`."""

    name: str
    partitions: int
    config: dict[str, str]
    may_grow: bool = False

    def is_other_count(self, found: int) -> bool:
        """Whether the topic cannot have so many partitions."""
        return found < self.partitions if self.may_grow else found != self.partitions


@dataclass(frozen=True, slots=True)
class Topics:
    """The names and settings of a case's topics.

    `namespace` separates teams on one cluster. `retention` is how long records are kept, in seconds. `behind`
    are the stages behind the log, each with the kind of its topic and its partitions; the last one answers.
    `log_of` is the case whose log is read, if it is another case's: that of the first of several tasks.

    A name is `namespace.case.kind`. Neither a case's name nor a kind has a dot, so two cases never share a
    topic, nor anything named after one: groups, transactional ids, folders, Feast projects.
    """

    case: str
    partitions: int
    namespace: str = ""
    retention: float = USUAL
    behind: tuple[tuple[str, int], ...] = ()
    log_of: str = ""

    def __post_init__(self) -> None:
        """Raise DeclarationError for a namespace that cannot be the start of topic names."""
        if self.namespace and (wrong := wrong_name(self.namespace)) is not None:
            raise DeclarationError(f"namespace: {wrong}")
        if len(self._name("")) > LONGEST_NAME + 1:
            raise DeclarationError(
                f"namespace: {self.namespace!r} and the case's name {self.case[:20]!r}... have "
                f"{len(self._name('')) - 1} characters together; at most {LONGEST_NAME} are allowed, as "
                "Kafka takes 249 for a topic, which is named after them"
            )

    def _name(self, kind: str, case: str = "") -> str:
        prefix = f"{self.namespace}." if self.namespace else ""
        return f"{prefix}{case or self.case}.{kind}"

    @property
    def log(self) -> str:
        return self._name("events", self.log_of)

    @property
    def readers(self) -> str:
        """The beginning of the names of this case's consumer groups on the log: the log's name, unless
        several cases read it."""
        return self._name("events")

    @property
    def predictions(self) -> str:
        return self._name("predictions")

    @property
    def outcomes(self) -> str:
        return self._name("outcomes")

    @property
    def drift(self) -> str:
        return self._name("drift")

    @property
    def models(self) -> str:
        return self._name("models")

    @property
    def dead_letters(self) -> str:
        return self._name("dead-letters")

    @property
    def statistics(self) -> str:
        return self._name("statistics")

    @property
    def anomalies(self) -> str:
        return self._name("anomalies")

    @property
    def predicting(self) -> int:
        """The number of partitions that answer. Each has a partition of the predictions topic."""
        return dict(self.behind).get(QUESTIONS, self.partitions)

    @property
    def learning(self) -> int:
        """The number of partitions that learn, those of the last stage. Each has a partition of the topics of
        outcomes, drift and models."""
        return self.behind[-1][1] if self.behind else self.partitions

    @property
    def refusing(self) -> int:
        """The number of partitions of the dead letters: one for each partition of each stage, in the order of
        the stages."""
        return self.partitions + sum(count for _, count in self.behind)

    def of_stage(self, kind: str, code: str = "") -> str:
        """The name of the topic that a stage reads. Topics between stages belong to one code epoch: `code` is
        its label. Without it, the result is the beginning that the names of all codes share."""
        if kind == "events":
            return self.log
        name = self._name(kind)
        return f"{name}.{code}" if code else name

    def owner(self, kind: str, partition: int) -> str:
        """The transactional id by which owners of a stage's partition fence each other, the same for every
        code."""
        return f"driftline.{self._name(kind)}.{partition}"

    def between(self, code: str) -> list[TopicSpec]:
        """The topics that the stages behind the log read, for this code."""
        config = self._config(BETWEEN_LIMIT)
        return [TopicSpec(self.of_stage(kind, code), count, config) for kind, count in self.behind]

    def is_between(self, name: str) -> bool:
        """Whether a topic is between stages, of any code, which may have had other stages.

        >>> topics = Topics("orders", 2, behind=(("by-shop", 2),))
        >>> [topics.is_between(f"orders.{end}") for end in ("by-shop.0a1b2c3d4e5f-1", "by-shop", "events")]
        [True, False, False]
        """
        kind, _, code = name.rpartition(".")
        if _CODE.fullmatch(code) is None:
            return False
        return kind.startswith(self._name("by-")) or kind in map(self._name, (QUESTIONS, LEARNER))

    def of_bridge(self, bridge: str) -> str:
        """The name of the topic for records that a bridge into the log refused."""
        return self._name(f"dead-letters-{bridge}")

    def bridge_dead_letters(self, bridge: str, limit: int) -> TopicSpec:
        """The bridge's topic of dead letters, for records of a topic whose largest batch has `limit` bytes.
        It has several writers at once, so its partitions do not mirror those of the log."""
        return TopicSpec(self.of_bridge(bridge), 1, self._config(limit + HEADERS_LIMIT))

    def all(self) -> list[TopicSpec]:
        """Every topic that outlives the code. Records are deleted by append time, never by event time. Dead
        letters take any input."""
        config = self._config(INPUT_LIMIT)
        # model changes are needed as long as the predictions, and are too few to fill parts of the archive
        kept = {**config, "retention.ms": FOREVER}
        # keyed by window, written by any publisher: the newest record of a key is valid
        compacted = {**kept, "cleanup.policy": "compact"}
        refused = self._config(INPUT_LIMIT + HEADERS_LIMIT)
        return [
            TopicSpec(self.log, self.partitions, config),
            TopicSpec(self.predictions, self.predicting, config),
            *(TopicSpec(name, self.learning, config) for name in (self.outcomes, self.drift)),
            TopicSpec(self.models, self.learning, kept),
            TopicSpec(self.dead_letters, self.refusing, refused, may_grow=bool(self.behind)),
            *(TopicSpec(name, self.predicting, compacted) for name in (self.statistics, self.anomalies)),
        ]

    def _config(self, limit: int) -> dict[str, str]:
        return {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": in_ms(self.retention),
            "retention.bytes": FOREVER,
            "max.message.bytes": str(limit),
        }
