"""Addresses of databases without their passwords, as messages tell them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

__all__ = ["hidden", "without_password"]

_HIDDEN = "***"

# Up to the last @: who forgets to write one in a password as %40 has it hidden all the same.
# A path of it, as the shell takes one, has a single slash.
_IN_FRONT = re.compile(r"^(\w[\w+.-]+:/{1,2}[^:@/?#]*):(.+)(?=@)", re.DOTALL)
_ADDRESS = re.compile(r"\w[\w+.-]+:/")
_IN_QUERY = re.compile(
    r"(?<=[?&;])([^=&;]*(?:pass|pwd|secret|token|key|credential)[^=&;]*)=([^&;]+)", re.IGNORECASE
)


def without_password(storage: Any) -> str:
    """Return the address of a storage for people to read: the password in it is hidden.

    Parameters
    ----------
    storage
        As of :func:`~nas_space.study.open_storage`; an object of Optuna's is told by its class.

    Examples
    --------
    >>> without_password("postgresql://ada:s3cret@host:5432/trials?sslpassword=x")
    'postgresql://ada:***@host:5432/trials?sslpassword=***'
    """
    if not isinstance(storage, str | Path):
        return type(storage).__name__
    address = str(storage)
    if not _ADDRESS.match(address):
        return address
    address = _IN_FRONT.sub(rf"\1:{_HIDDEN}", address)
    return _IN_QUERY.sub(rf"\1={_HIDDEN}", address)


def hidden(text: str, storage: Any) -> str:
    """Return a text, such as an error of a database's driver, without a storage's password.

    Examples
    --------
    >>> hidden("no host in postgresql://ada:s3cret@: s3cret?", "postgresql://ada:s3cret@")
    'no host in postgresql://ada:***@: ***?'
    """
    address = str(storage)
    if not _ADDRESS.match(address):
        return text
    text = text.replace(address, without_password(address))
    found = [*_IN_FRONT.findall(address), *_IN_QUERY.findall(address)]
    # The parts, too: of a password with a character of URLs in it, drivers tell what they made of.
    secrets = {whole for _, told in found for whole in (told, unquote(told))}
    secrets |= {part for whole in secrets for part in re.split(r"\W+", whole) if len(part) > 1}
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _HIDDEN, text)
    return text
