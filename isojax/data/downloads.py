"""Downloads of tensorflow-datasets.

Without a network tensorflow-datasets retries for minutes, so this module first checks
that the host answers.
"""

import shutil
import threading
from functools import cache
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import promise
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager

from isojax.data.archives import ManualArchives
from isojax.data.disk import (
    make_folder,
    naming_full_disk,
    preparation_lock,
    require_space,
    require_writable,
)
from isojax.errors import UsageError, first_line

_ANSWER_SECONDS = 3.0
# Extracted archives, records and decoded images, each of about the same size.
_COPIES = 3

_DOWNLOAD_ERRORS = (tfds.download.DownloadError, requests.RequestException, URLError)


class _Unreachable(Exception):
    """Stops the builder. The caller reports the URLs that were not reached."""


def prepare(builder: tfds.core.DatasetBuilder, *, data_dir: Path) -> None:
    """Downloads, extracts and writes a data set, unless it is already prepared.

    Archives in DATA_DIR/downloads/manual are used without the network.

    Args:
      builder: the data set's builder.
      data_dir: the builder's folder, with a folder `isojax` for the lock.

    Raises:
      UsageError: if an archive cannot be downloaded or has the wrong checksum, or the
        disk is full or not writable.
    """
    if builder.data_path.exists():  # renamed to this path when complete
        return
    # One lock for all data sets, because a failing run removes unfinished downloads.
    with preparation_lock(data_dir / "isojax" / ".downloads.lock"):
        _prepare(builder, data_dir)


def _prepare(builder: tfds.core.DatasetBuilder, data_dir: Path) -> None:
    downloads = data_dir / "downloads"
    manual = downloads / "manual"
    make_folder(manual, root=data_dir)  # for manually downloaded files
    require_writable(data_dir)
    require_writable(downloads)
    archives = ManualArchives(builder, manual)
    if not builder.BUILDER_CONFIGS:  # with configs, some archives are not needed
        sizes = {url: info.size for url, info in archives.urls.items()}
        missing = sum(size for url, size in sizes.items() if url not in archives.placed)
        require_space(
            data_dir,
            missing + _COPIES * sum(sizes.values()),
            purpose=f"preparing {builder.name}",
        )
    unreachable = _guard_downloads(builder, archives)
    before = _unfinished(downloads)
    try:
        with naming_full_disk(data_dir, purpose=f"preparing {builder.name}"):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False,
                    # Extracted archives are named after their archive, and several
                    # data sets use the same names.
                    extract_dir=downloads / "extracted" / builder.name,
                )
            )
    except _Unreachable as error:
        hosts = sorted({str(urlsplit(url).hostname) for url in unreachable})
        raise UsageError(
            f"{builder.name} has to be downloaded, but {', '.join(hosts)} does not "
            f"answer; {archives.instructions(unreachable)}"
        ) from error
    except _DOWNLOAD_ERRORS as error:
        rest = [url for url in archives.urls if url not in archives.placed]
        raise UsageError(
            f"the download of {builder.name} failed ({first_line(error)}); try again, "
            f"or {archives.instructions(rest)}"
        ) from error
    except download_manager.NonMatchingChecksumError as error:
        raise UsageError(
            f"{first_line(error).rstrip(':')}; run the same command again"
        ) from error
    except AssertionError as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise UsageError(
            f"{builder.name} has to be downloaded manually to {manual}: {instructions}"
        ) from error
    finally:
        for path in _unfinished(downloads) - before:
            shutil.rmtree(path, ignore_errors=True)


def host_answers(url: str) -> bool:
    """Returns whether a URL answers within seconds, through the proxy if one is set.

    Any answer except a gateway error counts, because some hosts refuse HEAD requests.
    """
    answers = []

    def ask() -> None:
        try:
            response = requests.head(url, timeout=_ANSWER_SECONDS)
            answers.append(response.status_code not in (502, 503, 504))
        except requests.RequestException:
            pass

    # In a thread, because resolving the host name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return any(answers)


def _guard_downloads(
    builder: tfds.core.DatasetBuilder, archives: ManualArchives
) -> list[str]:
    """Makes the builder use manually downloaded archives and check hosts first.

    tensorflow-datasets has no public hook for either: it identifies a manually
    downloaded archive by its name, and downloads a missing file at once.

    Returns:
      The URLs that were not reached, filled during `download_and_prepare`.
    """
    unreachable = []
    make_manager = builder._make_download_manager
    answers = cache(lambda scheme, host: host_answers(f"{scheme}://{host}/"))

    def make_guarded_manager(**kwargs):
        manager = make_manager(**kwargs)
        download = manager._download

        def download_if_reachable(resource):
            parts = urlsplit(resource.url)
            if parts.scheme.startswith("http") and not answers(
                parts.scheme, parts.netloc
            ):
                unreachable.append(resource.url)
                # Not raised, so that the other files are tried and reported as well.
                return promise.Promise.reject(_Unreachable())
            return download(resource)

        manager._download = download_if_reachable
        manager._get_manually_downloaded_path = archives.find
        manager._url_infos = {**manager._url_infos, **archives.urls}
        return manager

    builder._make_download_manager = make_guarded_manager
    return unreachable


def _unfinished(downloads: Path) -> set[Path]:
    """Folders that tensorflow-datasets renames when they are complete."""
    patterns = ("**/*.tmp.*", "extracted/*/incomplete.*")
    return {path for pattern in patterns for path in downloads.glob(pattern)}
