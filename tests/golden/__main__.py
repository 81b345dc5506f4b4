"""Record the fold of a release in streams/code/fold.json: `python -m tests.golden`.

Where the golden cases come out as recorded, the version stays: the release needs no upgrade. Where one is
another, the version is raised, and the changed cases are printed, for the CHANGELOG.
"""

from __future__ import annotations

import msgspec

from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.code.fold_version import RECORD, FoldRecord, recorded, sources_hash
from driftline.streams.code.hash_seed import pin
from tests.golden.cases import golden


def main() -> None:
    """Write the record of the sources that lie here."""
    before, found = recorded(), golden()
    arithmetic = str(numeric_fingerprint())
    changed = sorted(
        f"{case}: {kind}"
        for case in found.keys() | before.golden.keys()
        for kind in found.get(case, {}).keys() | before.golden.get(case, {}).keys()
        if found.get(case, {}).get(kind) != before.golden.get(case, {}).get(kind)
    )
    # under another arithmetic it is unknown whether the code changed the results
    same = not changed and arithmetic == before.arithmetic
    record = FoldRecord(before.version + (not same), sources_hash(), arithmetic, found)
    RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    if same:
        print(f"the fold is version {record.version}, as before")
    else:
        print(
            f"the fold is version {record.version}, no longer {before.version}. Others: {', '.join(changed)}"
        )


if __name__ == "__main__":
    pin()
    main()
