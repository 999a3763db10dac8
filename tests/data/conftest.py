import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534


class OtherUsers:
    """Folders that permissions protect, from a test that runs as root too."""

    @staticmethod
    @contextlib.contextmanager
    def folder(mode):
        """A new folder with permissions `mode` that other users can reach."""
        folder = Path(tempfile.mkdtemp(dir="/tmp"))
        try:
            folder.chmod(mode)
            yield folder
        finally:
            shutil.rmtree(folder)

    @staticmethod
    @contextlib.contextmanager
    def act():
        """Takes the rights of another user."""
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


@pytest.fixture
def other_users():
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    return OtherUsers
