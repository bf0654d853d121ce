"""Whether a place keeps what is put into it encrypted, as far as it says so."""

from __future__ import annotations

import logging
from functools import lru_cache

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.configured import option
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.urls import place_of

CHOICES = ("production", "always", "never")

_log = logging.getLogger(__name__)

_ALWAYS = ("gcs", "azure")
"""Stores that encrypt everything, by their makers' word."""


def check_encrypted(root: str, environment: str | None, *, name: str = "output_path") -> None:
    """Refuse a place in clear, where `[redox] require_encrypted_output` wants none. Raises `RedoxConfigError`.

    A disk says nothing of itself, and counts as in clear; a bucket is asked. One that does not answer is told of, and used.

    :param environment: of what is going to be put there; by default only Production is held to it.
    :param name: what errors call the place.
    """
    wanted = option("require_encrypted_output") or "production"
    if wanted not in CHOICES:
        raise RedoxConfigError(one_of("[redox] require_encrypted_output", wanted, CHOICES))
    if wanted == "never" or (wanted == "production" and environment != "Production"):
        return
    place = place_of(root)
    if place.kind == "file":
        raise _in_clear(name, "a path on a disk, which does not say that it is encrypted")
    if place.kind == "s3":
        _check_bucket(root, place.bucket, name)
    elif place.kind not in _ALWAYS:
        _tell(root, "its store is not one that can be asked")


def _check_bucket(root: str, bucket: str, name: str) -> None:
    answer = _of_bucket(root, bucket, name)
    if answer == "none":
        raise _in_clear(name, "a bucket that says it is not encrypted")


@lru_cache(maxsize=64)
def _of_bucket(root: str, bucket: str, name: str) -> str:
    """Ask a bucket once in a process: `encrypted`, `none`, or `unknown`."""
    files = Files(root, name=name)
    if files.names_encryption:
        return "encrypted"
    code = files.ask_for_encryption(bucket)
    if code == "":
        return "encrypted"
    if code == "ServerSideEncryptionConfigurationNotFoundError":
        return "none"
    _tell(root, f"the bucket was asked, and did not say ({code}); allow s3:GetEncryptionConfiguration")
    return "unknown"


@lru_cache(maxsize=64)
def _tell(root: str, why: str) -> None:
    _log.warning("It is not known whether %s is encrypted: %s.", root, why)


def _in_clear(name: str, what: str) -> RedoxConfigError:
    return RedoxConfigError(
        f"{name}: name an encrypted bucket, as [redox] require_encrypted_output wants; this is {what}. Nothing was asked "
        "for. If the place is encrypted by other means, say so with [redox] require_encrypted_output = never"
    )
