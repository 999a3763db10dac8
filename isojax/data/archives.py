"""Archives of tensorflow-datasets that the user places by hand.

They are looked for in `DATA_DIR/downloads/manual/NAME`, the data set's own folder, and
in `DATA_DIR/downloads/manual`. Several data sets use the same file names, so that an
archive is identified by its size and SHA-256.
"""

from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils import tfds_path

from isojax.errors import UsageError

_NAMED_FILES = 5  # in a message


class ManualArchives:
    """The archives of one data set, and those of them that were placed by hand.

    Attributes:
      urls: what tensorflow-datasets expects at each URL.
      placed: the matching file for each URL that has one.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, manual: Path):
        """Looks for the archives.

        Args:
          builder: the data set's builder.
          manual: DATA_DIR/downloads/manual.

        Raises:
          UsageError: if a file has the name of an archive and is neither that archive
            nor one of another data set.
        """
        self.urls: dict[str, checksums.UrlInfo] = builder.url_infos or {}
        self.placed: dict[str, Path] = {}
        self._name, self._manual = builder.name, manual
        self._owners: dict[Path, str] = {}  # of files that belong to another data set
        for url, expected in self.urls.items():
            self._look_for(url, expected)

    def find(self, expected: checksums.UrlInfo | None) -> Path | None:
        """The file that was placed for an archive, or None."""
        for url, path in self.placed.items():
            if self.urls[url] == expected:
                return path
        return None

    def instructions(self, urls: list[str]) -> str:
        """Says which files to place by hand, each with its URL, place and checksum."""
        files, others = [], []
        for url in urls[:_NAMED_FILES]:
            info = self.urls.get(url)
            if info is None or not info.filename:  # cannot be placed by hand
                return "connect this machine to the network"
            place, *elsewhere = self._places(info)
            files.append(
                f"fetch {url} on another machine and place it as {place} "
                f"({info.size:,} bytes, SHA-256 {info.checksum})"
            )
            others += [
                f"{path} belongs to {self._owners[path]}"
                for path in (place, *elsewhere)
                if path in self._owners
            ]
        if len(urls) > _NAMED_FILES:
            files.append(f"and {len(urls) - _NAMED_FILES:,} more files in the same way")
        return "; ".join(files) + (f" ({'; '.join(others)})" if others else "")

    def _places(self, info: checksums.UrlInfo) -> tuple[Path, Path]:
        return self._manual / self._name / info.filename, self._manual / info.filename

    def _look_for(self, url: str, expected: checksums.UrlInfo) -> None:
        wrong = {}
        for path in self._places(expected) if expected.filename else ():
            if path.is_file():
                found = checksums.compute_url_info(path)
                if found == expected:
                    self.placed[url] = path
                    return
                wrong[path] = found
        for path, found in wrong.items():
            owner = _data_set_of(found)
            if owner is None:
                raise UsageError(
                    f"{path} is incomplete or not the right file: it has "
                    f"{found.size:,} bytes and SHA-256 {found.checksum}, expected are "
                    f"{expected.size:,} and {expected.checksum}. Fetch it again from "
                    f"{url}"
                )
            self._owners[path] = owner


def _data_set_of(found: checksums.UrlInfo) -> str | None:
    """Name of the data set in tensorflow-datasets that a file belongs to, or None."""
    package = Path(tfds_path())
    for pattern in ("url_checksums/*.txt", "**/checksums.tsv"):
        for path in package.glob(pattern):
            if found.checksum in path.read_text():
                return path.stem if path.suffix == ".txt" else path.parent.name
    return None
