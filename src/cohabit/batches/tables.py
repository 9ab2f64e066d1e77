"""The tables. A batch and all that it has made is in one database, so that one commit says what is so."""

import secrets

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 1
"""Of the tables; a database that says another is not touched."""

metadata = MetaData()

about = Table("about", metadata, Column("version", Integer, nullable=False))

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(256), nullable=False),  # the name of a key; empty where there are none
    Column("purpose", String(32), nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # all times are Unix seconds
    Column("expires_at", BigInteger, nullable=False),
    Column("whole", Boolean, nullable=False),  # False while it is being sent
    # Of a file that a batch has made: it is read from the batch's lines, of those with this state.
    Column("batch_id", ForeignKey("batches.id", ondelete="CASCADE", use_alter=True)),
    Column("state", String(16)),
    Index("files_by_owner", "owner", "id"),
    Index("files_by_batch", "batch_id"),
    Index("files_by_expiry", "expires_at"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("file_id", ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(256), nullable=False),
    Column("status", String(16), nullable=False),
    Column("input_file_id", String(64), nullable=False),  # not a foreign key: the file may be erased before it
    Column("endpoint", String(64), nullable=False),
    Column("completion_window", String(32), nullable=False),
    Column("metadata", Text),  # JSON
    Column("errors", Text),  # JSON
    Column("output_seconds", Integer, nullable=False),  # how long what it makes is kept
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    *(
        Column(f"{status}_at", BigInteger)
        for status in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    ),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Index("batches_by_owner", "owner", "id"),
    Index("batches_by_status", "status", "id"),
)

lines = Table(
    "lines",
    metadata,
    Column("batch_id", ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the line in the input, from 1
    Column("model", String(256), nullable=False),  # a configured model's name; empty where it is not known
    Column("state", String(16), nullable=False),
    Column("custom_id", Text),
    Column("url", String(64)),
    Column("body", LargeBinary),  # until it is answered
    Column("outcome", LargeBinary),  # the line of the output or error file, once it is known
    Index("lines_by_state", "batch_id", "state", "model", "number"),
)

WAITING, ANSWERED, FAILED = "waiting", "answered", "failed"
"""States of a line."""

ERASED = "erased"
"""The purpose of a file, or the status of a batch, that nobody sees any more and that is about to be erased."""


def new_id(prefix: str, now: float) -> str:
    """Sorts by when it was made, to the millisecond, and cannot be guessed."""
    return f"{prefix}{int(now * 1000):012x}{secrets.token_hex(8)}"
