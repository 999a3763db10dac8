"""Downloads of tensorflow-datasets.

Without a network tensorflow-datasets retries for minutes. Here the host is asked first.
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
from isojax.data.cache import only_one_process
from isojax.data.disk import (
    make_folder,
    naming_full_disk,
    require_space,
    require_writable,
)
from isojax.errors import UsageError, first_line

_ANSWER_SECONDS = 3.0
# The extracted archives, the records made of them, and the decoded images, each of
# about the same size.
_COPIES = 3

_DOWNLOAD_ERRORS = (tfds.download.DownloadError, requests.RequestException, URLError)


class _Unreachable(Exception):
    """Stops the builder; the caller reports the URLs that were not reached."""


def prepare(builder: tfds.core.DatasetBuilder, *, data_dir: Path) -> None:
    """Downloads, extracts and writes a data set, unless that was done before.

    An archive in DATA_DIR/downloads/manual is used without the network.

    Args:
      builder: the data set's builder.
      data_dir: the builder's folder, which contains a folder `isojax` for a lock.

    Raises:
      UsageError: if an archive cannot be downloaded or has the wrong checksum, or the
        disk is full or not writable.
    """
    if builder.data_path.exists():  # renamed to that name when it is complete
        return
    # One lock for all sets: a failing run removes every unfinished download.
    with only_one_process(data_dir / "isojax" / ".downloads.lock"):
        _prepare(builder, data_dir)


def _prepare(builder: tfds.core.DatasetBuilder, data_dir: Path) -> None:
    downloads = data_dir / "downloads"
    manual = downloads / "manual"
    make_folder(manual, root=data_dir)  # ready for files placed by hand
    require_writable(data_dir)
    require_writable(downloads)
    archives = ManualArchives(builder, manual)
    if not builder.BUILDER_CONFIGS:  # or else some of the archives are not needed
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
                    # The folder of an extracted archive has the archive's name, which
                    # several data sets share.
                    extract_dir=downloads / "extracted" / builder.name,
                )
            )
    except _Unreachable as error:
        hosts = sorted({str(urlsplit(url).hostname) for url in unreachable})
        raise UsageError(
            f"{builder.name} has to be downloaded and {', '.join(hosts)} gives no "
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
            f"{builder.name} has to be fetched by hand into {manual}: {instructions}"
        ) from error
    finally:
        for path in _unfinished(downloads) - before:
            shutil.rmtree(path, ignore_errors=True)


def host_answers(url: str) -> bool:
    """Whether a URL answers within seconds, through the proxy if one is set.

    Any answer except a gateway's failure counts: some hosts refuse HEAD requests.
    """
    answers = []

    def ask():
        try:
            response = requests.head(url, timeout=_ANSWER_SECONDS)
            answers.append(response.status_code not in (502, 503, 504))
        except requests.RequestException:
            pass

    # In a thread, because resolving the host's name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return any(answers)


def _guard_downloads(
    builder: tfds.core.DatasetBuilder, archives: ManualArchives
) -> list[str]:
    """Makes the builder use the archives placed by hand and ask hosts before downloads.

    tensorflow-datasets has no public hook for either: it identifies an archive placed
    by hand by its name, and downloads a missing file at once.

    Returns:
      The URLs that were not reached, appended during `download_and_prepare`.
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
                # Not raised, so that the other files are tried and named too.
                return promise.Promise.reject(_Unreachable())
            return download(resource)

        manager._download = download_if_reachable
        manager._get_manually_downloaded_path = archives.find
        return manager

    builder._make_download_manager = make_guarded_manager
    return unreachable


def _unfinished(downloads: Path) -> set[Path]:
    """Folders that tensorflow-datasets fills and then renames."""
    patterns = ("**/*.tmp.*", "extracted/*/incomplete.*")
    return {path for pattern in patterns for path in downloads.glob(pattern)}
