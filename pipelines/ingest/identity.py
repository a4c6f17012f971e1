"""Which patients of a source's rows and headers are one person."""

import re
from collections.abc import Collection

from pipelines.errors import Rejected
from pipelines.images import HeaderIds
from pipelines.ingest import cells
from pipelines.ingest.aliases import Aliases
from pipelines.ingest.patients import PatientHasher

# From so many patients of the listing on, a PatientID beside them is no patient's.
_NAMES_NOBODY = 3
# Dummies that a header's PatientID often holds; a listing may number its patients so.
_DUMMY = re.compile(
    r"0+|9{3,}|-?1|test\w*|no ?id|dummy|deleted|patient|id|tcia|not applicable|anon\w*[\^ _-]?\w*", re.I
)


class Patients:
    """The patients that rows and DICOM headers name, as hashes, and who of them turned out to be one.

    Args:
        hash_id: The hash that stands for a patient id.
    """

    def __init__(self, hash_id: PatientHasher) -> None:
        self._hash_id = hash_id
        self._aliases = Aliases()
        self._beside_header: dict[str, tuple[str, ...]] = {}  # as many as it takes to name nobody, at most

    def __len__(self) -> int:
        """How many turned out to be another one."""
        return len(self._aliases)

    @property
    def headers_ignored(self) -> int:
        """PatientIDs beside so many patients of the listing that they name nobody, such as an anonymiser's constant."""
        return sum(len(named) >= _NAMES_NOBODY for named in self._beside_header.values())

    @property
    def in_headers(self) -> Collection[str]:
        """Patients of headers that stand beside patients of the listing."""
        return self._beside_header.keys()

    def of(self, row_id: str | None, header: HeaderIds) -> tuple[str | None, str | None]:
        """The hashes of the patient that a row names, and of the one that its file's header does."""
        header_id = _named_in(header)
        return (
            None if row_id is None else self._hash_id(row_id),
            None if header_id is None else self._hash_id(header_id),
        )

    def stand_together(self, named: str, in_header: str) -> None:
        """A row names the one patient, and the header of its file the other."""
        before = self._beside_header.get(in_header, ())
        if named not in before and len(before) < _NAMES_NOBODY:
            self._beside_header[in_header] = (*before, named)

    def join(self, patient: str, other: str) -> None:
        """From now on both are one."""
        self._aliases.join(patient, other)

    def join_headers(self, used: set[str | None]) -> None:
        """A PatientID and the patients of the listing beside it are one, where that ties images together.

        Args:
            used: Those of `in_headers` that images have.
        """
        for in_header, named in self._beside_header.items():
            if len(named) < _NAMES_NOBODY and (in_header in used or len(named) > 1):
                for patient in sorted(named):
                    self.join(in_header, patient)

    def first(self, patient: str) -> str:
        """The hash that stands for all that are this patient."""
        return self._aliases.first(patient)


def _named_in(header: HeaderIds) -> str | None:
    """PatientID, where it names somebody; one that cannot be read costs no image."""
    try:
        patient = cells.identity(header.patient, "PatientID")
    except Rejected:
        return None
    return None if patient is None or _DUMMY.fullmatch(patient) else patient
