"""Archives of tensorflow-datasets: fetched, or asked for in one line.

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
from tensorflow_datasets.core.download import checksums, download_manager

from isojax.data.cache import only_one_process
from isojax.data.disk import naming_full_disk, require_space
from isojax.errors import UsageError

_ANSWER_SECONDS = 3.0
_NAMED_FILES = 5  # in a message
# The archives extracted, the records made of them, and the decoded images take about
# as much each.
_COPIES = 3

_DOWNLOAD_ERRORS = (tfds.download.DownloadError, requests.RequestException, URLError)


class _Unreachable(Exception):
    """Ends the builder's work; what is missing is told by who catches it."""


def prepare(builder: tfds.core.DatasetBuilder, *, data_dir: Path) -> None:
    """Downloads, extracts and writes a data set, unless that was done before.

    An archive in DATA_DIR/downloads/manual is used without asking the network.

    Args:
      builder: of the data set.
      data_dir: the builder's folder, with a folder `isojax` in it for a lock.

    Raises:
      UsageError: if an archive cannot be had or has the wrong checksum, or the disk is
        full.
    """
    if builder.data_path.exists():  # it is renamed to that name when it is whole
        return
    # For all sets together: who fails removes every unfinished download it finds.
    with only_one_process(data_dir / "isojax" / ".downloads.lock"):
        _prepare(builder, data_dir)


def _prepare(builder: tfds.core.DatasetBuilder, data_dir: Path) -> None:
    archives = builder.url_infos or {}
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True, exist_ok=True)  # ready for who places files by hand
    by_hand = {url for url, info in archives.items() if _place(manual, info).is_file()}
    if not builder.BUILDER_CONFIGS:  # or else some of the archives are not needed
        sizes = {url: info.size for url, info in archives.items()}
        missing = sum(size for url, size in sizes.items() if url not in by_hand)
        require_space(
            data_dir,
            missing + _COPIES * sum(sizes.values()),
            purpose=f"preparing {builder.name}",
        )
    unreachable = _ask_hosts_first(builder)
    before = _unfinished(data_dir)
    try:
        with naming_full_disk(data_dir, purpose=f"preparing {builder.name}"):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except _Unreachable as error:
        hosts = sorted({urlsplit(url).hostname for url in unreachable})
        raise UsageError(
            f"{builder.name} has to be downloaded and {', '.join(hosts)} gives no "
            f"answer; {_by_hand(unreachable, archives, manual)}"
        ) from error
    except _DOWNLOAD_ERRORS as error:
        rest = [url for url in archives if url not in by_hand]
        raise UsageError(
            f"the download of {builder.name} failed ({_first_line(error)}); try again, "
            f"or {_by_hand(rest, archives, manual)}"
        ) from error
    except download_manager.NonMatchingChecksumError as error:
        raise UsageError(_wrong_archive(archives, manual, error)) from error
    except AssertionError as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise UsageError(
            f"{builder.name} has to be fetched by hand into {manual}: {instructions}"
        ) from error
    finally:
        for path in _unfinished(data_dir) - before:
            shutil.rmtree(path, ignore_errors=True)


def host_answers(url: str) -> bool:
    """Whether anything answers at a URL, within seconds, through a proxy if one is set.

    Any answer but a gateway's failure counts, since some hosts refuse to be asked.
    """
    answers = []

    def ask():
        try:
            response = requests.head(url, timeout=_ANSWER_SECONDS)
            answers.append(response.status_code not in (502, 503, 504))
        except requests.RequestException:
            pass

    # In a thread, because the look-up of the host's name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return any(answers)


def _ask_hosts_first(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Makes the builder ask the host before a download; returns the URLs that failed.

    The list fills during `download_and_prepare`. tensorflow-datasets has no public hook
    between "the file is not here" and its download.
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
                # Not raised, so that the other files are asked for and named too.
                return promise.Promise.reject(_Unreachable())
            return download(resource)

        manager._download = download_if_reachable
        return manager

    builder._make_download_manager = make_guarded_manager
    return unreachable


def _place(manual: Path, info: checksums.UrlInfo) -> Path:
    """Where tensorflow-datasets looks for an archive placed by hand."""
    return manual / (info.filename or "")


def _by_hand(urls: list[str], archives: dict, manual: Path) -> str:
    """Names each file to place by hand, with its source, place, size and SHA-256."""
    files = []
    for url in urls[:_NAMED_FILES]:
        info = archives.get(url)
        if info is None or not info.filename:  # cannot be placed by hand
            return "connect this machine to the network"
        files.append(
            f"fetch {url} on another machine and place it as {_place(manual, info)} "
            f"({info.size:,} bytes, SHA-256 {info.checksum})"
        )
    if len(urls) > _NAMED_FILES:
        files.append(f"and {len(urls) - _NAMED_FILES:,} more files in the same way")
    return "; ".join(files)


def _wrong_archive(archives: dict, manual: Path, error: Exception) -> str:
    """Says which archive is not the expected one."""
    for url, expected in archives.items():
        place = _place(manual, expected)
        if place.is_file():
            found = checksums.compute_url_info(place)
            if found != expected:
                return (
                    f"{place} is cut or not the right file: it has {found.size:,} "
                    f"bytes and SHA-256 {found.checksum}, expected are "
                    f"{expected.size:,} and {expected.checksum}; fetch it again from "
                    f"{url}"
                )
    return f"{_first_line(error).rstrip(':')}; run the same command again"


def _unfinished(data_dir: Path) -> set[Path]:
    """Folders that tensorflow-datasets fills and then renames."""
    downloads = data_dir / "downloads"
    return {*downloads.glob("**/*.tmp.*"), *downloads.glob("extracted/incomplete.*")}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
