"""Archives of tensorflow-datasets that the user has downloaded manually.

They are searched for in `DATA_DIR/downloads/manual/NAME`, the folder of the data set,
and in `DATA_DIR/downloads/manual`. An archive is identified by its size and SHA-256,
because several data sets use the same file names; a gzip archive of `_CONTENTS` also by
its content, because some distributors compress the files again.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils import tfds_path

from isojax.errors import UsageError

_NAMED_FILES = 5  # in a message

# SHA-256 of the uncompressed file, by that of the archive.
_CONTENTS = {
    # fashion_mnist; Debian's package dataset-fashion-mnist has other gzip headers.
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


class ManualArchives:
    """The archives of one data set, and the manually downloaded ones among them.

    Attributes:
      urls: size and checksum for each URL that tensorflow-datasets should expect: its
        own, or those of a manually downloaded archive with the same content.
      placed: the matching file for each URL that has one.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, manual: Path):
        """Searches for the archives.

        Args:
          builder: the data set's builder.
          manual: DATA_DIR/downloads/manual.

        Raises:
          UsageError: if a file has the name of an archive, but is neither that
            archive nor one of another data set.
        """
        self.urls: dict[str, checksums.UrlInfo] = dict(builder.url_infos or {})
        self.placed: dict[str, Path] = {}
        self._name, self._manual = builder.name, manual
        self._owners: dict[Path, str] = {}  # names of other data sets by file
        for url, expected in list(self.urls.items()):
            self._look_for(url, expected)

    def find(self, expected: checksums.UrlInfo | None) -> Path | None:
        """Returns the manually downloaded file of an archive, or None."""
        for url, path in self.placed.items():
            if self.urls[url] == expected:
                return path
        return None

    def instructions(self, urls: list[str]) -> str:
        """Returns instructions: URL, path and checksum of each file to download."""
        files, others = [], []
        for url in urls[:_NAMED_FILES]:
            info = self.urls.get(url)
            if info is None or not info.filename:  # cannot be placed manually
                return "connect this machine to the network"
            place, *elsewhere = self._places(info)
            files.append(
                f"download {url} on another machine and copy it to {place} "
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
                if found == expected or _has_content(path, expected):
                    self.placed[url], self.urls[url] = path, found
                    return
                wrong[path] = found
        for path, found in wrong.items():
            owner = _data_set_of(found)
            if owner is None:
                raise UsageError(
                    f"{path} is incomplete or not the right file: it has "
                    f"{found.size:,} bytes and SHA-256 {found.checksum}, but "
                    f"{expected.size:,} bytes and {expected.checksum} are expected. "
                    f"Download it again from {url}"
                )
            self._owners[path] = owner


def _has_content(path: Path, expected: checksums.UrlInfo) -> bool:
    """Returns whether a gzip archive has the content of the expected archive."""
    content = _CONTENTS.get(expected.checksum)
    if content is None:
        return False
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == content
    except (OSError, EOFError, zlib.error):  # not gzip, or damaged
        return False


def _data_set_of(found: checksums.UrlInfo) -> str | None:
    """Returns the name of the data set that a file belongs to, or None."""
    package = Path(tfds_path())
    for pattern in ("url_checksums/*.txt", "**/checksums.tsv"):
        for path in package.glob(pattern):
            if found.checksum in path.read_text():
                return path.stem if path.suffix == ".txt" else path.parent.name
    return None
