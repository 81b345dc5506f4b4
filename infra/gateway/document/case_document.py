"""The OpenAPI descriptions of a case: the events that it takes, and its answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from driftline.infra.gateway.bodies import JSON, NDJSON
from driftline.infra.gateway.document.answers import OBJECT, Responses, answer
from driftline.infra.gateway.document.examples import STAMP, of_event, of_struct
from driftline.infra.topics.operator import members
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.declare.events import Command, Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.proof.lineage import Lineage
from driftline.streams.records.messages import DriftEvent, ModelEvent, Prediction

POINTS = {"binary": True, "multiclass": "north", "regression": 12.5}
PROBABILITIES = {"binary": {"false": 0.25, "true": 0.75}, "multiclass": {"north": 0.75, "south": 0.25}}


class CaseDocument:
    """The descriptions of one case. Its schemas are in `components`, under names with the case's own
    prefix."""

    def __init__(self, case: UseCase, namespace: str) -> None:
        self._case = case
        self.components: dict[str, Any] = {}
        self._topics = case.topics(namespace)
        schemas = topic_schemas(case, namespace)
        self._place("log", schemas[self._topics.log])
        self._prediction = self._place("predictions", schemas[self._topics.predictions])
        self.request = of_event(case.task.ask)
        self.request_id = "asked-1" if self.request is None else self.request["id"]

    def _place(self, kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema, with its definitions moved to the components."""
        beginning = f"{self._case.name}.{kind}."

        def moved(part: Any) -> Any:
            if isinstance(part, dict):
                return {name: moved(value) for name, value in part.items()}
            if isinstance(part, list):
                return [moved(each) for each in part]
            if isinstance(part, str) and part.startswith("#/$defs/"):
                return f"#/components/schemas/{beginning}{part.removeprefix('#/$defs/')}"
            return part

        for name, definition in schema["$defs"].items():
            self.components[beginning + name] = moved(definition)
        rest: dict[str, Any] = moved({k: v for k, v in schema.items() if k not in ("$defs", "$schema")})
        return rest

    def body(self, kinds: Iterable[type[Event]]) -> dict[str, Any]:
        """The body of a route that takes events of these types."""
        named = {str(kind.__struct_config__.tag): kind for kind in kinds}
        refs = [
            {"$ref": f"#/components/schemas/{self._case.name}.log.{kind.__name__}"} for kind in named.values()
        ]
        examples = {tag: {"value": event} for tag, kind in named.items() if (event := of_event(kind))}
        lines = "".join(msgspec.json.encode(each["value"]).decode() + "\n" for each in examples.values())
        content = {
            JSON: {"schema": {"anyOf": refs}, "examples": examples},
            NDJSON: {"schema": {"type": "string"}, "example": lines},
        }
        return {"requestBody": {"required": True, "content": content}}

    def command_body(self) -> dict[str, Any]:
        """The body of a route that takes signed commands."""
        command = of_struct(Command, {"id": "promote-1", "member": self._member()["name"]})
        schema = {"$ref": f"#/components/schemas/{self._case.name}.log.{Command.__name__}"}
        return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "example": command}}}}

    def predicted(self) -> Responses:
        """The answer that is a prediction."""
        return {200: answer("The prediction as published", self._prediction, self._an_answer())}

    def accepted_request(self) -> Responses:
        """The answer 202, to a request whose client waits no longer."""
        where = f"/v1/cases/{self._case.name}/predictions/{self.request_id}"
        body = {"id": self.request_id, "status": "accepted", "prediction": where}
        accepted = answer("Accepted: the prediction will be at `Location`", OBJECT, body)
        return {202: accepted | {"headers": {"Location": {"schema": {"type": "string"}, "example": where}}}}

    def folded(self) -> Responses:
        """The answers to a fact."""
        return {
            200: answer("The event has been folded", OBJECT, {"id": "event-1", "status": "folded"}),
            202: answer(
                "The event is in the log and will be folded", OBJECT, {"id": "event-1", "status": "accepted"}
            ),
        }

    def features(self) -> Responses:
        """The answer with the newest features of a key."""
        view = next(iter(self._case.views()), None)
        names = () if view is None else view.features
        value = {"value": 12.5, "status": "present", "event_time": STAMP, "age": None}
        row = {
            "view": "features_by_key" if view is None else view.name,
            "key": {"key": "a"} if view is None else {name: self._of_request(name) for name in view.keys},
            "event_time": STAMP,
            "age": None,
            "features": dict.fromkeys(names, value),
        }
        return {200: answer("The newest values; `status` says why one is missing", OBJECT, row)}

    def page(self) -> Responses:
        """The answer with a page of records."""
        items = [{"partition": 0, "offset": 12, "record": self._an_answer()}]
        body = {"items": items, "next": "0:13", "more": False}
        return {200: answer("Records, and the start of the next page", OBJECT, body)}

    def stream(self) -> Responses:
        """The answer that is a stream of server-sent events."""
        record = msgspec.json.encode(self._an_answer()).decode()
        example = f"retry: 1000\nid: 0:12\n: from here on\n\nid: 0:13\ndata: {record}\n\n"
        return {200: answer("Server-sent events", {"type": "string"}, example, "text/event-stream")}

    def models(self) -> Responses:
        """The answer with the members, and the serving member of each pool."""
        change = of_struct(ModelEvent, {"key": "a", "serving": self._member()["name"]})
        body = {"members": members(self._case), "serving": {"a": change}}
        return {200: answer("The members, and the newest change of every pool", OBJECT, body)}

    def incidents(self) -> Responses:
        """The answer with the drift incidents."""
        turn = of_struct(DriftEvent, {"incident": "incident-1"})
        incident = {"incident": "incident-1", "key": "a", "events": 1, "first": turn, "newest": turn}
        body = {"incidents": [incident], "more": False}
        return {200: answer("Incidents, the most recently changed first", OBJECT, body)}

    def lineage(self) -> Responses:
        """The answer with the lineage of a prediction."""
        traced = of_struct(Lineage, {"id": f"{self.request_id}:{self._case.task.name}"})
        body = traced | {"prediction": self._an_answer(), "features": {}, "agrees": True}
        return {200: answer("Its request, features, model, code and outcomes", OBJECT, body)}

    def schemas(self) -> Responses:
        """The answer with the schemas of the topics."""
        return {200: answer("JSON Schema by topic", OBJECT, {self._topics.predictions: {"type": "object"}})}

    def _member(self) -> dict[str, Any]:
        return members(self._case)[0]

    def _of_request(self, name: str) -> Any:
        return (self.request or {}).get(name, f"{name}-1")

    def _an_answer(self) -> dict[str, Any]:
        """A prediction of the example's request."""
        task, request, key = self._case.task, self.request or {}, self._case.key
        chances = PROBABILITIES.get(task.kind) if task.is_supervised else None
        return of_struct(
            Prediction,
            {
                "id": f"{self.request_id}:{task.name}",
                "event_id": self.request_id,
                "task": task.name,
                "keys": {} if key is None else {key: self._of_request(key)},
                "prediction": POINTS[task.kind] if task.is_supervised else 0.5,
                "probabilities": chances,
                "features": {name: request[name] for name in self._case.features if name in request},
            },
        )
