"""What happens around a flight that leaves New York."""

from __future__ import annotations

from driftline import Event, Reference


class Scheduled(Event, tag="scheduled"):
    """The scheduled departure has come: the moment at which the question is asked.

    `number` is the service that flies day after day (carrier and flight number), `flight` is this
    one departure of it. `distance` is in miles, `duration` in minutes, gate to gate as scheduled.
    `tailnum` names the aircraft where one is assigned.
    """

    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    distance: float
    duration: float


class Departed(Event, tag="departed"):
    """The flight left the gate, `delay` minutes after its schedule (negative: early)."""

    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    delay: float


class Arrived(Event, tag="arrived"):
    """The flight reached its gate, `delay` minutes after its schedule (negative: early)."""

    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    delay: float


class Cancelled(Event, tag="cancelled"):
    """The flight never left."""

    flight: str
    origin: str
    dest: str
    carrier: str


class Weather(Event, tag="weather"):
    """One hour of weather at an airport, known when the hour is over.

    Temperature and dew point in °F, humidity in %, wind and gusts in mph, wind direction in
    degrees, precipitation in inches, pressure in millibars, visibility in miles.
    """

    origin: str
    temperature: float | None
    dew_point: float | None
    humidity: float | None
    wind: float | None
    wind_direction: float | None
    gust: float | None
    precipitation: float | None
    pressure: float | None
    visibility: float | None


class Plane(Reference, tag="plane"):
    """An aircraft: the year it was built, its maker and its size."""

    tailnum: str
    year: int | None
    manufacturer: str | None
    model: str | None
    engines: int | None
    seats: int | None
