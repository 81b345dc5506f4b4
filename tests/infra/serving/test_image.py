"""What the container image is made of."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from driftline.streams.code.provenance import OWN_FOLDERS

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"


def test_the_image_starts_where_no_source_folder_shadows_what_is_installed() -> None:
    folder, copied = PurePosixPath("/"), {}
    for line in DOCKERFILE.read_text().splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "WORKDIR":
            folder = folder / rest
        elif instruction == "COPY":
            *sources, target = rest.split()
            copied |= dict.fromkeys(sources, folder / target)
    assert copied.keys() >= {*OWN_FOLDERS}
    assert not [source for source, target in copied.items() if target.is_relative_to(folder)]
