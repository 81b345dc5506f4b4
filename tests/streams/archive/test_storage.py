"""Files in a folder or an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.infra.settings import Settings
from driftline.streams.archive.storage import Storage
from driftline.streams.errors import StreamsError


@pytest.mark.parametrize("uri", ["{folder}", "file://{folder}", "mock:///store"])
def test_files_come_back_whole_and_go(uri: str, tmp_path: Path) -> None:
    storage = Storage(uri.format(folder=tmp_path / "store"))
    storage.clear()  # nothing is there yet
    assert storage.names("a") == []
    assert storage.read("a/one") is None
    storage.write("a/one", b"1")
    storage.write("a/two", b"2")
    storage.write("a/one", b"11")
    assert storage.names("a") == ["a/one", "a/two"]
    assert storage.read("a/one") == b"11"
    written = storage.aside("a/three")
    written.write_bytes(b"3")
    storage.adopt(written, "a/three")
    assert storage.read("a/three") == b"3"
    assert not written.exists()
    storage.remove("a/one")
    storage.remove("a/one")
    assert storage.names("a") == ["a/three", "a/two"]
    storage.clear()
    assert storage.names("a") == []


def test_a_uri_that_is_none_is_an_error_without_its_secrets() -> None:
    with pytest.raises(StreamsError, match=r"^s3://bucket/folder cannot be used: ") as raised:
        Storage("s3://hidden:hidden@bucket/folder?allow_bucket_creation=perhaps")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/data/checkpoints/", "/data/checkpoints/team.orders"),
        ("s3://bucket", "s3://bucket/team.orders"),
        ("s3://bucket/some/", "s3://bucket/some/team.orders"),
        (
            "s3://k:s@bucket/some?scheme=http&region=x",
            "s3://k:s@bucket/some/team.orders?scheme=http&region=x",
        ),
    ],
)
def test_a_case_has_a_folder_of_its_own_below_what_the_settings_name(place: str, expected: str) -> None:
    settings = Settings(home=Path("home"), bootstrap=None, namespace="team", checkpoints=place)
    assert settings.checkpoints_uri("orders") == expected
