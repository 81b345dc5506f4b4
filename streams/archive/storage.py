"""Storage for files that are written whole and then only replaced: a folder, or an object store through
pyarrow.fs."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import ArrowException, fs

from driftline.atomic_file import replacing_durably, sync_folder
from driftline.streams.errors import StreamsError

STALE = 3600.0
"""Seconds after which an unfinished file is taken for abandoned."""


class Storage:
    """Files by name under `uri`: a path, or any URI that pyarrow.fs knows (file://, s3://, gs://, ...).

    A file appears whole or not at all. In a folder: written beside, fsynced, renamed, and the folder
    fsynced, so a name that is there survives a power loss. Object stores make an object visible when
    its upload ends, so there it is a plain write. Raises StreamsError for a URI that pyarrow.fs refuses.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if "://" in uri:
            parts = urlsplit(uri)  # messages name it without secrets
            self.uri = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
            try:
                self._fs, self._root = fs.FileSystem.from_uri(uri)
            except (ArrowException, OSError) as error:
                raise StreamsError(f"{self.uri} cannot be used: {error}") from error
        else:
            self._fs, self._root = fs.LocalFileSystem(), str(Path(uri).absolute())

    def path(self, name: str) -> str:
        """Where the file `name` is, for messages."""
        return f"{self._root}/{name}"

    @property
    def folder(self) -> Path | None:
        """Its folder on this machine; None for an object store."""
        return Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    def read(self, name: str) -> bytes | None:
        """The content of a file; None when there is none of this name."""
        try:
            with self._fs.open_input_stream(self.path(name)) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none if there is no such folder."""
        entries = self._fs.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted(f"{folder}/{info.base_name}" for info in entries if info.type == fs.FileType.File)

    def folders(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        entries = self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return sorted(info.base_name for info in entries if info.type == fs.FileType.Directory)

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file; folders in its name are made."""
        path = self.path(name)
        if isinstance(self._fs, fs.LocalFileSystem):
            _make_folder(Path(path).parent)
            with replacing_durably(Path(path)) as file:
                file.write(content)
            return
        self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)

    def aside(self, name: str) -> Path:
        """A path on this machine, in an existing folder, for a file that `adopt` will then store as
        `name`."""
        if not isinstance(self._fs, fs.LocalFileSystem):
            return Path(tempfile.gettempdir()) / f"{name.replace('/', '-')}.{secrets.token_hex(8)}.part"
        path = Path(self.path(name))
        _make_folder(path.parent)
        for left in path.parent.glob(".*.part"):  # left by a process that was killed while it wrote
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink(missing_ok=True)
        return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")

    def adopt(self, written: Path, name: str) -> None:
        """Make a file written aside, and synced, the file `name`.

        Where there is one of that name, it stays until the new one is whole: a rename does that on local
        disks, and object stores show what was put when its stream is closed.
        """
        path = self.path(name)
        if isinstance(self._fs, fs.LocalFileSystem):
            written.replace(path)
            sync_folder(written.parent)
            return
        self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with written.open("rb") as content, self._fs.open_output_stream(path) as stream:
            shutil.copyfileobj(content, stream)
        written.unlink()

    def clear(self) -> None:
        """Remove every file."""
        self._fs.delete_dir_contents(self._root, missing_dir_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        path = self.path(name)
        if self._fs.get_file_info(path).type != fs.FileType.NotFound:
            self._fs.delete_file(path)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, each durably known to the one above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
