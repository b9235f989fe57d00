"""Tables that are written in parts, so that those of a million faces need no more memory than a small one's."""

from __future__ import annotations

import csv
import os
import uuid
from pathlib import Path
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 5_000  # of a part; a table of one part has the bytes that `lib.data.files.write_table` would write


class PartedTable:
    """The same table in one or more files, .csv or .parquet, as a context manager: whole at its end, or not there.

    Args:
        paths: The files; the folder above them exists.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self._partial = [path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp") for path in paths]
        self._files, self._parquet = [], None

    def __enter__(self) -> Self:
        self._files = [partial.open("wb") for partial in self._partial]
        return self

    def add(self, part: pd.DataFrame) -> None:
        """Append rows; every part has the same columns of the same types. At least one, perhaps empty, is needed."""
        for path, file in zip(self.paths, self._files):
            if path.suffix == ".csv":
                text = part.to_csv(index=False, lineterminator="\n", header=not file.tell())
                if "\r" in text:  # the csv module leaves it unquoted, and it would be read as the end of a line
                    quoting = csv.QUOTE_NONNUMERIC
                    text = part.to_csv(index=False, lineterminator="\n", header=not file.tell(), quoting=quoting)
                file.write(text.encode())
                continue
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(file, pa.Schema.from_pandas(part, preserve_index=False))
            self._parquet.write_table(pa.Table.from_pandas(part, self._parquet.schema, preserve_index=False))

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if self._parquet is not None:
                self._parquet.close()
            for path, partial, file in zip(self.paths, self._partial, self._files):
                file.flush()
                os.fsync(file.fileno())
                file.close()
                if kind is None:
                    os.replace(partial, path)
        finally:
            for partial, file in zip(self._partial, self._files):
                file.close()
                partial.unlink(missing_ok=True)
