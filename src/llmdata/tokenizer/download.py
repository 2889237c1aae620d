"""`llmdata tokenizer download`: the one place of the tokenizer that opens a connection, when it is asked to."""

from __future__ import annotations

import os
from dataclasses import dataclass

from llmdata.errors import ConfigError, InputError
from llmdata.storage.encoding_names import FILES, HOST, KNOWN, NAMES, canonical_name, check_file
from llmdata.storage.place import Place

_TIMEOUT = 60.0
_MOST_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Download:
    """A vocabulary file in tiktoken's cache; `fresh` is False if it had been there."""

    name: str
    address: str
    path: str
    bytes: int
    fresh: bool


def download_vocabulary(name: str, address: str | None = None) -> Download:
    """Fetch the file that the encoding (or model) `name` reads into tiktoken's cache, where tiktoken finds it too.

    `address` is a mirror of the publisher's server. Raises ConfigError for a name without a published file, InputError
    where it cannot be had or has another digest; then nothing is written.
    """
    known = canonical_name(name)
    if known is None:
        raise ConfigError(f"{name}: no encoding with a published vocabulary; there are: {', '.join(NAMES)}")
    file = FILES[KNOWN[known].file]
    source = file.address if address is None else f"{address.rstrip('/')}/{file.path}"
    if os.path.exists(file.cached):
        data = Place(file.cached).read_bytes()
        try:
            check_file(KNOWN[known].file, data, file.cached)
            return Download(known, source, file.cached, len(data), fresh=False)
        except InputError:
            pass  # damaged: fetch it again
    data = _get(source)
    check_file(KNOWN[known].file, data, source)
    Place(file.cached).write_bytes(data)
    return Download(known, source, file.cached, len(data), fresh=True)


def _get(address: str) -> bytes:
    import requests

    try:
        with requests.get(address, timeout=_TIMEOUT, stream=True) as response:
            response.raise_for_status()
            data = b""
            for block in response.iter_content(1 << 20):
                data += block
                if len(data) > _MOST_BYTES:
                    raise InputError(f"{address}: larger than any vocabulary; is this the right server?")
            return data
    except requests.RequestException as error:
        raise InputError(
            f"{address}: {error}. Try again, or give a mirror that has the layout of {HOST} with --from"
        ) from None
