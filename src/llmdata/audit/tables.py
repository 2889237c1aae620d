"""Documents as a DuckDB table: Parquet, JSON lines and WARC records, local or on any fsspec address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmdata.audit.folders import Source
from llmdata.errors import InputError
from llmdata.storage.objects import for_duckdb
from llmdata.storage.parquet import open_parquet
from llmdata.storage.place import Place

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

WARC_COLUMNS = ("id", "type", "url", "date", "status", "content_type", "length", "file", "offset")


class Tables:
    """A DuckDB connection with the documents of a source as `docs`, and the rejected ones, if any, as `rejected`.

    Nothing is downloaded: DuckDB reads other file systems through fsspec, and may not install extensions.
    """

    def __init__(self, source: Source, file_names: bool = False) -> None:
        """`file_names` adds a column `filename` to Parquet documents."""
        import duckdb

        self._duckdb = duckdb
        self._source = source
        self._connection = duckdb.connect(
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        )
        if source.kind == "warc" or (source.kind == "crawl" and source.files):
            records = warc_table(source.files)
            self._connection.register("docs", records)
        elif source.files and source.kind != "shard":
            self._view("docs", source.files, source.kind == "jsonl", file_names)
        if source.rejected:
            self._view("rejected", source.rejected)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Column names and rows of `sql`; raises InputError with DuckDB's explanation."""
        try:
            cursor = self._connection.execute(sql, list(parameters))
        except self._duckdb.Error as error:
            raise InputError(self._explain(error)) from None
        return [column[0] for column in cursor.description or []], self._rows(cursor)

    def records(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of `sql`, each by column name."""
        names, rows = self.query(sql, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def columns(self, table: str = "docs") -> list[tuple[str, str]]:
        """Names and types of a table's columns."""
        return [(row["column_name"], row["column_type"]) for row in self.records(f"DESCRIBE {table}")]

    def _rows(self, cursor: Any) -> Iterator[tuple[Any, ...]]:
        while True:
            try:
                rows = cursor.fetchmany(1000)
            except self._duckdb.Error as error:
                raise InputError(self._explain(error)) from None
            if not rows:
                return
            yield from rows

    def _view(self, name: str, files: Sequence[Place], json_lines: bool = False, file_names: bool = False) -> None:
        for fs in {id(file.fs): file.fs for file in files if file.fs is not None}.values():
            if not self._connection.filesystem_is_registered(_protocol(fs)):
                self._connection.register_filesystem(for_duckdb(fs))
                # DuckDB seeks, then reads: of two threads on one stream, one would read what the other sought.
                self._connection.execute("SET threads = 1")
        paths = [str(file).replace("'", "''") for file in files]
        names = ", ".join(f"'{path}'" for path in paths)
        read = (
            f"read_json([{names}], format = 'newline_delimited', union_by_name = true)"
            if json_lines
            else f"read_parquet([{names}], union_by_name = true, filename = {str(file_names).lower()}, "
            # Else files in `lang=…` folders would have a column more than those that lie in one.
            "hive_partitioning = false)"
        )
        try:
            self._connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {read}")
        except self._duckdb.Error as error:
            raise InputError(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        message = str(error).strip()
        if "Table with name docs does not exist" in message:
            return f"{self._source.place}: has no table of documents ({self._source.kind})"
        if "Table with name rejected does not exist" in message:
            return f"{self._source.place}: has no rejected documents on disk"
        return f"{self._source.place}: {message}"


def _protocol(fs: AbstractFileSystem) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def warc_table(files: Sequence[Place]) -> pa.Table:
    """A row a record of WARC files: its headers and where it lies, not its content."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in WARC_COLUMNS}
    for file in files:
        for record in warc_records(file):
            for name, value in record.items():
                columns[name].append(value)
    integers = {"status", "length", "offset"}
    return pa.table(
        {name: pa.array(columns[name], pa.int64() if name in integers else pa.string()) for name in columns}
    )


def warc_records(file: Place, offset: int = 0) -> Iterator[dict[str, Any]]:
    """The headers of each record of a WARC file from `offset` on; raises InputError if it is damaged or holds none."""
    from fastwarc.warc import ArchiveIterator

    count = 0
    with file.open() as stream:
        stream.seek(offset)
        try:
            for record in ArchiveIterator(stream, parse_http=True):
                count += 1
                http = record.http_headers
                yield {
                    "id": str(record.headers.get("WARC-Record-ID") or "").strip("<>"),
                    "type": record.headers.get("WARC-Type"),
                    "url": record.headers.get("WARC-Target-URI"),
                    "date": record.headers.get("WARC-Date"),
                    "status": http.status_code if http is not None else None,
                    "content_type": (http or record.headers).get("Content-Type"),
                    "length": record.content_length,
                    "file": str(file),
                    "offset": offset + record.stream_pos,
                }
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{file}: damaged after {count} records: {error}") from None
    if not count:
        raise InputError(f"{file}: not a WARC file, or an empty one: no record in {file.size()} bytes")


def parquet_facts(files: Sequence[Place]) -> dict[str, Any]:
    """Files, rows and bytes of Parquet files by their footers; raises InputError naming the file that is not one."""
    rows = sum(parquet_rows(file) for file in files)
    return {"files": len(files), "rows": rows, "bytes": sum(file.size() for file in files)}


def parquet_rows(file: Place) -> int:
    """Rows of a Parquet file by its footer; raises InputError if it cannot be read."""
    with file.open() as stream:
        rows: int = open_parquet(stream, str(file)).metadata.num_rows
    return rows


def warc_text(file: Place, offset: int, characters: int) -> str:
    """The beginning of the payload of the record at `offset`, decoded; empty if it is none that can be shown."""
    from fastwarc.warc import ArchiveIterator

    with file.open() as stream:
        stream.seek(offset)
        try:
            record = next(iter(ArchiveIterator(stream, parse_http=True, auto_decode="all")), None)
            raw = record.reader.read(4 * characters) if record is not None else b""
            return raw.decode(record.http_charset or "utf-8", "replace")[:characters] if record is not None else ""
        except (OSError, ValueError, RuntimeError, LookupError) as error:
            return f"(cannot be decoded: {error})"
