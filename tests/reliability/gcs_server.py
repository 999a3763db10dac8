"""A Google Cloud Storage emulator in this process, which can fail on request."""

from contextlib import contextmanager
from http import HTTPStatus

import pytest

emulator = pytest.importorskip("gcp_storage_emulator.server")

_END = b"\n--==0==--"  # of an upload by gcsfs


class GcsServer:
    """The emulator, with the precondition that an object does not exist.

    Attributes:
      fault: called with each request and its method; what it returns is the status of
        the answer, None for the usual answer.
      spoil: called with each request and the content of its answer, which it returns.
      requests: number of requests so far.
    """

    def __init__(self):
        self.requests = 0
        self.usual()
        self._server = emulator.create_server(
            "127.0.0.1", 0, in_memory=True, default_bucket="bkt"
        )
        self._creates = False
        self._storage = self._server._storage
        self._create_file = self._storage.create_file
        self._storage.create_file = self._create_or_fail

    def usual(self):
        self.fault = lambda request, method: None
        self.spoil = lambda request, content: content

    @contextmanager
    def running(self):
        """Serves, and makes this process and those that it starts use the server."""
        handle, close = emulator.Router.handle, emulator.Response.close
        read = emulator._read_raw_data

        def handle_or_fail(router, method):
            self.requests += 1
            handler = router._request_handler
            request = emulator.Request(handler, method)
            status = self.fault(request, method)
            if status is not None:
                emulator._read_raw_data(handler)
                return answer(handler, status)
            self._creates = "ifGenerationMatch" in request.query
            try:
                handle(router, method)
            except FileExistsError:
                answer(handler, HTTPStatus.PRECONDITION_FAILED)
            except ConnectionError:  # the client was killed
                handler.close_connection = True

        def read_whole(handler):
            """Reads a request, in which the emulator itself would change two things.

            It stores the part of an object that a killed client has sent, and drops a
            carriage return at the end of an object, because gcsfs writes LF after it.
            """
            data = read(handler) or b""
            if len(data) < int(handler.headers.get("Content-Length") or 0):
                raise ConnectionAbortedError
            if data.endswith(_END):
                data = data.removesuffix(_END) + b"\r" + _END
            return data

        def answer(handler, status):
            response = emulator.Response(handler)
            response.status = status
            response.close()

        def close_spoiled(response):
            request = emulator.Request(response._handler, response._handler.command)
            if "/download/" in request.path and isinstance(response._content, bytes):
                response._content = self.spoil(request, response._content)
            close(response)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emulator, "_read_raw_data", read_whole)
            patch.setattr(emulator.Router, "handle", handle_or_fail)
            patch.setattr(emulator.Response, "close", close_spoiled)
            self._server.start()
            port = self._server._api._httpd.server_port
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            try:
                yield self
            finally:
                self._server.stop()

    def _create_or_fail(self, bucket, name, *args):
        """The emulator itself ignores the precondition."""
        if self._creates and name in self._storage.objects.get(bucket, {}):
            raise FileExistsError(name)
        self._create_file(bucket, name, *args)

    def add(self, name):
        """Adds an object to the listings, without content; much faster than a write."""
        self._storage.objects["bkt"][name] = {
            "name": name,
            "bucket": "bkt",
            "size": "2",
            "generation": "1",
            "timeCreated": "2026-01-01T00:00:00.000000Z",
            "updated": "2026-01-01T00:00:00.000000Z",
        }

    def names(self, prefix=""):
        """Names of the objects in the bucket, ascending."""
        objects = self._storage.objects.get("bkt", {})
        return sorted(name for name in objects if name.startswith(prefix))
