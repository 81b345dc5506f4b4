"""Seals open only what this key sealed, under the same label, whole; the key is private and made once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal, load_key
from driftline.streams.errors import StreamsError, Unauthentic, UnusableKey

KEY = bytes(range(KEY_BYTES))
SEAL = Seal(KEY)


@given(st.binary(max_size=500), st.binary(max_size=40))
def test_what_was_sealed_opens_under_its_label(payload: bytes, label: bytes) -> None:
    assert SEAL.open(SEAL.seal(payload, label), label) == payload


@given(st.binary(max_size=200), st.data())
def test_one_flipped_bit_anywhere_is_refused(payload: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEAL.seal(payload, b"flights/0"))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unauthentic):
        SEAL.open(bytes(sealed), b"flights/0")


@given(st.binary(max_size=200), st.data())
def test_every_truncation_is_refused(payload: bytes, data: st.DataObject) -> None:
    sealed = SEAL.seal(payload, b"flights/0")
    with pytest.raises(Unauthentic, match="torn"):
        SEAL.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], b"flights/0")


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=20))
def test_bytes_after_the_end_are_refused(payload: bytes, more: bytes) -> None:
    with pytest.raises(Unauthentic, match="torn"):
        SEAL.open(SEAL.seal(payload, b"a") + more, b"a")


@given(st.binary(max_size=60), st.binary(max_size=10), st.binary(max_size=10))
def test_another_label_is_refused_wherever_label_and_payload_part(
    payload: bytes, label: bytes, more: bytes
) -> None:
    for other in {label + more, label + payload, more, label + b"\0"} - {label}:
        with pytest.raises(Unauthentic, match="another label"):
            SEAL.open(SEAL.seal(payload, label), other)


def test_another_key_is_named_as_such() -> None:
    with pytest.raises(Unauthentic, match="another key"):
        Seal(KEY[::-1]).open(SEAL.seal(b"payload", b"a"), b"a")


def test_another_format_is_named_as_such() -> None:
    with pytest.raises(Unauthentic, match="not a seal of this version"):
        SEAL.open(b"\x80\x05" + bytes(200), b"a")


def test_the_layout_is_fixed() -> None:
    """A change of it needs another version in the magic."""
    assert SEAL.seal(b"payload", b"flights/0").hex() == (
        "4452494654534c01"
        "3d22dc72e0f12408"
        "0000000000000007"
        "18cb5c26e40b176296dc997ab3fd5238f2505c3f696722b3c06ca4f7943463a4"
        "7061796c6f6164"
    )


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UnusableKey, match="32 bytes"):
        Seal(bytes(length))


def test_the_environment_comes_before_the_file_and_makes_none(tmp_path: Path) -> None:
    assert load_key(tmp_path / "key", KEY.hex()) == KEY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["abc", "zz" * 32, KEY.hex() + "00", " "])
def test_a_malformed_value_is_refused_and_not_shown(value: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="64 hexadecimal digits") as refusal:
        load_key(tmp_path / "key", value)
    assert value.strip() == "" or value not in str(refusal.value)


def test_a_missing_key_is_made_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    key = load_key(path, None)
    assert len(key) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path, "") == key
    assert [file.name for file in path.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_others_can_reach_is_refused_with_what_to_do(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "key"
    load_key(path, None)
    path.chmod(mode)
    with pytest.raises(UnusableKey, match=re.escape(f"chmod 600 {path}")):
        load_key(path, None)


def test_a_torn_key_file_is_refused_rather_than_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    load_key(path, None)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(StreamsError, match=re.escape(str(path))):
        load_key(path, None)


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    code = (
        "import sys; from pathlib import Path; from driftline.streams.checkpoints.sealing import load_key;"
        "print('ready', flush=True); sys.stdin.read(); print(load_key(Path(sys.argv[1]), None).hex())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()  # each waits for this before it looks for the file
    keys = set()
    for racer in racers:
        assert racer.stdout is not None
        keys.add(racer.stdout.read())
        racer.stdout.close()
        assert racer.wait(60) == 0
    assert keys == {path.read_text()}
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
